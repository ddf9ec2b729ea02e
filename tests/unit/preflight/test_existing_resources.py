"""components.preflight.existing_resources: an existing resource is taken over if it is ours, and refused by name if it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import struct_pb2

from components.config.models import (
    FleetSettings,
    IncarnationSettings,
    ServiceDiscoverySettings,
    ServiceSettings,
    SiteSettings,
)
from components.config.site_zones import ZoneSettings
from components.dns import route53_zones
from components.preflight import existing_resources
from components.preflight.state import PriorState
from components.resources.existing import InZone
from components.resources.service_directory import static_records
from components.resources.site import apex_comment
from rollcall.cloudflare import Record

SITE = SiteSettings(name="www", zone="scalability.expert")
APEX_NAME = "site-scalability.expert-apex"


def zone(**changed: Any) -> ZoneSettings:
    return ZoneSettings(sites=(replace(SITE, **changed),))


OURS = Record(
    name="scalability.expert",
    type="CNAME",
    content="www.scalability.expert",
    proxied=True,
    comment=apex_comment("local"),
    zone="z",
    id="r",
)
SERVICE = ServiceSettings(
    name="theService",
    protocol="tcp",
    port=4218,
    incarnations=(IncarnationSettings(name="v1", txt={"path": "/", "a": 'quo"ted'}),),
    check="tcp:4218",
)
DIRECTORY = ServiceDiscoverySettings(zone="unilans.net", services=(SERVICE,))
APEX = "cloudflare:index/dnsRecord:DnsRecord"
SET, HOSTED_ZONE = "aws:route53/record:Record", "aws:route53/zone:Zone"
DEREGISTRATION = "pulumi-python:dynamic/rollcall:Deregistration"
INSTANCE = "aws:ec2/instance:Instance"


def prior_state(**resources: Mapping[str, Any]) -> PriorState:
    """A state as the engine sends it: `prior_state(apex=…)`, by name with `_` for `-`, without the words before a zone's."""
    kinds = {
        "apex": APEX,
        "zone": "cloudflare:index/zone:Zone",
        "ssl": "cloudflare:index/zoneSetting:ZoneSetting",
        "directory": SET,
        "web": INSTANCE,
        "api": DEREGISTRATION,
        "ssh": "command:local:Command",
    }
    kinds["roll"] = "pulumi-python:dynamic/rollcall:RollCall"
    kinds["release"] = "pulumi-python:dynamic/rollcall:Release"
    kinds["choice"] = "pulumi-python:dynamic/rollcall:AvailabilityZone"
    sent = struct_pb2.Struct()
    for name, outputs in resources.items():
        kind = HOSTED_ZONE if name == "directory_zone" else kinds[name.partition("_")[0]]
        resource = f"site-scalability.expert-{name}" if name in ("apex", "zone", "ssl") else name.replace("_", "-")
        urn = f"urn:pulumi:local::rollcall::rollcall:index:X${kind}::{resource}"
        sent.update({urn: {"type": kind, "outputs": outputs}})
    return PriorState(sent.fields)


EMPTY = prior_state()


def test_machines_that_the_state_drains_over_ssh_are_known_by_their_commands() -> None:
    state = prior_state(ssh_0_leave={"stdout": ""}, ssh_1={"stdout": ""})
    assert existing_resources.drained_by_ssh(["ssh-0", "ssh-1", "web-0"], state).by_ssh == {"ssh-0"}


def test_settings_that_a_site_leaves_behind_when_it_is_proxied_no_more_are_reported() -> None:
    state = prior_state(ssl={"value": "strict"})
    (note,) = existing_resources.settings_left(zone(), state).notes
    assert "always_use_https off" in note and "apex: false" in note
    assert existing_resources.settings_left(zone(proxied=True), state) == existing_resources.ExistingReport()
    assert existing_resources.settings_left(zone(), EMPTY) == existing_resources.ExistingReport()


def test_a_fleet_is_in_the_state_as_long_as_a_machine_of_it_is() -> None:
    state = prior_state(
        api_0={"fleet": "api"}, api_1={"fleet": "api"}, api_old_0={"fleet": "api-old"}, web_0={"fleet": "no"}
    )
    assert existing_resources.fleets(state).fleets == {"api", "api-old"}
    assert existing_resources.fleets(EMPTY) == existing_resources.ExistingReport()


def made(machine: str, generation: str, stack: str = "local") -> dict[str, str]:
    return {"stack": stack, "fleet": "api", "machine": machine, "generation": generation}


def test_machines_that_no_roll_call_has_counted_are_named_whole() -> None:
    machines = {"api_0": made("0", "aaaaaa"), "api_1": made("1", "bbbbbb")}
    counted = {"members": [{"machine": "0", "generation": "aaaaaa", "instance": "i-1"}]}
    assert existing_resources.uncounted(prior_state(**machines)).uncounted == (machines["api_0"], machines["api_1"])
    assert existing_resources.uncounted(prior_state(**machines, roll_call=counted)).uncounted == (machines["api_1"],)
    assert (
        existing_resources.uncounted(prior_state(api_0=machines["api_0"], roll_call=counted))
        == existing_resources.ExistingReport()
    )


@pytest.mark.parametrize(
    ("way", "had", "notes"),
    [("in-place", True, 0), ("in-place", False, 1), ("replace", True, 1), ("replace", False, 0)],
)
def test_another_way_to_take_a_release_is_reported_because_it_replaces_all_machines(
    way: str, had: bool, notes: int
) -> None:
    fleet = FleetSettings(name="api", cloud="aws", size="t3.micro", image="debian-12", joins=("site/www",), release=way)
    there: dict[str, Mapping[str, Any]] = {"api_0": made("0", "aaaaaa"), "roll_call": {"fleet": "api", "members": []}}
    release = {"release_api": {"fleet": "api"}} if had else {}
    found = existing_resources.changed_ways([fleet], prior_state(**there, **release)).notes
    assert len(found) == notes
    assert all(each.startswith(f"api: `release: {way}` is another way") for each in found)
    # A new fleet, and one whose first `up` failed, have nothing to replace.
    assert existing_resources.changed_ways([fleet], EMPTY).notes == ()
    assert existing_resources.changed_ways([fleet], prior_state(api_0=made("0", "aaaaaa"))).notes == ()


def test_those_of_several_failed_ups_in_a_row_are_named_too() -> None:
    """The engine gives one resource of each name. Those that it replaced and has not deleted, a Deregistration remembers."""
    first, second, other = made("0", "aaaaaa"), made("0", "bbbbbb"), made("1", "cccccc")
    third = {**made("0", "dddddd"), "uncounted": [first, second]}
    state = prior_state(api_0=third, api_1=other)
    assert existing_resources.uncounted(state).uncounted == (first, second, made("0", "dddddd"), other)
    # The roll call that counts the last one has had the others leave.
    counted = {"members": [{"machine": "0", "generation": "dddddd", "instance": "i-1"}]}
    assert existing_resources.uncounted(prior_state(api_0=third, api_1=other, roll_call=counted)).uncounted == (other,)


def test_machines_of_a_former_stack_name_are_recognised_and_reported() -> None:
    state = prior_state(api_0=made("0", "aaaaaa", "old"), api_1=made("1", "bbbbbb"))
    found = existing_resources.renamed(state, "local")
    assert found.renamed == {"api-0"}
    (note,) = found.notes
    assert note.startswith("the machines api-0 were made by this stack as old: each is replaced by one of local")
    assert (
        existing_resources.renamed(prior_state(api_1=made("1", "bbbbbb")), "local")
        == existing_resources.ExistingReport()
    )


class TestApex:
    def test_ours_in_no_state_is_taken_over_by_its_id(self) -> None:
        found = existing_resources.apex(zone(), "local", [OURS], EMPTY)
        assert found.taken == {APEX_NAME: "z/r"} and not found.faults and "taken over" in found.notes[0]

    def test_ours_with_another_content_is_taken_over_as_well(self) -> None:
        assert existing_resources.apex(zone(), "local", [replace(OURS, content="web.scalability.expert")], EMPTY).taken

    @pytest.mark.parametrize("outputs", [{"id": "r"}, {}])
    def test_what_the_state_has_is_left_to_the_engine(self, outputs: Mapping[str, Any]) -> None:
        """An import of what the state has would be a replacement, which deletes it; so would a guess where the id is not given."""
        for record in (OURS, replace(OURS, comment="by hand"), replace(OURS, content="elsewhere.example")):
            assert (
                existing_resources.apex(zone(), "local", [record], prior_state(apex=outputs))
                == existing_resources.ExistingReport()
            )

    def test_ours_that_was_made_again_by_hand_is_taken_over(self) -> None:
        assert existing_resources.apex(zone(), "local", [OURS], prior_state(apex={"id": "gone"})).taken == {
            APEX_NAME: "z/r"
        }

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (
                replace(OURS, comment=""),
                "CNAME www.scalability.expert is there already, and not this stack's. Hand it over",
            ),
            (replace(OURS, comment=apex_comment("prod")), "with the comment"),
            (replace(OURS, comment=apex_comment("local") + "2"), "with the comment"),
            (
                replace(OURS, type="A", content="192.0.2.1", comment=""),
                "A 192.0.2.1 is there already, and not this stack's. Delete it",
            ),
        ],
    )
    def test_what_is_not_ours_is_refused_with_the_fix(self, other: Record, message: str) -> None:
        found = existing_resources.apex(zone(), "local", [other], EMPTY)
        assert not found.taken and len(found.faults) == 1
        assert message in found.faults[0] and "apex: false" in found.faults[0]

    def test_other_types_do_not_matter_nor_anything_where_no_apex_is_kept(self) -> None:
        assert (
            existing_resources.apex(zone(), "local", [replace(OURS, type="MX"), replace(OURS, type="TXT")], EMPTY)
            == existing_resources.ExistingReport()
        )
        assert (
            existing_resources.apex(zone(apex=False), "local", [replace(OURS, comment="")], EMPTY)
            == existing_resources.ExistingReport()
        )


class TestDirectory:
    @staticmethod
    def sets(**changed: Any) -> route53_zones.Sets:
        """What an interrupted `up` left; `changed` of the PTR of the service."""
        found = {}
        for each in static_records(DIRECTORY):
            values = [{"Value": value} for value in each.wire]
            found[f"{each.name}."] = {each.type: {"Type": each.type, "TTL": each.ttl, "ResourceRecords": values}}
        found["_theservice._tcp.unilans.net."]["PTR"].update(changed)
        return lambda name: found.get(name, {})

    def test_what_is_ours_to_the_byte_is_taken_over_by_route53s_own_id(self) -> None:
        found = existing_resources.directory(DIRECTORY, "Z1", self.sets(), EMPTY)
        assert found.taken == {
            "directory-services": "Z1__services._dns-sd._udp.unilans.net_PTR",
            "directory-theService-ptr": "Z1__theservice._tcp.unilans.net_PTR",
            "directory-theService-v1-txt": "Z1_v1._theservice._tcp.unilans.net_TXT",
        }
        assert not found.faults

    def test_where_nothing_exists_nothing_is_reported(self) -> None:
        assert existing_resources.directory(DIRECTORY, "Z1", lambda _: {}, EMPTY) == existing_resources.ExistingReport()

    @pytest.mark.parametrize(
        "changed",
        [
            {"TTL": 301},
            {"ResourceRecords": [{"Value": "v2._theService._tcp.unilans.net."}]},
            {
                "ResourceRecords": [
                    {"Value": "v1._theService._tcp.unilans.net."},
                    {"Value": "v2._theService._tcp.unilans.net."},
                ]
            },
            {"SetIdentifier": "a"},
            {"ResourceRecords": [], "AliasTarget": {"DNSName": "elsewhere.example."}},
        ],
    )
    def test_a_byte_that_differs_is_another_owners(self, changed: Mapping[str, Any]) -> None:
        found = existing_resources.directory(DIRECTORY, "Z1", self.sets(**changed), EMPTY)
        (fault,) = found.faults
        assert "_theservice._tcp.unilans.net PTR is there already" in fault and "docs/adopting.md" in fault
        assert len(found.taken) == 2
        # In the state, it is drift and the engine's.
        kept = prior_state(directory_theService_ptr={})
        assert existing_resources.directory(DIRECTORY, "Z1", self.sets(**changed), kept).faults == ()


def test_a_zone_that_would_be_made_a_second_time_is_refused() -> None:
    nothing = existing_resources.ExistingReport()
    (fault,) = existing_resources.directory_zone(DIRECTORY, "Z1", prior_state(zone={})).faults
    assert fault.startswith("rollcall:serviceDiscovery.create: the zone unilans.net is there already, as Z1")
    assert existing_resources.directory_zone(DIRECTORY, "Z1", prior_state(directory_zone={})) == nothing
    (fault,) = existing_resources.site_zone(zone(create=True), "c1", EMPTY).faults
    assert fault.startswith("rollcall:sites.www.create: the zone scalability.expert is there already, as c1")
    assert existing_resources.site_zone(zone(create=True), "c1", prior_state(zone={})) == nothing


def test_an_instance_without_our_generation_is_replaced_and_others_are_not() -> None:
    state = prior_state(
        web_0={"tags": {"Name": "old"}}, web_1={"tags": {"rollcall-generation": "ab12cd"}}, web_2={"tags": None}
    )
    found = existing_resources.instances(["web-0", "web-1", "web-2", "web-3"], state)
    assert found.by_hand == {"web-0", "web-2"} and len(found.notes) == 2


def test_the_state_says_in_which_zones_machines_are() -> None:
    there = {"subnetId": "subnet-1", "availabilityZone": "us-west-2b", "tags": None}
    state = prior_state(web_0=there, web_1=there, **{"choice_web-0": {"zone": "us-west-2b", "zone_id": "usw2-az2"}})
    found = existing_resources.in_zones(["web-0", "web-1", "web-2", "choice-web-0"], state).in_zones
    assert found["web-0"] == InZone(subnet="subnet-1", zone="us-west-2b")
    assert found["web-1"] == InZone(subnet="subnet-1", zone="us-west-2b", chosen=False)
    assert found["web-2"] == InZone()
    # The state has its choice, and no machine.
    assert found["choice-web-0"] == InZone(chosen=True)


def test_a_state_with_secrets_is_read_without_them() -> None:
    """The engine sends a secret as an object with a signature; the whole of the outputs may be one."""
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "word"}
    state = prior_state(apex={"id": "r", "meta": secret, "data": [secret, {"a": 1}], "none": None})
    assert state.outputs(APEX, APEX_NAME) == {"id": "r", "meta": None, "data": [None, {"a": 1.0}], "none": None}
    assert state.outputs(APEX, "other") is None and (APEX, APEX_NAME) in state
