"""A machine has another host name at each registration, since resolvers remember that the earlier one had no records."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Member, RecordKey
from components.registration.diff import Finding, Kind, find_drift
from localcloud.aws.route53 import UNLIMITED
from localcloud.aws.route53.pace import Throttle
from rollcall.host_label import FirstLabels, KeptLabels, first_host, generation_of
from rollcall.route53 import Route53Registry
from rollcall.settings import Route53Join
from rollcall.srv_transitions import Writer
from tests.unit.agent.contention import DOMAIN, Zone
from tests.unit.agent.test_route53 import (
    HOST,
    ONE,
    OTHER,
    OTHER_VALUE,
    SERVICE_JOIN,
    SET,
    TWO,
    VALUE,
    Still,
    leave_wholly,
    put,
    values,
)

A, OTHER_A = "198.51.100.1", "198.51.100.2"
BOTH = replace(SERVICE_JOIN, srv="service")
NAMES = (SET, f"_theservice._tcp.v1.{DOMAIN}", f"_theservice._tcp.{DOMAIN}")
SECOND = replace(SERVICE_JOIN, incarnation="v2")


@pytest.fixture
def zone() -> Zone:
    scheduler = Still(1)
    return Zone(scheduler, Throttle(UNLIMITED, lambda: scheduler.now))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "host-labels.json"


def labels(file: Path | None, seed: int = 1) -> KeptLabels:
    return KeptLabels(file, random.Random(seed))  # noqa: S311


def process(zone: Zone, kept: KeptLabels | None, join: Route53Join = BOTH) -> Route53Registry:
    """The agent's registry after a start of the machine."""
    return Route53Registry(join, zone, Writer(), zone.scheduler.sleep, random.Random(1), labels=kept)  # noqa: S311


def hosts(zone: Zone) -> list[str]:
    return sorted(name for name, kind in zone.sets if kind == "A")


def targets(zone: Zone, name: str = SET) -> list[str]:
    return [each.split()[3].rstrip(".") for each in values(zone, name)]


class TestRegistrations:
    def test_the_first_one_has_the_generation_and_costs_no_check(self, zone: Zone, file: Path) -> None:
        assert process(zone, labels(file)).join(ONE, A)
        assert hosts(zone) == [HOST] and all(values(zone, each) == (VALUE,) for each in NAMES)
        assert zone.calls == 3

    def test_the_next_one_of_the_same_process_has_another_host(self, zone: Zone, file: Path) -> None:
        registry = process(zone, labels(file))
        seen = []
        for _ in range(4):
            assert registry.join(ONE, A)
            (host,) = hosts(zone)
            assert [targets(zone, each) for each in NAMES] == [[host]] * 3
            seen.append(host)
            assert leave_wholly(registry, ONE, A) and not zone.sets
        assert len({*seen}) == 4 and {generation_of(each) for each in seen} == {"aaaaaa"}

    def test_so_has_the_next_one_after_a_restart_of_the_machine(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        leave_wholly(process(zone, labels(file)), ONE, A)
        assert not zone.sets
        process(zone, labels(file)).join(ONE, A)
        (host,) = hosts(zone)
        assert host != HOST and targets(zone) == [host]

    def test_and_after_others_cleaned_up_what_a_crash_had_left(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        process(zone, labels(None)).join(TWO, OTHER_A)
        process(zone, labels(None)).leave(ONE)
        assert hosts(zone) == [OTHER] and targets(zone) == [OTHER]
        process(zone, labels(file)).join(ONE, A)
        (again,) = {*hosts(zone)} - {OTHER}
        assert again != HOST and sorted(targets(zone)) == sorted([OTHER, again])
        process(zone, labels(None)).leave(ONE)
        assert hosts(zone) == [OTHER], "the others find the hosts of all registrations"

    def test_records_that_never_went_keep_their_host(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        before = dict(zone.sets)
        assert not process(zone, labels(file)).join(ONE, A) and zone.sets == before
        registry = process(zone, labels(file))
        leave_wholly(registry, ONE, A)
        registry.join(ONE, A)
        before = dict(zone.sets)
        assert not process(zone, labels(file)).join(ONE, A) and zone.sets == before
        assert hosts(zone) != [HOST]

    @pytest.mark.parametrize("left", ["none", "a copied one"])
    def test_a_host_that_lost_its_mark_only_keeps_its_name(self, zone: Zone, file: Path, left: str) -> None:
        """It never stopped to have an address, so no resolver remembers that it had."""
        process(zone, labels(file)).join(ONE, A)
        before = dict(zone.sets)
        if left == "none":
            del zone.sets[HOST, "TXT"]
        else:
            put(zone, HOST, "TXT", f'"{TWO}"')
        process(zone, labels(file)).join(ONE, A)
        assert zone.sets == before

    def test_a_host_that_lost_its_address_has_another_name_and_leaves_nothing(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        del zone.sets[HOST, "A"]
        process(zone, labels(file)).join(ONE, A)
        (host,) = hosts(zone)
        assert host != HOST and [targets(zone, each) for each in NAMES] == [[host]] * 3
        assert not [name for name, _ in zone.sets if name == HOST]

    def test_a_new_address_keeps_the_host(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        process(zone, labels(file)).join(ONE, "198.51.100.9")
        assert values(zone, HOST, "A") == ("198.51.100.9",) and targets(zone) == [HOST]

    def test_two_services_of_a_zone_share_the_host(self, zone: Zone, file: Path) -> None:
        kept = labels(file)
        pair = [process(zone, kept, each) for each in (SERVICE_JOIN, SECOND)]
        for _ in range(2):
            for each in pair:
                each.join(ONE, A)
            (host,) = hosts(zone)
            assert targets(zone) == targets(zone, f"v2._theservice._tcp.{DOMAIN}") == [host]
            leave_wholly(pair[0], ONE, A)
            assert hosts(zone) == [host], "the other one still needs it"
            pair[0].join(ONE, A)
            assert hosts(zone) == [host]
            for each in pair:
                leave_wholly(each, ONE, A)
            assert not zone.sets

    def test_an_unhealthy_machine_comes_back_under_another_host(self, zone: Zone, file: Path) -> None:
        process(zone, None).join(TWO, OTHER_A)
        registry = process(zone, labels(file))
        registry.join(ONE, A)
        assert registry.leave_unhealthy(ONE, 1) == "" and targets(zone) == [OTHER]
        assert hosts(zone) == [HOST, OTHER] and registry.remove_hosts(ONE, registry.left_hosts, A)
        assert hosts(zone) == [OTHER]
        registry.join(ONE, A)
        (again,) = {*hosts(zone)} - {OTHER}
        assert again != HOST
        restarted = process(zone, labels(file))
        assert restarted.leave_unhealthy(ONE, 1) == "" and restarted.left_hosts == {again}
        assert values(zone) == (OTHER_VALUE,)

    def test_an_agent_that_has_lost_what_it_kept_gives_its_former_host_up(self, zone: Zone, file: Path) -> None:
        registry = process(zone, labels(file), SERVICE_JOIN)
        registry.join(ONE, A)
        leave_wholly(registry, ONE, A)
        for join in (SERVICE_JOIN, SECOND):
            process(zone, labels(file), join).join(ONE, A)
        (former,) = hosts(zone)
        foreign = put(zone, former, "AAAA", "2001:db8::99")
        file.unlink()
        kept = labels(file)
        first, second = (process(zone, kept, join) for join in (SERVICE_JOIN, SECOND))
        first.join(ONE, A)
        assert targets(zone) == [HOST] and first.left_hosts == {former}
        first.remove_hosts(ONE, first.left_hosts, A)
        assert hosts(zone) == sorted([HOST, former]), "the other service still leads there"
        second.join(ONE, A)
        assert targets(zone, f"v2._theservice._tcp.{DOMAIN}") == [HOST] and hosts(zone) == sorted([HOST, former])
        second.remove_hosts(ONE, second.left_hosts, A)
        assert hosts(zone) == [HOST] and zone.sets[former, "AAAA"] == foreign

    def test_a_name_that_was_taken_back_goes_to_no_other_machine(self, zone: Zone, file: Path) -> None:
        process(zone, labels(file)).join(ONE, A)
        registry = process(zone, labels(file))
        leave_wholly(registry, ONE, A)
        registry.join(ONE, A)
        (host,) = hosts(zone)
        assert registry.owner_at(host) == ONE
        assert process(zone, None).owner_at(host) == ONE
        text = zone.sets.pop((host, "TXT"))
        zone.sets[OTHER, "TXT"] = replace(text, name=OTHER)
        assert registry.owner_at(OTHER) is None, "a copied mark says nothing"


class TestKeptLabels:
    def test_what_another_generation_kept_does_not_count(self, file: Path) -> None:
        """An image that was made of a machine."""
        labels(file).use(ONE, DOMAIN)
        kept = labels(file)
        assert not kept.is_used(TWO, DOMAIN) and kept.of(TWO, DOMAIN) == TWO.generation

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"unilans.net": 5}', '{"unilans.net": "aaaaaa.evil"}', "\x00"])
    def test_a_garbled_file_is_as_none(self, file: Path, text: str) -> None:
        file.parent.mkdir()
        file.write_text(text)
        kept = labels(file)
        assert not kept.is_used(ONE, DOMAIN) and kept.of(ONE, DOMAIN) == ONE.generation
        kept.renew(ONE, DOMAIN)
        assert json.loads(file.read_text())[DOMAIN] == kept.of(ONE, DOMAIN)

    def test_without_a_disk_they_are_kept_in_memory(self) -> None:
        kept = labels(Path("/dev/null/labels.json"))
        kept.use(ONE, DOMAIN)
        kept.renew(ONE, DOMAIN)
        assert kept.of(ONE, DOMAIN) != ONE.generation and kept.is_used(ONE, DOMAIN)

    def test_another_process_s_label_is_read(self, file: Path) -> None:
        one, other = labels(file), labels(file, 2)
        one.use(ONE, DOMAIN)
        other.renew(ONE, DOMAIN)
        assert one.of(ONE, DOMAIN) == other.of(ONE, DOMAIN) != ONE.generation

    def test_each_zone_has_its_own_label(self) -> None:
        kept = labels(None)
        kept.renew(ONE, DOMAIN)
        assert kept.of(ONE, "example.org") == ONE.generation and not kept.is_used(ONE, "example.org")

    def test_a_label_is_one_of_dns(self) -> None:
        kept = labels(None)
        kept.renew(ONE, DOMAIN)
        label = kept.of(ONE, DOMAIN)
        assert label.startswith("aaaaaa-") and label.replace("-", "").isalnum() and len(label) == 11
        assert FirstLabels().of(ONE, DOMAIN) == "aaaaaa"


@pytest.mark.parametrize(
    ("host", "generation"),
    [
        ("1f2e3d.rc.unilans.net", "1f2e3d"),
        ("1f2e3d-k3x9.rc.unilans.net", "1f2e3d"),
        ("1f2e3d-k3x9x.rc.unilans.net", "1f2e3d-k3x9x"),
        ("by-hand.rc.unilans.net", "by-hand"),
    ],
)
def test_a_host_says_which_generation_it_is_of(host: str, generation: str) -> None:
    assert generation_of(host) == generation


def test_a_roll_call_knows_a_member_by_any_of_its_hosts() -> None:
    member = Member(fleet="api", machine="0", generation="aaaaaa", instance=ONE.instance)
    stand = ExpectedRecordSet(key=RecordKey(SET, "SRV"), value=f"10 10 4218 {{generation}}.rc.{DOMAIN}.")
    roll = DesiredState(stack="local", fleet="api", members=(member,), record_sets=(stand,), fleets=("api",))

    def found(value: str) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        records = [DnsRecord(key=stand.key, value=value, owner=ONE)]
        drift = find_drift(roll, records, [], {stand.key: frozenset({value})})
        return drift.of(Kind.MISSING), drift.of(Kind.STALE)

    assert found(VALUE) == found(f"10 10 4218 aaaaaa-k3x9.rc.{DOMAIN}.") == ((), ())
    for wrong in (f"10 11 4218 aaaaaa-k3x9.rc.{DOMAIN}.", f"10 10 4218 aaaaab-k3x9.rc.{DOMAIN}."):
        assert found(wrong)[1], wrong
    assert first_host(f"10 10 4218 aaaaaa-k3x9.rc.{DOMAIN}.", "aaaaaa") == VALUE
