"""components.config.floors: how many machines stay in DNS whatever their health, and how the machines learn of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from components.commands import status
from components.commands.status import status_of
from components.compute.locations import Location
from components.config import floors
from components.config.models import Settings
from components.config.reader import read
from components.dns.cloudflare import _dns_record
from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey
from components.registration.diff import find_drift
from rollcall.cloudflare import Record
from rollcall.ownership import KEPT, LEAVES, Owner
from rollcall.route53 import RecordSet, is_kept, is_leaving
from tests.unit.config.test_models import GOOD, faults


@pytest.mark.parametrize(
    ("wanted", "least", "found"),
    [
        (0, 1, 1),
        (1, 1, 1),
        (2, 1, 1),
        (3, 1, 1),
        (4, 1, 2),
        (5, 1, 2),
        (6, 1, 2),
        (7, 1, 3),
        (10, 1, 3),
        (11, 1, 4),
        (300, 1, 90),
        (5, 3, 3),
        (5, 5, 5),
        (5, 9, 5),
        (10, 2, 3),
    ],
)
def test_the_floor_is_three_in_ten_rounded_up_or_what_is_asked_for(wanted: int, least: int, found: int) -> None:
    assert floors.floor(wanted, least) == found


def settings_of(*fleets: tuple[int, list[str], bool], **more: Any) -> Settings:
    config = copy.deepcopy(GOOD)
    if not any("site/www" in joins for _, joins, _ in fleets):
        del config["sites"]
    config["fleets"] = {
        f"web-{at}": {
            "cloud": ("aws", "joyent")[at % 2] if not ipv6 else "aws",
            "count": count,
            "size": "t3.micro",
            "image": "debian-12",
            "joins": joins,
            "ipv6": ipv6,
        }
        for at, (count, joins, ipv6) in enumerate(fleets)
    }
    config.get("sites", {"www": {}})["www"].update(more)
    return read("local", config)


def test_all_clouds_and_fleets_of_a_record_set_count_together() -> None:
    settings = settings_of(
        (4, ["site/www"], True), (6, ["site/www", "theService/v1"], False), (9, ["theService/v1"], False)
    )
    assert floors.of_site(settings, settings.sites[0]) == (3, 2)
    assert floors.of_service(settings, "theService/v1", 1, 1, 0) == 5
    settings = settings_of((4, ["site/www"], True), (6, ["site/www", "theService/v1"], False), minRegistered=5)
    assert floors.of_site(settings, settings.sites[0]) == (5, 4)


@pytest.mark.parametrize(("shard", "found"), [(0, 2), (1, 1), (2, 1)])
def test_each_shard_has_its_own_floor(shard: int, found: int) -> None:
    settings = settings_of((4, ["theService/v1"], False), (5, ["theService/v1"], False))
    assert floors.of_service(settings, "theService/v1", 1, 3, shard) == found


def test_more_than_join_are_refused_with_the_key_and_the_fix() -> None:
    (fault,) = faults({**GOOD, "sites": {"www": {**GOOD["sites"]["www"], "minRegistered": 5}}})
    assert fault == (
        "rollcall:sites.www.minRegistered: is 5, and 4 machines join site/www. Set 4 at most, or raise the counts."
    )
    config = copy.deepcopy(GOOD)
    config["serviceDiscovery"]["services"]["theService"]["minRegistered"] = 3
    (fault,) = faults(config)
    assert fault.startswith(
        "rollcall:serviceDiscovery.services.theService.minRegistered: is 3, and 2 machines join theService/v1"
    )
    for each in (0, -1, "many", 401):
        (fault,) = faults({**GOOD, "sites": {"www": {**GOOD["sites"]["www"], "minRegistered": each}}})
        assert fault.startswith("rollcall:sites.www.minRegistered: ")


def test_where_no_machine_joins_yet_any_number_will_do() -> None:
    config = copy.deepcopy(GOOD)
    for each in config["fleets"].values():
        each["count"] = 0
    assert faults({**config, "sites": {"www": {**config["sites"]["www"], "minRegistered": 5}}}) == ()


OWNER = Owner("local", "web", "0", "aaaaaa", "i-00000000000000001")


@pytest.mark.parametrize(
    ("comment", "kept", "ours"),
    [
        (OWNER.mark(), False, True),
        (OWNER.mark(KEPT), True, True),
        (OWNER.mark(LEAVES), False, True),
        ("kept", False, False),
        ("the old load balancer kept", False, False),
        (f"{OWNER} kept kept", False, False),
    ],
)
def test_what_a_comment_says(comment: str, kept: bool, ours: bool) -> None:
    record = _dns_record(Record(name="www.a.b", type="A", content="198.51.100.1", comment=comment, zone="z", id="1"))
    assert (record.kept, record.owner) == (kept, OWNER if ours else None)


@pytest.mark.parametrize(("word", "kept"), [("joins", False), ("kept", True), ("leaves", False)])
def test_what_a_host_s_txt_says(word: str, kept: bool) -> None:
    value = f'"{word} v1._s._tcp.unilans.net 10 10 4218 aaaaaa.rc.unilans.net."'
    sets = [RecordSet("aaaaaa.rc.unilans.net", "TXT", 60, tuple(sorted((f'"{OWNER}"', value))))]
    assert is_kept(sets, "v1._s._tcp.unilans.net") is kept and not is_kept(sets, "v2._s._tcp.unilans.net")
    assert is_leaving(sets, "aaaaaa.rc.unilans.net") is (word == "leaves")
    stays = value.replace(f'"{word} v1.', '"joins v2.')
    both = [replace(sets[0], values=tuple(sorted((*sets[0].values, stays))))]
    assert not is_leaving(both, "aaaaaa.rc.unilans.net"), "it is in another set"


def test_status_says_why_a_machine_is_kept() -> None:
    member = Member(fleet="web", machine="0", generation="aaaaaa", instance=OWNER.instance)
    other = replace(member, machine="1", generation="bbbbbb", instance="i-2")
    key = RecordKey("www.a.b", "A")
    desired = DesiredState(
        stack="local", fleet="web", members=(member, other), record_sets=(ExpectedRecordSet(key=key),)
    )
    records = [DnsRecord(key=key, value="198.51.100.1", owner=OWNER, kept=True)]
    drift = find_drift(desired, records, [], {key: None})

    class Registries:
        def steps(self, members: list[Member], _: list[Instance]) -> dict[str, str]:
            assert members == [member], "only those are asked about"
            return {member.instance: "kept although unhealthy: http:80:/ status=503"}

    steps = status._unhealthy_steps(drift, Registries(), [])  # type: ignore[arg-type]
    shown = status_of(Location(cloud="aws", region="us-west-2"), desired, records, [], drift, steps)
    assert shown.differences["missing"] == (
        f"web-0 ({OWNER.instance}) is at www.a.b A and kept although unhealthy: kept although unhealthy: http:80:/ status=503",
        "web-1 (i-2) is not at www.a.b A",
    )
