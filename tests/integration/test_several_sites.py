"""Four sites in three zones, two at Cloudflare and one at BIND: deployed with the real engine, on machines of both clouds that boot.

The tests share one deployment and run in their order.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.runtime.show import visit
from rollcall.ownership import Owner
from tests.dynamic_zone import DynamicServer, running
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import InStep
from tests.integration.log_inspection import config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.skipif(os.geteuid() != 0, reason="takes root")]
FIRST, SECOND, BIND = "scalability.expert", "example.net", "example.org"
WWW, SHOP, NEWS, DOCS = f"www.{FIRST}", f"shop.{FIRST}", f"news.{SECOND}", f"www.{BIND}"
NEWS_LINE = f"    news: {{ zone: {SECOND}, host: news, ttl: 60, apex: false }}\n"
CONFIG = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 5
  rollcall:sites:
    www: {{ zone: scalability.expert, ttl: 60 }}
    shop: {{ zone: scalability.expert, host: shop, ttl: 60, apex: false, check: "tcp:80" }}
{news}    docs: {{ zone: example.org, provider: rfc2136, server: "{server}", ttl: 60 }}
  rollcall:fleets:
    web-aws: {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [site/www, {joins}site/docs] }}
    web-joyent: {{ cloud: joyent, count: {count}, size: g1.micro, image: debian-12, joins: [site/www, site/shop, site/docs] }}
"""


class Sites(InStep):
    server: DynamicServer
    config: Path
    foreign: dict[str, str]

    def pulumi(self, *words: str) -> str:
        given = {
            "ROLLCALL_TSIG_KEY": self.server.operator,
            "ROLLCALL_MACHINE_TSIG_KEY": self.server.machines,
            "ROLLCALL_UPDATE_SERVER": self.server.where.replace("@", ":"),
        }
        done = self.sandbox.pulumi(*words, "--stack", "local", capture=True, extra=given)
        return str(done.stdout) + str(done.stderr)

    def configure(self, *, count: int, news: bool = True) -> None:
        given = {"news": NEWS_LINE, "joins": "site/news, "} if news else {"news": "", "joins": ""}
        self.config.write_text(CONFIG.format(server=f"203.0.113.1:{self.server.port}", count=count, **given))
        self.sandbox.write_config()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        token = {"Authorization": f"Bearer {self.env['CLOUDFLARE_API_TOKEN']}"}
        url = self.env["CLOUDFLARE_BASE_URL"] + path
        reply = self.http.request(method, url, json=body, headers=token, timeout=10)
        assert reply.ok, reply.text
        return reply.json()["result"]

    def at(self, host: str) -> dict[str, str]:
        """The ids of the address records of ours at a host of Cloudflare, by their addresses."""
        (zone,) = self.call("GET", f"/zones?name={host.partition('.')[2]}")
        listed = self.call("GET", f"/zones/{zone['id']}/dns_records?per_page=500")
        ours = [each for each in listed if each["name"] == host and Owner.parse(each["comment"] or "")]
        return {each["content"]: each["id"] for each in ours}

    def foreign_in(self, zone: str) -> str:
        """Every record of a zone that is not ours, as text that can be compared."""
        (found,) = self.call("GET", f"/zones?name={zone}")
        listed = self.call("GET", f"/zones/{found['id']}/dns_records?per_page=500")
        foreign = [each for each in listed if "ollcall" not in (each["comment"] or "") and ".c.rc." not in each["name"]]
        return json.dumps(sorted(foreign, key=lambda each: str(each["id"])), sort_keys=True)

    def at_bind(self) -> set[str]:
        return self.server.values(DOCS, "A")

    def of(self, *fleets: str) -> set[str]:
        return {each["addresses"][0] for fleet in fleets for each in self.machines(fleet)}

    def assert_all_answer(self, *, news: bool = True) -> None:
        """Each name server answers with exactly the machines of the fleets that join its site."""
        aws, joyent = self.of("web-aws"), self.of("web-joyent")
        assert {*self.at(WWW)} == {*self.dig(WWW, "A")} == aws | joyent
        assert {*self.at(SHOP)} == {*self.dig(SHOP, "A")} == joyent
        assert {*self.at(NEWS)} == {*self.dig(NEWS, "A")} == (aws if news else set())
        assert self.at_bind() == aws | joyent
        assert {each.partition(" ")[0].strip('"') for each in self.server.values(f"rc.{DOCS}", "TXT")} == aws | joyent

    def tokens(self) -> list[str]:
        return sorted(
            each["name"] for each in self.call("GET", "/user/tokens?per_page=50") if "machines" in each["name"]
        )

    def own_parameters(self) -> set[str]:
        """The parameters of the stack, without those that fix the image of a fleet."""
        own = (each.removeprefix("/rollcall/local/") for each in self.parameters() if each.startswith("/rollcall/"))
        return {each for each in own if "/image-" not in each}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    home = tmp_path_factory.mktemp("sites")
    with running("named", home, BIND) as server:
        text = CONFIG.format(server=f"203.0.113.1:{server.port}", count=2, news=NEWS_LINE, joins="site/news, ")
        config = config_file(home, text)
        with sandboxed("sites", config) as sandbox:
            assert sandbox.ask("secondary", zone=BIND, server=server.where, key=server.operator)
            made = Sites(sandbox, "")
            made.server, made.config = server, config
            zone = made.call("POST", "/zones", {"name": SECOND, "account": {"id": _account(made)}})["id"]
            made.call("PUT", f"/zones/{zone}/activation_check")
            made.foreign = {each: made.foreign_in(each) for each in (FIRST, SECOND)}
            yield made


def _account(sites: Sites) -> str:
    return str(sites.call("GET", "/accounts")[0]["id"])


def test_up_ends_when_every_machine_answers_at_each_site_that_it_joins(sites: Sites) -> None:
    began = time.monotonic()
    sites.pulumi("up", "--yes", "--skip-preview")
    print(f"\nfour sites in three zones, four machines: up took {time.monotonic() - began:.0f} s")
    sites.assert_all_answer()
    shown = json.loads(sites.pulumi("stack", "output", "sites", "--json"))
    assert {name: each["host"] for name, each in shown.items()} == {
        "www": WWW,
        "shop": SHOP,
        "news": NEWS,
        "docs": DOCS,
    }
    assert shown["www"]["zone"] == shown["shop"]["zone"] != shown["news"]["zone"] and shown["docs"]["zone"] == BIND
    for host, fleets in ((SHOP, ("web-joyent",)), (NEWS, ("web-aws",))):
        served = visit(sites.env["ROLLCALL_SITE_URL"], 20, host)
        assert set(served) == {each["id"] for fleet in fleets for each in sites.machines(fleet)}, served
    assert "unchanged" in sites.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_the_sites_of_a_zone_share_one_token_and_a_fleet_has_one_parameter_for_each_zone(sites: Sites) -> None:
    assert sites.tokens() == [f"rollcall local machines {SECOND}", f"rollcall local machines {FIRST}"]
    names = {"probe-key", "tsig-key", "token-scalability_expert", "token-example_net"}
    assert sites.own_parameters() == {f"web-aws/{each}" for each in names}
    machine = sites.machine("web-joyent-0")["id"]
    keys = sites.inside(machine, "/usr/sbin/mdata-list").split()
    assert [each for each in keys if each.startswith("token-")] == ["token-scalability_expert"]


def test_a_crashed_machine_leaves_every_site_and_the_others_stay(sites: Sites) -> None:
    time.sleep(15)
    crashed = sites.machine("web-joyent-1")
    left = {
        host: {ip: id_ for ip, id_ in sites.at(host).items() if ip != crashed["addresses"][0]}
        for host in (WWW, SHOP, NEWS)
    }
    bind = sites.at_bind() - {crashed["addresses"][0]}
    answers = {host: {*addresses} for host, addresses in left.items()}
    sites.sandbox.localcloud("crash", crashed["id"])
    took = wait_until(
        "it is gone from all sites",
        # Not by the API, since the operator shares its limit with the machines.
        lambda: {host: {*sites.dig(host, "A")} for host in left} == answers and sites.at_bind() == bind,
        90,
    )
    assert {host: sites.at(host) for host in left} == left
    print(f"\na crashed machine's records were gone from three sites in two zones after {took:.0f} s")


def test_a_change_of_the_count_removes_and_adds_at_every_site(sites: Sites) -> None:
    sites.configure(count=1)
    sites.pulumi("up", "--yes", "--skip-preview")
    assert len(sites.machines("web-joyent")) == 1
    sites.assert_all_answer()
    sites.configure(count=2)
    sites.pulumi("up", "--yes", "--skip-preview")
    assert len(sites.machines("web-joyent")) == 2
    sites.assert_all_answer()


def test_a_site_that_is_removed_leaves_and_the_others_keep_every_record(sites: Sites) -> None:
    machines = sites.in_state()
    before = {host: sites.at(host) for host in (WWW, SHOP)}, sorted(sites.server.values(DOCS, "A"))
    sites.configure(count=2, news=False)
    sites.pulumi("up", "--yes", "--skip-preview")
    assert ({host: sites.at(host) for host in (WWW, SHOP)}, sorted(sites.server.values(DOCS, "A"))) == before
    assert sites.in_state() == machines, "no machine was replaced"
    sites.assert_all_answer(news=False)
    assert sites.tokens() == [f"rollcall local machines {FIRST}"]
    assert "web-aws/token-example_net" not in sites.own_parameters()
    assert sites.foreign_in(SECOND) == sites.foreign[SECOND]
    assert "unchanged" in sites.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")


def test_destroy_leaves_nothing_of_ours(sites: Sites) -> None:
    sites.pulumi("destroy", "--yes", "--skip-preview")
    assert sites.resources() == [] and sites.tagged() == set() and sites.own_parameters() == set()
    assert (sites.at(WWW), sites.at(SHOP), sites.at(NEWS), sites.at_bind()) == ({}, {}, {}, set())
    assert sites.server.values(f"rc.{DOCS}", "TXT") == set() and sites.tokens() == []
    assert {each: sites.foreign_in(each) for each in (FIRST, SECOND)} == sites.foreign
