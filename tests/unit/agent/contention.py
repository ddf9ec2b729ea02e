"""Many agents at one SRV set on a virtual clock: threads of which one at a time runs, in an order that a seed decides.

Every call of the store takes a moment, may be throttled as Route53 throttles an account, may fail, and may act and lose its
reply. `Contest` runs joins and leaves and says what stands at the end, how long it took and how many calls it cost.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from localcloud.aws.route53.pace import Limits, Throttle
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.retrying import retried
from rollcall.route53 import ConflictError, RecordSet, Route53Registry
from rollcall.settings import Route53Join

DOMAIN = "unilans.net"
LATENCY = (0.02, 0.12)


class Scheduler:
    """Virtual time. `run` starts the actions and lets one of them run at a time, always the one that is due next."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.dice = random.Random(seed)  # noqa: S311
        self._due: list[tuple[float, float, threading.Event]] = []
        self._baton = threading.Semaphore(0)

    def sleep(self, seconds: float) -> None:
        """Called by an action: others run meanwhile."""
        mine = threading.Event()
        heapq.heappush(self._due, (self.now + seconds, self.dice.random(), mine))
        self._baton.release()
        mine.wait()

    def run(self, actions: Iterable[Callable[[], None]]) -> None:
        faults: list[BaseException] = []

        def act(action: Callable[[], None], first: threading.Event) -> None:
            first.wait()
            try:
                action()
            except BaseException as fault:  # noqa: BLE001 - raised again by run()
                faults.append(fault)
            self._baton.release()

        threads = []
        for action in actions:
            first = threading.Event()
            heapq.heappush(self._due, (self.now, self.dice.random(), first))
            threads.append(threading.Thread(target=act, args=(action, first), daemon=True))
            threads[-1].start()
        while self._due:
            self.now, _, event = heapq.heappop(self._due)
            event.set()
            self._baton.acquire()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]


@dataclass
class Zone:
    """A hosted zone's record sets, as strict as Route53: a batch is atomic, a delete must match, a create must be new."""

    scheduler: Scheduler
    throttle: Throttle
    faults: float = 0.0
    sets: dict[tuple[str, str], RecordSet] = field(default_factory=dict)
    calls: int = 0
    throttled: int = 0
    past: dict[str, list[tuple[float, tuple[str, ...]]]] = field(default_factory=dict)

    def at(self, name: str) -> tuple[RecordSet, ...]:
        self._call("ListResourceRecordSets")
        return tuple(each for (at, _), each in sorted(self.sets.items()) if at == name)

    def below(self, name: str) -> tuple[RecordSet, ...]:
        """As many calls as it has pages of 300."""
        found = tuple(each for (at, _), each in sorted(self.sets.items()) if at.endswith(f".{name}"))
        for _ in range(-(-len(found) // 300) or 1):
            self._call("ListResourceRecordSets")
        return tuple(each for (at, _), each in sorted(self.sets.items()) if at.endswith(f".{name}"))

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        self._call("ChangeResourceRecordSets")
        dice = self.scheduler.dice
        if dice.random() < self.faults:
            raise TransientError("reason=api-failing code=PriorRequestNotComplete")
        fresh, creates = dict(self.sets), list(creates)
        for each in deletes:
            if fresh.pop((each.name, each.type), None) != each:
                raise ConflictError("but the values provided do not match")
        for each in creates:
            if (each.name, each.type) in fresh:
                raise ConflictError("but it already exists")
            fresh[each.name, each.type] = each
        self.sets = fresh
        for each in creates:
            self.past.setdefault(each.name, []).append((self.scheduler.now, each.values))
        if dice.random() < self.faults:
            raise TransientError("reason=unreachable: it acted, and its reply was lost")

    def shown(self, name: str, at: float) -> tuple[str, ...]:
        """The values that stood at `name` at that time."""
        return next((values for when, values in reversed(self.past.get(name, ())) if when <= at), ())

    def upsert(self, record: RecordSet) -> None:
        """What the second article's script does, and its policy allows: whatever stands there is replaced."""
        self._call("ChangeResourceRecordSets")
        self.sets[record.name, record.type] = record

    def _call(self, action: str) -> None:
        self.scheduler.sleep(self.scheduler.dice.uniform(*LATENCY))
        self.calls += 1
        if not self.throttle.admits(action):
            self.throttled += 1
            raise TransientError("reason=api-failing code=Throttling")
        if self.scheduler.dice.random() < self.faults:
            raise TransientError("reason=api-failing code=InternalError")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`seconds` of virtual time, `calls` with the throttled ones, `lost` and `doubled` machines, `left_over` values or hosts."""

    seconds: float
    calls: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    left_over: tuple[str, ...]


class Contest:
    """`agents` machines join at once, of which the first `leaving` leave again a while later."""

    def __init__(self, *, seed: int, agents: int, leaving: int, limits: Limits, faults: float, shards: int = 1) -> None:
        self.scheduler = Scheduler(seed)
        self.zone = Zone(self.scheduler, Throttle(limits, lambda: self.scheduler.now), faults)
        self._agents, self._leaving, self._shards = agents, leaving, shards

    def told(self, index: int) -> Route53Join:
        incarnation = "v1" if self._shards == 1 else f"v1-{index % self._shards + 1}"
        return Route53Join(zone="Z", domain=DOMAIN, service="_s._tcp", incarnation=incarnation, port=4218)

    def look(self, name: str) -> frozenset[str]:
        """What the zone's name servers answer, two seconds late."""
        shown = self.zone.shown(name, self.scheduler.now - 2.0)
        return frozenset(value.split(" ")[3].rstrip(".") for value in shown)

    def run(self) -> Outcome:
        self.scheduler.run([lambda index=index: self._agent(index) for index in range(self._agents)])  # type: ignore[misc]
        return self._outcome()

    def run_upserts(self) -> Outcome:
        """The same joins as the article makes them: read the set, put back what was read with one's own value."""
        self.scheduler.run([lambda index=index: self._article(index) for index in range(self._agents)])  # type: ignore[misc]
        return self._outcome()

    def _agent(self, index: int) -> None:
        owner = Owner("local", "api", str(index), f"{index:06x}", f"i-{index:017x}")
        dice = random.Random(self.scheduler.dice.random())  # noqa: S311
        registry = Route53Registry(self.told(index), self.zone, True, self.scheduler.sleep, dice, self.look)
        retried(lambda: registry.join(owner, f"198.18.{index // 256}.{index % 256}"), 1e9, self.scheduler.sleep)
        if index < self._leaving:
            self.scheduler.sleep(self.scheduler.dice.uniform(0, 20))
            retried(lambda: registry.leave(owner), 1e9, self.scheduler.sleep)

    def _article(self, index: int) -> None:
        name, value = f"{self.told(index).incarnation}._s._tcp.{DOMAIN}", f"10 10 4218 {index:06x}.rc.{DOMAIN}."

        def join() -> None:
            present = next(iter(self.zone.at(name)), RecordSet(name, "SRV", 30, ()))
            self.zone.upsert(RecordSet(name, "SRV", 30, tuple(sorted({*present.values, value}))))

        retried(join, 1e9, self.scheduler.sleep)

    def _outcome(self) -> Outcome:
        values = [value for (_, kind), each in self.zone.sets.items() if kind == "SRV" for value in each.values]
        hosts = {name.partition(".")[0] for (name, kind) in self.zone.sets if kind == "A"}
        wanted = {f"{index:06x}" for index in range(self._leaving, self._agents)}
        standing = [value.split(" ")[3].partition(".")[0] for value in values]
        return Outcome(
            seconds=self.scheduler.now,
            calls=self.zone.calls,
            lost=tuple(sorted(wanted - set(standing))),
            doubled=tuple(sorted({each for each in standing if standing.count(each) > 1})),
            left_over=tuple(sorted({each for each in (*standing, *hosts) if each not in wanted})),
        )
