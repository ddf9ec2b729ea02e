"""State and self-registration in step, whoever does what in whatever order: joins, leaves, crashes, restarts at another
address, drains, replacements, the engine's providers, failing APIs, and a user and another stack at the same names.

Each example is one zone of a local cloud; `World` judges it after each step of each actor.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from components.registration import providers
from localcloud.aws.route53 import UNLIMITED
from rollcall.errors import RollcallError
from rollcall.host_label import FirstLabels, generation_of
from rollcall.ownership import Owner
from tests.cloud.aws_cloud import Cloud, running
from tests.cloud.in_step import OURS, Box, World, Zone
from tests.cloud.in_step_zones import (
    DIRECTORY,
    HOST,
    RC,
    SERVICE,
    SETS,
    SITE,
    CloudflareFront,
    CloudflareZone,
    Route53Zone,
)

pytestmark = pytest.mark.clouds
STEPS = 50
# So many operations are in `make test`. A Deregistration then waits shorter for a machine that runs, and still longer than it takes to
# challenge and remove a machine: the 300 s of users took more than half of the test's time.
FEW, GONE_WITHIN_S = 1_000, 120.0
NAMES = st.sampled_from(["0", "1", "2", "3"])
PICK = st.integers(0, 9)
ADDRESSES = st.sampled_from(OURS)
# Half of the operations meet a failing API: before it acts, after it has acted, or instead of it.
FAULTS = st.sampled_from(["", "", "", "", "status=500", "lose", "drop", "throttle"])
TIMES = st.integers(1, 2)
OTHER = Owner("prod", "web", "0", "0abcde", "i-0fffffff")


def powered(box: Box) -> bool:
    return box.powered


def stopped(box: Box) -> bool:
    return not box.powered and not box.ended


def gone(box: Box) -> bool:
    return not box.powered


def to_deregister(box: Box) -> bool:
    return box.ended and not box.deregistered


def remembered(box: Box) -> bool:
    return not box.deregistered


def having(wanted: Callable[[Box], bool]) -> Callable[[Any], Any]:
    """A rule that needs such a machine."""
    return precondition(lambda machine: any(map(wanted, machine.world.boxes)))


class InStep(RuleBasedStateMachine):
    """The rules that both clouds share. `make_zone` is set by the test."""

    make_zone: ClassVar[Callable[[], Any]]
    done: ClassVar[int] = 0
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.zone: Any = type(self).make_zone()
        self.world = World(self.zone)

    def teardown(self) -> None:
        type(self).seen.update(self.world.seen)
        self.world.close()

    @initialize(addresses=st.lists(ADDRESSES, min_size=3, max_size=3, unique=True))
    def three_machines(self, addresses: list[str]) -> None:
        for number, address in enumerate(addresses):
            self.world.desired.append(self.world.new_machine(str(number), address).member)
        self.world.pass_time(4)
        self.world.state = list(self.world.desired)

    def _some(self, pick: int, wanted: Callable[[Box], bool]) -> Box:
        """The newest first, so that the least pick is the most telling one."""
        found = [box for box in reversed(self.world.boxes) if wanted(box)]
        return found[pick % len(found)]

    @contextlib.contextmanager
    def _op(self, fault: str = "", times: int = 1) -> Iterator[None]:
        type(self).done += 1
        if fault:
            self.zone.faults.add(f"{self.zone.service} {fault} times={times}")
        try:
            yield
        finally:
            self.zone.faults.clear()

    def _free(self, address: str) -> str:
        """An address that no machine has now; one of a dead machine is as good as any."""
        used = {box.address for box in self.world.boxes if box.powered}
        return next(each for each in (address, *OURS) if each not in used)

    def _room(self) -> bool:
        return sum(box.powered for box in self.world.boxes) < len(OURS) - 1

    # The operator and the engine

    @precondition(_room)
    @rule(name=NAMES, address=ADDRESSES)
    def ask_for_a_machine(self, name: str, address: str) -> None:
        """New under this name, or in the place of the one that has it."""
        with self._op():
            box = self.world.new_machine(name, self._free(address))
            self.world.desired = [each for each in self.world.desired if each["machine"] != name] + [box.member]

    @rule(name=NAMES)
    def give_up_a_machine(self, name: str) -> None:
        with self._op():
            self.world.desired = [each for each in self.world.desired if each["machine"] != name]

    @rule(safe_deletes=st.booleans(), fault=FAULTS, times=TIMES)
    def up(self, safe_deletes: bool, fault: str, times: int) -> None:
        with self._op(fault, times):
            if self.world.up(safe_deletes):
                self.world.seen["ups"] += 1
                self._all_are_registered()

    def _all_are_registered(self) -> None:
        registered = {owner.instance for owner in self.world.judged.records}
        lacking = [each for each in self.world.state if each["instance"] not in registered]
        assert not lacking, f"up succeeded without {lacking}"

    @rule(fault=FAULTS)
    def preview(self, fault: str) -> None:
        with self._op(fault):
            self.world.read()

    @rule(fault=FAULTS)
    def destroy(self, fault: str) -> None:
        with self._op(fault):
            self.world.destroy()

    def _is_expected(self, box: Box) -> bool:
        return any(each["instance"] == box.owner.instance for each in (*self.world.state, *self.world.desired))

    @precondition(lambda self: any(not each.ended and not self._is_expected(each) for each in self.world.boxes))
    @rule(pick=PICK, graceful=st.booleans(), fault=FAULTS)
    def end_a_leaver(self, pick: int, graceful: bool, fault: str) -> None:
        """A machine that is asked for no more is terminated, as the engine does before its Deregistration goes."""
        box = self._some(pick, lambda each: not each.ended and not self._is_expected(each))
        with self._op(fault):
            if graceful:
                self.world.leave(box)
            self.world.end([box.owner.instance])

    @having(to_deregister)
    @rule(pick=PICK, fault=FAULTS)
    def deregister(self, pick: int, fault: str) -> None:
        box = self._some(pick, to_deregister)
        with self._op(fault):
            self.world.deregister(box)

    @having(to_deregister)
    @rule(pause=st.sampled_from([0, 2, 4]))
    def deregister_all(self, pause: int) -> None:
        """In one run, in which they share what they see while others go on writing."""
        with self._op():
            for number, box in enumerate([each for each in self.world.boxes if to_deregister(each)]):
                self.world.deregister(box, same_run=number > 0)
                self.world.pass_time(pause)

    @having(powered)
    @rule(pick=PICK)
    def deregister_one_that_may_run(self, pick: int) -> None:
        box = self._some(pick, powered)
        with self._op():
            self.world.deregister(box)

    # Machines

    @rule(seconds=st.sampled_from([2, 4, 10, 10, 30, 60]), fault=FAULTS, times=TIMES)
    def time_passes(self, seconds: int, fault: str, times: int) -> None:
        with self._op(fault, times):
            self.world.pass_time(seconds)

    @having(powered)
    @rule(pick=PICK)
    def crash(self, pick: int) -> None:
        box = self._some(pick, powered)
        with self._op():
            self.world.power_off(box)

    @having(powered)
    @rule(pick=PICK, fault=FAULTS)
    def stop(self, pick: int, fault: str) -> None:
        box = self._some(pick, powered)
        with self._op(fault):
            self.world.leave(box)
            self.world.power_off(box)

    @precondition(_room)
    @having(stopped)
    @rule(pick=PICK, address=ADDRESSES)
    def start(self, pick: int, address: str) -> None:
        """A stopped machine comes back, often with another address."""
        box = self._some(pick, stopped)
        with self._op():
            self.world.power_on(box, self._free(address))

    @having(powered)
    @rule(pick=PICK, again=st.booleans())
    def kill_the_agent(self, pick: int, again: bool) -> None:
        box = self._some(pick, powered)
        with self._op():
            box.agent = None
            if again:
                self.world.start_agent(box)

    @having(powered)
    @rule(pick=PICK)
    def turn_the_workload(self, pick: int) -> None:
        box = self._some(pick, powered)
        with self._op():
            box.healthy = not box.healthy

    @having(powered)
    @rule(pick=PICK)
    def cut_off_or_heal(self, pick: int) -> None:
        """Others cannot reach it, and it reaches no machine; the API and DNS it reaches."""
        box = self._some(pick, powered)
        with self._op():
            box.reachable = not box.reachable

    @having(powered)
    @rule(pick=PICK)
    def drain_or_not(self, pick: int) -> None:
        box = self._some(pick, powered)
        with self._op():
            box.drained = not box.drained

    @having(gone)
    @rule(pick=PICK, fault=FAULTS)
    def leave_late(self, pick: int, fault: str) -> None:
        """A leave of whoever does not run any more, however old."""
        box = self._some(pick, gone)
        with self._op(fault):
            self.world.late_leave(box)


COMMENTS = st.sampled_from(["", "the old load balancer", str(OTHER), f"{OTHER} ", "rollcall/1 local web"])
SITE_NAMES = st.sampled_from([HOST, HOST, HOST, f"x.{HOST}", f"abc001.c.rc.{HOST}", SITE, f"*.{SITE}", f"rc.{HOST}"])
SITE_RECORDS: Any = st.one_of(
    st.fixed_dictionaries({"type": st.just("A"), "content": st.sampled_from([*OURS[:4], "192.0.2.7"])}),
    st.fixed_dictionaries({"type": st.just("A"), "content": st.just("192.0.2.8"), "proxied": st.just(True)}),
    st.just({"type": "AAAA", "content": "2001:db8::7"}),
    st.just({"type": "CNAME", "content": "elsewhere.example.net"}),
    st.just({"type": "TXT", "content": '"v=spf1 -all"'}),
    st.just({"type": "TXT", "content": f'"{OTHER}"'}),
    st.just({"type": "MX", "content": "mail.example.net", "priority": 10}),
    st.just({"type": "CAA", "data": {"flags": 0, "tag": "issue", "value": "ca.example.net"}}),
    st.just({"type": "NS", "content": "ns.example.net"}),
)


class OnCloudflare(InStep):
    zone: CloudflareZone

    @rule(name=SITE_NAMES, record=SITE_RECORDS, comment=COMMENTS, ttl=st.sampled_from([1, 60, 300]))
    def user_adds(self, name: str, record: dict[str, Any], comment: str, ttl: int) -> None:
        with self._op():
            body = {"name": name, "ttl": ttl, "comment": comment, **record}
            self.world.edit("user", lambda: self.zone.write("create", body))

    @rule(pick=PICK, ours=st.booleans(), comment=COMMENTS)
    def user_changes(self, pick: int, ours: bool, comment: str) -> None:
        """A comment of his own on a record of ours makes it his."""
        self._with_one(pick, ours, lambda each: self.zone.write("edit", each, {"comment": comment}))

    @rule(pick=PICK, ours=st.booleans(), content=st.sampled_from([*OURS, "192.0.2.9"]))
    def user_changes_content(self, pick: int, ours: bool, content: str) -> None:
        self._with_one(pick, ours, lambda each: self.zone.write("edit", each, {"content": content}))

    @rule(pick=PICK, ours=st.booleans())
    def user_deletes(self, pick: int, ours: bool) -> None:
        self._with_one(pick, ours, lambda each: self.zone.write("delete", each))

    @having(remembered)
    @rule(pick=PICK)
    def user_writes_where_challenges_are(self, pick: int) -> None:
        box = self._some(pick, remembered)
        with self._op():
            body = {"name": f"{box.owner.generation}.c.rc.{HOST}", "type": "TXT", "content": '"of a user"'}
            self.world.edit("user", lambda: self.zone.write("create", body))

    def _with_one(self, pick: int, ours: bool, action: Callable[[str], None]) -> None:
        with self._op():
            ids = self.zone.ids(ours)
            if ids:
                self.world.edit("user", lambda: action(ids[pick % len(ids)]))


DIRECTORY_NAMES = st.sampled_from([*SETS, RC, f"user.{RC}", f"{SERVICE}.{DIRECTORY}".lower(), f"x.{DIRECTORY}"])
VALUES = st.sampled_from(
    [
        ("A", "192.0.2.7"),
        ("A", OURS[0]),
        ("AAAA", "2001:db8::7"),
        ("CNAME", "elsewhere.example.net."),
        ("TXT", '"v=spf1 -all"'),
        ("TXT", f'"{OTHER}"'),
        ("TXT", '"a" "b"'),
        ("MX", "10 mail.example.net."),
        ("CAA", '0 issue "ca.example.net"'),
        ("SRV", "0 0 4218 elsewhere.example.net."),
        ("SRV", f"10 20 4218 User.{RC}."),
        ("SRV", "1 2 3 UPPER.example.net."),
    ]
)
BESIDE = st.sampled_from(
    [
        ("A", "192.0.2.7"),
        ("AAAA", "2001:db8::7"),
        ("TXT", '"v=spf1 -all"'),
        ("MX", "10 mail.example.net."),
        ("CNAME", "elsewhere.example.net."),
    ]
)
TTLS = st.sampled_from([30, 60, 300])


class OnRoute53(InStep):
    zone: Route53Zone

    @rule(name=DIRECTORY_NAMES, value=VALUES, ttl=TTLS)
    def user_adds(self, name: str, value: tuple[str, str], ttl: int) -> None:
        with self._op():
            self.world.edit("user", lambda: self.zone.put(value[0], name, value[1], ttl))

    @rule(name=st.sampled_from(SETS), value=st.sampled_from(["0 0 1 a.example.net.", "0 0 2 b.example.net."]))
    def user_routes(self, name: str, value: str) -> None:
        """A weighted set takes the place of a simple one, where there is none."""
        with self._op():
            self.world.edit("user", lambda: self.zone.put("SRV", name, value, 60, "weighted"))

    @having(remembered)
    @rule(pick=PICK, value=BESIDE, below=st.booleans())
    def user_adds_at_a_machine(self, pick: int, value: tuple[str, str], below: bool) -> None:
        """Beside what is at a machine's host, or where it is challenged."""
        box = self._some(pick, remembered)
        with self._op():
            sets = self.zone.sets()
            there = [
                each.name
                for each in sets
                if generation_of(each.name) == box.owner.generation and ".c." not in each.name
            ]
            name = f"{box.owner.generation}.c.{RC}" if below else next(iter(there), "")
            if name:
                self.world.edit("user", lambda: self.zone.put(*value[:1], name, value[1], 300))

    @rule(pick=PICK, which=PICK, all_of_it=st.booleans())
    def user_deletes(self, pick: int, which: int, all_of_it: bool) -> None:
        """A value or a whole set, of his own or ours; never only the mark that names the owner of a host."""
        with self._op():
            sets = [each for each in self.zone.sets() if not (each.type == "TXT" and each.name.endswith(f".{RC}"))]
            if sets:
                old = sets[pick % len(sets)]
                gone = old.values if all_of_it else (old.values[which % len(old.values)],)
                kept = [each for each in old.values if each not in gone]
                self.world.edit("user", lambda: self.zone.take(old, kept))

    @rule(number=st.integers(0, 2), leaves=st.booleans(), fault=FAULTS)
    def another_stack(self, number: int, leaves: bool, fault: str) -> None:
        """Its machines have their own names below the same label, and stand in the same sets."""
        owner = Owner("prod", "api", str(number), f"0abcd{number}", f"i-0000000{number}")

        def act() -> None:
            for given in self.zone.joins():
                with contextlib.suppress(RollcallError):
                    registry = self.zone.registry(given, FirstLabels())
                    registry.leave(owner) if leaves else registry.join(owner, f"203.0.113.{10 + number}")

        with self._op(fault):
            self.world.edit("another stack", act)


@pytest.fixture(scope="module")
def cloudflare() -> Iterator[Callable[[], Zone]]:
    front = CloudflareFront()
    yield lambda: CloudflareZone(front)


@pytest.fixture(scope="module")
def route53() -> Iterator[Callable[[], Zone]]:
    with running(route53_limits=UNLIMITED) as cloud:
        yield lambda: _zone_of(cloud)


def _zone_of(cloud: Cloud) -> Zone:
    return Route53Zone(cloud)


def proven(machine: type[InStep], make: Callable[[], Zone], least: int, always_the_same: bool = True) -> None:
    """Examples of together at least that many operations. One that fails is printed with its steps."""
    machine.make_zone, machine.done = staticmethod(make), 0  # type: ignore[assignment]
    machine.seen = Counter()
    began = time.monotonic()
    state = random.getstate()
    patch = pytest.MonkeyPatch()
    if least == FEW:
        patch.setattr(providers, "GONE_LIMIT_S", GONE_WITHIN_S)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=least * 30 // (20 * STEPS),
                stateful_step_count=STEPS,
                derandomize=always_the_same,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
    finally:
        random.setstate(state)
        patch.undo()
    counted = ", ".join(f"{count} {what}" for what, count in sorted(machine.seen.items()))
    print(f"\n{machine.__name__}: {machine.done} operations in {time.monotonic() - began:.1f} s: {counted}")
    assert machine.done >= least, machine.done


@pytest.mark.parametrize("absent", ["crash", "agent"])
def test_a_machine_that_starts_as_its_time_to_answer_ends_may_be_removed(
    route53: Callable[[], Zone], absent: str
) -> None:
    """A random draw: it is cut off, and its challenger acts before its agent has looked for challenges for the first time."""
    removed = 0
    for seconds in range(28, 38, 2):
        machine = type("OnRoute53", (OnRoute53,), {"make_zone": staticmethod(route53), "seen": Counter()})()
        try:
            machine.three_machines(list(OURS[:3]))
            machine.time_passes(seconds=20, fault="", times=1)
            machine.cut_off_or_heal(pick=0)
            machine.crash(pick=0) if absent == "crash" else machine.kill_the_agent(pick=0, again=False)
            machine.time_passes(seconds=seconds, fault="", times=1)
            machine.start(pick=0, address=OURS[2]) if absent == "crash" else machine.kill_the_agent(pick=0, again=True)
            before = machine.world.seen["removals by others"]
            machine.time_passes(seconds=2, fault="", times=1)
            removed += machine.world.seen["removals by others"] - before
            # It comes back, under a new host where its former one is gone.
            machine.time_passes(seconds=30, fault="", times=1)
            assert machine.world.judged.records.keys() >= {box.owner for box in machine.world.boxes}
        finally:
            machine.teardown()
    assert removed, "the moment was met"


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("mark", [("TXT", f'"{OTHER}"'), ("A", "192.0.2.7")], ids=["another stack", "a user"])
def test_a_value_that_leads_to_a_host_of_another_writer_stays(
    route53: Callable[[], Zone], name: str, mark: tuple[str, str]
) -> None:
    """A machine that joins writes all names of its incarnation."""
    machine = type("OnRoute53", (OnRoute53,), {"make_zone": staticmethod(route53), "seen": Counter()})()
    try:
        machine.three_machines(list(OURS[:3]))
        machine.user_adds(name=f"user.{RC}", value=mark, ttl=60)
        machine.user_adds(name=name, value=("SRV", f"10 20 4218 User.{RC}."), ttl=60)
        machine.ask_for_a_machine(name="3", address=OURS[5])
        machine.time_passes(seconds=10, fault="", times=1)
        assert {box.owner for box in machine.world.boxes} <= machine.world.judged.records.keys()
    finally:
        machine.teardown()


@contextlib.contextmanager
def on_cloudflare(make: Callable[[], Zone], *addresses: str) -> Iterator[Any]:
    """Machines 0, 1 and 2 of a site. Rules pick the newest machine first, and the records of a site by their address."""
    machine = type("OnCloudflare", (OnCloudflare,), {"make_zone": staticmethod(make), "seen": Counter()})()
    try:
        machine.three_machines(list(addresses or OURS[:3]))
        yield machine
    finally:
        machine.teardown()


def _addresses_of(machine: Any, box: Box) -> set[str]:
    return {each[1] for each in machine.world.judged.records.get(box.owner, ())}


def test_a_record_that_a_user_moved_to_the_address_of_a_later_machine_keeps_every_byte(
    cloudflare: Callable[[], Zone],
) -> None:
    with on_cloudflare(cloudflare) as machine:
        machine.user_changes(pick=0, ours=True, comment="")
        machine.user_changes_content(pick=0, ours=False, content=OURS[5])
        moved = list(machine.world.judged.foreign.values())
        machine.ask_for_a_machine(name="3", address=OURS[5])
        machine.time_passes(seconds=60, fault="", times=1)
        assert [
            json.dumps(each.body(), sort_keys=True) for each in machine.zone.records() if not each.fields.comment
        ] == moved
        assert not _addresses_of(machine, machine.world.boxes[-1]), "a foreign record has its address"
        machine.user_deletes(pick=0, ours=False)
        machine.time_passes(seconds=60, fault="", times=1)
        machine.time_passes(seconds=60, fault="", times=1)
        assert _addresses_of(machine, machine.world.boxes[-1]) == {OURS[5]}


def test_a_machine_takes_over_a_record_that_a_user_moved_to_its_address(cloudflare: Callable[[], Zone]) -> None:
    with on_cloudflare(cloudflare) as machine:
        machine.user_changes_content(pick=2, ours=True, content=OURS[5])
        machine.ask_for_a_machine(name="3", address=OURS[5])
        # The owner of the record writes its own record again first.
        machine.kill_the_agent(pick=0, again=False)
        machine.time_passes(seconds=10, fault="", times=1)
        assert _addresses_of(machine, machine.world.boxes[2]) == {OURS[2], OURS[5]}
        machine.kill_the_agent(pick=0, again=True)
        machine.time_passes(seconds=10, fault="", times=1)
        assert [_addresses_of(machine, each) for each in machine.world.boxes] == [
            {each} for each in (*OURS[:3], OURS[5])
        ]


def test_a_record_that_a_user_moved_to_the_address_of_a_machine_that_has_left_goes(
    cloudflare: Callable[[], Zone],
) -> None:
    """That machine answers no probe of the site, because it is not a member."""
    with on_cloudflare(cloudflare) as machine:
        machine.drain_or_not(pick=0)
        machine.time_passes(seconds=10, fault="", times=1)
        machine.user_changes_content(pick=0, ours=True, content=OURS[2])
        machine.time_passes(seconds=10, fault="", times=1)
        assert _addresses_of(machine, machine.world.boxes[0]) == {OURS[0], OURS[2]}
        machine.time_passes(seconds=60, fault="", times=1)
        assert _addresses_of(machine, machine.world.boxes[0]) == {OURS[0]}


def test_a_drained_machine_removes_a_record_that_a_user_moved_to_its_address(cloudflare: Callable[[], Zone]) -> None:
    with on_cloudflare(cloudflare) as machine:
        machine.drain_or_not(pick=0)
        machine.time_passes(seconds=10, fault="", times=1)
        machine.user_changes_content(pick=0, ours=True, content=OURS[2])
        machine.time_passes(seconds=10, fault="", times=1)
        machine.kill_the_agent(pick=0, again=True)
        machine.time_passes(seconds=2, fault="", times=1)
        assert _addresses_of(machine, machine.world.boxes[0]) == {OURS[0]}


def test_a_record_of_a_deregistered_machine_at_the_address_of_one_that_runs_goes_with_the_next_up(
    cloudflare: Callable[[], Zone],
) -> None:
    """Its mark may be a copy. The machine that has the address does not join, because its agent does not run."""
    with on_cloudflare(cloudflare) as machine:
        machine.user_changes_content(pick=2, ours=True, content=OURS[5])
        machine.ask_for_a_machine(name="3", address=OURS[5])
        machine.kill_the_agent(pick=0, again=False)
        machine.give_up_a_machine(name="3")
        machine.destroy(fault="")
        gone = machine.world.boxes[2]
        machine.end_a_leaver(pick=1, graceful=False, fault="")
        machine.deregister(pick=0, fault="")
        assert gone.deregistered and _addresses_of(machine, gone) == {OURS[5]}
        machine.end_a_leaver(pick=0, graceful=False, fault="")
        machine.up(safe_deletes=False, fault="", times=1)
        assert not machine.world.judged.records


@pytest.mark.parametrize("least", [FEW, pytest.param(6_000, marks=pytest.mark.prove)])
def test_cloudflare_and_the_state_stay_in_step(cloudflare: Callable[[], Zone], least: int) -> None:
    proven(OnCloudflare, cloudflare, least)


@pytest.mark.parametrize("least", [FEW, pytest.param(4_000, marks=pytest.mark.prove)])
def test_route53_and_the_state_stay_in_step(route53: Callable[[], Zone], least: int) -> None:
    proven(OnRoute53, route53, least)


@pytest.mark.prove
def test_cloudflare_and_the_state_stay_in_step_whatever_is_drawn(cloudflare: Callable[[], Zone]) -> None:
    proven(OnCloudflare, cloudflare, 10_000, always_the_same=False)


@pytest.mark.prove
def test_route53_and_the_state_stay_in_step_whatever_is_drawn(route53: Callable[[], Zone]) -> None:
    proven(OnRoute53, route53, 10_000, always_the_same=False)
