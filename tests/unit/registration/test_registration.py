"""components.registration: what RollCall waits for, whom it asks to leave, and what a Deregistration removes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.model import BY_HAND, DnsRecord, Instance, Member, RecordKey
from components.registration import draining, providers, resources, snapshots
from components.registration.providers import DeregistrationProvider, RollCallProvider
from components.registration.roll_call import RollCallError
from components.registration.snapshots import SnapshotCache
from rollcall.errors import FatalError, TransientError
from rollcall.in_place import HOLD
from rollcall.ownership import Owner

HOST = "www.scalability.expert"
PLACE = RecordKey(HOST, "A")
PLACES = [
    {"zone": "z", "domain": "scalability.expert", "host": HOST, "ttl": 60, "proxied": False, "kind": "cloudflare"}
]


class World:
    """Machines that join a second after they run and leave when they are drained, on a clock that only sleeps move."""

    longest_ttl = 60.0
    gone: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    delay = 0.0

    def __init__(self) -> None:
        self.now = 0.0
        self.seen_: dict[str, Instance] = {}
        self.records: list[DnsRecord] = []
        self.stuck: set[str] = set()
        self.messages: list[str] = []
        self.slept: list[float] = []
        self.removed: list[DnsRecord] = []
        self.taken_out: list[DnsRecord] = []
        self.ended: list[str] = []
        self.challenges: set[str] = set()
        self.unchallenged: list[str] = []
        self.stopped: list[str] = []
        self.list_calls = 0
        self.answered_until: dict[str, float] = {}
        self.elsewhere: set[str] = set()
        self.unreachable = ""
        self.former: list[dict[str, str]] = []
        self.stacks: dict[str, str] = {}
        self.drained: list[str] = []
        self.tagged: set[str] = set()

    def machine(
        self,
        index: int,
        *,
        generation: str = "aaaaaa",
        running: bool = True,
        registered: bool = True,
        stack: str = "local",
    ) -> dict[str, str]:
        instance = f"i-{index:017x}"
        address = f"198.51.100.{10 + index}"
        state = "running" if running else "stopped"
        self.stacks[instance] = stack
        self.seen_[instance] = Instance(
            instance=instance,
            fleet="web",
            machine=str(index),
            generation=generation,
            running=running,
            addresses=(address,),
            state=state,
        )
        if registered:
            self.register(instance)
        return {"machine": str(index), "generation": generation, "instance": instance}

    def register(self, instance: str) -> None:
        seen = self.seen_[instance]
        owner = Owner(self.stacks[instance], "web", seen.machine, seen.generation, instance)
        self.records.append(DnsRecord(key=PLACE, value=seen.addresses[0], owner=owner, id=f"z/{instance}"))

    # What Registries offers
    def dns_records(self) -> tuple[DnsRecord, ...]:
        self.list_calls += 1
        return tuple(self.records)

    def remove(self, records: Iterable[DnsRecord]) -> None:
        gone = list(records)
        self.removed += gone
        self.records = [record for record in self.records if record not in gone]

    def take_out(self, records: Iterable[DnsRecord]) -> None:
        """Nothing here has a host but what a test puts at RC."""
        out = list(records)
        self.taken_out += out
        self.records = [record for record in self.records if record not in out]

    def challenged(self, gone: Owner) -> list[World]:
        return [self] if gone.generation in self.challenges else []

    def unchallenge(self, gone: Owner) -> None:
        self.unchallenged.append(gone.generation)

    def answers(self) -> Mapping[RecordKey, frozenset[str] | None]:
        return {PLACE: frozenset(record.value for record in self.records)}

    def compared(self, places: Collection[RecordKey]) -> list[str]:
        return [f"{each}: ns1 answers nothing; resolver 192.0.2.53 answers 10.0.0.1" for each in places]

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        return [each for each in records if self.now < self.answered_until.get(each.value, 0)]

    def instances(self, stack: str) -> tuple[Instance, ...]:
        return tuple(each for each in self.seen_.values() if self.stacks.get(each.instance, "local") == stack)

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        return {each.instance: "its role is another" for each in machines if each.instance in self.tagged}

    def running_elsewhere(self, stack: str) -> frozenset[str]:
        if self.unreachable:
            raise RollCallError(self.unreachable)
        return frozenset(self.elsewhere)

    def still_former(self, stack: str) -> list[dict[str, str]]:
        return self.former

    def sees(self, instance: str) -> bool:
        return instance.startswith("i-")

    def steps(self, members: Sequence[Member], seen: Sequence[Instance]) -> dict[str, str]:
        return {member.instance: "settings read" for member in members}

    def end(self, instances: Iterable[str]) -> None:
        for instance in instances:
            self.ended.append(instance)
            self.seen_.pop(instance)

    def drain(self, stack: str, members: Sequence[Member]) -> None:
        for member in members:
            if member.instance in {each.instance for each in self.instances(member.stack or stack)}:
                self.drained.append(member.instance)
                self.seen_[member.instance] = replace(self.seen_[member.instance], drained=True)

    def undrain(self, stack: str, members: Sequence[Member]) -> None:
        for member in members:
            if member.instance in self.seen_:
                self.seen_[member.instance] = replace(self.seen_[member.instance], drained=False)

    def stop(self, stack: str, members: Sequence[Member]) -> None:
        self.stopped += [member.instance for member in members]

    # What Engine offers
    def say(self, text: str, *, warning: bool = False) -> None:
        self.messages.append(text)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        here = {record.owner.instance for record in self.records if record.owner}
        for instance, seen in self.seen_.items():
            if seen.running and not seen.drained and instance not in here and instance not in self.stuck:
                self.register(instance)
            if seen.running and seen.drained and instance not in self.stuck:
                self.records = [
                    record for record in self.records if record.owner is None or record.owner.instance != instance
                ]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(providers, "Engine", lambda: world)
    monkeypatch.setattr("components.registration.props.Registries", lambda *_: world)
    monkeypatch.setattr("components.registration.roll_call.time.monotonic", lambda: world.now)
    monkeypatch.setattr(providers, "CALLED", set())
    monkeypatch.setattr(snapshots, "SNAPSHOTS", SnapshotCache(lambda: world.now))
    monkeypatch.setattr(snapshots, "DEPARTURES", SnapshotCache(lambda: world.now))
    return world


def another_run() -> None:
    """A provider host of the engine's next run shares no snapshot with the one before, and has called no roll."""
    providers.CALLED.clear()
    snapshots.SNAPSHOTS.clear()
    snapshots.DEPARTURES.clear()


def props(members: list[dict[str, str]], **others: Any) -> dict[str, Any]:
    return {
        "stack": "local",
        "fleet": "web",
        "fleets": ["web"],
        "members": members,
        "places": PLACES,
        "cloud": {"cloud": "aws", "region": "us-west-2"},
        "timeout": 60,
        "drain_delay": 30,
        "missing": [],
        "stale": [],
        "leftover": [],
        "foreign": [],
        **others,
    }


def test_create_returns_when_every_machine_answers(world: World) -> None:
    members = [world.machine(0), world.machine(1, registered=False)]
    made = RollCallProvider().create(props(members))
    assert made.id == "local/web"
    assert len(world.dns_records()) == 2
    assert any("web-1" in line for line in world.messages)


def by_hand(instance: str = "i-0000000000000beef") -> DnsRecord:
    """As `rollcall adopt` marks the record of an instance that was imported: no tag of ours is on that, so no list has it."""
    return DnsRecord(
        key=PLACE, value="198.51.100.99", owner=Owner("local", "web", "0", BY_HAND, instance), id="z/by-hand"
    )


def test_a_record_of_a_machine_made_by_hand_stays_until_its_successor_answers_and_caches_forget_it(
    world: World,
) -> None:
    members = [world.machine(0, registered=False)]
    world.records.append(by_hand())
    at_removal: list[set[str]] = []
    remove = world.remove

    def removed(records: Iterable[DnsRecord]) -> None:
        gone = list(records)
        at_removal.extend({each.value for each in world.records} for _ in gone)
        remove(gone)

    world.remove = removed  # type: ignore[method-assign]
    RollCallProvider().create(props(members, drain_delay=90))
    assert at_removal == [{"198.51.100.10", "198.51.100.99"}]
    assert [each.value for each in world.records] == ["198.51.100.10"]
    assert 60.0 in world.slept, "a TTL for caches, though the roll call's own time-out is no longer"


def test_a_record_of_a_machine_made_by_hand_stays_if_its_successor_never_answers(world: World) -> None:
    members = [world.machine(0, running=False, registered=False)]
    world.records.append(by_hand())
    with pytest.raises(RollCallError):
        RollCallProvider().create(props(members))
    assert [each.value for each in world.records] == ["198.51.100.99"]


def test_a_machine_that_never_answers_fails_the_call_by_name_and_state(world: World) -> None:
    members = [world.machine(0), world.machine(1, running=False, registered=False)]
    with pytest.raises(RollCallError, match=r"web-1 \(i-00000000000000001\).*stopped"):
        RollCallProvider().create(props(members))
    assert len(world.dns_records()) == 1


def test_a_fleet_that_registers_slowly_may_take_longer_than_the_time_out(world: World) -> None:
    """Of five machines one registers every 40 s, as on a computer or a cloud that is slow. The time-out is 60 s."""
    members = [world.machine(at, registered=False) for at in range(5)]
    world.stuck = {each["instance"] for each in members}
    sleep = world.sleep

    def slowly(seconds: float) -> None:
        for at, each in enumerate(members):
            if world.now >= 40 * (at + 1):
                world.stuck.discard(each["instance"])
        sleep(seconds)

    world.sleep = slowly  # type: ignore[method-assign]
    RollCallProvider().create(props(members))
    assert world.now >= 200


def test_a_machine_that_reaches_step_after_step_may_take_longer_than_the_time_out(world: World) -> None:
    members = [world.machine(0, registered=False)]
    world.stuck = {members[0]["instance"]}
    sleep = world.sleep

    def starts(seconds: float) -> None:
        if world.now > 150:
            world.stuck.clear()
        sleep(seconds)

    world.sleep = starts  # type: ignore[method-assign]
    steps = ("booting", "installing packages", "settings read", "workload healthy")
    world.steps = lambda members, seen: {each.instance: steps[min(int(world.now / 50), 3)] for each in members}  # type: ignore[method-assign]
    RollCallProvider().create(props(members))
    assert world.now > 150


def test_a_machine_that_starts_again_and_again_is_given_up(world: World) -> None:
    """Its steps repeat, and the error behind a step is another one each time: neither is progress."""
    members = [world.machine(0, registered=False)]
    world.stuck = {members[0]["instance"]}
    world.steps = lambda members, seen: {  # type: ignore[method-assign]
        each.instance: f"{('booted', 'settings read')[int(world.now) // 7 % 2]}: status=503 after {world.now} s"
        for each in members
    }
    with pytest.raises(RollCallError, match="nothing changed for 60 s"):
        RollCallProvider().create(props(members))
    assert world.now < 90


def test_read_shows_drift_in_its_inputs_and_preview_sees_a_difference(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    state = props(members)
    clean = RollCallProvider().read("local/web", dict(state))
    assert clean.inputs is not None and not RollCallProvider().diff("", clean.inputs, state).changes
    world.remove([world.dns_records()[1]])
    another_run()
    drifted = RollCallProvider().read("local/web", dict(state))
    assert drifted.inputs is not None and "web-1" in drifted.inputs["missing"][0]
    assert RollCallProvider().diff("", drifted.inputs, state).changes


def test_a_leaver_is_drained_and_lingers_one_ttl_after_its_record_is_gone(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().update("", props(members), props(members[:1]))
    assert world.seen_[members[1]["instance"]].drained and not world.seen_[members[0]["instance"]].drained
    assert [record.value for record in world.dns_records()] == ["198.51.100.10"]
    assert world.removed == [], "a machine that runs removes its own record"
    assert 30 in world.slept


def test_a_fleet_that_leaves_as_a_whole_waits_for_no_machine(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().delete("", props(members))
    assert world.dns_records() == ()
    assert max(world.slept) <= draining.POLL_S


def test_a_fleet_that_leaves_whole_serves_on_while_the_name_has_others(world: World) -> None:
    """As when a fleet moves to another cloud, or is given up: a client with a cached answer must still reach a machine."""
    members = [world.machine(0), world.machine(1)]
    other = Owner("local", "elsewhere", "0", "cccccc", "d1e2a3d4-0000-4000-8000-000000000000")
    world.records.append(DnsRecord(key=PLACE, value="203.0.113.9", owner=other, id="z/other"))
    RollCallProvider().delete("", props(members))
    assert 30 <= world.now < 30 + 3 * draining.CHECK_EVERY_S
    assert [each.owner for each in world.dns_records()] == [other]


@pytest.mark.parametrize("owner", [None, Owner("prod", "web", "0", "cccccc", "i-0ccc")])
def test_what_is_not_ours_holds_up_no_fleet_that_leaves_whole(world: World, owner: Owner | None) -> None:
    world.records.append(DnsRecord(key=PLACE, value="203.0.113.9", owner=owner, id="z/other"))
    RollCallProvider().delete("", props([world.machine(0)]))
    assert world.now <= 2 * draining.POLL_S


def test_in_destroy_a_fleet_waits_no_longer_than_the_others_exist(world: World) -> None:
    members = [world.machine(0)]
    other = Owner("local", "elsewhere", "0", "cccccc", "i-0000000000000eeee")
    world.records.append(DnsRecord(key=PLACE, value="203.0.113.9", owner=other, id="z/other"))
    world.seen_[other.instance] = Instance(
        instance=other.instance, fleet="elsewhere", machine="0", generation="cccccc", running=True, drained=True,
        addresses=("203.0.113.9",), state="running",
    )  # fmt: skip
    RollCallProvider().delete("", props(members))
    assert world.now < 10 and world.dns_records() == ()


def test_leavers_come_back_when_those_that_stay_fail_meanwhile(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    world.answered_until["198.51.100.11"] = 3.0
    sleep = world.sleep

    def fails_at_two(seconds: float) -> None:
        sleep(seconds)
        if world.now >= 2:
            world.stuck.add(members[0]["instance"])
            world.records = [each for each in world.records if each.value != "198.51.100.10"]

    world.sleep = fails_at_two  # type: ignore[method-assign]
    with pytest.raises(RollCallError, match="web-0"):
        RollCallProvider().update("", props(members), props(members[:1]))
    assert not world.seen_[members[1]["instance"]].drained
    sleep(1)
    assert [record.value for record in world.dns_records()] == ["198.51.100.11"]


def test_a_leaver_lingers_from_when_no_name_server_answers_with_it(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    world.answered_until["198.51.100.11"] = 12.0
    RollCallProvider().update("", props(members), props(members[:1]))
    assert 12 + 30 <= world.now < 12 + 30 + 2 * draining.POLL_S
    assert any("name servers to forget web-1" in line for line in world.messages)


def test_the_record_of_a_leaver_that_does_not_run_is_removed_for_it(world: World) -> None:
    members = [world.machine(0), world.machine(1, running=False)]
    RollCallProvider().update("", props(members), props(members[:1]))
    assert [record.value for record in world.removed] == ["198.51.100.11"]


def test_a_leaver_that_hangs_does_not_block_for_ever(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    world.stuck.add(members[1]["instance"])
    RollCallProvider().update("", props(members), props(members[:1]))
    assert draining.DRAIN_LIMIT_S <= world.now < draining.DRAIN_LIMIT_S + 60
    assert any("what is left is removed after the machine" in line for line in world.messages)


def test_one_leaver_that_hangs_takes_no_time_from_the_caches_of_the_others(world: World) -> None:
    members = [world.machine(each) for each in range(3)]
    world.stuck.add(members[2]["instance"])
    RollCallProvider().update("", props(members), props(members[:1]))
    assert world.now >= draining.DRAIN_LIMIT_S + 30 and 30 in world.slept


@pytest.mark.parametrize("undrain_fails", [False, True])
def test_leavers_come_back_when_a_cloud_fails_meanwhile_and_that_failure_is_reported(
    world: World, monkeypatch: pytest.MonkeyPatch, undrain_fails: bool
) -> None:
    members = [world.machine(0), world.machine(1)]
    undrain = world.undrain

    def fails(*_: Any) -> Any:
        raise TransientError("reason=api-failing api=ec2")

    def still_answered(_: Iterable[DnsRecord]) -> list[DnsRecord]:
        if undrain_fails:
            monkeypatch.setattr(world, "undrain", fails)
        raise RollCallError("the name servers are out of reach")

    monkeypatch.setattr(world, "still_answered", still_answered)
    with pytest.raises(RollCallError, match="the name servers are out of reach"):
        RollCallProvider().update("", props(members), props(members[:1]))
    undrain("local", ())
    assert world.seen_[members[1]["instance"]].drained is undrain_fails


def test_a_replaced_roll_call_drains_no_machine(world: World) -> None:
    """As by `up --replace`: its successor has answered for the same machines before it is deleted."""
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().create(props(members[:1]))
    RollCallProvider().delete("", props(members))
    assert [each.value for each in world.dns_records()] == ["198.51.100.10"]
    assert world.stopped == [members[1]["instance"]], "the machine without a successor is stopped"
    another_run()
    RollCallProvider().delete("", props(members[:1]))
    assert world.dns_records() == () and members[0]["instance"] in world.stopped


class TestSeenOff:
    """An `up` that fails after a roll call was answered leaves those it has seen off to the next one, which the engine deletes last."""

    def test_the_next_up_does_not_take_them_for_machines_in_no_state(self, world: World) -> None:
        members = [world.machine(each) for each in range(10)]
        state = dict(RollCallProvider().update("", props(members), props(members[:5])).outs)
        another_run()
        assert RollCallProvider().read("", state).outs["orphaned"] == []
        again = RollCallProvider().update("", state, props(members[:5])).outs
        assert world.ended == [] and [each["machine"] for each in again["drained"]] == ["5", "6", "7", "8", "9"]

    def test_they_are_remembered_as_long_as_their_cloud_lists_them(self, world: World) -> None:
        members = [world.machine(each) for each in range(4)]
        state = RollCallProvider().update("", props(members), props(members[:3])).outs
        world.seen_.pop(members[3]["instance"])
        state = RollCallProvider().update("", state, props(members[:2])).outs
        assert state["drained"] == [members[2]]
        world.seen_.pop(members[2]["instance"])
        assert "drained" not in RollCallProvider().update("", state, props(members[:2])).outs

    def test_a_refresh_shows_them_in_no_input(self, world: World) -> None:
        members = [world.machine(each) for each in range(2)]
        state = RollCallProvider().update("", props(members), props(members[:1])).outs
        found = RollCallProvider().read("", dict(state))
        assert found.outs["drained"] == [members[1]] and "drained" not in (found.inputs or {})

    def test_others_in_no_state_are_ended_as_ever(self, world: World) -> None:
        members = [world.machine(each) for each in range(3)]
        state = RollCallProvider().update("", props(members), props(members[:2])).outs
        orphan = world.machine(7, generation="dddddd")["instance"]
        RollCallProvider().update("", state, props(members[:2], safe_deletes=False))
        assert world.ended == [orphan]


class TestLeftHosts:
    """The hosts of machines that have left the sets of a service: callers may have a value of the set in a cache."""

    RC = RecordKey("rc.unilans.net", "A")
    SERVICE: Mapping[str, Any] = {
        "zone": "Z", "domain": "unilans.net", "service": "_s._tcp", "incarnation": "v1", "port": 4218, "priority": 10,
        "weight": 10, "ttl": 20, "kind": "route53",
    }  # fmt: skip

    def host(self, world: World, member: Mapping[str, str], *, leaving: bool = True) -> DnsRecord:
        seen = world.seen_[member["instance"]]
        owner = Owner("local", "web", seen.machine, seen.generation, seen.instance)
        made = DnsRecord(
            key=self.RC,
            value=seen.addresses[0],
            owner=owner,
            id=f"{seen.generation}.{self.RC}",
            alone=True,
            leaving=leaving,
        )
        world.records.append(made)
        return made

    def test_no_leaver_is_waited_for_because_of_its_host(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        members = [world.machine(0), world.machine(1)]
        monkeypatch.setattr(world, "stuck", {members[1]["instance"]})
        world.records = [each for each in world.records if each.owner.machine == "0"]  # type: ignore[union-attr]
        host = self.host(world, members[1])
        RollCallProvider().update("", props(members), props(members[:1]))
        assert world.now == 30, "the drain delay alone"
        assert host in world.records and world.removed == [], "its agent removes it, or its Deregistration"

    def test_the_roll_call_waits_for_a_leaver_without_the_left_mark(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = [world.machine(0), world.machine(1)]
        monkeypatch.setattr(world, "stuck", {members[1]["instance"]})
        world.records = [each for each in world.records if each.owner.machine == "0"]  # type: ignore[union-attr]
        self.host(world, members[1], leaving=False)
        RollCallProvider().update("", props(members), props(members[:1]))
        assert world.now >= draining.DRAIN_LIMIT_S

    def test_the_host_of_a_leaver_that_does_not_run_goes_at_once(self, world: World) -> None:
        """Its address serves no caller, and may soon be another's."""
        members = [world.machine(0), world.machine(1, running=False, registered=False)]
        host = self.host(world, members[1])
        RollCallProvider().update("", props(members), props(members[:1]))
        assert world.removed == [host]

    def test_a_deregistration_removes_it(self, world: World) -> None:
        member = world.machine(1, running=False, registered=False)
        host = self.host(world, member)
        inputs = {"stack": "local", "fleet": "web", "machine": "1", "places": PLACES}
        given = {**inputs, "generation": member["generation"], "cloud": {"cloud": "aws", "region": "us-west-2"}}
        DeregistrationProvider().delete("", given)
        assert world.removed == [host]

    @pytest.mark.parametrize(("agent_s", "drain_delay", "ends"), [(12, 30, 12), (1000, 20, 30), (1000, 0, 10)])
    def test_one_that_joins_no_more_keeps_its_host_for_the_drain_delay(
        self, world: World, monkeypatch: pytest.MonkeyPatch, agent_s: int, drain_delay: int, ends: int
    ) -> None:
        """Its agent removes the host; one that lost its rights cannot."""
        members = [world.machine(0)]
        host, sleep = self.host(world, members[0]), world.sleep

        def passes(seconds: float) -> None:
            sleep(seconds)
            if world.now >= agent_s:
                world.records = [each for each in world.records if each != host]

        monkeypatch.setattr(world, "sleep", passes)
        given = {"drain_delay": drain_delay}
        RollCallProvider().update("", props(members, places=[*PLACES, self.SERVICE], **given), props(members, **given))
        assert ends <= world.now <= ends + 2 and host not in world.records
        assert world.removed == ([] if agent_s == ends else [host]) and world.taken_out == []


class TestJoinsNoMore:
    """What a fleet joined before and joins no more, while its machines run on."""

    OLD = RecordKey(f"old.{HOST}", "A")
    BOTH = (*PLACES, {**PLACES[0], "host": f"old.{HOST}"})

    def stand(self, world: World, member: Mapping[str, str], fleet: str = "web") -> DnsRecord:
        owner = Owner("local", fleet, member["machine"], member["generation"], member["instance"])
        record = DnsRecord(
            key=self.OLD, value=f"198.51.100.{10 + int(member['machine'])}", owner=owner, id=f"z/old{owner}"
        )
        world.records.append(record)
        return record

    def at_old(self, world: World) -> list[DnsRecord]:
        return [each for each in world.dns_records() if each.key == self.OLD]

    def test_a_machine_that_does_not_leave_is_removed(self, world: World) -> None:
        members = [world.machine(0), world.machine(1)]
        gone = [self.stand(world, each) for each in members]
        others = self.stand(world, world.machine(2), fleet="api")
        world.seen_[others.owner.instance] = replace(world.seen_[others.owner.instance], fleet="api")  # type: ignore[union-attr]
        world.records = [each for each in world.records if each.key == self.OLD or each.owner.machine != "2"]  # type: ignore[union-attr]
        given = {"fleets": ["api", "web"]}
        RollCallProvider().update("", props(members, places=self.BOTH, **given), props(members, **given))
        assert world.taken_out == gone and world.removed == [] and self.at_old(world) == [others]
        assert draining.DROP_LIMIT_S <= world.now < draining.DROP_LIMIT_S + 5
        assert not any(world.seen_[each["instance"]].drained for each in members)
        assert any(f"web-0 ({members[0]['instance']}) at {self.OLD}" in line for line in world.messages)

    def test_the_roll_call_waits_for_a_machine_that_leaves_by_itself(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = [world.machine(0)]
        self.stand(world, members[0])
        sleep = world.sleep

        def leaves_at_four(seconds: float) -> None:
            sleep(seconds)
            if world.now >= 4:
                world.records = [each for each in world.records if each.key != self.OLD]

        monkeypatch.setattr(world, "sleep", leaves_at_four)
        RollCallProvider().update("", props(members, places=self.BOTH), props(members))
        assert world.removed == [] and 4 <= world.now < 6

    def test_one_that_comes_back_again_and_again_does_not_block_for_ever(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = [world.machine(0)]
        record = self.stand(world, members[0])
        take_out = world.take_out

        def comes_back(records: Iterable[DnsRecord]) -> None:
            take_out(records)
            world.records.append(record)

        monkeypatch.setattr(world, "take_out", comes_back)
        RollCallProvider().update("", props(members, places=self.BOTH), props(members))
        assert world.now <= draining.DRAIN_LIMIT_S + 2 and "check its agent" in world.messages[-1]

    def test_a_zone_that_cannot_be_read_is_reported_and_delays_nothing(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = [world.machine(0)]

        def refused(*_: Any, **__: Any) -> None:
            raise FatalError("reason=refused api=cloudflare status=404")

        monkeypatch.setattr(providers, "withdraw", refused)
        assert (
            RollCallProvider().update("", props(members, places=self.BOTH), props(members)).outs["members"] == members
        )
        assert f"cannot see whether it has left {self.OLD} (reason=refused" in world.messages[-1]

    def test_a_place_with_another_ttl_is_the_same_place(self, world: World) -> None:
        members = [world.machine(0)]
        RollCallProvider().update("", props(members, places=[{**PLACES[0], "ttl": 300}]), props(members))
        assert world.removed == [] and world.now == 0

    def test_a_member_that_is_new_has_never_stood_there(self, world: World) -> None:
        members = [world.machine(0)]
        record = self.stand(world, members[0])
        RollCallProvider().update("", props([], places=self.BOTH), props(members))
        assert self.at_old(world) == [record]


def test_no_machine_leaves_before_the_successor_answers(world: World) -> None:
    old = world.machine(0)
    new = world.machine(1, generation="bbbbbb", running=False, registered=False)
    with pytest.raises(RollCallError):
        RollCallProvider().update("", props([old]), props([{**new, "machine": "1"}]))
    assert not world.seen_[old["instance"]].drained
    assert len(world.dns_records()) == 1


def test_a_left_over_record_without_a_machine_is_removed_and_a_foreign_one_kept(world: World) -> None:
    members = [world.machine(0)]
    ghost = DnsRecord(
        key=PLACE,
        value="198.51.100.99",
        owner=Owner("local", "web", "7", "cccccc", "i-00000000000000077"),
        id="z/ghost",
    )
    foreign = DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/foreign")
    world.records += [ghost, foreign]
    made = RollCallProvider().create(props(members))
    assert world.removed == [ghost] and foreign in world.dns_records()
    assert made.outs is not None and made.outs["acknowledged"] == [
        {"name": HOST, "type": "A", "value": "192.0.2.1", "stack": ""}
    ]


def test_an_acknowledged_foreign_record_is_not_drift_and_a_new_one_is(world: World) -> None:
    members = [world.machine(0)]
    world.records.append(DnsRecord(key=PLACE, value="192.0.2.1", owner=None, id="z/f"))
    state = RollCallProvider().create(props(members)).outs
    assert state is not None
    assert RollCallProvider().read("", {**props(members), "acknowledged": state["acknowledged"]}).outs["foreign"] == []
    world.records.append(DnsRecord(key=PLACE, value="192.0.2.2", owner=None, id="z/g"))
    another_run()
    found = RollCallProvider().read("", {**props(members), "acknowledged": state["acknowledged"]}).outs["foreign"]
    assert len(found) == 1 and "192.0.2.2" in found[0]


def test_a_machine_in_no_state_is_shown_by_a_refresh_and_leaves_before_it_is_ended(world: World) -> None:
    members = [world.machine(each) for each in range(4)]
    orphan = world.machine(5, generation="dddddd")
    found = RollCallProvider().read("", props(members)).outs["orphaned"]
    assert found == [f"{orphan['instance']} (running) is tagged web-5"]
    RollCallProvider().update("", props(members), props(members))
    assert world.ended == [orphan["instance"]]
    assert [record.value for record in world.dns_records()] == [f"198.51.100.1{each}" for each in range(4)]
    assert world.removed == []


class TestAMachineThatOnlyItsTagsSayToBeOurs:
    """Whoever may only tag instances can have nothing ended, whatever the tags say."""

    def tagged(self, world: World, **tags: str) -> str:
        """The instance of a database with the tags of a machine of the fleet."""
        instance = world.machine(55, generation=tags.pop("generation", "dddddd"), registered=False)["instance"]
        world.seen_[instance] = replace(world.seen_[instance], **tags)  # type: ignore[arg-type]
        world.tagged.add(instance)
        world.stuck.add(instance)
        return instance

    @pytest.mark.parametrize("safe_deletes", [True, False])
    @pytest.mark.parametrize(
        "tags", [{}, {"generation": "", "machine": ""}, {"generation": "aaaaaa"}, {"fleet": "given-up"}]
    )
    def test_is_never_ended_and_named_with_what_to_do(
        self, world: World, tags: dict[str, str], safe_deletes: bool
    ) -> None:
        members = [world.machine(each) for each in range(10)]
        instance = self.tagged(world, **tags)
        given = props(members, safe_deletes=safe_deletes, peers=["web"])
        (shown,) = RollCallProvider().read("", given).outs["unproven"]
        RollCallProvider().update("", given, given)
        assert world.ended == world.drained == []
        (message,) = (each for each in world.messages if instance in each)
        assert message == f"web: {shown}"
        assert "only its tags say that it is this stack's (its role is another), so it is not ended" in message
        assert "take its rollcall- tags away" in message

    def test_does_not_keep_one_that_is_proven_from_being_ended(self, world: World) -> None:
        members = [world.machine(each) for each in range(4)]
        self.tagged(world)
        orphan = world.machine(7, generation="eeeeee")["instance"]
        RollCallProvider().update("", props(members), props(members))
        assert world.ended == [orphan]

    def test_is_named_where_a_roll_call_fails(self, world: World) -> None:
        instance = self.tagged(world, generation="aaaaaa")
        members = [world.machine(0, running=False, registered=False)]
        with pytest.raises(RollCallError, match=rf"  - {instance} .* only its tags say"):
            RollCallProvider().create(props(members))


@pytest.mark.parametrize("proven", [True, False])
def test_a_deregistration_does_not_let_copied_tags_terminate_a_machine(world: World, proven: bool) -> None:
    instance = world.machine(7, generation="eeeeee", registered=False)["instance"]
    world.stuck.add(instance)
    gone = {**props([]), "machine": "7", "generation": "eeeeee"}
    if proven:
        with pytest.raises(RollCallError, match=f"{instance} still runs after 300 s. Terminate it"):
            DeregistrationProvider().delete("", gone)
    else:
        world.tagged.add(instance)
        DeregistrationProvider().delete("", gone)
        assert any(f"{instance} has its tags, but only its tags say" in each for each in world.messages)
    assert world.ended == []


@pytest.mark.parametrize(
    ("wanted", "orphans", "ends"),
    [(1, 1, False), (3, 1, False), (4, 1, True), (6, 2, False), (10, 3, True), (9, 3, False)],
)
def test_the_limit_holds_for_small_fleets_too(world: World, wanted: int, orphans: int, ends: bool) -> None:
    members = [world.machine(each) for each in range(wanted)]
    lost = [world.machine(20 + each, generation="dddddd")["instance"] for each in range(orphans)]
    if ends:
        RollCallProvider().update("", props(members), props(members))
    else:
        with pytest.raises(RollCallError, match=rf"{lost[0]}[\s\S]*rollcall:safeDeletes false"):
            RollCallProvider().update("", props(members), props(members))
        assert world.ended == world.drained == []
        RollCallProvider().update("", props(members), props(members, safe_deletes=False))
    assert world.ended == lost


class TestTwins:
    """Machines in no state with the generation of a member, as an `up` that was killed leaves them."""

    def test_two_of_one_member_are_ended_only_without_the_safety_limit(self, world: World) -> None:
        members = [world.machine(0, registered=False)]
        twins = [world.machine(each, registered=False)["instance"] for each in (1, 2)]
        with pytest.raises(
            RollCallError, match=rf"2 machines have the generation[\s\S]*{twins[1]}[\s\S]*safeDeletes false"
        ):
            RollCallProvider().create(props(members))
        assert world.ended == []
        RollCallProvider().create(props(members, safe_deletes=False))
        assert world.ended == twins

    @pytest.mark.parametrize("safe_deletes", [True, False])
    def test_a_twin_of_a_member_that_does_not_run_serves_on(self, world: World, safe_deletes: bool) -> None:
        members = [world.machine(0, running=False, registered=False)]
        world.machine(1)
        with pytest.raises(RollCallError, match="web-0"):
            RollCallProvider().create(props(members, safe_deletes=safe_deletes))
        assert world.ended == world.drained == []


def test_a_twin_of_a_member_is_ended_at_once_since_it_is_in_its_way(world: World) -> None:
    members = [world.machine(0, generation="aaaaaa", registered=False)]
    twin = world.machine(1, generation="aaaaaa", registered=False)
    RollCallProvider().create(props(members))
    assert world.ended == [twin["instance"]]


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_value_that_a_member_takes_over_from_its_twin_is_not_waited_for(world: World, taken_over: bool) -> None:
    """Both have the generation, and so the same target in the record set of a service: DNS answers with it all the time."""
    members = [world.machine(0, registered=False)]
    twin = world.machine(1)["instance"]
    member, (value,) = members[0]["instance"], world.seen_[twin].addresses
    world.answered_until[value] = 40.0
    if taken_over:
        world.seen_[member] = replace(world.seen_[member], addresses=(value,))
    RollCallProvider().create(props(members))
    assert world.ended == [twin]
    assert (world.now >= 40.0 + 30.0) is not taken_over, world.messages


def test_a_machine_that_leaves_in_this_update_is_not_an_orphan(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().update("", props(members), props(members[:1]))
    assert world.ended == []


@pytest.mark.parametrize(("safe_deletes", "ends"), [(True, False), (False, True)])
def test_many_orphans_are_ended_only_without_the_safety_limit(world: World, safe_deletes: bool, ends: bool) -> None:
    members = [world.machine(each) for each in range(6)]
    orphans = [world.machine(each, generation="dddddd")["instance"] for each in range(6, 10)]
    if ends:
        RollCallProvider().update("", props(members), props(members, safe_deletes=safe_deletes))
    else:
        with pytest.raises(RollCallError, match=r"4 of 10 machines .* in no state[\s\S]*rollcall:safeDeletes false"):
            RollCallProvider().update("", props(members), props(members, safe_deletes=safe_deletes))
    assert world.ended == (orphans if ends else [])


def test_many_left_over_records_are_removed_only_without_the_safety_limit(world: World) -> None:
    members = [world.machine(each) for each in range(8)]
    for each in range(8, 13):
        world.machine(each)
        world.seen_.pop(f"i-{each:017x}")
    with pytest.raises(RollCallError, match=r"5 of 13 records are left over"):
        RollCallProvider().update("", props(members), props(members))
    assert world.removed == []
    RollCallProvider().update("", props(members), props(members, safe_deletes=False))
    assert len(world.removed) == 5


def test_a_fleet_that_is_given_up_serves_until_its_own_roll_call_goes(world: World) -> None:
    members = [world.machine(0)]
    other = Owner("local", "old", "0", "eeeeee", "i-00000000000000044")
    record = DnsRecord(key=PLACE, value="198.51.100.44", owner=other, id="z/old")
    world.records.append(record)
    before = props(members, fleets=["old", "web"], peers=["old", "web"])
    RollCallProvider().update("", before, props(members, peers=["web"]))
    assert record in world.dns_records() and world.removed == []


@pytest.mark.parametrize("count", [1, 12])
def test_a_fleet_with_another_name_in_the_same_up_leaves_its_predecessor_alone(world: World, count: int) -> None:
    """The new one's RollCall is made before the old one's goes; the safety limit does not apply, since every machine is in a state."""
    old = [world.machine(each, generation="eeeeee") for each in range(20, 20 + count)]
    for each in old:
        seen = world.seen_[each["instance"]]
        world.seen_[each["instance"]] = replace(seen, fleet="old")
    world.records = [replace(each, owner=replace(each.owner, fleet="old")) for each in world.records if each.owner]
    registered = list(world.records)
    members = [world.machine(0)]
    RollCallProvider().create(props(members, given_up=["old"]))
    assert world.ended == [] and world.removed == [] and {*registered} <= {*world.dns_records()}
    assert not any(world.seen_[each["instance"]].drained for each in old)


def test_what_a_given_up_fleet_left_is_removed_by_the_next_up(world: World) -> None:
    members = [world.machine(0)]
    other = Owner("local", "old", "0", "eeeeee", "i-00000000000000044")
    world.records.append(DnsRecord(key=PLACE, value="198.51.100.44", owner=other, id="z/old"))
    RollCallProvider().update("", props(members), props(members))
    assert [record.id for record in world.removed] == ["z/old"]


def test_a_record_of_another_clouds_machine_is_not_judged_by_this_one(world: World) -> None:
    """Whether it runs cannot be seen from here; the fleet on its cloud decides."""
    members = [world.machine(0)]
    other = Owner("local", "old", "0", "eeeeee", "00000000-0000-4000-8000-000000000001")
    world.records.append(DnsRecord(key=PLACE, value="203.0.113.44", owner=other, id="z/old"))
    RollCallProvider().update("", props(members), props(members))
    assert world.removed == []


def test_progress_counts_answering_machines_and_shows_the_last_step_of_the_others(world: World) -> None:
    members = [world.machine(0), world.machine(1, registered=False)]
    RollCallProvider().create(props(members))
    assert "web: 1 of 2 answer; waiting for web-1 (i-00000000000000001): running, settings read" in world.messages


PROPS = {
    "stack": "local",
    "fleet": "web",
    "machine": "0",
    "generation": "aaaaaa",
    "places": PLACES,
    "cloud": {"cloud": "aws"},
    "timeout": 60,
}


def test_a_deregistration_keeps_which_machines_were_made_before_it_by_ups_that_failed() -> None:
    failed = [{"stack": "local", "fleet": "web", "machine": "0", "generation": "bbbbbb"}]
    old = DeregistrationProvider().create({**PROPS, "uncounted": failed}).outs or {}
    later = {**PROPS, "uncounted": [*failed, {**failed[0], "generation": old["generation"]}]}
    assert not DeregistrationProvider().diff("", old, later).changes, "what has failed since is no change of it"
    assert not DeregistrationProvider().diff("", old, PROPS).changes
    for news in (later, PROPS):
        outs = DeregistrationProvider().update("", old, {**news, "places": []}).outs
        assert outs and (outs["uncounted"], outs["generation"]) == (failed, old["generation"])
    assert "uncounted" not in (DeregistrationProvider().update("", {**PROPS, "generation": "x"}, later).outs or {})


@pytest.mark.parametrize(
    ("before", "after", "changes", "replaces"),
    [
        (["a"], ["a"], False, []),
        (["a"], ["b"], True, ["networks"]),
        (["a"], ["b", "a"], True, ["networks"]),
        (["b", "a"], ["a", "b"], True, ["networks"]),
        # Of an earlier version's machine they are written down, and it stays where it is.
        (None, ["a"], True, []),
        (None, None, False, []),
    ],
)
def test_a_deregistration_is_replaced_when_its_machine_is_to_be_on_other_networks(
    before: list[str] | None, after: list[str] | None, changes: bool, replaces: list[str]
) -> None:
    old, new = ({**PROPS, **({"networks": each} if each else {})} for each in (before, after))
    found = DeregistrationProvider().diff("", old, new)
    assert (found.changes, found.replaces, found.delete_before_replace) == (changes, replaces, False)
    assert DeregistrationProvider().update("", old, new).outs.get("networks") == after


def test_a_deregistration_is_replaced_once_when_its_machine_leaves_a_zone() -> None:
    leaving = {**PROPS, "leaves": "us-west-2b"}
    assert DeregistrationProvider().diff("", PROPS, leaving).replaces == ["leaves"]
    # The next program no longer asks for it, and another departure from the same zone is another replacement.
    state = DeregistrationProvider().create(leaving).outs or {}
    assert not DeregistrationProvider().diff("", state, PROPS).changes
    assert DeregistrationProvider().diff("", state, leaving).replaces == ["leaves"]
    assert "leaves" not in (DeregistrationProvider().update("", state, {**leaving, "places": []}).outs or {})


def test_a_deregistration_waits_for_its_machine_and_removes_its_generation_only(world: World) -> None:
    world.machine(0, generation="aaaaaa", running=False)
    successor = world.machine(1, generation="bbbbbb")
    DeregistrationProvider().delete("", PROPS)
    assert [record.owner.instance for record in world.dns_records() if record.owner] == [successor["instance"]]
    assert world.unchallenged == []


def test_deregistrations_that_come_together_read_once(world: World) -> None:
    for index, generation in enumerate(("aaaaaa", "bbbbbb", "cccccc")):
        world.machine(index, generation=generation, running=False, registered=False)
    for index, generation in enumerate(("aaaaaa", "bbbbbb", "cccccc")):
        DeregistrationProvider().delete("", {**PROPS, "machine": str(index), "generation": generation})
    assert world.list_calls == 1 and not world.removed and not world.unchallenged


def test_what_another_snapshot_shows_of_a_machine_that_ran_then_does_not_count(world: World) -> None:
    world.machine(0, generation="aaaaaa", running=False, registered=False)
    late = world.machine(1, generation="bbbbbb", registered=False)
    DeregistrationProvider().delete("", PROPS)
    world.register(late["instance"])
    world.seen_[late["instance"]] = replace(world.seen_[late["instance"]], running=False, state="stopped")
    DeregistrationProvider().delete("", {**PROPS, "machine": "1", "generation": "bbbbbb"})
    assert world.list_calls == 3 and not world.records


def test_what_a_deregistration_removed_is_not_seen_again(world: World) -> None:
    world.machine(0, generation="aaaaaa", running=False)
    world.machine(1, generation="bbbbbb", running=False)
    for index, generation in enumerate(("aaaaaa", "bbbbbb")):
        DeregistrationProvider().delete("", {**PROPS, "machine": str(index), "generation": generation})
    # Each looks once more before it removes anything.
    assert world.list_calls == 4 and len(world.removed) == 2 and not world.records


def test_what_another_owner_removed_meanwhile_is_not_removed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.machine(0, generation="aaaaaa", running=False)
    answers = iter([world.dns_records(), ()])
    monkeypatch.setattr(world, "dns_records", lambda: next(answers))
    DeregistrationProvider().delete("", PROPS)
    assert world.removed == []


def test_a_snapshot_serves_for_seconds_only(world: World) -> None:
    world.machine(0, generation="aaaaaa", running=False, registered=False)
    DeregistrationProvider().delete("", PROPS)
    world.now += providers.SNAPSHOT_AGE_S + 0.1
    DeregistrationProvider().delete("", PROPS)
    assert world.list_calls == 2


def test_a_challenge_goes_though_nothing_else_is_left(world: World) -> None:
    world.machine(0, generation="aaaaaa", running=False, registered=False)
    world.challenges.add("aaaaaa")
    DeregistrationProvider().delete("", PROPS)
    assert world.unchallenged == ["aaaaaa"]


def test_refreshes_of_fleets_at_the_same_places_read_once(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    for fleet in ("web", "api", "old"):
        RollCallProvider().read("", {**props(members), "fleet": fleet, "fleets": ["web", "api", "old"]})
    assert world.list_calls == 1


def test_a_fleet_that_has_left_begins_to_stop_before_it_is_deleted(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().delete("", props(members))
    assert world.stopped == [each["instance"] for each in members]


def test_a_machine_that_leaves_in_an_update_is_not_stopped_before_it_is_deleted(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    RollCallProvider().update("", props(members), props(members[:1]))
    assert world.stopped == []


def test_a_fleet_of_which_one_hangs_or_that_ssh_is_to_reach_yet_is_not_stopped(world: World) -> None:
    members = [world.machine(0), world.machine(1)]
    world.stuck.add(members[0]["instance"])
    RollCallProvider().delete("", props(members))
    world.stuck.clear()
    RollCallProvider().delete("", {**props(members), "ssh": True})
    assert world.stopped == []


def test_a_deregistration_of_a_machine_that_still_runs_fails_and_removes_nothing(world: World) -> None:
    world.machine(0, generation="aaaaaa")
    with pytest.raises(RollCallError, match="still runs"):
        DeregistrationProvider().delete("", PROPS)
    assert len(world.dns_records()) == 1


def test_generations_are_new_at_each_create() -> None:
    inputs = {"stack": "local", "fleet": "web", "machine": "0"}
    found = {DeregistrationProvider().create(dict(inputs)).outs["generation"] for _ in range(50)}  # type: ignore[index]
    assert len(found) == 50 and all(len(each) == 6 for each in found)


def test_the_names_that_are_part_of_the_states_format_stay() -> None:
    assert (RollCallProvider.__module__, RollCallProvider.__qualname__) == (
        "components.registration.providers",
        "RollCallProvider",
    )
    assert (DeregistrationProvider.__module__, DeregistrationProvider.__qualname__) == (
        "components.registration.providers",
        "DeregistrationProvider",
    )
    assert resources.RollCall._resource_type_name == "dynamic/rollcall:RollCall"
    assert resources.Deregistration._resource_type_name == "dynamic/rollcall:Deregistration"


class TestSeveralPlaces:
    """A cloud's fleets in two regions: `web` in the first, `far` in the second."""

    WEST, EU = {"cloud": "aws", "region": "us-west-2"}, {"cloud": "aws", "region": "eu-west-1"}
    OPTIONS: Mapping[str, Any] = {"fleets": ["far", "web"], "peers": ["web"], "elsewhere": [EU]}

    @pytest.fixture
    def leftover(self, world: World) -> DnsRecord:
        owner = Owner("local", "old", "0", "eeeeee", "i-00000000000000044")
        record = DnsRecord(key=PLACE, value="198.51.100.44", owner=owner, id="z/old")
        world.records.append(record)
        return record

    def test_a_left_over_record_of_a_machine_that_runs_in_another_region_stays(
        self, world: World, leftover: DnsRecord
    ) -> None:
        world.elsewhere.add(leftover.owner.instance)  # type: ignore[union-attr]
        members = [world.machine(0)]
        with pytest.raises(RollCallError, match="i-00000000000000044"):
            RollCallProvider().update("", props(members, **self.OPTIONS), props(members, **self.OPTIONS))
        assert world.removed == []

    def test_one_that_runs_nowhere_is_removed(self, world: World, leftover: DnsRecord) -> None:
        members = [world.machine(0)]
        RollCallProvider().update("", props(members, **self.OPTIONS), props(members, **self.OPTIONS))
        assert world.removed == [leftover]

    def test_a_region_that_cannot_be_asked_is_an_error_and_removes_nothing(
        self, world: World, leftover: DnsRecord
    ) -> None:
        world.unreachable = "eu-west-1 cannot be asked"
        members = [world.machine(0)]
        with pytest.raises(RollCallError, match="eu-west-1 cannot be asked"):
            RollCallProvider().update("", props(members, **self.OPTIONS), props(members, **self.OPTIONS))
        assert world.removed == []

    def test_it_is_not_asked_while_nothing_is_left_over(self, world: World) -> None:
        world.unreachable = "eu-west-1 cannot be asked"
        members = [world.machine(0)]
        RollCallProvider().update("", props(members, **self.OPTIONS), props(members, **self.OPTIONS))

    def test_a_fleet_that_moves_sees_its_predecessors_off_where_they_are(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = world.machine(0), world.machine(1, generation="bbbbbb")
        drained: list[Any] = []
        monkeypatch.setattr(
            providers,
            "registries_of",
            lambda given, _: _In(world, given["cloud"]["region"], given.get("former", []), drained),
        )
        moved = props([new], fleets=["far", "web"], peers=["far", "web"], cloud=self.EU)
        made = RollCallProvider().update("", props([old], **self.OPTIONS), moved)
        assert drained == [("us-west-2", old["instance"])]
        assert made.outs is not None and made.outs["former"] == [self.WEST]

    def test_a_refresh_forgets_a_former_region_once_nothing_of_the_stack_is_there(self, world: World) -> None:
        members = [world.machine(0)]
        world.former = [self.EU]
        found = RollCallProvider().read("", props(members, former=[self.EU]))
        assert found.outs is not None and found.outs["former"] == [self.EU]
        world.former = []
        found = RollCallProvider().read("", props(members, former=[self.EU]))
        assert found.outs is not None and found.outs["former"] == []
        assert found.inputs is not None and "former" not in found.inputs

    @pytest.mark.parametrize("changed", [{"peers": ["far", "web"]}, {"elsewhere": []}, {"cloud": EU}])
    def test_other_fleets_and_locations_are_a_difference(self, changed: dict[str, Any]) -> None:
        assert RollCallProvider().diff("", props([], **self.OPTIONS), props([], **{**self.OPTIONS, **changed})).changes
        older = {key: value for key, value in props([]).items() if key not in ("peers", "elsewhere")}
        assert not RollCallProvider().diff("", older, props([], peers=["web"])).changes


class _In:
    """The world as a RollCall in one region is shown it; `drained` has whom it asked to leave, and where."""

    def __init__(self, world: World, region: str, former: list[Any], drained: list[Any]) -> None:
        self._world, self._region, self._former, self._drained = world, region, former, drained

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world, name)

    def drain(self, stack: str, members: Sequence[Member]) -> None:
        self._drained += [(self._region, member.instance) for member in members]
        self._world.drain(stack, members)


def web_0(
    world: World, index: int, generation: str, stack: str = "local", *, registered: bool = True
) -> dict[str, str]:
    """An incarnation of web-0, on the instance with this index."""
    made = {**world.machine(index, generation=generation, stack=stack, registered=False), "machine": "0"}
    world.seen_[made["instance"]] = replace(world.seen_[made["instance"]], machine="0")
    if registered:
        world.register(made["instance"])
    return made


class TestAStackThatWasRenamed:
    """What it made before is its own: it leaves as any other machine, and is not foreign."""

    def renamed(self, world: World, **others: Any) -> dict[str, Any]:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb", "live")
        updated = RollCallProvider().update("", props([old]), props([new], stack="live", **others))
        outs: dict[str, Any] = updated.outs
        return outs

    def test_those_that_it_made_before_are_asked_to_leave_and_waited_for(self, world: World) -> None:
        outs = self.renamed(world)
        assert world.drained == ["i-00000000000000000"] and world.removed == [] and world.ended == []
        assert [each.owner.stack for each in world.records if each.owner] == ["live"]
        assert (outs["stack"], outs["acknowledged"], outs["foreign"]) == ("live", [], [])
        assert 30.0 in world.slept and not [each for each in world.messages if "is not Rollcall's" in each]

    def test_they_serve_on_where_a_successor_does_not_answer(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb", "live", registered=False)
        world.stuck.add(new["instance"])
        with pytest.raises(RollCallError, match="was not answered"):
            RollCallProvider().update("", props([old]), props([new], stack="live"))
        assert world.drained == [] and len(world.records) == 1

    def test_a_fleet_without_machines_is_renamed_too(self) -> None:
        assert RollCallProvider().diff("", props([]), props([], stack="live")).changes is True

    def test_another_fleets_records_of_the_former_name_are_not_foreign_until_it_has_left(self, world: World) -> None:
        owner = Owner("local", "api", "0", "cccccc", "i-0000000000000000c")
        theirs = DnsRecord(key=PLACE, value="198.51.100.80", owner=owner, id="z/api")
        world.records.append(theirs)
        outs = self.renamed(world, fleets=["api", "web"])
        assert outs["acknowledged"] == [] and theirs in world.records
        another_run()
        read = RollCallProvider().read("local/web", outs).outs
        assert read["foreign"] == [] and read["former_stacks"] == ["local"]
        world.records.remove(theirs)
        another_run()
        assert RollCallProvider().read("local/web", outs).outs["former_stacks"] == []

    def test_what_a_crashed_machine_left_under_the_former_name_is_removed(self, world: World) -> None:
        owner = Owner("local", "web", "7", "dddddd", "i-0000000000000000d")
        ghost = DnsRecord(key=PLACE, value="198.51.100.90", owner=owner, id="z/ghost")
        world.records.append(ghost)
        self.renamed(world)
        assert world.removed == [ghost]

    def test_a_new_stack_with_the_former_name_is_left_alone(self, world: World) -> None:
        """It runs machines that no state of ours has."""
        theirs = web_0(world, 7, "dddddd")
        self.renamed(world)
        assert theirs["instance"] in {each.owner.instance for each in world.records if each.owner}
        assert theirs["instance"] not in world.ended + world.drained

    def test_a_refresh_before_the_next_up_finds_it_in_step(self, world: World) -> None:
        read = RollCallProvider().read("local/web", props([world.machine(0)])).outs
        assert not any(read[key] for key in ("missing", "stale", "leftover", "foreign", "orphaned", "unproven"))


class TestMachinesThatNoRollCallHasCounted:
    """The `up` that made them failed before its roll calls."""

    def uncounted(self, *members: dict[str, str], stack: str = "local", fleet: str = "web") -> list[dict[str, str]]:
        return [
            {"stack": stack, "fleet": fleet, "machine": each["machine"], "generation": each["generation"]}
            for each in members
        ]

    def test_the_first_roll_call_has_them_leave_and_ends_none(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb")
        outs = RollCallProvider().create(props([new], uncounted=self.uncounted(old, new))).outs
        assert world.drained == [old["instance"]] and world.ended == [] and 30.0 in world.slept
        assert outs is not None and [each["instance"] for each in outs["drained"]] == [old["instance"]]

    def test_so_does_a_later_one(self, world: World) -> None:
        first, second, third = (web_0(world, at, f"{at}" * 6) for at in range(3))
        RollCallProvider().update("", props([first]), props([third], uncounted=self.uncounted(second)))
        assert world.drained == [first["instance"], second["instance"]] and world.ended == []

    def test_those_of_a_fleet_that_is_given_up_leave_too(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb")
        world.seen_[old["instance"]] = replace(world.seen_[old["instance"]], fleet="api")
        owner = Owner("local", "api", "0", "aaaaaa", old["instance"])
        theirs, ours = world.records
        world.records = [replace(theirs, owner=owner), ours]
        uncounted = self.uncounted(old, fleet="api")
        outs = RollCallProvider().create(props([new], given_up=["api"], uncounted=uncounted)).outs
        assert world.drained == [old["instance"]] and world.ended == [] and outs is not None and "drained" not in outs

    def test_they_serve_on_where_the_members_do_not_answer(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb", registered=False)
        world.stuck.add(new["instance"])
        with pytest.raises(RollCallError):
            RollCallProvider().create(props([new], uncounted=self.uncounted(old)))
        assert world.drained == [] and world.ended == []

    def test_a_machine_that_is_in_no_state_leaves_with_the_drain_delay_before_it_is_ended(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "bbbbbb")
        RollCallProvider().create(props([new], safe_deletes=False))
        assert world.drained == world.ended == [old["instance"]] and 30.0 in world.slept

    def test_so_does_one_that_has_a_members_generation(self, world: World) -> None:
        twin, new = web_0(world, 0, "aaaaaa"), web_0(world, 1, "aaaaaa")
        RollCallProvider().create(props([new]))
        assert world.drained == world.ended == [twin["instance"]] and 30.0 in world.slept

    def test_one_that_never_was_in_dns_is_ended_at_once(self, world: World) -> None:
        old, new = web_0(world, 0, "aaaaaa", registered=False), web_0(world, 1, "bbbbbb")
        world.stuck.add(old["instance"])
        RollCallProvider().create(props([new], safe_deletes=False))
        assert world.ended == [old["instance"]] and 30.0 not in world.slept


class TestNameServers:
    """A fault of the name servers is reported once. Where only resolvers can be queried, the roll call waits for their caches."""

    LAME = "scalability.expert: the name server ns2 (192.0.2.2) answers REFUSED, so it has no vote"

    def unanswered(self, world: World, seconds: float) -> dict[str, Any]:
        """The properties of a fleet of one that is listed and answered only after a while."""
        world.answers = lambda: {  # type: ignore[method-assign]
            PLACE: frozenset(each.value for each in world.records if world.now >= seconds)
        }
        return props([world.machine(0)])

    def test_one_without_a_vote_is_reported_once_in_an_up_and_in_a_refresh(self, world: World) -> None:
        world.notes = (self.LAME,)
        RollCallProvider().create(self.unanswered(world, 5))
        assert world.messages.count(self.LAME) == 1
        RollCallProvider().read("", props([world.machine(0)]))
        assert f"web: {self.LAME}" in world.messages

    def test_the_fault_says_what_each_sees(self, world: World) -> None:
        world.notes = (self.LAME,)
        with pytest.raises(RollCallError) as failed:
            RollCallProvider().create(self.unanswered(world, 1e9))
        assert self.LAME in str(failed.value)
        assert f"  - {PLACE}: ns1 answers nothing; resolver 192.0.2.53 answers 10.0.0.1" in str(failed.value)
        assert 60 < world.now < 65

    @pytest.mark.parametrize(("delay", "answers"), [(300.0, True), (0.0, False)])
    def test_a_cache_has_its_ttl_beside_the_time_out(self, world: World, delay: float, answers: bool) -> None:
        given, world.delay = self.unanswered(world, 200), delay
        if answers:
            RollCallProvider().create(given)
            assert 200 <= world.now < 205
        else:
            with pytest.raises(RollCallError, match="nothing changed for 60 s"):
                RollCallProvider().create(given)

    def test_a_machine_that_does_not_register_gets_no_more_time(self, world: World) -> None:
        given, world.delay = props([world.machine(0, registered=False)]), 300.0
        world.stuck = {"i-00000000000000000"}
        with pytest.raises(RollCallError, match="nothing changed for 60 s"):
            RollCallProvider().create(given)

    def test_caches_have_their_ttl_to_forget_one_that_leaves(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("components.registration.draining.time.monotonic", lambda: world.now)
        members = [world.machine(0), world.machine(1)]
        world.delay, world.answered_until, world.notes = 120.0, {"198.51.100.11": 150.0}, ("none can be asked",)
        RollCallProvider().update("", props(members), props(members[:1]))
        assert any("waiting for the resolvers, for up to 120 s, to forget web-1" in each for each in world.messages)
        assert world.messages.count("none can be asked") == 3, "by both roll calls and by the leave between them"
        assert not any("going on" in each for each in world.messages) and world.now >= 150


class TestAMarkThatWasCopied:
    """A tool that keeps one comment for a record set has written one machine's mark on the records of all."""

    def copied(self, world: World, index: int, instance: str, generation: str = "aaaaaa") -> None:
        """The record of machine `index` has the mark of `instance` now."""
        owner = Owner("local", "web", "1", generation, instance)
        address = f"198.51.100.{10 + index}"
        world.records = [replace(each, owner=owner) if each.value == address else each for each in world.records]

    def test_a_record_of_a_live_member_is_not_removed_as_left_over(self, world: World) -> None:
        members = [world.machine(0), world.machine(1)]
        gone = world.machine(2)["instance"]
        self.copied(world, 0, gone)
        world.seen_.pop(gone)
        world.stuck = {each["instance"] for each in members}
        with pytest.raises(RollCallError, match="web-0"):
            RollCallProvider().update("", props(members), props(members))
        assert "198.51.100.10" in {each.value for each in world.records}
        assert "198.51.100.12" in {each.value for each in world.removed}

    def test_a_record_of_a_live_member_outlives_the_deregistration_of_the_marks_machine(self, world: World) -> None:
        world.machine(0)
        gone = world.machine(1, generation="bbbbbb")["instance"]
        owner = Owner("local", "web", "1", "bbbbbb", gone)
        world.records = [replace(each, owner=owner) for each in world.records]
        world.seen_.pop(gone)
        DeregistrationProvider().delete("", {**props([]), "machine": "1", "generation": "bbbbbb"})
        assert [each.value for each in world.records] == ["198.51.100.10"]

    @pytest.mark.parametrize("drained", [True, False])
    def test_a_deregistration_waits_for_a_machine_that_leaves_too_and_has_the_records_address(
        self, world: World, monkeypatch: pytest.MonkeyPatch, drained: bool
    ) -> None:
        """A `destroy` ends both. No later roll call would remove a record that this one leaves."""
        monkeypatch.setattr("components.registration.providers.time.monotonic", lambda: world.now)
        going, gone = world.machine(0)["instance"], world.machine(1, generation="bbbbbb", registered=False)["instance"]
        self.copied(world, 0, gone, "bbbbbb")
        world.seen_.pop(gone)
        world.seen_[going] = replace(world.seen_[going], drained=drained)
        # Its agent does not run.
        world.stuck.add(going)
        sleep = world.sleep

        def ends(seconds: float) -> None:
            sleep(seconds)
            if world.now >= 20:
                world.seen_.pop(going, None)

        world.sleep = ends  # type: ignore[method-assign]
        DeregistrationProvider().delete("", {**props([]), "machine": "1", "generation": "bbbbbb"})
        assert [each.value for each in world.records] == ([] if drained else ["198.51.100.10"])
        assert world.now == (20 if drained else 0)

    def test_a_deregistration_leaves_the_record_of_a_drained_machine_that_does_not_end(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("components.registration.providers.time.monotonic", lambda: world.now)
        going, gone = world.machine(0)["instance"], world.machine(1, generation="bbbbbb", registered=False)["instance"]
        self.copied(world, 0, gone, "bbbbbb")
        world.seen_.pop(gone)
        world.seen_[going] = replace(world.seen_[going], drained=True)
        world.stuck.add(going)
        DeregistrationProvider().delete("", {**props([]), "machine": "1", "generation": "bbbbbb"})
        assert [each.value for each in world.records] == ["198.51.100.10"]
        assert world.now == pytest.approx(providers.GONE_LIMIT_S, abs=2)
        assert world.messages == [
            "web-1: 198.51.100.10 at www.scalability.expert A has its mark and the address of web-0, which still runs; "
            "it is left as it is"
        ]

    def test_a_record_of_a_live_member_outlives_the_leave_of_the_marks_machine(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("components.registration.draining.time.monotonic", lambda: world.now)
        members = [world.machine(0), world.machine(1)]
        world.machine(2)
        world.register(members[0]["instance"])
        world.records[-1] = replace(
            world.records[-1], owner=Owner("local", "web", "1", "aaaaaa", members[1]["instance"]), id="z/copy"
        )
        world.seen_.pop(members[1]["instance"])
        RollCallProvider().update("", props(members[:2]), props(members[:1]))
        assert "z/copy" in {each.id for each in world.records}

    def test_a_name_that_is_the_machines_alone_goes_though_another_has_its_address_now(self, world: World) -> None:
        world.machine(0)
        owner = Owner("local", "web", "1", "bbbbbb", "i-00000000000000001")
        world.records.append(
            DnsRecord(
                key=RecordKey("rc.unilans.net", "A"),
                value="198.51.100.10",
                owner=owner,
                id="bbbbbb.rc.unilans.net",
                alone=True,
            )
        )
        DeregistrationProvider().delete("", {**props([]), "machine": "1", "generation": "bbbbbb"})
        assert [each.id for each in world.removed] == ["bbbbbb.rc.unilans.net"]


class TestHold:
    """A machine on hold is neither missing nor stale: `up` goes on without it, and says so."""

    HOLD = "2026-11-30T19:00:00Z disk errors"

    def on_hold(self, world: World) -> list[dict[str, str]]:
        """Two members. The second one is on hold, and out of DNS."""
        members = [world.machine(0), world.machine(1, registered=False)]
        world.stuck.add(members[1]["instance"])
        self.put_on_hold(world, members[1])
        return members

    def put_on_hold(self, world: World, member: dict[str, str]) -> None:
        seen = world.seen_[member["instance"]]
        world.seen_[seen.instance] = replace(seen, live={HOLD: self.HOLD})

    def test_a_preview_has_no_difference_and_names_it(self, world: World) -> None:
        provider = RollCallProvider()
        state = props(self.on_hold(world))
        read = provider.read("id", state)
        assert not provider.diff("id", read.outs, state).changes
        line = "web: web-1 (i-00000000000000001): on hold since 2026-11-30T19:00:00Z: disk errors"
        assert world.messages == [line]

    def test_an_up_succeeds_without_it_and_its_state_has_no_drift(self, world: World) -> None:
        members = self.on_hold(world)
        outs = RollCallProvider().update("id", props(members[:1]), props(members)).outs
        assert [each["instance"] for each in outs["members"]] == [each["instance"] for each in members]
        assert not outs["missing"] and not outs["stale"]
        assert any("web-1 (i-00000000000000001): on hold since" in each for each in world.messages)

    def test_an_up_waits_until_it_has_left(self, world: World) -> None:
        members = [world.machine(0), world.machine(1)]
        self.put_on_hold(world, members[1])
        world.stuck.add(members[1]["instance"])
        with pytest.raises(RollCallError, match=r"web-1 \(i-0+1\) is on hold, and it is still at www"):
            RollCallProvider().update("id", props(members[:1]), props(members))

    def test_it_is_deleted_like_any_other(self, world: World) -> None:
        members = self.on_hold(world)
        outs = RollCallProvider().update("id", props(members), props(members[:1])).outs
        assert [each["instance"] for each in outs["drained"]] == [members[1]["instance"]]
        assert world.drained == [members[1]["instance"]]

    def test_the_others_must_answer(self, world: World) -> None:
        members = [*self.on_hold(world), world.machine(2, registered=False)]
        world.stuck.add(members[2]["instance"])
        with pytest.raises(RollCallError, match="web-2") as refused:
            RollCallProvider().update("id", props(members[:2]), props(members))
        assert "web-1" not in str(refused.value)
        assert any("1 of 3 answer, 1 on hold" in each for each in world.messages)
