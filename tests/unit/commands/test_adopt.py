"""components.commands.adopt: which machine gets a record that was made by hand, and why other records stay as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.commands.adopt import RunningMachine, Verdict, owners, shown, verdict
from components.model import BY_HAND, RecordKey
from rollcall.cloudflare import Record
from rollcall.ownership import Owner

HOST = "www.scalability.expert"
OWNER = Owner("local", "web", "0", "ab12cd", "i-0123456789abcdef0")
MACHINE = RunningMachine(owner=OWNER, addresses=("198.51.100.10",))
RECORD = Record(name=HOST, type="A", content="198.51.100.10", ttl=60, zone="z", id="r")


def test_the_address_of_a_running_machine_becomes_its_record() -> None:
    message = verdict(RECORD, "local", [MACHINE], {"web"})
    assert message is not None and message.becomes == str(OWNER) and "web-0" in message.reason


@pytest.mark.parametrize(
    ("record", "machines", "why"),
    [
        (replace(RECORD, content="198.51.100.11"), [MACHINE], "no running machine"),
        (RECORD, [replace(MACHINE, addresses=())], "no running machine"),
        (RECORD, [], "no running machine"),
        (replace(RECORD, comment="mine"), [MACHINE], "another comment, 'mine'"),
        (replace(RECORD, comment=str(replace(OWNER, stack="other"))), [MACHINE], "it is of stack other"),
        (replace(RECORD, type="CNAME", content="elsewhere.example"), [MACHINE], "no address record"),
        (replace(RECORD, type="TXT"), [MACHINE], "no address record"),
    ],
)
def test_everything_else_stays_foreign_and_says_why(record: Record, machines: list[RunningMachine], why: str) -> None:
    message = verdict(record, "local", machines, {"web"})
    assert message is not None and message.becomes == "" and why in message.reason


def test_the_address_of_a_fleet_that_does_not_join_the_site_stays_foreign() -> None:
    """A mark would make it a leftover record, which the next `up` removes."""
    message = verdict(RECORD, "local", [MACHINE], {"shop"})
    assert message is not None and message.becomes == ""
    assert message.reason == "the address of web-0 (i-0123456789abcdef0), and its fleet does not join this site"


def test_what_a_machine_of_the_stack_wrote_is_not_spoken_of() -> None:
    assert verdict(replace(RECORD, comment=str(OWNER)), "local", [MACHINE], {"web"}) is None


def resource(kind: str, home: str, name: str, **outputs: object) -> dict[str, object]:
    parent = f"urn:pulumi:local::rollcall::rollcall:index:{home}::web"
    return {"type": kind, "parent": parent, "urn": f"{parent}${kind}::{name}", "id": OWNER.instance, "outputs": outputs}


class TestOwners:
    EC2 = "aws:ec2/instance:Instance"

    def test_a_machine_is_known_by_its_fleet_number_and_generation(self) -> None:
        found = owners([resource(self.EC2, "Ec2Fleet", "web-0", tags={"rollcall-generation": "ab12cd"})])
        assert found == [("aws", OWNER)]

    def test_one_that_was_imported_is_known_as_made_by_hand(self) -> None:
        ((_, owner),) = owners([resource(self.EC2, "Ec2Fleet", "web-0", tags={"Name": "old"})])
        assert owner == replace(OWNER, generation=BY_HAND)

    def test_a_resource_outside_fleets_or_to_be_deleted_has_no_owner(self) -> None:
        others = [
            resource(self.EC2, "Site", "web-0"),
            resource("aws:ec2/securityGroup:SecurityGroup", "Ec2Fleet", "web-group"),
            {**resource(self.EC2, "Ec2Fleet", "web-0"), "delete": True},
        ]
        assert owners(others) == []

    def test_another_project_is_in_the_name_of_the_stack(self) -> None:
        of = resource("pulumi-python:dynamic/joyent:Machine", "JoyentFleet", "web-0")
        of["parent"] = "urn:pulumi:prod::shop::rollcall:index:JoyentFleet::web"
        ((cloud, owner),) = owners([of])
        assert (cloud, owner.stack) == ("joyent", "shop.prod")


def test_people_see_first_what_would_change() -> None:
    ours = Verdict(key=RecordKey(HOST, "A"), value="198.51.100.10", becomes=str(OWNER), reason="the address of web-0")
    foreign = Verdict(key=RecordKey(HOST, "A"), value="198.51.100.99", becomes="", reason="no running machine")
    lines = shown([foreign, ours], written=False).splitlines()
    assert lines[0].startswith("Would become") and "198.51.100.10" in lines[1]
    assert lines[2] == "Stay foreign" and "198.51.100.99" in lines[3]
    assert shown([ours], written=True).startswith("Marked")
    assert "nothing to adopt" in shown([], written=False)
