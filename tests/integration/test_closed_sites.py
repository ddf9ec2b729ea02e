"""A second closed site, in a zone of its own, is added to a closed site that serves, and removed again: machines of both clouds, the real
engine, and visitors who ask all the time.

The stack `closed site` (tests/groups.py) is afterwards as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import requests

from localcloud.network.namespace import NETWORKS
from tests.integration.log_inspection import Prober
from tests.integration.shared_stacks import CLOSED_SITE, closed_site
from tests.integration.test_closed_origins import Closed

# Two more runs of `up` on five machines. test_several_sites.py has sites in several zones in each run, and these are open.
pytestmark = [pytest.mark.machines, pytest.mark.engine, pytest.mark.prove]
ZONE, HOST, FIRST = "example.net", "news.example.net", "scalability.expert"
SITES = f"acceleration: true }}, news: {{ zone: {ZONE}, host: news, apex: false, proxied: true, protection: high }} }}"
# One fleet of each cloud joins both. `web-joyent` joins the first only.
BOTH = ("web-aws", "web-bare")


class Sites(Closed):
    def configure_both(self) -> None:
        text = CLOSED_SITE.format(rotation="").replace("acceleration: true } }", SITES)
        lines = [
            each.replace("joins: [site/www", "joins: [site/www, site/news") if each.strip().startswith(BOTH) else each
            for each in text.splitlines()
        ]
        self.config.write_text("\n".join(lines) + "\n")
        self.sandbox.write_config()

    def of(self, *fleets: str, by: str = "id") -> set[str]:
        return {each[by] for each in self.live if each["name"].startswith(tuple(f"{fleet}-" for fleet in fleets))}

    def ask_news(self) -> str:
        """Who served the page of the second site by https, or the status."""
        status, by = self.over_tls(NETWORKS["joyent"].edge, HOST)
        return by or str(status)

    def served(self, host: str) -> set[tuple[int, str]]:
        """The status and the name of the machine, for each of some requests through the edge of each cloud."""
        names = {each["id"]: each["name"] for each in self.live}
        found = [self.over_tls(NETWORKS[cloud].edge, host) for _ in range(12) for cloud in ("aws", "joyent")]
        return {(status, names.get(by, by)) for status, by in found}

    def of_user(self, path: str, token: str = "") -> requests.Response:
        given = {"Authorization": f"Bearer {token or self.env['CLOUDFLARE_API_TOKEN']}"}
        return self.http.get(self.env["CLOUDFLARE_BASE_URL"] + path, headers=given, timeout=10)

    def tokens(self) -> list[str]:
        listed = self.of_user("/user/tokens?per_page=50").json()["result"]
        return sorted(each["name"] for each in listed if "machines" in each["name"])

    def zone_id(self, name: str) -> str:
        return str(self.of_user(f"/zones?name={name}").json()["result"][0]["id"])

    def secrets_of(self, machine: str) -> set[str]:
        """The names of the tokens and certificates that a machine's cloud has for it."""
        keys = self.inside(self.machine(machine)["id"], "/usr/sbin/mdata-list").split()
        return {each for each in keys if each.startswith(("token-", "origin-"))}


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    made = closed_site(Sites)
    made.sandbox.ask("zones", cloudflare=[ZONE], route53=[])
    yield made


def test_a_second_closed_site_is_added_and_no_request_fails(sites: Sites) -> None:
    machines, everybody = sites.in_state(), {each["id"] for each in sites.live}
    sites.configure_both()
    first, second = Prober(sites.ask_site, every=0.2), Prober(sites.ask_news, every=0.3)
    with first.running(), second.running():
        began = time.monotonic()
        sites.up()
        print(f"\na second closed site on three of five machines: up took {time.monotonic() - began:.0f} s")
        time.sleep(5)
    assert sites.in_state() == machines, "no machine is replaced"
    assert len(first.answers) > 20 and first.failures(lambda answer: answer in everybody) == []
    # Until there is a record, the edge does not know the site. From then on it is served: a machine has the certificate before its record.
    answers = [answer for _, answer in second.answers]
    ready = next(at for at, answer in enumerate(answers) if answer in everybody)
    assert set(answers[:ready]) <= {"409"} and set(answers[ready:]) <= sites.of(*BOTH), answers
    assert "unchanged" in sites.up("--expect-no-changes")


def test_each_site_answers_for_its_own_host_only(sites: Sites) -> None:
    assert sites.served(HOST) == {(200, each) for each in sites.of(*BOTH, by="name")}
    assert sites.served("www.scalability.expert") == {(200, each["name"]) for each in sites.live}
    assert {status for status, _ in sites.served("other.example.net")} == {409}
    # A machine that has not joined the second site has no certificate for it.
    for machine, host, is_served in (
        ("web-aws-0", HOST, True),
        ("web-bare-0", HOST, True),
        ("web-joyent-0", HOST, False),
        ("web-joyent-0", "www.scalability.expert", True),
    ):
        names = _names(sites, machine)
        assert (host in names) is is_served, (machine, names)


def _names(sites: Sites, machine: str) -> set[str]:
    """The names for which nginx of a machine has a certificate."""
    folder = "/etc/nginx/rollcall-origins"
    return set(
        sites.inside(sites.machine(machine)["id"], "sh", "-c", f"cd {folder} && ls *.pem | sed s/.pem$//").split()
    )


def test_a_token_changes_its_own_zone_only(sites: Sites) -> None:
    assert sites.tokens() == [f"rollcall local machines {ZONE}", f"rollcall local machines {FIRST}"]
    assert sites.secrets_of("web-bare-0") == {
        "token-example_net",
        "token-scalability_expert",
        "origin-news",
        "origin-www",
    }
    assert sites.secrets_of("web-joyent-0") == {"token-scalability_expert", "origin-www"}
    machine = sites.machine("web-bare-0")["id"]
    for key, own, other in (("example_net", ZONE, FIRST), ("scalability_expert", FIRST, ZONE)):
        token = sites.inside(machine, "mdata-get", f"token-{key}").strip().split(" ")[-1]
        status = {
            zone: sites.of_user(f"/zones/{sites.zone_id(zone)}/dns_records", token).status_code for zone in (own, other)
        }
        assert status[own] == 200 and status[other] in (401, 403), status


def test_it_is_removed_and_the_first_site_serves_all_the_time(sites: Sites) -> None:
    machines, everybody = sites.in_state(), {each["id"] for each in sites.live}
    sites.configure(rotation="")
    first, second = Prober(sites.ask_site, every=0.2), Prober(sites.ask_news, every=0.3)
    with first.running(), second.running():
        sites.up()
        time.sleep(5)
    assert len(first.answers) > 20 and first.failures(lambda answer: answer in everybody) == []
    # Until its last record is removed, the second site is served.
    assert {answer for _, answer in second.answers} <= {*everybody, "409"}, second.answers
    assert sites.in_state() == machines and sites.owners() == sites.expected()
    assert sites.tokens() == [f"rollcall local machines {FIRST}"]
    assert {status for status, _ in sites.served(HOST)} == {409}
    assert sites.secrets_of("web-bare-0") == {"token-scalability_expert", "origin-www"}
