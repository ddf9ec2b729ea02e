"""Two fleets of one service, at different clouds: their batches are never at the same time, whatever is killed and which command runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.commands import abort, fleet_releases, promote, roll_outs, rollback
from components.compute.locations import Location
from components.rollout import providers
from components.rollout.performing import RollOutError
from components.rollout.providers import ReleaseProvider
from tests.release_stack import EC2, Cloud, Stack
from tests.simulated_fleet import Fleet, digest, released

A = digest("a")
TRITON = Location(cloud="joyent", region="us-east-1")
COMMANDS = {"rollback": rollback, "abort": abort, "promote": promote}


class KilledError(BaseException):
    """The end of a process that is killed."""


class _Cloud(Cloud):
    """One of both. Each names the other as a fleet of its service, as the program does (components/resources/fleets/roll_outs.py)."""

    world: World
    other: _Cloud

    def props(self, releases: Mapping[str, str], **policy: Any) -> dict[str, Any]:
        sharing = [{"fleet": self.other.name, "cloud": self.other.location.as_inputs()}]
        return {**super().props(releases, **policy), "sharing": sharing}

    def sleep(self, seconds: float) -> None:
        self.world.sleep(int(seconds))


class World:
    """A stack with two fleets, and all that runs about it. `most_out` is the largest number of machines out of each at once."""

    def __init__(self, counts: Sequence[int]) -> None:
        fleets = [("web", EC2, released(counts[0], A)), ("api", TRITON, released(counts[1], A))]
        first, second = (_Cloud(fleet, name, location) for name, location, fleet in fleets)
        self.clouds = {each.name: each for each in (first, second)}
        first.other, second.other, first.world, second.world = second, first, self, self
        self.stacks = {name: Stack(each) for name, each in self.clouds.items()}
        self.left: int | None = None
        self.now = 0

    @property
    def fleets(self) -> list[Fleet]:
        return [each.fleet for each in self.clouds.values()]

    def sleep(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            for each in self.fleets:
                each.tick()
            out = [each.out for each in self.fleets]
            assert 0 in out, f"batches of both fleets at the same time: {out}"
        if self.left is not None:
            self.left -= seconds
            if self.left <= 0:
                raise KilledError

    def registries(self, props: Mapping[str, Any]) -> _Cloud:
        """Return what can be asked at the location of these properties. It lists all machines of the stack there."""
        return next(each for each in self.clouds.values() if each.location.as_inputs() == dict(props["cloud"]))

    def exported(self, _: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        return [{"type": fleet_releases.RELEASE, "outputs": each.state} for each in self.stacks.values()], {}

    @contextmanager
    def simulated(self) -> Iterator[None]:
        """Let the provider and the commands ask this world."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ReleaseProvider, "_registries", lambda _, props: self.registries(props))
            patch.setattr(roll_outs, "registries_of", lambda props, _: self.registries(props))
            patch.setattr(roll_outs, "exported", self.exported)
            patch.setattr(roll_outs, "Engine", lambda *_: self.clouds["web"])
            patch.setattr(providers, "Engine", lambda *_: self.clouds["web"])
            patch.setattr("components.rollout.performing.time.monotonic", lambda: float(self.now))
            yield

    def up(self, word: str, batch: str = "1", canary: int = 0) -> None:
        """Run `up`: one fleet after the other, as the engine does it."""
        for each in self.stacks.values():
            each.up({"www": digest(word)}, batch=batch, canary=canary)

    def run(self, words: Sequence[str], killed_after: int | None, batch: str) -> None:
        """Run `up` or a command about a fleet. It may be killed after so many seconds, and may fail."""
        self.left = killed_after
        try:
            if words[0] == "up":
                self.up(words[1], batch, canary=int(words[2]))
            else:
                COMMANDS[words[0]].main(list(words[1:]))
        except (KilledError, RollOutError):
            pass
        finally:
            self.left = None


UPS = st.tuples(st.just("up"), st.sampled_from("bcd"), st.sampled_from("001"))
NAMES = st.sampled_from(["web", "api"])
HANDS = st.one_of(
    st.tuples(st.sampled_from(["rollback", "abort"]), NAMES),
    st.tuples(st.just("promote"), NAMES, st.sampled_from([digest(each) for each in "bcd"])),
)
RUNS = st.lists(st.tuples(st.one_of(UPS, UPS, HANDS), st.none() | st.integers(1, 120)), max_size=7)


@settings(max_examples=20, deadline=None)
@given(counts=st.tuples(st.integers(1, 4), st.integers(1, 4)), batch=st.sampled_from(["1", "2", "50%"]), runs=RUNS)
def test_their_batches_are_never_at_the_same_time(
    counts: tuple[int, int], batch: str, runs: list[tuple[tuple[str, ...], int | None]]
) -> None:
    world = World(counts)
    with world.simulated():
        world.up("a")
        for words, killed_after in runs:
            world.run(words, killed_after, batch)
        # A new release ends on all machines, whatever was left.
        world.up("e", batch)
    assert [each.running() for each in world.fleets] == [{digest("e")}] * 2


@pytest.mark.parametrize(("rolls", "goes_back"), [("web", "api"), ("api", "web")])
def test_a_rollback_waits_for_a_batch_of_the_other_fleet_at_another_cloud(rolls: str, goes_back: str) -> None:
    world = World((2, 2))
    with world.simulated():
        world.up("a")
        world.up("b")
        world.left = 20
        with pytest.raises(KilledError):
            world.stacks[rolls].up({"www": digest("c")})
        world.left = None
        assert world.clouds[rolls].fleet.out == 1
        assert rollback.main([goes_back]) == 0
    assert world.clouds[goes_back].fleet.running() == {A}
