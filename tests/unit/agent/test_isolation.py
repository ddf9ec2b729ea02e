"""One fault makes no agent deaf: what fails in one membership, or in one of its activities, stops nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcall.agent import LONGEST, MAX_WAIT_S, TICK, WATCH, Agent
from rollcall.cloudflare import _seconds
from rollcall.errors import FatalError, TransientError
from rollcall.ownership import Owner
from rollcall.settings import challenge_name
from tests.unit.agent.fakes import ADDRESS, HOST, FakeRegistry, Guest, memory_folder, runs_well
from tests.unit.agent.test_watch import World

DOWN = TransientError("reason=api-failing api=fake status=503")
REFUSED = FatalError("reason=refused api=fake status=403")
BLOG = "blog.scalability.expert"
NOT_UTF8 = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
# What text from DNS, an API's reply or a full disk may raise.
UNEXPECTED = (
    NOT_UTF8,
    KeyError("target"),
    AttributeError("'NoneType' object has no attribute 'strip'"),
    IndexError("list index out of range"),
    RecursionError("maximum recursion depth exceeded"),
    OSError(28, "No space left on device"),
    ZeroDivisionError(),
    AssertionError(),
    ValueError("label too long"),
)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollcall.health._command", runs_well)


class Faulty(FakeRegistry):
    """A registry of which the verbs in `faults` fail."""

    faults: dict[str, BaseException] = {}
    challenged: set[str] = set()

    def _call(self, verb: str) -> None:
        super()._call(verb)
        if verb in self.faults and HOST in self._place:
            raise self.faults[verb]

    def challenge(self, owner: Owner, on: bool, by: str = "") -> bool:
        super().challenge(owner, on, by)
        self.challenged.discard(owner.generation)
        return True


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    found: dict[str, BaseException] = {}
    monkeypatch.setattr(Faulty, "faults", found)
    monkeypatch.setattr(Faulty, "challenged", set())
    return found


@pytest.fixture
def guest(tmp_path: Path, faults: dict[str, BaseException]) -> Guest:
    """An agent of one membership that has joined."""
    made = Guest(tmp_path)
    made.dns.registry = lambda membership, secret: Faulty(made.dns, membership, secret)  # type: ignore[method-assign]
    made.restarted()
    made.pass_time(TICK)
    assert made.registered == {HOST: ADDRESS}
    return made


def must_join(guest: Guest) -> None:
    """Have the agent want to write its record at each tick from now on."""
    guest.dns.answers(frozenset())
    guest.pass_time(WATCH + 2 * TICK)


@pytest.mark.parametrize("fault", [DOWN, REFUSED, TransientError("busy", after=1e9), *UNEXPECTED], ids=repr)
class TestActivities:
    """Each of a membership's activities fails, and the others go on."""

    def test_a_confirmation_that_fails_does_not_hold_back_the_answer_to_a_challenge(
        self, guest: Guest, faults: dict[str, BaseException], fault: BaseException
    ) -> None:
        faults["join"] = fault
        must_join(guest)
        guest.pass_time(LONGEST * 4)
        Faulty.challenged.add("ab12cd")
        look_up = guest.dns.look_up
        guest.agent._look_up = lambda name: (
            frozenset({"x"} & {"x" if Faulty.challenged else ""}) if ".c.rc." in name else look_up(name)
        )
        guest.pass_time(WATCH + TICK)
        assert not Faulty.challenged, "the challenge was not answered in time"

    def test_a_confirmation_that_fails_does_not_hold_back_leaving(
        self, guest: Guest, faults: dict[str, BaseException], fault: BaseException
    ) -> None:
        faults["join"] = fault
        must_join(guest)
        guest.pass_time(LONGEST * 4)
        guest.tell(drain=True)
        guest.pass_time(10 + TICK)
        assert guest.registered == {} and guest.status()["step"] == "left"

    def test_a_snapshot_of_others_that_fails_holds_back_neither_joining_nor_leaving(
        self, guest: Guest, fault: BaseException
    ) -> None:
        def look_up(_: str) -> frozenset[str]:
            raise fault

        guest.agent._look_up = look_up
        guest.pass_time(60)
        guest.cloud.known = ("198.51.100.77",)
        guest.pass_time(10 + TICK)
        assert guest.registered == {HOST: "198.51.100.77"}
        guest.tell(drain=True)
        guest.pass_time(10 + TICK)
        assert guest.registered == {}

    def test_another_membership_is_untouched_whatever_fails_in_one(
        self, guest: Guest, faults: dict[str, BaseException], fault: BaseException
    ) -> None:
        faults.update(dict.fromkeys(("join", "leave", "owner_at", "challenge"), fault))
        guest.tell(joins=(guest.join_of(), guest.join_of(BLOG)))
        must_join(guest)
        guest.pass_time(20)
        assert BLOG in guest.registered
        guest.tell(drain=True)
        guest.pass_time(10 + TICK)
        assert BLOG not in guest.registered


@pytest.mark.parametrize("fault", UNEXPECTED, ids=repr)
def test_an_unexpected_error_is_logged_once_with_its_type_and_place_and_shown(
    guest: Guest, faults: dict[str, BaseException], fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    faults["join"] = fault
    must_join(guest)
    guest.pass_time(300)
    name = type(fault).__name__
    lines = [each.message for each in caplog.records if f"error={name}" in each.message and HOST in each.message]
    assert len(lines) == 1 and "at=test_isolation.py:" in lines[0], caplog.messages
    (shown,) = guest.status()["memberships"]
    assert f"reason=unexpected error={name}" in shown["error"] and shown["joined"]


def test_a_fault_that_is_over_is_shown_no_more(guest: Guest, faults: dict[str, BaseException]) -> None:
    faults["join"] = NOT_UTF8
    must_join(guest)
    del faults["join"]
    guest.pass_time(MAX_WAIT_S)
    assert guest.status()["memberships"][0]["error"] == ""


def test_no_text_of_an_unexpected_fault_is_logged(
    guest: Guest, faults: dict[str, BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """It may hold a secret."""
    faults["join"] = ValueError("Authorization: Bearer a-token-that-nobody-may-see")
    must_join(guest)
    assert "unexpected" in caplog.text and "nobody-may-see" not in caplog.text + guest.status_file.read_text()


@pytest.mark.parametrize("after", [1e9, float("inf"), 10.0**308])
def test_no_api_can_ask_for_more_than_two_minutes(guest: Guest, faults: dict[str, BaseException], after: float) -> None:
    faults["join"] = TransientError("reason=api-failing status=429", after)
    must_join(guest)
    guest.dns.calls.clear()
    guest.pass_time(600)
    assert MAX_WAIT_S == 120.0
    assert 600 / (MAX_WAIT_S + 2 * TICK) <= guest.dns.count("join") <= 6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("", 0.0), ("-5", 0.0), ("1e9", 0.0), ("nan", 0.0), ("9" * 500, float("inf")), ("²", 0.0)],
)
def test_what_a_retry_after_says(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("part", ["instance", "keys", "addresses", "tell"])
@pytest.mark.parametrize("fault", [*UNEXPECTED, FatalError("no"), DOWN], ids=repr)
def test_metadata_of_any_form_stop_nothing(guest: Guest, part: str, fault: Exception) -> None:
    def broken(*_: Any) -> Any:
        raise fault

    setattr(guest.cloud, part, broken)
    guest.pass_time(30)
    guest.dns.registered.clear()
    guest.pass_time(2 * WATCH)
    assert guest.registered == {HOST: ADDRESS}


def test_metadata_that_are_silent_are_not_asked_at_each_tick(guest: Guest) -> None:
    """Each question may hang for half a minute."""
    guest.cloud.silent = DOWN
    reads = guest.cloud.keys_read
    instance: Callable[[], str] = guest.cloud.instance
    times: list[float] = []

    def counted() -> str:
        times.append(guest.clock.now)
        return instance()

    guest.cloud.instance = counted  # type: ignore[method-assign]
    guest.pass_time(60)
    assert 4 <= len(times) <= 7 and guest.cloud.keys_read == reads


@pytest.mark.parametrize("fault", [DOWN, NOT_UTF8], ids=repr)
def test_a_suspect_with_unreadable_records_does_not_hide_a_dead_machine(tmp_path: Path, fault: Exception) -> None:
    world = World(tmp_path, "a1", "a2", "b1")
    world.run(20)
    world.zone["a9"] = Owner("local", "web", "9", "999999", "i-00000000000000099")
    world.dead |= {"a9", "b1"}
    for agent in world.agents.values():
        _cannot_read(agent, "a9", fault)
    world.run(90)
    assert "b1" not in world.registered and {"a1", "a2"} <= world.registered


def _cannot_read(agent: Agent, key: str, fault: Exception) -> None:
    (membership,) = agent.memberships
    owner_at = membership.registry.owner_at

    def broken(address: str) -> Owner | None:
        if address == key:
            raise fault
        return owner_at(address)

    membership.registry.owner_at = broken  # type: ignore[method-assign, assignment]


def test_a_challenge_is_answered_within_its_time_though_the_api_fails_in_between(tmp_path: Path) -> None:
    """An answer is tried again sooner than anything else: a machine that is too late is removed."""
    world = World(tmp_path, "a1")
    world.run(12)
    owner = world.zone["a1"]
    world.api_down = True
    world.challenges[challenge_name(owner, world.membership)] = {f"{owner} abcdef"}
    world.run(300)
    world.api_down = False
    world.run(16)
    assert world.challenges == {}


def test_leave_goes_on_after_an_unexpected_fault(guest: Guest, faults: dict[str, BaseException]) -> None:
    guest.tell(joins=(guest.join_of(), guest.join_of(BLOG)))
    guest.pass_time(10 + TICK)
    faults["leave"] = NOT_UTF8
    assert guest.agent.leave(within=0) is False
    assert BLOG not in guest.registered


def test_the_loop_goes_on_whatever_happens_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from rollcall import agent as agents
    from tests.unit.agent.test_run import CLOSED, Scripted, run

    refreshed: list[int] = []

    def refresh(_: object) -> bool:
        refreshed.append(1)
        raise RuntimeError("edge")

    def probe_port(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("rollcall.edge.refresh", refresh)
    monkeypatch.setattr(agents, "TICK", 0.01)
    monkeypatch.setattr(agents, "EDGE_AGAIN", 0.0)
    monkeypatch.setattr(agents, "system_is_stopping", lambda: False)
    monkeypatch.setattr(agents.socket, "socket", probe_port)  # type: ignore[attr-defined]

    class Raising(Scripted):
        ticks = 0

        def tick(self) -> None:
            super().tick()
            self.ticks += 1
            raise MemoryError

    agent = Raising([CLOSED] * 4)
    assert run(agent) == 0
    assert agent.ticks == 5 and len(refreshed) >= 3


def test_metadata_that_hang_leave_two_thirds_of_the_time_for_everything_else(guest: Guest) -> None:
    """A tool that asks for them has 30 s."""
    hung = []

    def hang() -> str:
        hung.append(guest.clock.now)
        guest.clock.now += 30
        raise DOWN

    guest.cloud.instance = hang  # type: ignore[method-assign]
    began, ticks = guest.clock.now, 0
    while guest.clock.now < began + 600:
        guest.clock.now += TICK
        guest.agent.tick()
        ticks += 1
    assert len(hung) * 30 <= 600 / 3 + 30 and ticks >= 180


def test_a_fault_of_the_settings_is_reported_once_not_at_each_reading(guest: Guest) -> None:
    guest.cloud.extra = {"rollcall-fleet": ""}
    guest.pass_time(120)
    assert sum("rollcall-fleet" in each for each in guest.cloud.statuses) == 1
    guest.cloud.extra = {}
    guest.pass_time(10 + TICK)
    assert guest.status()["error"] == ""
