"""Many agents at one SRV set on a virtual clock: threads of which one at a time runs, in an order that a seed decides.

Every call of the store takes a moment, may be throttled as Route53 throttles an account, may fail, and may act and lose its
reply. `Contest` runs joins and leaves and says what is registered at the end, how long it took and how many calls it cost.
"""

from __future__ import annotations

import functools
import heapq
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

from localcloud.aws.route53.pace import Limits, Throttle
from rollcall.errors import TransientError
from rollcall.ownership import Owner
from rollcall.retrying import retried
from rollcall.route53 import RecordSet, Route53Registry, begins, set_name
from rollcall.route53api import ConflictError
from rollcall.settings import Route53Join
from rollcall.srv_transitions import Host, Writer

DOMAIN = "unilans.net"
# A machine that knows nothing of its records, as after a restart.
UNKNOWN = Writer(host=Host.UNKNOWN)
LATENCY = (0.02, 0.12)
# Seconds until a name server answers with a change (docs.aws.amazon.com says 60 s at the most, and most within few), and how many
# servers a zone has, each with its own delay.
PROPAGATION, SERVERS = (0.5, 5.0), 4
# A process of the agent tries for so long, the agent then starts another after up to so much (rollcall.registry, rollcall.agent).
WITHIN, TICK, LONGEST = 12.0, 2.0, 30.0


class Scheduler:
    """Virtual time. `run` starts the actions and lets one of them run at a time, always the one that is due next.

    A machine that sleeps or ends wakes the next one itself: a thread between them would be two switches for each call instead of one.
    """

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.dice = random.Random(seed)  # noqa: S311
        self._due: list[tuple[float, float, threading.Lock]] = []
        self._over = _shut()

    def sleep(self, seconds: float) -> None:
        """Called by an action: others run meanwhile."""
        mine = _shut()
        self._comes(seconds, mine)
        self._pass_on()
        mine.acquire()

    def run(self, actions: Iterable[Callable[[], None]]) -> None:
        faults: list[BaseException] = []
        clock = SimpleNamespace(monotonic=lambda: self.now)

        def act(action: Callable[[], None], first: threading.Lock) -> None:
            first.acquire()
            try:
                action()
            except BaseException as fault:  # noqa: BLE001 - raised again by run()
                faults.append(fault)
            self._pass_on()

        threads = []
        for action in actions:
            first = _shut()
            self._comes(0.0, first)
            threads.append(threading.Thread(target=act, args=(action, first), daemon=True))
            threads[-1].start()
        # Waits and chance are this scheduler's, so a seed gives the same run again.
        with patch.multiple("rollcall.retrying", time=clock, random=self.dice):
            self._pass_on()
            self._over.acquire()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]

    def _comes(self, seconds: float, gate: threading.Lock) -> None:
        heapq.heappush(self._due, (self.now + seconds, self.dice.random(), gate))

    def _pass_on(self) -> None:
        """Open the gate of the machine that is due next, which may be the caller's; without one, the run is over."""
        if self._due:
            self.now, _, gate = heapq.heappop(self._due)
            gate.release()
        else:
            self._over.release()


def _shut() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate


@dataclass
class Zone:
    """A hosted zone's record sets, as strict as Route53: a batch is atomic, a delete must match, a create must be new. No list
    that begins at `deaf_to` succeeds."""

    scheduler: Scheduler
    throttle: Throttle
    faults: float = 0.0
    sets: dict[tuple[str, str], RecordSet] = field(default_factory=dict)
    calls: int = 0
    throttled: int = 0
    stood: float = 0.0
    deaf_to: str = ""
    past: dict[str, list[tuple[tuple[float, ...], tuple[str, ...]]]] = field(default_factory=dict)

    def at(self, name: str) -> tuple[RecordSet, ...]:
        self._call("ListResourceRecordSets")
        return tuple(sorted((each for (at, _), each in self.sets.items() if at == name), key=lambda each: each.type))

    def beginning(self, name: str) -> tuple[RecordSet, ...]:
        self._call("ListResourceRecordSets")
        label = name.partition(".")[0]
        near = [key for key in self.sets if key[0].startswith(label)]
        return tuple(self.sets[key] for key in sorted(near) if begins(key[0], name))

    def under(self, *names: str) -> Iterator[tuple[RecordSet, ...]]:
        """Pages of 300, each a call and each of its moment."""
        last: tuple[str, ...] = ()
        if self.deaf_to in names:
            raise TransientError("reason=api-failing code=InternalError")
        while True:
            self._call("ListResourceRecordSets")
            found = [each for each in in_order(tuple(self.sets), names) if each[0] > last]
            yield tuple(self.sets[key] for _, key in found[:300])
            if len(found) <= 300:
                return
            last = found[299][0]

    def change(self, deletes: Iterable[RecordSet], creates: Iterable[RecordSet]) -> None:
        deletes, creates = list(deletes), list(creates)
        if not deletes and not creates:
            return
        self._call("ChangeResourceRecordSets")
        dice = self.scheduler.dice
        if dice.random() < self.faults:
            raise TransientError("reason=api-failing code=PriorRequestNotComplete")
        fresh = dict(self.sets)
        for each in deletes:
            if fresh.pop((each.name, each.type), None) != each:
                raise ConflictError("reason=contended")
        for each in creates:
            if (each.name, each.type) in fresh:
                raise ConflictError("reason=contended")
            fresh[each.name, each.type] = each
        self.sets = fresh
        for each in creates:
            self._publish(each)
        if dice.random() < self.faults:
            raise TransientError("reason=unreachable: it acted, and its reply was lost")

    def _publish(self, record: RecordSet) -> None:
        """From now on; each name server answers with it a while later, and with none before what it replaces."""
        now, dice, past = self.scheduler.now, self.scheduler.dice, self.past.setdefault(record.name, [])
        before = past[-1][0] if past else (0.0,) * SERVERS
        past.append((tuple(max(each, now + dice.uniform(*PROPAGATION)) for each in before), record.values))
        if record.type == "SRV":
            self.stood = now

    def shown(self, name: str) -> tuple[str, ...]:
        """The values at `name` as one of the name servers answers."""
        server = self.scheduler.dice.randrange(SERVERS)
        return next(
            (values for seen, values in reversed(self.past.get(name, ())) if seen[server] <= self.scheduler.now), ()
        )

    def upsert(self, record: RecordSet) -> None:
        """What the second article's script does, and its policy allows: whatever exists there is replaced."""
        self._call("ChangeResourceRecordSets")
        self.sets[record.name, record.type] = record
        self._publish(record)

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
    """`stood`: the second at which the sets changed for the last time; `seconds` until everybody knew. `calls` that were let
    through and that were `throttled`; `lost` and `doubled` machines, `left_over` values or hosts."""

    stood: float
    seconds: float
    throttled: int
    calls: int
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    left_over: tuple[str, ...]


@functools.cache
def by_labels(name: str, kind: str) -> tuple[str, ...]:
    """How Route53 sorts: by the labels from the right."""
    return (*name.split(".")[::-1], "", kind)


@functools.cache
def is_below(name: str, names: tuple[str, ...]) -> bool:
    """Whether it is one of `names` or below one."""
    return any(f".{name}".endswith(f".{each}") for each in names)


@functools.lru_cache(100)
def in_order(
    keys: tuple[tuple[str, str], ...], names: tuple[str, ...]
) -> tuple[tuple[tuple[str, ...], tuple[str, str]], ...]:
    """The labels and the key of each set below one of `names`, as Route53 sorts them. Between two writes everybody reads the same."""
    return tuple(sorted((by_labels(*key), key) for key in keys if is_below(key[0], names)))


@functools.lru_cache(1000)
def targets_of(values: tuple[str, ...]) -> frozenset[str]:
    return frozenset(value.split(" ")[3].rstrip(".") for value in values)


class Contest:
    """`agents` machines join at once, of which the first `leaving` leave again a while later, within `spread` seconds; of these
    the first `back` join again at once."""

    def __init__(
        self,
        *,
        seed: int,
        agents: int,
        leaving: int,
        limits: Limits,
        faults: float,
        shards: int = 1,
        back: int = 0,
        spread: float = 20.0,
        srv: str = "",
    ) -> None:
        self.scheduler = Scheduler(seed)
        self.zone = Zone(self.scheduler, Throttle(limits, lambda: self.scheduler.now), faults)
        self._agents, self._leaving, self._shards = agents, leaving, shards
        self._back, self._spread, self._srv = back, spread, srv
        self._writers: dict[int, Writer] = {}

    def membership_of(self, index: int) -> Route53Join:
        incarnation = "v1" if self._shards == 1 else f"v1-{index % self._shards + 1}"
        return Route53Join(
            zone="Z", domain=DOMAIN, service="_s._tcp", incarnation=incarnation, port=4218, srv=self._srv
        )

    def look_up(self, name: str) -> frozenset[str]:
        """What one of the zone's name servers answers."""
        return targets_of(self.zone.shown(name))

    def run(self) -> Outcome:
        # Hundreds of machines read the same few texts again and again, here all in one process.
        with patch.object(Owner, "parse", staticmethod(functools.cache(Owner.parse))):
            self.scheduler.run([lambda index=index: self._agent(index) for index in range(self._agents)])  # type: ignore[misc]
        return self._outcome()

    def run_upserts(self) -> Outcome:
        """The same joins as the article makes them: read the set, put back what was read with one's own value."""
        self.scheduler.run([lambda index=index: self._article(index) for index in range(self._agents)])  # type: ignore[misc]
        return self._outcome()

    def run_floor(self) -> Outcome:
        """One write each, for which no set is looked at: asked for again as soon as there is room."""

        def write(index: int) -> None:
            value = f"10 10 4218 {index:06x}.rc.{DOMAIN}."
            record = RecordSet(f"{index:06x}._s._tcp.{DOMAIN}", "SRV", 30, (value,))
            while True:
                try:
                    return self.zone.change([], [record])
                except TransientError:
                    continue

        self.scheduler.run([lambda index=index: write(index) for index in range(self._agents)])  # type: ignore[misc]
        return self._outcome()

    def _agent(self, index: int) -> None:
        owner = Owner("local", "api", str(index), f"{index:06x}", f"i-{index:017x}")
        address = f"198.18.{index // 256}.{index % 256}"
        self._kept(index, lambda registry: registry.join(owner, address))
        if index < self._leaving:
            self.scheduler.sleep(self.scheduler.dice.uniform(0, self._spread))
            self._kept(index, lambda registry: registry.leave(owner))
        if index < self._back:
            self._kept(index, lambda registry: registry.join(owner, address))

    def _kept(self, index: int, action: Callable[[Route53Registry], bool]) -> None:
        """As an agent does it: in processes that know no more of each other than `writer`."""
        within, pause = WITHIN, 0.0
        while fault := self._process(index, action, within):
            within = WITHIN if "Throttling" in fault or "contended" in fault else 0.0
            pause = min(max(pause * 2, TICK), LONGEST)
            self.scheduler.sleep(self.scheduler.dice.uniform(TICK / 2, pause))

    def _process(self, index: int, action: Callable[[Route53Registry], bool], within: float) -> str:
        """Why it failed, or nothing."""
        sleep, dice = self.scheduler.sleep, random.Random(self.scheduler.dice.random())  # noqa: S311
        registry = Route53Registry(
            self.membership_of(index), self.zone, self._writers.get(index, Writer()), sleep, dice, self.look_up
        )
        try:
            retried(lambda: action(registry), within, sleep)
        except TransientError as fault:
            return str(fault)
        finally:
            self._writers[index] = registry.writer
        return ""

    def _article(self, index: int) -> None:
        name, value = (
            f"{self.membership_of(index).incarnation}._s._tcp.{DOMAIN}",
            f"10 10 4218 {index:06x}.rc.{DOMAIN}.",
        )

        def join() -> None:
            present = next(iter(self.zone.at(name)), RecordSet(name, "SRV", 30, ()))
            self.zone.upsert(RecordSet(name, "SRV", 30, tuple(sorted({*present.values, value}))))

        retried(join, 1e9, self.scheduler.sleep)

    def _outcome(self) -> Outcome:
        ours = {set_name(self.membership_of(index)) for index in range(self._agents)}
        values = [value for (name, _), each in self.zone.sets.items() if name in ours for value in each.values]
        hosts = {name.partition(".")[0] for (name, kind) in self.zone.sets if kind == "A"}
        wanted = {f"{index:06x}" for index in range(self._agents) if not self._back <= index < self._leaving}
        targets = [value.split(" ")[3].partition(".")[0] for value in values]
        return Outcome(
            stood=self.zone.stood,
            seconds=self.scheduler.now,
            calls=self.zone.calls - self.zone.throttled,
            throttled=self.zone.throttled,
            lost=tuple(sorted(wanted - set(targets))),
            doubled=tuple(sorted({each for each in targets if targets.count(each) > 1})),
            left_over=tuple(sorted({each for each in (*targets, *hosts) if each not in wanted})),
        )
