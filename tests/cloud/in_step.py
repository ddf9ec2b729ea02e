"""Machines of one stack, their agents, the engine's providers and a user who edits the same zone, on one clock.

Each actor names itself (`World.acting`), and its change to the zone is judged at once. These are faults: a foreign byte that
changed, a record of a live machine that another one removed, a machine that is registered twice, a record of a machine that is
gone for good, and a host that was removed while caches may lead callers to it.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from components.model import Instance
from components.registration import draining, providers, roll_call, snapshots
from components.registration.providers import FINDINGS, DeregistrationProvider, RollCallProvider
from components.registration.roll_call import RollCallError
from components.registration.snapshots import SnapshotCache
from localcloud.network.faults import Faults
from rollcall import agent as agents
from rollcall.agent import MARK_SETTLES_S, MAX_WAIT_S, STOP_DELAY_LIMIT_S, TICK, Agent
from rollcall.errors import RollcallError
from rollcall.health import Health
from rollcall.host_label import FirstLabels, HostLabels, KeptLabels, generation_of
from rollcall.ownership import Owner
from rollcall.registry import Registry
from rollcall.retrying import retried
from rollcall.settings import CloudflareJoin, Join, MachineSettings, challenge_name
from tests.unit.agent.settings_fixtures import as_keys

STACK, FLEET = "local", "web"
OURS = tuple(f"198.51.100.{each}" for each in range(10, 18))
# Where no status can be written: no test reads it here.
NOWHERE = Path("/dev/null/status")
OwnedRecord = tuple[str, ...]


@dataclass
class Clock:
    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class ZoneState:
    """A zone at one moment: the records of each owner, the challenges, and every foreign byte by its key."""

    records: Mapping[Owner, frozenset[OwnedRecord]]
    challenged: frozenset[str]
    foreign: Mapping[tuple[str, ...], str]


class Zone(Protocol):
    """A zone of a local cloud, made for each example."""

    service: str
    clock: Clock
    faults: Faults
    # For how long a cache keeps a value of a service's set; 0 where there is none.
    cached_s: float

    def places(self) -> list[dict[str, Any]]: ...

    def joins(self) -> tuple[Join, ...]: ...

    def registry(self, join: Join, labels: HostLabels) -> Registry: ...

    def answers(self, name: str, *types: str) -> frozenset[str]: ...

    def zone_state(self, stack: str, generations: Mapping[str, set[str]]) -> ZoneState:
        """`generations` are all that ever were of the stack, with the addresses that each had."""

    def twice(self, records: Iterable[OwnedRecord]) -> bool:
        """Whether these records of one machine are more than one machine may have."""

    def address_of(self, record: OwnedRecord) -> str:
        """Return the address of a site's record, which decides with its mark which machine it belongs to.

        Empty for a record of a service: the name of its host says that already.
        """

    def patch(self, patcher: pytest.MonkeyPatch) -> None: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Box:
    """A machine as its cloud has it; `agent` is the process on it."""

    owner: Owner
    address: str
    settings: MachineSettings
    name: str = "box"
    agent: Agent | None = None
    powered: bool = True
    ended: bool = False
    healthy: bool = True
    drained: bool = False
    reachable: bool = True
    deregistered: bool = False
    ends: bool = False
    had: set[str] = field(default_factory=set)
    # On its disk, which outlives it.
    labels: KeptLabels = field(default_factory=KeptLabels)

    @property
    def member(self) -> dict[str, str]:
        return {"machine": self.owner.machine, "generation": self.owner.generation, "instance": self.owner.instance}

    @property
    def serving(self) -> bool:
        return self.powered and self.healthy and not self.drained

    # What the agent asks of its cloud
    def instance(self) -> str:
        return self.owner.instance

    def addresses(self) -> tuple[str, ...]:
        return (self.address,)

    def private_addresses(self) -> tuple[str, ...]:
        return ()

    def keys(self) -> dict[str, str]:
        return as_keys(replace(self.settings, drain=self.drained))

    def secret(self, name: str) -> str:
        return name

    def region(self) -> str:
        return ""

    def tell(self, status: str) -> None:
        pass

    def report(self, text: str) -> None:
        pass

    def report_view(self, text: str) -> None:
        pass


class World:
    """One fleet over one zone. `boxes` are all machines that ever were, `state` those that the RollCall knows of,
    `desired` those that the next `up` asks for."""

    def __init__(self, zone: Zone) -> None:
        self.zone, self.clock = zone, zone.clock
        self.boxes: list[Box] = []
        self.state: list[dict[str, str]] = []
        self.drained: list[dict[str, str]] = []
        self.desired: list[dict[str, str]] = []
        self.seen: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._patcher = pytest.MonkeyPatch()
        self._patcher.setattr(providers, "Engine", lambda: self)
        for each in (providers, roll_call, draining):
            self._patcher.setattr(each, "time", SimpleNamespace(monotonic=self.clock))
            self._patcher.setattr(each, "POLL_S", TICK)
        self._patcher.setattr(providers, "CALLED", set())
        for shared in ("SNAPSHOTS", "DEPARTURES"):
            self._patcher.setattr(snapshots, shared, SnapshotCache(self.clock))
        self._patcher.setattr(draining, "DRAIN_LIMIT_S", 20.0)
        self._patcher.setattr(providers, "secrets", SimpleNamespace(token_hex=lambda _: self._generation()))
        self._patcher.setattr("components.registration.inventory.view_of", lambda *_: self)
        view = SimpleNamespace(
            all_of=zone.answers, any_of=zone.answers, compare=lambda *_: "", split=lambda *_: "", notes=(), delay=0.0
        )
        self._patcher.setattr("components.registration.inventory.ZoneView", lambda *_: view)
        for module in ("cloudflare", "route53"):
            self._patcher.setattr(f"components.dns.{module}.ZoneView", lambda *_: view)
            self._patcher.setattr(
                f"components.dns.{module}.retried", lambda act, within: retried(act, within, sleep=lambda _: None)
            )
        self._patcher.setattr(agents, "health_of", lambda _: Health(lambda: "" if self._healthy else "it is not", 1, 1))
        zone.patch(self._patcher)
        self._healthy = True
        self._actor: Box | str = "none"
        self._before = self._zone_state()
        self._foreign = self._before.foreign
        self._twice: dict[Owner, float] = {}
        self._former_hosts: set[str] = set()
        # The ids of records with the mark of a machine that was deregistered while another machine ran at their address.
        self._spared: set[str] = set()
        # Until when a cache may have a value that leads to a host.
        self._cached: dict[str, float] = {}

    def close(self) -> None:
        self._patcher.undo()
        self.zone.close()

    # The actors

    def new_machine(self, name: str, address: str) -> Box:
        """A Deregistration, and the machine after it."""
        props = {"stack": STACK, "fleet": FLEET, "machine": name, **self._where()}
        made = DeregistrationProvider().create(props).outs
        assert made is not None
        owner = Owner(STACK, FLEET, name, made["generation"], f"i-{next(self._numbers):017x}")
        settings = MachineSettings(
            stack=STACK, fleet=FLEET, machine=name, generation=owner.generation, joins=self.zone.joins()
        )
        labels = KeptLabels(dice=random.Random(owner.generation))  # noqa: S311
        box = Box(owner, address, settings, had={address}, labels=labels)
        with self._addresses_change():
            self.boxes.append(box)
        self.start_agent(box)
        return box

    def start_agent(self, box: Box) -> None:
        box.agent = Agent(
            box,
            status_file=NOWHERE,
            clock=self.clock,
            look_up=self._look_up,
            registry_of=lambda join, _: self.zone.registry(join, box.labels),
            reach=lambda key, _: self._reaches(box, key),
            labels=box.labels,
        )

    @contextlib.contextmanager
    def _addresses_change(self) -> Iterator[None]:
        """Take the foreign bytes again, before a machine or a user acts.

        Which bytes are foreign depends on the addresses that machines have had: a user may have moved a record of ours to the address of
        a later machine. The zone itself does not change here.
        """
        assert self._zone_state() == self._before, "a change of the zone was not judged"
        yield
        self._before = self._zone_state()
        self._foreign = self._before.foreign

    def power_off(self, box: Box) -> None:
        box.powered, box.agent, box.ends = False, None, False

    def power_on(self, box: Box, address: str) -> None:
        box.powered, box.address = True, address
        with self._addresses_change():
            box.had.add(address)
        self.start_agent(box)

    def leave(self, box: Box) -> None:
        """What the agent does as the system stops; one try of each step. It ticks no more."""
        agent, box.agent = box.agent, None
        if agent is None:
            return
        with self.acting(box):
            clean = agent.leave(within=0.0)
        if clean:
            end = self.clock.now + STOP_DELAY_LIMIT_S
            # One that had left before ends at once.
            box.ends = not agent.cached_for()
            while self.clock.now < end and agent.cached_for():
                self.pass_time(TICK)
            with self.acting(box):
                agent.remove_hosts(within=0.0)

    def late_leave(self, box: Box) -> None:
        """A leave of a machine of any time, whoever still sends it."""
        for join in self.zone.joins():
            with self.acting(box), contextlib.suppress(RollcallError):
                self.zone.registry(join, FirstLabels()).leave(box.owner)

    def pass_time(self, seconds: float) -> None:
        """All agents tick as they do, every two seconds."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += TICK
            for box in self.boxes:
                if box.agent is not None:
                    self._healthy = box.healthy
                    with self.acting(box):
                        box.agent.tick()

    def new_run(self) -> None:
        """Each run of the engine has its own provider host, which has read nothing yet and called no roll."""
        providers.CALLED.clear()
        snapshots.SNAPSHOTS.clear()
        snapshots.DEPARTURES.clear()

    def up(self, safe_deletes: bool) -> bool:
        """RollCall's update; whether it succeeded. Then every member is registered."""
        self.new_run()
        desired = list(self.desired)
        olds, news = (
            {**self.props(self.state, safe_deletes), "drained": self.drained},
            self.props(desired, safe_deletes),
        )
        succeeded = False
        # One that fails is judged too.
        with self.acting("engine"), contextlib.suppress(RollCallError, RollcallError):
            self.drained = RollCallProvider().update("", olds, news).outs.get("drained", [])
            succeeded = True
        if not succeeded:
            return False
        self.state = desired
        # A roll call ends only where no leftover record is, whatever address it has.
        self._spared.clear()
        self._check_gone(self._zone_state())
        return True

    def read(self) -> None:
        self.new_run()
        before = self._zone_state()
        with self.acting("engine"), contextlib.suppress(RollcallError):
            RollCallProvider().read("", {**self.props(self.state, True), "drained": self.drained})
        assert self._zone_state() == before, "a refresh changed the zone"

    def destroy(self) -> None:
        self.new_run()
        with self.acting("engine"), contextlib.suppress(RollcallError):
            RollCallProvider().delete("", self.props(self.state, True))
            self.state, self.desired = [], []

    def deregister(self, box: Box, *, same_run: bool = False) -> None:
        """A Deregistration's delete, whether or not its machine is gone."""
        if not same_run:
            self.new_run()
        props = {"stack": STACK, "fleet": FLEET, "machine": box.owner.machine, **self._where()}
        ran = False
        with self.acting("engine"), contextlib.suppress(RollCallError, RollcallError):
            DeregistrationProvider().delete("", {**props, "generation": box.owner.generation})
            ran = True
        if ran:
            assert not box.powered, "a Deregistration did not wait for its machine"
            box.deregistered = True
            now = self._zone_state()
            self._spared |= self._at_running_machines(now, box)
            self._check_gone(now)

    def props(self, members: Sequence[Mapping[str, str]], safe_deletes: bool) -> dict[str, Any]:
        found: dict[str, Any] = {key: [] for key in FINDINGS}
        named = {"stack": STACK, "fleet": FLEET, "fleets": [FLEET], "members": list(members), **self._where()}
        return {**named, "timeout": 10, "drain_delay": 4, "peers": [FLEET], "safe_deletes": safe_deletes, **found}

    def edit(self, by: str, action: Callable[[], object]) -> None:
        """What a user, or another stack, does to the zone; from then on that is how it has to stay."""
        with self.acting(by):
            action()

    # What a provider's cloud view offers
    def machines(self, stack: str) -> tuple[Instance, ...]:
        return tuple(
            Instance(
                instance=box.owner.instance,
                fleet=FLEET,
                machine=box.owner.machine,
                generation=box.owner.generation,
                running=box.powered,
                addresses=(box.address,),
                state="running" if box.powered else "stopped",
                drained=box.drained,
            )
            for box in self.boxes
            if not box.ended
        )

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        self._mark(instances, True)

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        self._mark(instances, False)

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        pass

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        return {}

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """All were made by Rollcall."""
        return {}

    def end(self, instances: Iterable[str]) -> None:
        for instance in instances:
            box = next(each for each in self.boxes if each.owner.instance == instance)
            self.power_off(box)
            box.ended = True

    # What Engine offers
    def say(self, text: str, *, warning: bool = False) -> None:
        pass

    def sleep(self, seconds: float) -> None:
        """Others act while the engine waits."""
        self.judge()
        self.pass_time(seconds)
        self._actor = "engine"

    # Judging

    @contextlib.contextmanager
    def acting(self, actor: Box | str) -> Iterator[None]:
        self._actor = actor
        yield
        self.judge()

    def judge(self) -> None:
        actor, before, now = self._actor, self._before, self._zone_state()
        who = f"{actor.owner}" if isinstance(actor, Box) else actor
        if actor in ("user", "another stack"):
            self._foreign = now.foreign
        assert now.foreign == self._foreign, f"{who} changed foreign bytes: {_difference(self._foreign, now.foreign)}"
        for box in self.boxes:
            if actor not in (box, "user") and self._counts(box, before):
                lost = before.records[box.owner] - now.records.get(box.owner, frozenset())
                # A user has moved a record to the address of the machine that acts. No other machine has that address.
                at_actor = {each for each in lost if isinstance(actor, Box) and self._is_at_own_address(actor, each)}
                lost -= at_actor
                assert not lost, f"{who} removed {sorted(lost)} of {box.owner}, which lives"
        for owner, records in before.records.items():
            if owner.stack != STACK and actor not in ("user", "another stack"):
                lost = records - now.records.get(owner, frozenset())
                assert not lost, f"{who} removed {sorted(lost)} of {owner}, of another stack"
        self._check_twice(now)
        self._check_gone(now)
        self._check_hosts(before, now)
        self._check_caches(actor, before, now)
        self._count(actor, before, now)
        self._before = now

    def _count(self, actor: Box | str, before: ZoneState, now: ZoneState) -> None:
        """What came of it: a property of machines that never join would hold as well."""
        self.seen["joins"] += len(now.records.keys() - before.records.keys())
        for owner in before.records.keys() - now.records.keys():
            self.seen[
                "leaves" if isinstance(actor, Box) and actor.owner == owner else f"removals by {_kind(actor)}"
            ] += 1
        self.seen["challenges"] += len(now.challenged - before.challenged)
        self.seen["foreign edits"] += self._foreign != before.foreign

    def _counts(self, box: Box, before: ZoneState) -> bool:
        """No other machine may remove a record of it: it lives, and is registered at the address that it has."""
        there = before.records.get(box.owner, frozenset())
        return self._answers(box) and any(box.address in record for record in there)

    def _answers(self, box: Box) -> bool:
        """It lives, and says so to whoever probes or challenges it. To one that is cut off its agent says so, as soon as it has looked for
        challenges."""
        reached = all(each.reachable for each in self.boxes if each.powered)
        return box.serving and (reached or _has_checked(box.agent))

    def _check_twice(self, now: ZoneState) -> None:
        """An agent with its mark at a former address waits, in case the mark was copied to another machine's record."""
        at_work = {box.owner for box in self.boxes if box.agent is not None}
        twice = {owner for owner, records in now.records.items() if owner in at_work and self.zone.twice(records)}
        self._twice = {owner: self._twice.get(owner, self.clock.now) for owner in twice}
        for owner, since in self._twice.items():
            late = self.clock.now - since > 2 * MARK_SETTLES_S + MAX_WAIT_S
            assert not late, f"{owner} is registered twice: {sorted(now.records[owner])}"

    def _check_gone(self, now: ZoneState) -> None:
        gone = {box.owner.generation for box in self.boxes if box.deregistered}
        found = {owner: records for owner, records in now.records.items() if owner.generation in gone}
        left = [(owner, each) for owner, records in found.items() for each in records if each[-1] not in self._spared]
        assert not left, f"left of a machine that was deregistered: {left}"
        waiting = {
            owner.generation
            for box in self.boxes
            if box.agent is not None
            for membership in box.agent.memberships
            if membership.monitor is not None
            for owner in membership.monitor.challenged
        }
        assert not (now.challenged & gone) - waiting, (
            f"a challenge of a machine that was deregistered: {now.challenged}"
        )

    def _at_running_machines(self, now: ZoneState, gone: Box) -> set[str]:
        """Return the ids of a deregistered machine's records at the address of a machine that runs.

        The mark may be a copy, so a Deregistration leaves such a record (docs/security.md, docs/agents.md). The machine at that address
        writes its own mark as it joins, and a roll call fails until the record is gone.
        """
        records = [
            record
            for owner, each in now.records.items()
            if owner.generation == gone.owner.generation
            for record in each
        ]
        return {each[-1] for each in records for box in self.boxes if self._is_at_own_address(box, each)}

    def _is_at_own_address(self, box: Box, record: OwnedRecord) -> bool:
        return box.powered and self.zone.address_of(record) == box.address

    def _check_hosts(self, before: ZoneState, now: ZoneState) -> None:
        """Resolvers remember a host of which the mark had gone."""
        there = _hosts(now)
        self._former_hosts |= _hosts(before) - there
        again = sorted(there & self._former_hosts)
        assert not again, f"{again} had gone and are there again"

    def _check_caches(self, actor: Box | str, before: ZoneState, now: ZoneState) -> None:
        """No host loses its machine's address while a cache may lead callers to it; but where the machine is dead, or looks so."""
        self._cached.update((each, self.clock.now + self.zone.cached_s) for each in (*_targets(before), *_targets(now)))
        for box in self.boxes:
            had, has = (_addressed(each.records.get(box.owner, ()), box.address) for each in (before, now))
            lost = {each for each in had - has if self._cached.get(each, 0) > self.clock.now}
            judged = box.powered and not box.ends and (actor is box or actor == "engine" or self._answers(box))
            assert not lost or not judged or actor == "user", (
                f"{lost} of {box.owner}, which runs, went {self._cached[min(lost)] - self.clock.now:.0f} s too early"
            )
            self.seen["checks of hosts that stay for caches"] += len(had & has - _targets(now) & self._cached.keys())

    def _zone_state(self) -> ZoneState:
        return self.zone.zone_state(STACK, {box.owner.generation: box.had for box in self.boxes})

    def _mark(self, instances: Sequence[str], drained: bool) -> None:
        for box in self.boxes:
            if box.owner.instance in instances:
                box.drained = drained

    def _reaches(self, one: Box, key: str) -> bool:
        """Return whether the machine at `key` answers a probe of `one`, as `Agent.probed` decides it.

        It answers for its own mark, and at a site where it has joined also for another machine's mark.
        """
        other = next((each for each in self.boxes if each.powered and self._is_at(each, key)), None)
        if other is None or not one.reachable or not other.reachable:
            return False
        marked = any(self.zone.address_of(each) == key for each in self._before.records.get(other.owner, ()))
        joined = other.agent is not None and any(each.joined for each in other.agent.memberships)
        return generation_of(key) == other.owner.generation or marked or joined

    @property
    def judged(self) -> ZoneState:
        """The zone when it was judged last."""
        return self._before

    @staticmethod
    def _is_at(box: Box, key: str) -> bool:
        return key == box.address or generation_of(key) == box.owner.generation

    def _look_up(self, name: str) -> frozenset[str] | None:
        types = ("SRV",) if name.startswith("_") or "._" in name else ("TXT",) if ".c.rc." in name else ("A", "AAAA")
        return frozenset(each.rpartition(" ")[2].rstrip(".").lower() for each in self.zone.answers(name, *types))

    def _where(self) -> dict[str, Any]:
        return {"places": self.zone.places(), "cloud": {"cloud": "aws", "region": "us-west-2"}}

    def _generation(self) -> str:
        return f"{0xABC000 + next(self._numbers):06x}"


def _has_checked(agent: Agent | None) -> bool:
    """An agent that has just started, or that the API fails, may look for a challenge later than its challenger waits."""
    memberships = agent.memberships if agent else []
    return bool(memberships) and all(each.monitor and not each.answering.error for each in memberships)


def _targets(state: ZoneState) -> set[str]:
    """The hosts to which values of the stack's machines lead."""
    values = (record[2] for records in state.records.values() for record in records if record[0] == "SRV")
    return {each.rpartition(" ")[2].rstrip(".").lower() for each in values}


def _addressed(records: Iterable[OwnedRecord], address: str) -> set[str]:
    """The hosts that have this address."""
    return {record[1] for record in records if record[0] == "A" and record[2:] == (address,)}


def _hosts(state: ZoneState) -> set[str]:
    """The hosts of the stack's machines in a service, by their marks."""
    owned = (record for owner, records in state.records.items() if owner.stack == STACK for record in records)
    return {record[1] for record in owned if record[0] == "TXT" and record[2].startswith('"rollcall/')}


def _kind(actor: Box | str) -> str:
    return actor if isinstance(actor, str) else "others"


# Zones are judged thousands of times, with the same texts in them.
owner_in = functools.lru_cache(10_000)(Owner.parse)


def challenge_of(text: str, name: str, joins: Iterable[Join], stack: str) -> str:
    """The generation that a TXT challenges, where it is a challenge of the stack's; an empty text for any other TXT."""
    owner = owner_in(" ".join(text.strip('"').split(" ")[:6]))
    if owner is None or owner.stack != stack or name not in {challenge_name(owner, each) for each in joins}:
        return ""
    return owner.generation


def _difference(before: Mapping[tuple[str, ...], str], now: Mapping[tuple[str, ...], str]) -> str:
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    return "; ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys)


def site_join(zone: str, host: str) -> CloudflareJoin:
    return CloudflareJoin(zone=zone, host=host, token="rollcall-token", ttl=60)
