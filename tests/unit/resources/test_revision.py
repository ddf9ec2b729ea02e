"""components.resources.fleets.revision: which change replaces a machine, as one table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.config.machine_keys import DiskSettings, LogsSettings, PoliciesSettings, VolumeSettings
from components.config.models import FleetSettings, SshSettings
from components.resources.fleets import revision
from components.resources.fleets.revision import (
    EC2_IGNORED,
    Part,
    image_words,
    is_of,
    replacement_trigger,
    unseen_parts,
    version,
)

WEB = FleetSettings(name="web", cloud="aws", count=3, size="t3.micro", image="debian-12", joins=("site/www",))

# what changes, whether it replaces the machine, whether the machine's tag shows it
ROWS: list[tuple[dict[str, Any], bool, bool]] = [
    ({"size": "t3.small"}, True, True),
    ({"image": "ubuntu-24.04"}, True, True),
    ({"image_refresh": "2"}, True, True),
    ({"ssh": SshSettings(user="admin", key_name="operators")}, True, True),
    ({"ipv6": True}, True, True),
    ({"digests": {"shop": "a" * 64}}, True, True),
    ({"disk": DiskSettings(size=20)}, True, True),
    ({"disk": DiskSettings(encrypted=False)}, True, True),
    ({"disk": DiskSettings(kms_key="arn:aws:kms:us-west-2:123456789012:key/1")}, True, True),
    ({"disk": DiskSettings(type="io2", iops=500)}, False, False),
    ({"disk": DiskSettings(throughput=200)}, False, False),
    ({"volumes": (VolumeSettings(size=5, mount="/srv"),)}, True, True),
    ({"proxy": "http://proxy.example.net:3128"}, True, True),
    ({"timezone": "UTC", "apt_mirror": "https://a.example", "logs": LogsSettings(syslog="a:1")}, False, False),
    ({"tags": {"team": "web"}, "monitoring": True, "policies": PoliciesSettings()}, False, False),
    ({"cloud": "joyent", "timezone": "UTC"}, True, True),
    ({"region": "eu-west-1"}, True, False),
    ({"brand": "kvm"}, True, True),
    ({"affinity": ("rollcall-fleet!=~web",)}, True, True),
    ({"disks": ("20480", "remaining")}, True, True),
    ({"deletion_protection": True}, False, False),
    ({"count": 9}, False, False),
    ({"weight": 7, "priority": 7}, False, False),
    ({"ssh": SshSettings(user="admin")}, False, False),
    ({"timeout": 60}, False, False),
]


@pytest.mark.parametrize(("change", "replaces", "tagged"), ROWS, ids=[",".join(row[0]) for row in ROWS])
def test_a_change_replaces_the_machines_or_not(change: dict[str, Any], replaces: bool, tagged: bool) -> None:
    changed = replace(WEB, **change)
    triggers = [replacement_trigger(each, image_words(each)) for each in (WEB, changed)]
    assert (triggers[0] != triggers[1]) is replaces
    assert is_of(version(WEB), changed) is not tagged


def test_another_release_of_a_workload_replaces_no_machine_that_changes_in_place() -> None:
    """Other workloads do, and so does the change from one way to the other."""
    before = replace(WEB, release="in-place", digests={"shop": "a" * 64})
    after = replace(before, digests={"shop": "b" * 64})
    assert version(before) == version(after)
    assert replacement_trigger(before, "") == replacement_trigger(after, "")
    others: list[dict[str, Any]] = [
        {"digests": {**before.digests, "www": "a" * 64}},
        {"digests": {}},
        {"release": "replace"},
    ]
    for other in others:
        changed = replace(before, **other)
        assert version(before) != version(changed) and replacement_trigger(before, "") != replacement_trigger(
            changed, ""
        )
    # How the machines change is no part of them.
    calm = replace(before, batch="25%", canary=1, deadline=60, min_healthy_time=1)
    assert version(before) == version(calm) and replacement_trigger(before, "") == replacement_trigger(calm, "")


def test_other_sources_replace_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(WEB), replacement_trigger(WEB, "")
    monkeypatch.setattr("components.resources.userdata.sources_hash", lambda: "another")
    assert version(WEB) != before[0] and replacement_trigger(WEB, "") != before[1]


def test_a_new_part_without_a_value_leaves_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first preview with a new release would count all machines as replaced."""
    before = version(WEB), replacement_trigger(WEB, "")
    monkeypatch.setattr(revision, "PARTS", (*revision.PARTS, Part(key="disk", name="its disk", values=lambda _: [])))
    assert (version(WEB), replacement_trigger(WEB, "")) == before
    monkeypatch.setattr(
        revision, "PARTS", (*revision.PARTS, Part(key="disk", name="its disk", values=lambda _: ["50"]))
    )
    assert version(WEB) != before[0] and replacement_trigger(WEB, "") != before[1]


def test_other_words_for_a_part_leave_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = version(WEB)
    monkeypatch.setattr(revision, "PARTS", tuple(replace(each, name=each.name.upper()) for each in revision.PARTS))
    assert version(WEB) == before


def test_equal_values_of_two_parts_are_two_revisions() -> None:
    keyed = replace(WEB, ssh=SshSettings(user="admin", key_name="ipv6"))
    assert version(keyed) != version(replace(WEB, ipv6=True))


def test_the_image_that_a_fleet_keeps_is_its_trigger_in_place_of_the_words() -> None:
    assert "ami-1" in replacement_trigger(WEB, "ami-1") and "debian-12" not in replacement_trigger(WEB, "ami-1")


def test_inputs_that_would_replace_an_instance_by_themselves_are_ignored_and_the_review_names_what_no_input_shows() -> (
    None
):
    assert EC2_IGNORED == ["userDataBase64", "ami", "subnetId", "associatePublicIpAddress"]
    assert unseen_parts() == "its release or boot script, its image's name, its region, its network or its workloads"
