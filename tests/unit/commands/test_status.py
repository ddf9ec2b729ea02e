"""components.commands.status: what is shown of a stack, differences first, and the exit code that monitoring reads."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from components.commands import status
from components.commands.status import FleetStatus, StatusError, shown, status_of
from components.compute.locations import Location
from components.config.errors import ConfigurationError
from components.dns.cloudflare_access import cloudflare_token
from components.model import DesiredState, DnsRecord, ExpectedRecordSet, Instance, Member, RecordKey
from components.registration.diff import find_drift
from components.resources.userdata import HOME
from components.rollout.performing import RollOutError
from rollcall import console
from rollcall.in_place import HOLD, WANTED
from rollcall.ownership import Owner
from tests.release_stack import Cloud, Stack, cloud_of
from tests.simulated_fleet import digest

PLACE = RecordKey("www.scalability.expert", "A")
MEMBER = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
ROLL = DesiredState(
    stack="local",
    fleet="web",
    members=(MEMBER,),
    record_sets=(ExpectedRecordSet(key=PLACE),),
    fleets=("web",),
    keeper=True,
)
RECORD = DnsRecord(
    key=PLACE, value="198.51.100.10", owner=Owner("local", "web", "0", "aaaaaa", MEMBER.instance), id="z/1"
)
SEEN = Instance(
    instance=MEMBER.instance,
    fleet="web",
    machine="0",
    generation="aaaaaa",
    running=True,
    addresses=("198.51.100.10",),
    state="running",
    since="2026-11-23T14:00:00Z",
)


def fleet(records: list[DnsRecord], seen: list[Instance]) -> FleetStatus:
    answers = {PLACE: frozenset(record.value for record in records)}
    return status_of(
        Location(cloud="aws", region="us-west-2"), ROLL, records, seen, find_drift(ROLL, records, seen, answers)
    )


def test_in_step_says_so_first_and_then_each_machine_with_address_and_since_when() -> None:
    lines = shown([fleet([RECORD], [SEEN])]).splitlines()
    assert lines[0] == "In step: state, clouds and DNS say the same."
    assert "web-0" in lines[3] and "198.51.100.10" in lines[3] and "2026-11-23T14:00:00Z" in lines[3]
    assert lines[4].strip() == f"at {PLACE}"


@pytest.mark.parametrize(
    ("records", "seen", "message"),
    [
        ([], [SEEN], f"web: missing: web-0 ({MEMBER.instance}) is not at {PLACE}"),
        ([RECORD], [replace(SEEN, addresses=("198.51.100.77",))], "web: stale: web-0"),
        (
            [replace(RECORD, kept=True)],
            [SEEN],
            f"web: missing: web-0 ({MEMBER.instance}) is at {PLACE} and kept although unhealthy",
        ),
        (
            [RECORD],
            [SEEN, replace(SEEN, instance="i-00000000000000009", machine="7")],
            "web: orphaned: i-00000000000000009",
        ),
        ([RECORD, DnsRecord(key=PLACE, value="192.0.2.1", owner=None)], [SEEN], "web: foreign: 192.0.2.1"),
    ],
)
def test_what_differs_is_first(records: list[DnsRecord], seen: list[Instance], message: str) -> None:
    found = fleet(records, seen)
    assert not found.in_step
    lines = shown([found]).splitlines()
    assert lines[0] == "Differences" and message in lines[1]


def test_a_machine_on_hold_is_not_a_difference_and_is_listed_with_the_reason() -> None:
    found = fleet([], [replace(SEEN, live={HOLD: "2026-11-30T19:00:00Z disk errors"})])
    assert found.in_step
    text = shown([found])
    assert f"web-0 ({MEMBER.instance}): on hold since 2026-11-30T19:00:00Z: disk errors" in text
    assert "rollcall release-hold" in text and "on hold" not in shown([fleet([RECORD], [SEEN])]).lower()


def test_a_machine_that_its_cloud_does_not_list_is_shown_as_such() -> None:
    assert "not listed by its cloud" in shown([fleet([], [])])


@pytest.mark.parametrize(("records", "code"), [([RECORD], 0), ([], 1)])
def test_the_exit_code_tells_monitoring(
    records: list[DnsRecord], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
    monkeypatch.setattr(status, "compare", lambda *_: [fleet(records, [SEEN])])
    assert status.main(["--stack", "local", "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["in_step"] is (code == 0) and found["fleets"][0]["machines"][0]["instance"] == MEMBER.instance


def test_an_unknown_status_exits_with_2_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(stack: str) -> None:
        raise StatusError(f"no stack {stack}")

    monkeypatch.setattr(status, "exported", refuse)
    assert status.main(["--stack", "nope"]) == 2
    assert capsys.readouterr().err == "rollcall status: no stack nope\n"


def test_a_region_that_cannot_be_listed_is_not_a_difference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://ec2.eu-west-1.amazonaws.com/")

    monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
    monkeypatch.setattr(status, "compare", refuse)
    assert status.main(["--stack", "prod"]) == 2
    assert "ec2.eu-west-1.amazonaws.com" in capsys.readouterr().err


def test_each_fleet_says_where_it_is() -> None:
    found = fleet([RECORD], [SEEN])
    assert "web (aws us-west-2)" in shown([found])
    assert "web (joyent)" in shown([replace(found, cloud="joyent", region="")])


def test_the_stack_is_the_selected_one_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[str, ...]] = []

    def pulumi(*words: str) -> str:
        requested.append(words)
        return "{}"

    monkeypatch.setattr(status, "_pulumi", pulumi)
    status.exported("")
    status.exported("prod")
    assert [words[-2:] == ("--stack", "prod") for words in requested] == [False, False, True, True]


def test_a_secret_of_the_config_is_used_where_it_can_be_read_and_missed_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may = True

    def pulumi(*words: str) -> str:
        if words[0] == "stack":
            return "{}"
        if "--show-secrets" in words and not may:
            raise StatusError("no passphrase")
        secret = {"secret": True, **({"value": "word"} if "--show-secrets" in words else {})}
        return json.dumps({"aws:region": {"value": "us-west-2", "secret": False}, "cloudflare:apiToken": secret})

    monkeypatch.setattr(status, "_pulumi", pulumi)
    assert status.exported("prod")[1] == {"aws:region": "us-west-2", "cloudflare:apiToken": "word"}
    may = False
    config = status.exported("prod")[1]
    assert config == {"aws:region": "us-west-2"} and config.get("aws:profile") is None
    # Another account would be asked without it.
    with pytest.raises(StatusError, match=r"cloudflare:apiToken: cannot be decrypted \(no passphrase\)"):
        cloudflare_token(config.get)


def test_nothing_deployed_is_reported() -> None:
    assert shown([]) == "Nothing is deployed: the stack's state has no fleet."


CONFIG = {
    "rollcall:sites": json.dumps({"www": {"zone": "scalability.expert", "host": "www"}}),
    "rollcall:fleets": json.dumps(
        {"web": {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}}
    ),
}
PLACES = [
    {"zone": "z", "domain": "scalability.expert", "host": "www.scalability.expert", "ttl": 60, "proxied": False,
     "kind": "cloudflare"}
]  # fmt: skip
SHARED = {
    "stack": "local", "fleet": "web", "places": PLACES, "cloud": {"cloud": "aws", "region": "us-west-2"},
    "machine": "0", "generation": "aaaaaa",
}  # fmt: skip


def resource(kind: str, name: str, outputs: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:local::rollcall::{kind}::{name}", "type": kind, "outputs": outputs, **others}


def instance(
    machine: str = "0", generation: str = "aaaaaa", id_: str = MEMBER.instance, **others: Any
) -> dict[str, Any]:
    tags = {
        "rollcall-stack": "local", "rollcall-fleet": "web", "rollcall-machine": machine, "rollcall-generation": generation,
    }  # fmt: skip
    return resource("aws:ec2/instance:Instance", f"web-{machine}", {"tags": tags}, id=id_, **others)


DEREGISTRATION = resource("pulumi-python:dynamic/rollcall:Deregistration", "web-0", SHARED)
ROLL_CALL = resource(
    "pulumi-python:dynamic/rollcall:RollCall",
    "web",
    {**SHARED, "fleets": ["web"], "members": [MEMBER.as_inputs()], "peers": ["web"]},
)


class World:
    """What Registries offers to a status."""

    gone: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    answered = True
    split_ = ""
    doubt = ""

    def __init__(self, records: list[DnsRecord], seen: list[Instance]) -> None:
        self._records, self._seen = records, seen

    def dns_records(self) -> tuple[DnsRecord, ...]:
        return tuple(self._records)

    def answers(self) -> dict[RecordKey, frozenset[str]]:
        return {PLACE: frozenset(each.value for each in self._records if self.answered)}

    def compared(self, places: Collection[RecordKey]) -> list[str]:
        return [f"{each}: ns1 (192.0.2.1) answers nothing; resolver 192.0.2.53 answers 10.0.0.1" for each in places]

    def split(self) -> list[str]:
        return [self.split_] if self.split_ else []

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        return {each.instance: self.doubt for each in machines if self.doubt}

    def instances(self, stack: str) -> tuple[Instance, ...]:
        return tuple(self._seen) if stack == "local" else ()


class TestFourSets:
    """A machine that is not in the program, the state, its cloud and DNS is a difference, and is named."""

    def compared(
        self,
        monkeypatch: pytest.MonkeyPatch,
        state: list[Any],
        records: list[DnsRecord],
        seen: list[Instance],
        config: dict[str, str] = CONFIG,
    ) -> dict[str, tuple[str, ...]]:
        monkeypatch.setattr(status, "registries_of", lambda *_: World(records, seen))
        found = {
            key: lines for each in status.compare(state, config) for key, lines in each.differences.items() if lines
        }
        assert all(each.in_step for each in status.compare(state, config)) is not bool(found)
        return found

    def test_what_is_in_all_four_is_in_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [RECORD], [SEEN]) == {}

    def test_after_a_first_up_that_failed_its_machine_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.compared(monkeypatch, [DEREGISTRATION, instance()], [], [SEEN])
        assert found.keys() == {"missing", "not_in_roll_call"}
        assert found["missing"] == (f"web-0 ({MEMBER.instance}) is not at {PLACE}",)
        assert found["not_in_roll_call"][0].startswith(f"web-0 ({MEMBER.instance}) is in the state and in no roll call")

    def test_one_that_answers_is_named_too_as_long_as_no_roll_call_has_counted_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.compared(monkeypatch, [DEREGISTRATION, instance()], [RECORD], [SEEN]).keys() == {"not_in_roll_call"}

    def test_one_that_was_never_made_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for state in ([], [DEREGISTRATION]):
            assert self.compared(monkeypatch, state, [], []) == {
                "not_in_state": ("web-0 is in the program and not in the state: `pulumi up` makes it",)
            }

    def test_one_in_the_cloud_alone_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.compared(monkeypatch, [DEREGISTRATION], [], [SEEN])
        assert found["orphaned"] == (f"{MEMBER.instance} (running) is tagged web-0",)

    def test_one_that_is_only_tagged_is_named_with_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(World, "doubt", "its instance profile has no role of the fleet's")
        (line,) = self.compared(monkeypatch, [DEREGISTRATION], [], [SEEN])["unproven"]
        assert line.startswith(
            f"{MEMBER.instance} (running) is tagged web-0, and only its tags say that it is this stack's (its "
        )
        assert "so it is not ended. If it is not this stack's, take its rollcall- tags away;" in line

    def test_a_name_server_without_a_vote_is_named_and_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lame = "scalability.expert: the name server ns2 (192.0.2.2) answers REFUSED, so it has no vote"
        monkeypatch.setattr(World, "notes", (lame,))
        monkeypatch.setattr(World, "split_", "another view")
        assert self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [RECORD], [SEEN]) == {}
        (found,) = status.compare([DEREGISTRATION, instance(), ROLL_CALL], CONFIG)
        assert found.in_step and found.notes == (lame, "another view")
        lines = shown([found, replace(found, fleet="api")]).splitlines()
        assert lines[0].startswith("In step") and lines[2:6] == ["Name servers", f"  {lame}", "  another view", ""]

    def test_what_each_server_answers_is_shown_where_a_member_is_not_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(World, "answered", False)
        found = self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [RECORD], [SEEN])
        assert found.keys() == {"missing"}
        (fleet,) = status.compare([DEREGISTRATION, instance(), ROLL_CALL], CONFIG)
        assert fleet.notes == (f"{PLACE}: ns1 (192.0.2.1) answers nothing; resolver 192.0.2.53 answers 10.0.0.1",)

    def test_one_in_dns_alone_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.compared(monkeypatch, [DEREGISTRATION], [RECORD], [])
        assert found["leftover"] == (f"198.51.100.10 of web-0 ({MEMBER.instance}) at {PLACE}",)

    def test_one_that_its_cloud_has_no_more_is_named_though_dns_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        state = [DEREGISTRATION, instance(), ROLL_CALL]
        assert self.compared(monkeypatch, state, [RECORD], []).keys() == {"not_in_cloud"}
        stopped = replace(SEEN, running=False, state="stopped", addresses=())
        assert self.compared(monkeypatch, state, [RECORD], [stopped]).keys() == {"not_in_cloud"}

    def test_one_that_the_program_has_no_more_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        none = {**CONFIG, "rollcall:fleets": CONFIG["rollcall:fleets"].replace('"count": 1', '"count": 0')}
        found = self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [RECORD], [SEEN], none)
        assert found.keys() == {"not_in_program"} and found["not_in_program"][0].startswith("web-0 (i-")

    def test_one_of_a_failed_replacement_is_named_beside_the_one_that_serves(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The state has both, and none is taken for one that no state has."""
        new = replace(SEEN, instance="i-00000000000000002", generation="bbbbbb", addresses=("198.51.100.11",))
        state = [instance(delete=True), instance(generation="bbbbbb", id_=new.instance), DEREGISTRATION, ROLL_CALL]
        found = self.compared(monkeypatch, state, [RECORD], [SEEN, new])
        assert found.keys() == {"missing", "not_in_program", "not_in_roll_call"}
        assert "web-0 (i-00000000000000002)" in found["missing"][0] + found["not_in_roll_call"][0]

    def test_a_stack_that_was_renamed_is_in_step_until_its_next_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        state = [
            {**each, "urn": str(each["urn"]).replace(":local:", ":live:")}
            for each in (DEREGISTRATION, instance(), ROLL_CALL)
        ]
        assert self.compared(monkeypatch, state, [RECORD], [SEEN]) == {}

    def test_a_zone_that_was_deleted_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(World, "gone", ("scalability.expert (z)",))
        found = self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [], [SEEN])
        assert found["zone"] == ("the zone scalability.expert (z) was deleted",) and "missing" in found

    def test_a_zone_by_its_id_is_not_looked_up_since_it_may_be_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config = {
            **CONFIG,
            "rollcall:sites": json.dumps({"www": {"zone": "0123456789abcdef0123456789abcdef", "host": "www"}}),
        }
        assert self.compared(monkeypatch, [DEREGISTRATION, instance(), ROLL_CALL], [RECORD], [SEEN], config) == {}

    def test_a_configuration_with_a_fault_cannot_be_compared(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(status, "exported", lambda stack: ([], {"rollcall:fleets": '{"web": {"cloud": "moon"}}'}))
        assert status.main([]) == 2
        assert "rollcall:fleets.web.cloud" in capsys.readouterr().err


A, B, C = digest("a"), digest("b"), digest("c")
SHOWN = {each: each[:12] for each in (A, B, C)}


class InPlace:
    """A stack whose fleet `web` of four machines changes in place, on a virtual clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cloud = cloud_of(4, monkeypatch)
        for each in self.cloud.fleet.machines:
            each.instance = f"i-{each.number:017x}"
        self.stack = Stack(self.cloud)
        for name, answer in (("compared", []), ("split", []), ("unproven", {})):
            monkeypatch.setattr(Cloud, name, lambda *_, answer=answer: answer, raising=False)
        monkeypatch.setattr(status, "registries_of", lambda *_: self.cloud)

    def resources(self) -> list[dict[str, Any]]:
        props = self.cloud.props({})
        tags = {"rollcall-stack": "prod", "rollcall-fleet": "web", "rollcall-generation": "9f27ab"}
        machines = [
            resource(
                "aws:ec2/instance:Instance",
                f"web-{each.number}",
                {"tags": {**tags, "rollcall-machine": str(each.number)}},
                id=each.instance,
            )
            for each in self.cloud.fleet.machines
        ]
        release = resource("pulumi-python:dynamic/rollcall:Release", "web", self.stack.state or {})
        roll_call = resource("pulumi-python:dynamic/rollcall:RollCall", "web", props)
        return [*machines, roll_call, *([release] if self.stack.state else [])]

    def status(self) -> FleetStatus:
        (found,) = status.compare(self.resources(), IN_PLACE)
        return found


IN_PLACE = {
    "rollcall:sites": CONFIG["rollcall:sites"],
    "rollcall:workloads": json.dumps({"www": {"files": "workloads/www", "nginx": {"root": "public"}}}),
    "rollcall:fleets": json.dumps(
        {
            "web": {
                "cloud": "aws",
                "count": 4,
                "size": "t3.micro",
                "image": "debian-12",
                "joins": ["site/www"],
                "runs": ["www"],
                "release": "in-place",
            }
        }
    ),
}


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> InPlace:
    return InPlace(monkeypatch)


class TestReleases:
    """What each machine runs and wants, and how far the roll-out is."""

    def test_a_complete_roll_out_is_in_step_and_each_machine_has_its_release(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        found = in_place.status()
        assert found.in_step, found.differences
        text = shown([found])
        assert "  roll-out: done: www 616161\n" in text
        assert text.count(f"      runs www {SHOWN[A]}\n") + text.endswith(f"runs www {SHOWN[A]}") == 4

    def test_the_same_is_there_for_programs(
        self, in_place: InPlace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        in_place.stack.up({"www": A})
        in_place.stack.up({"www": B})
        monkeypatch.setattr(status, "exported", lambda stack: (in_place.resources(), IN_PLACE))
        assert status.main(["--json"]) == 0
        (fleet,) = json.loads(capsys.readouterr().out)["fleets"]
        assert fleet["roll_out"] == {
            "state": "done",
            "line": "www 626262",
            "to": {"www": SHOWN[B]},
            "former": {"www": SHOWN[A]},
            "unfinished": False,
        }
        release = {"workload": "www", "wants": SHOWN[B], "runs": SHOWN[B], "step": ""}
        assert [each["releases"] for each in fleet["machines"]] == [[release]] * 4

    def test_a_waiting_canary_agrees_and_has_both_commands(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        in_place.stack.up({"www": B}, canary=1)
        found = in_place.status()
        assert found.in_step, found.differences
        assert [each.releases[0].runs for each in found.machines] == [SHOWN[B], SHOWN[A], SHOWN[A], SHOWN[A]]
        text = shown([found])
        assert f"  roll-out: canary waiting: www 626262. Run `rollcall promote web {SHOWN[B]}` and `pulumi up`" in text
        assert "`rollcall abort web`" in text

    def test_a_failed_roll_out_is_shown_and_no_difference_when_all_machines_are_back(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        in_place.cloud.fleet.machines[1].broken = {B}
        with pytest.raises(RollOutError):
            in_place.stack.up({"www": B})
        found = in_place.status()
        assert found.in_step, found.differences
        assert (
            "  roll-out: failed: www 626262 was not rolled out. The former release is www 616161. Fix the cause, and run"
            in shown([found])
        )
        assert {each.releases[0].runs for each in found.machines} == {SHOWN[A]}

    def test_a_release_that_is_refused_after_a_rollback_names_the_command(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        in_place.stack.up({"www": B})
        self.gates(in_place, "refused")
        for each in in_place.cloud.fleet.machines:
            each.live[f"{WANTED}www"] = each.live[f"{WANTED}www"].replace(B, A)
        in_place.cloud.fleet.tick(120)
        found = in_place.status()
        assert found.in_step, found.differences
        assert f"  roll-out: refused: www: release {SHOWN[B]} was rolled back. Run `rollcall promote" in shown([found])

    @pytest.mark.parametrize("state", ["rolling", "promoted"])
    def test_a_roll_out_that_is_not_complete_is_a_difference_as_in_the_preview(
        self, in_place: InPlace, state: str
    ) -> None:
        in_place.stack.up({"www": A})
        in_place.stack.up({"www": B}, canary=1)
        in_place.stack.state = {**(in_place.stack.state or {}), "policy": in_place.cloud.props({})["policy"]}
        self.gates(in_place, state)
        found = in_place.status()
        (line,) = found.differences["release"]
        assert line.startswith(f"{state}: 1 of 4 machines have www 626262. ") and "`pulumi up`" in line
        assert shown([found]).splitlines()[1] == f"  web: release: {line}"

    def test_a_machine_with_another_release_is_a_difference_with_the_words_of_the_preview(
        self, in_place: InPlace
    ) -> None:
        in_place.stack.up({"www": A})
        machine = in_place.cloud.fleet.machines[2]
        machine.live[f"{WANTED}www"] = machine.live[f"{WANTED}www"].replace(A, C)
        found = in_place.status()
        assert found.differences["release"] == (
            f"web-2 ({machine.instance}) should have www 616161, and its settings name www 636363",
        )
        assert f"      runs www {SHOWN[A]}, wants {SHOWN[C]}: has not read its settings yet" in shown([found])
        in_place.stack.preview({"www": A})
        assert tuple((in_place.stack.state or {})["differing"]) == found.differences["release"]

    def test_a_machine_that_failed_says_where(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        machine = in_place.cloud.fleet.machines[0]
        machine.broken = {C}
        machine.live[f"{WANTED}www"] = machine.live[f"{WANTED}www"].replace(A, C)
        in_place.cloud.fleet.tick(200)
        (first, *_) = in_place.status().machines
        assert str(first.releases[0]).startswith(f"runs www {SHOWN[A]}, wants {SHOWN[C]}: failed at checking: reason=")

    def test_a_machine_without_a_report_or_with_no_release_is_shown(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        silent, new = in_place.cloud.fleet.machines[:2]
        silent.report = None
        new.live.clear()
        new.report = None
        found = in_place.status()
        assert [str(each) for each in found.machines[0].releases] == [f"wants www {SHOWN[A]}: running"]
        assert found.machines[1].releases == ()
        assert found.differences["release"] == (f"web-1 ({new.instance}) has no release yet",)

    def test_the_first_roll_out_that_failed_is_shown_although_the_state_has_no_release(self, in_place: InPlace) -> None:
        in_place.cloud.fleet.machines[3].broken = {A}
        with pytest.raises(RollOutError):
            in_place.stack.up({"www": A})
        assert in_place.stack.state is None
        assert "  roll-out: failed: www 616161 was not rolled out. Fix the cause" in shown([in_place.status()])

    def test_a_machine_on_hold_is_listed_with_its_release(self, in_place: InPlace) -> None:
        in_place.stack.up({"www": A})
        machine = in_place.cloud.fleet.machines[1]
        machine.live[HOLD] = "2026-11-30T19:00:00Z disk errors"
        found = in_place.status()
        assert found.in_step, found.differences
        text = shown([found])
        assert f"  web-1 ({machine.instance}): on hold since 2026-11-30T19:00:00Z: disk errors" in text
        assert [str(each) for each in found.machines[1].releases] == [f"runs www {SHOWN[A]}"]

    @staticmethod
    def gates(in_place: InPlace, state: str) -> None:
        """Write another state into the gates of all machines."""
        for each in in_place.cloud.fleet.machines:
            key = "rollcall-gate-www"
            each.live[key] = f"{state} {each.live[key].partition(' ')[2]}"


class TestReplacedReleases:
    """With `release: replace`, each machine has its release as a setting."""

    def found(
        self, monkeypatch: pytest.MonkeyPatch, state: dict[str, str], cloud: dict[str, str], **others: str
    ) -> FleetStatus:
        """Return the status of web-0, and of web-1 if `others` has its release in the cloud."""
        second = replace(SEEN, instance="i-00000000000000002", machine="1", addresses=("198.51.100.11",))
        members = [MEMBER, replace(MEMBER, instance=second.instance, machine="1")][: 1 + bool(others)]
        config = {
            **CONFIG,
            "rollcall:fleets": CONFIG["rollcall:fleets"].replace('"count": 1', f'"count": {len(members)}'),
        }
        roll_call = {
            **ROLL_CALL,
            "outputs": {**ROLL_CALL["outputs"], "members": [each.as_inputs() for each in members]},
        }
        resources = [instance(machine=each.machine, id_=each.instance) for each in members]
        for each in resources:
            each["outputs"]["tags"].update(state)
        seen = [replace(SEEN, releases=cloud), replace(second, releases=others)][: len(members)]
        records = [
            replace(RECORD, value=each.addresses[0], owner=Owner("local", "web", each.machine, "aaaaaa", each.instance))
            for each in seen
        ]
        monkeypatch.setattr(status, "registries_of", lambda *_: World(records, seen))
        (one,) = status.compare([*resources, roll_call], config)
        return one

    def test_each_machine_has_its_release(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.found(monkeypatch, {"rollcall-workload-www": A}, {"www": A}, www=A)
        assert found.in_step and found.roll_out is None, found.differences
        assert f"      has www {SHOWN[A]}" in shown([found])

    def test_a_machine_with_another_one_or_none_is_a_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.found(monkeypatch, {"rollcall-workload-www": A}, {"www": A}, www=B)
        assert found.differences["release"] == (
            f"web-1 (i-00000000000000002) has www {SHOWN[B]}, and its fleet www {SHOWN[A]}. Run `pulumi up` to correct it",
        )
        assert not found.in_step
        (line,) = self.found(monkeypatch, {"rollcall-workload-www": A}, {}).differences["release"]
        assert line.startswith(f"web-0 ({MEMBER.instance}) has no www, and its fleet www {SHOWN[A]}")

    def test_a_successor_of_a_failed_up_differs_from_the_fleet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The fleet has the release of its last roll call, although the state has a newer one too."""
        tags = {"rollcall-workload-www": A}
        new = replace(SEEN, instance="i-00000000000000003", generation="bbbbbb", releases={"www": B})
        other = replace(SEEN, instance="i-00000000000000002", machine="1", releases={"www": A})
        members = [MEMBER, replace(MEMBER, instance=other.instance, machine="1")]
        roll_call = {
            **ROLL_CALL,
            "outputs": {**ROLL_CALL["outputs"], "members": [each.as_inputs() for each in members]},
        }
        resources = [instance(delete=True), instance("1", id_=other.instance), instance("0", "bbbbbb", new.instance)]
        for each in resources:
            each["outputs"]["tags"].update(tags)
        resources[-1]["outputs"]["tags"]["rollcall-workload-www"] = B
        seen = [replace(SEEN, releases={"www": A}), other, new]
        monkeypatch.setattr(status, "registries_of", lambda *_: World([], seen))
        (found,) = status.compare([*resources, roll_call], CONFIG)
        (line,) = found.differences["release"]
        assert line.startswith(f"web-0 ({new.instance}) has www {SHOWN[B]}, and its fleet www {SHOWN[A]}")

    def test_a_machine_of_triton_has_its_release_in_its_metadata(self) -> None:
        outputs = {
            "tags": {"rollcall-stack": "local", "rollcall-fleet": "web", "rollcall-machine": "0"},
            "metadata": {"rollcall-workload-www": A},
        }
        outputs["tags"]["rollcall-generation"] = "aaaaaa"
        id_ = "0b1c7d9e-1d6b-4f6e-9a51-1c8f0e3d2a10"
        (found,) = status.state_in([resource("rollcall:Machine", "web-0", outputs, id=id_)]).machines
        assert found.releases == {"www": A}

    def test_a_fleet_of_the_samples_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.found(monkeypatch, {}, {})
        assert found.in_step and "www 6" not in shown([found])


class TestCommand:
    """`rollcall status`: a stack's in the folder of the program, a machine's elsewhere."""

    def test_in_the_programs_folder_it_is_the_stacks(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(status, "exported", lambda stack: ([], {}))
        monkeypatch.chdir(HOME.parent)
        assert console.main(["status", "--stack", "prod"]) == 0
        assert "no fleet" in capsys.readouterr().out

    def test_elsewhere_it_is_the_agents(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert console.main(["status"]) == 1
        assert "reason=not-running" in capsys.readouterr().err

    def test_elsewhere_a_stack_is_not_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert console.main(["status", "--stack", "prod"]) == 2
        assert "cd to the folder of Pulumi.yaml" in capsys.readouterr().err


def test_the_value_of_a_secret_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pulumi config --show-secrets` has it in plain text, so that credentials can be read."""
    given = {
        "rollcall:fleets": {"value": '{"web": {"cloud": "hunter2"}}', "secret": True},
        "rollcall:drainDelay": {"value": "hunter3", "secret": False},
    }
    monkeypatch.setattr(status, "_pulumi", lambda *_: json.dumps(given))
    with pytest.raises(ConfigurationError) as refused:
        status.declared("prod", status.configuration("prod"))
    assert "rollcall:fleets.web.cloud: the value (not shown) is not one of aws, joyent" in str(refused.value)
    assert "hunter2" not in str(refused.value) and "'hunter3' is not a whole number" in str(refused.value)
