"""Whatever happens during a roll-out, no more machines are out than a batch has, and the fleet ends with one release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.rollout.records import State
from components.rollout.transitions import changed
from components.rollout.values import End, Outcome, Policy
from rollcall.in_place import HOLD
from tests.simulated_fleet import POLLS_EVERY_S, Fleet, Machine, Run, digest, released, run_of

A, B, C = digest("a"), digest("b"), digest("c")
# Long enough for a whole roll-out of the largest fleet, one machine after the other, and back.
LASTS_S = 700


@dataclass(frozen=True)
class Event:
    """Something that happens `at` this second to the machine with this number (modulo their count), for `seconds`."""

    at: int
    kind: str
    number: int
    seconds: int


EVENTS = st.lists(
    st.builds(
        Event,
        at=st.integers(0, LASTS_S),
        kind=st.sampled_from(["kill", "kill", "kill", "crash", "hold", "lose", "add"]),
        number=st.integers(0, 9),
        seconds=st.integers(1, 90),
    ),
    max_size=8,
)
BATCHES = st.sampled_from([1, 2, 3, "25%", "50%"])


class World:
    """A fleet to which events happen while `up`s run, each after the one that was killed."""

    def __init__(
        self, fleet: Fleet, policy: Policy, events: Sequence[Event], target: str, seen: frozenset[str]
    ) -> None:
        self.fleet, self.policy, self.target = fleet, policy, target
        self.seen = seen
        self.events = sorted(events, key=lambda each: each.at)
        self.began = fleet.now
        self.ends: list[tuple[int, str, str]] = []
        self.runs = 0
        self.killed_after: int | None = None
        fleet.watch = self.watch

    def watch(self, fleet: Fleet) -> None:
        assert fleet.out <= self.policy.size(len(fleet.machines)), [(each.name, each.step) for each in fleet.machines]
        assert fleet.running() <= self.seen, fleet.running()
        assert fleet.wanted() <= self.seen, fleet.wanted()

    def machine(self, number: int) -> Machine:
        return self.fleet.machines[number % len(self.fleet.machines)]

    def happen(self) -> None:
        """Let happen what is due. A kill takes effect at the next look of the run."""
        while self.events and self.events[0].at <= self.fleet.now - self.began:
            event = self.events.pop(0)
            machine = self.machine(event.number)
            if event.kind == "kill":
                self.killed_after = event.number % 4
            elif event.kind == "add":
                number = len(self.fleet.machines)
                self.fleet.machines.append(
                    Machine(number=number, instance=f"i-{number:04}", broken=set(machine.broken))
                )
            else:
                self.begin(event.kind, machine)
                self.ends.append((self.fleet.now + event.seconds, event.kind, machine.instance))
        for at, kind, instance in [each for each in self.ends if each[0] <= self.fleet.now]:
            self.ends.remove((at, kind, instance))
            self.end(kind, next(each for each in self.fleet.machines if each.instance == instance))

    def begin(self, kind: str, machine: Machine) -> None:
        if kind == "crash":
            machine.crash()
        elif kind == "hold":
            machine.live[HOLD] = "2026-11-30T19:00:00Z by-hand"
        else:
            self.fleet.lost.add(machine.instance)

    def end(self, kind: str, machine: Machine) -> None:
        if kind == "crash":
            machine.boot(self.fleet.now)
        elif kind == "hold":
            machine.live.pop(HOLD, None)
        else:
            self.fleet.lost.discard(machine.instance)

    def up(self) -> End | None:
        """Run `up` until it ends or is killed."""
        self.runs += 1
        run = run_of(self.fleet, {"www": self.target}, self.policy, run=f"{self.runs:08x}")
        for _ in range(LASTS_S * 20):
            self.happen()
            killed, self.killed_after = self.killed_after, None
            end = run.step(killed)
            if end is not None:
                return end
            if killed is not None:
                return None
            self.fleet.tick(POLLS_EVERY_S)
        raise AssertionError(f"no end: {run.printed[-3:]}")

    def calm(self) -> None:
        """Wait until everything that was to happen has happened, and machines have come to rest."""
        while self.events or self.ends:
            self.up()
            self.fleet.tick(POLLS_EVERY_S)
        self.fleet.tick(300)


def world(count: int, policy: Policy, events: Sequence[Event], broken: Sequence[int]) -> World:
    fleet = released(count, A)
    for machine in fleet.machines:
        machine.broken = {B} if machine.number in broken else set()
    return World(fleet, policy, events, B, frozenset({A, B}))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 7), batch=BATCHES, events=EVENTS)
def test_a_good_release_ends_on_all_machines(count: int, batch: int | str, events: list[Event]) -> None:
    found = world(count, Policy(batch=batch, deadline_s=60, drain_s=5, boot_s=120), events, broken=())
    found.calm()
    ends = [found.up() for _ in range(3)]
    assert ends[-1] is not None and ends[-1].outcome is Outcome.DONE, ends[-1]
    assert found.fleet.wanted() == {B}
    found.fleet.tick(60)
    assert found.fleet.running() == {B}
    again = run_of(found.fleet, {"www": B}, found.policy)
    assert again.until_end().outcome is Outcome.DONE
    assert again.writes == 0


# A machine that was added has the bad release as its first one, so it has nothing to go back to by itself.
_BAD_FROM_THE_START = {
    "count": 1,
    "batch": 2,
    "events": [Event(at=0, kind="kill", number=0, seconds=40), Event(at=0, kind="add", number=0, seconds=79)],
    "broken": {0},
}


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 7), batch=BATCHES, events=EVENTS, broken=st.sets(st.integers(0, 6), min_size=1))
@example(**_BAD_FROM_THE_START)
def test_a_bad_release_ends_on_no_machine(count: int, batch: int | str, events: list[Event], broken: set[int]) -> None:
    broken = {each % count for each in broken}
    # Nothing waits for a machine on hold, so it may fail later than the others.
    events = [each for each in events if each.kind != "hold"]
    found = world(count, Policy(batch=batch, deadline_s=60, drain_s=5, boot_s=120), events, broken=sorted(broken))
    found.calm()
    ends = [found.up() for _ in range(2)]
    assert ends[-1] is not None and ends[-1].outcome is Outcome.FAILED, ends[-1]
    assert found.fleet.wanted() == {A}
    found.fleet.tick(60)
    assert found.fleet.running() == {A}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 7), canary=st.integers(1, 3), batch=BATCHES, events=EVENTS)
def test_a_canary_goes_no_further_than_its_size_until_it_is_promoted(
    count: int, canary: int, batch: int | str, events: list[Event]
) -> None:
    events = [each for each in events if each.kind in ("kill", "crash", "lose")]
    found = world(count, Policy(batch=batch, canary=canary, deadline_s=60, drain_s=5, boot_s=120), events, broken=())
    found.calm()
    ends = [found.up() for _ in range(2)]
    last = ends[-1]
    assert last is not None
    if count > canary:
        assert last.outcome is Outcome.CANARY, last
        assert sum(set(each.runs.values()) == {B} for each in found.fleet.machines) == canary
        waiting = run_of(found.fleet, {"www": B}, found.policy)
        assert waiting.until_end().outcome is Outcome.CANARY
        assert waiting.writes == 0
        promoted = changed(last.record, State.PROMOTED)
        found.fleet.write({each.instance: dict(promoted.settings()) for each in found.fleet.machines})
        last = found.up()
    assert last is not None and last.outcome is Outcome.DONE
    assert found.fleet.running() == {B}


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), batch=BATCHES, events=EVENTS, at=st.integers(0, 200))
def test_a_rollback_at_any_moment_ends_on_the_former_release(
    count: int, batch: int | str, events: list[Event], at: int
) -> None:
    found = world(count, Policy(batch=batch, deadline_s=60, drain_s=5, boot_s=120), events, broken=())
    run = run_of(found.fleet, {"www": B}, found.policy)
    ended = None
    while found.fleet.now - found.began < at and ended is None:
        ended = run.step()
        found.fleet.tick(POLLS_EVERY_S)
    record = found.fleet.record
    assert record is not None
    if dict(record.to) != {"www": B}:
        return
    refused = changed(record, State.REFUSED, rollout="0badcafe")
    found.fleet.write({each.instance: dict(refused.settings()) for each in found.fleet.machines})
    found.began = found.fleet.now
    found.calm()
    ends = [found.up() for _ in range(2)]
    assert ends[-1] is not None and ends[-1].outcome is Outcome.REFUSED, ends[-1]
    assert "rollcall promote web 626262626262" in ends[-1].message
    assert found.fleet.wanted() == {A}
    again = run_of(found.fleet, {"www": B}, found.policy)
    assert again.until_end().outcome is Outcome.REFUSED
    assert again.writes == 0


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), events=EVENTS, at=st.integers(1, 300))
def test_another_release_in_the_middle_of_a_roll_out_takes_its_place(count: int, events: list[Event], at: int) -> None:
    found = world(count, Policy(deadline_s=60, drain_s=5, boot_s=120), events, broken=())
    found.seen = frozenset({A, B, C})
    run = run_of(found.fleet, {"www": B}, found.policy)
    while found.fleet.now - found.began < at and run.step() is None:
        found.fleet.tick(POLLS_EVERY_S)
    found.target = C
    found.began = found.fleet.now
    found.calm()
    ends = [found.up() for _ in range(3)]
    assert ends[-1] is not None and ends[-1].outcome is Outcome.DONE, ends[-1]
    assert found.fleet.wanted() == {C}


@pytest.mark.parametrize("seconds", [0, 20, 40])
def test_two_fleets_of_a_service_have_no_batches_at_the_same_time(seconds: int) -> None:
    """A run is killed while the second fleet has a batch. The next one, with another release, begins with the first fleet."""
    first, second = released(2, A), released(2, A)
    for fleet, most in ((first, 10_000), (second, seconds)):
        run = run_of(fleet, {"www": B})
        until = fleet.now + most
        while fleet.now < until and run.step() is None:
            first.tick(POLLS_EVERY_S)
            if fleet is second:
                second.tick(POLLS_EVERY_S)
    for fleet in (first, second):
        run = Run(fleet, run_of(fleet, {"www": C}).rollout)
        other = second if fleet is first else first
        while True:
            run.elsewhere = other
            if run.step() is not None:
                break
            for _ in range(POLLS_EVERY_S):
                first.tick()
                second.tick()
                assert not (first.out and second.out)
    assert first.running() == second.running() == {C}
