"""What the program does in a zone that takes dynamic updates: preflight, static records, listing and removing machines' records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from components.config import reader
from components.config.models import Settings
from components.dns.registry import place_of
from components.dns.rfc2136 import MACHINE_TSIG_KEY, TSIG_KEY, DynamicServicePlace, SitePlace
from components.preflight import dynamic_zones
from components.resources.zone_record import ZoneRecordError, ZoneRecordProvider
from localcloud.runtime.prepare import ROOT
from rollcall.ownership import KEPT, Owner
from rollcall.rfc2136 import Rfc2136Site
from rollcall.route53 import Route53Registry
from tests.dynamic_zone import KNOTD, NAMED, SERVERS, DynamicServer, running, write

pytestmark = pytest.mark.clouds
ZONE = "example.org"
HOST, SET = f"www.{ZONE}", f"v1._theservice._tcp.{ZONE}"
ONE = Owner("local", "web", "0", "aaaaaa", "i-00000000000000001")
TWO = Owner("local", "web", "1", "bbbbbb", "i-00000000000000002")
A1, A2, FOREIGN = "198.51.100.1", "198.51.100.2", "203.0.113.9"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamicServer]:
    with running(request.param, tmp_path_factory.mktemp(request.param), ZONE) as made:
        yield made


@pytest.fixture(autouse=True)
def emptied(server: DynamicServer) -> Iterator[None]:
    yield
    server.empty()


def settings(at_server: DynamicServer, **changed: Any) -> Settings:
    at = {"zone": ZONE, "provider": "rfc2136", "server": f"{at_server.address}:{at_server.port}", **changed}
    services = {"theService": {"port": 4218, "incarnations": {"v1": {"txt": {"path": "/ü"}}}}}
    fleet = {"cloud": "joyent", "size": "g1", "image": "debian-12", "joins": ["site/www", "theService/v1"]}
    return reader.read(
        "local", {"sites": {"www": at}, "serviceDiscovery": {**at, "services": services}, "fleets": {"web": fleet}}
    )


def faults(at: DynamicServer, keys: Mapping[str, str] | None = None, **changed: Any) -> list[str]:
    known = {TSIG_KEY: at.operator, MACHINE_TSIG_KEY: at.machines} if keys is None else keys
    return dynamic_zones.faults(settings(at, **changed), known.get)


class TestPreflight:
    def test_keys_that_may_do_what_they_are_for_have_no_fault_and_nothing_changes(self, server: DynamicServer) -> None:
        before = server.client().sets()
        assert faults(server) == []
        assert server.client().sets() == before, "the SOA's serial too"

    def test_one_key_for_all_needs_the_rights_of_both(self, server: DynamicServer) -> None:
        assert faults(server, {TSIG_KEY: server.operator}) == []
        found = faults(server, {TSIG_KEY: server.machines})
        start = f"{TSIG_KEY}: the zone {ZONE} cannot be changed at _services._dns-sd._udp.{ZONE} PTR at "
        assert len(found) == 1 and found[0].startswith(start)

    def test_no_key_is_one_fault(self, server: DynamicServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ROLLCALL_TSIG_KEY", raising=False)
        (found,) = faults(server, {})
        assert found.startswith(f"{TSIG_KEY}: is missing") and "config set --secret" in found
        monkeypatch.setenv("ROLLCALL_TSIG_KEY", server.operator)
        assert faults(server, {}) == []

    def test_a_machines_key_that_may_not_change_the_zone_is_named(self, server: DynamicServer) -> None:
        found = faults(server, {TSIG_KEY: server.operator, MACHINE_TSIG_KEY: server.stranger})
        assert len(found) == 2 and all(each.startswith(f"{MACHINE_TSIG_KEY}: ") for each in found)
        assert all("docs/rfc2136.md" in each and server.stranger.rpartition(":")[2] not in each for each in found)

    def test_a_key_of_another_form_is_not_quoted(self, server: DynamicServer) -> None:
        found = faults(server, {TSIG_KEY: "mysecret"})
        assert all(each.startswith(f"{TSIG_KEY}: is not a TSIG key") and "mysecret" not in each for each in found)

    def test_a_zone_that_is_not_there(self, server: DynamicServer) -> None:
        assert all(f"{TSIG_KEY}: the zone example.net cannot be" in each for each in faults(server, zone="example.net"))

    def test_a_server_that_is_not_there(self, server: DynamicServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dynamic_zones, "_WITHIN_S", 0.0)
        found = faults(server, server="127.0.0.1:9")
        assert [each.partition(": ")[0] for each in found] == [
            "rollcall:sites.www.server",
            "rollcall:serviceDiscovery.server",
        ]

    def test_a_cname_in_the_way_is_named(self, server: DynamicServer) -> None:
        write(server, HOST, "CNAME", f"lb.{ZONE}.")
        assert any("rollcall:sites.www.host" in each and "CNAME to lb.example.org." in each for each in faults(server))


class TestStaticRecords:
    def provider(self, server: DynamicServer) -> ZoneRecordProvider:
        made = ZoneRecordProvider()
        made.config = {TSIG_KEY: server.operator}
        return made

    def props(self, server: DynamicServer, **changed: Any) -> dict[str, Any]:
        name, values = f"_theservice._tcp.{ZONE}", [f"v1._theService._tcp.{ZONE}."]
        given = {"server": server.where, "domain": ZONE, "name": name, "type": "PTR", "ttl": 300.0, "values": values}
        return {**given, **changed}

    def test_it_is_made_changed_and_removed(self, server: DynamicServer) -> None:
        provider, old = self.provider(server), self.props(server)
        made = provider.create(old)
        assert server.pointers(old["name"]) == {each.lower() for each in old["values"]}
        assert provider.read(made.id, old).outs == old
        new = self.props(server, values=[*old["values"], f"v2._theService._tcp.{ZONE}."], ttl=60)
        assert provider.diff(made.id, old, new).changes and not provider.diff(made.id, old, new).replaces
        provider.update(made.id, old, new)
        assert (
            server.pointers(old["name"]) == {each.lower() for each in new["values"]}
            and server.ttl(old["name"], "PTR") == 60
        )
        provider.delete(made.id, new)
        assert not server.values(old["name"], "PTR") and provider.read(made.id, new).id == ""

    def test_what_an_up_that_was_killed_has_left_is_taken_over(self, server: DynamicServer) -> None:
        provider, props = self.provider(server), self.props(server)
        assert provider.create(props).id == provider.create(props).id

    def test_another_set_is_refused_and_stays(self, server: DynamicServer) -> None:
        props = self.props(server)
        write(server, props["name"], "PTR", f"other.{ZONE}.")
        with pytest.raises(ZoneRecordError, match=r"_theservice\._tcp\.example\.org PTR is other"):
            self.provider(server).create(props)
        assert server.values(props["name"], "PTR") == {f"other.{ZONE}."}

    def test_drift_is_a_diff_and_what_others_added_stays_at_the_end(self, server: DynamicServer) -> None:
        provider, props = self.provider(server), self.props(server)
        made = provider.create(props)
        (now,) = server.client().at(props["name"], ("PTR",))
        server.store().change([now], [replace(now, values=(*now.values, f"other.{ZONE}."))])
        seen = provider.read(made.id, props)
        assert provider.diff(made.id, seen.outs, props).changes  # type: ignore[arg-type]
        provider.delete(made.id, props)
        assert server.values(props["name"], "PTR") == {f"other.{ZONE}."}

    def test_a_text_is_the_same_after_a_round(self, server: DynamicServer) -> None:
        provider = self.provider(server)
        props = self.props(server, name=SET, type="TXT", values=[r'"a=\"b\\" "path=/\195\188"'])
        made = provider.create(props)
        assert provider.read(made.id, props).outs == props and server.values(SET, "TXT") == {props["values"][0]}


class TestSiteRecords:
    def place(self, server: DynamicServer) -> SitePlace:
        return SitePlace(server=server.where, domain=ZONE, host=HOST, ttl=120)

    def member(self, server: DynamicServer, owner: Owner, address: str) -> Rfc2136Site:
        site = Rfc2136Site(
            replace(self.place(server).machine_settings, key="tsig"), lambda: server.machines, lambda _: None
        )
        site.join(owner, address)
        return site

    def test_its_inputs_make_it_again(self, server: DynamicServer) -> None:
        for each in (self.place(server), replace(self.place(server), ipv6=True)):
            assert place_of(each.as_inputs()) == each
            assert each.machine_settings.domain == ZONE

    def test_addresses_are_listed_with_their_owners_and_foreign_ones_without(self, server: DynamicServer) -> None:
        write(server, HOST, "A", FOREIGN, ttl=120)
        self.member(server, ONE, A1)
        records = self.place(server).records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        assert {(str(each.key), each.value, each.owner) for each in records.dns_records()} == {
            (f"{HOST} A", A1, ONE),
            (f"{HOST} A", FOREIGN, None),
        }

    def test_what_is_removed_goes_with_its_mark_and_the_rest_stays(self, server: DynamicServer) -> None:
        write(server, HOST, "A", FOREIGN, ttl=120)
        self.member(server, ONE, A1)
        self.member(server, TWO, A2)
        records = self.place(server).records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        records.remove([each for each in records.dns_records() if each.owner == ONE])
        assert server.values(HOST, "A") == {FOREIGN, A2}
        assert server.values(f"rc.{HOST}", "TXT") == {f'"{A2} {TWO}"'}
        records.remove([each for each in records.dns_records() if each.owner is None])
        assert server.values(HOST, "A") == {A2}

    def test_what_another_machine_has_taken_over_since_is_not_removed(self, server: DynamicServer) -> None:
        self.member(server, ONE, A1)
        records = self.place(server).records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        listed = records.dns_records()
        self.member(server, TWO, A1)
        records.remove(listed)
        assert server.values(HOST, "A") == {A1} and server.values(f"rc.{HOST}", "TXT") == {f'"{A1} {TWO}"'}

    def test_one_that_stays_although_unhealthy_is_shown_so(self, server: DynamicServer) -> None:
        self.member(server, ONE, A1).leave_unhealthy(ONE, {"A": 1}, A1)
        records = self.place(server).records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        assert [each.kept for each in records.dns_records()] == [True]
        assert server.values(f"rc.{HOST}", "TXT") == {f'"{A1} {ONE}{KEPT}"'}

    def test_challenges_of_a_machine_that_is_gone_go(self, server: DynamicServer) -> None:
        site = self.member(server, TWO, A2)
        site.challenge(ONE, True, "bbbbbb")
        records = self.place(server).records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        records.unchallenge(replace(ONE, instance="unknown"))
        assert site.challengers(ONE) == ()


class TestServiceRecords:
    def place(self, server: DynamicServer) -> DynamicServicePlace:
        return DynamicServicePlace(
            server=server.where, domain=ZONE, service="_theService._tcp", incarnation="v1", port=4218,
            priority=10, weight=10, ttl=30,
        )  # fmt: skip

    def test_its_inputs_make_it_again(self, server: DynamicServer) -> None:
        assert place_of(self.place(server).as_inputs()) == self.place(server)

    def test_members_are_listed_and_removed(self, server: DynamicServer) -> None:
        place = self.place(server)
        for owner, address in ((ONE, A1), (TWO, A2)):
            Route53Registry(place.machine_settings, server.store(server.machines), pause=lambda _: None).join(
                owner, address
            )
        records = place.records(None, {TSIG_KEY: server.operator})  # type: ignore[arg-type]
        found = records.dns_records()
        assert {each.owner for each in found if str(each.key) == f"{SET} SRV"} == {ONE, TWO}
        records.remove([each for each in found if each.owner == ONE])
        assert server.values(SET, "SRV") == {f"10 10 4218 bbbbbb.rc.{ZONE}."}
        assert not server.values(f"aaaaaa.rc.{ZONE}", "TXT")


def test_the_rules_in_the_manual_are_those_that_are_tested() -> None:
    """Of BIND and of Knot, line by line, without the keys and the paths."""
    manual = {line.strip() for line in (ROOT / "docs/rfc2136.md").read_text().splitlines()}
    tested = f"{NAMED}{KNOTD}".replace("{{", "{").replace("}}", "}").replace("{zone}", ZONE)
    starts = ("grant ", "allow-transfer", "max-records", "update-", "action: update")
    lines = {line.strip() for line in tested.splitlines() if line.strip().startswith(starts)}
    assert len(lines) > 10 and lines - manual == set()
