"""The values of a roll-out: what it wants, what it observes, and what it does. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from components.rollout.records import Record
from rollcall.in_place import FAILED, ReleaseReport, WantedRelease, WorkloadReport

# A machine reads its settings every 10 s and reports changes. So long may both take together, and a slow cloud's API beside them.
REPORT_LIMIT_S = 60


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a fleet takes another release.

    `batch` is a number of machines, or a share of them as `25%`. `healthy_s`: so long must a machine be healthy. `deadline_s`: so long
    may it take. `canary`: stop after this number of machines, until an operator promotes the release; 0: do not stop. `drain_s` is how
    long a machine serves after it has left DNS. `boot_s`: so long may a machine take that has never reported. `undrained` are the
    workloads that need no drain.
    """

    batch: int | str = 1
    healthy_s: int = 10
    deadline_s: int = 300
    canary: int = 0
    drain_s: float = 0.0
    boot_s: float = 600.0
    undrained: frozenset[str] = frozenset()

    def size(self, machines: int) -> int:
        """Return how many of this number of machines may be in a batch: at least one. A share is rounded up."""
        if isinstance(self.batch, int):
            return max(1, self.batch)
        return max(1, math.ceil(machines * int(self.batch.rstrip("%")) / 100))

    @property
    def limit_s(self) -> float:
        """After so many seconds a machine that has not taken its release has failed."""
        return self.deadline_s + self.drain_s + REPORT_LIMIT_S


class Stage(Enum):
    """How far a machine is with the releases that its settings name."""

    MOVING = "it has not reported that it is done, or DNS does not answer with it"
    SETTLED = "it is done, and DNS answers with it"
    FAILED = "it has failed, and went back by itself"


@dataclass(frozen=True, kw_only=True)
class FleetMachine:
    """A machine of the fleet at one moment.

    `live` are its live settings and `wanted` the releases among them, by workload. `answered`: DNS answers with it wherever it joins.
    `state` and `step` are what its cloud and its agent say about it.
    """

    name: str
    number: int
    instance: str
    live: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, WantedRelease] = field(default_factory=dict)
    report: ReleaseReport | None = None
    answered: bool = False
    on_hold: bool = False
    state: str = ""
    step: str = ""

    def wants(self, releases: Mapping[str, str]) -> bool:
        """Return whether its settings name exactly these releases."""
        return {name: each.digest for name, each in self.wanted.items()} == dict(releases)

    @property
    def stage(self) -> Stage:
        answers = [self.answer_of(each) for each in self.wanted.values()]
        if any(each is not None and each.step == FAILED for each in answers):
            return Stage.FAILED
        done = all(each is not None and each.step == "done" for each in answers)
        return Stage.SETTLED if done and (self.answered or self.on_hold) else Stage.MOVING

    def answer_of(self, wanted: WantedRelease) -> WorkloadReport | None:
        """Return what the machine reports about this wanted release. None: it has not read it yet."""
        found = self.report.workloads.get(wanted.workload) if self.report else None
        return found if found and (found.wanted, found.rollout) == (wanted.digest, wanted.rollout) else None

    @property
    def is_between(self) -> bool:
        """Whether the machine is out of DNS at this moment because it changes a release, or will be, although it had one before."""
        if not self.runs_any:
            return False
        if self.is_recovering:
            return True
        answers = [self.answer_of(each) for each in self.wanted.values()]
        return any(each is None or each.step not in ("done", FAILED) for each in answers)

    @property
    def runs_any(self) -> bool:
        """Whether the machine runs a release of any workload, by its report."""
        return self.report is not None and any(each.runs for each in self.report.workloads.values())

    @property
    def is_recovering(self) -> bool:
        """Whether the machine failed, and is not back in DNS with the release that it ran before.

        A machine that failed with its first release has none to go back to, so nothing waits for it.
        """
        return self.stage is Stage.FAILED and self.runs_any and not self.answered and not self.on_hold

    def tried_by(self, ids: frozenset[str]) -> bool:
        """Return whether a roll-out with one of these ids gave the machine a release that failed."""
        return any(
            each.rollout in ids and answer is not None and answer.step == FAILED
            for each in self.wanted.values()
            for answer in (self.answer_of(each),)
        )


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a roll-out sees at one moment.

    `machines` are the members of the fleet. `record` is the last roll-out that any machine of the fleet knows, also one that leaves.
    `known` are the releases in the stack's state, for a fleet of which no machine knows a roll-out. `elsewhere` are the machines of
    other fleets of the same sites and services. A run that was killed may have left one of them in the middle of a change.
    """

    machines: tuple[FleetMachine, ...]
    elsewhere: tuple[FleetMachine, ...] = ()
    record: Record | None = None
    known: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True, kw_only=True)
class Failure:
    """Why a machine did not take a release."""

    machine: str
    instance: str
    workload: str
    digest: str
    step: str
    reason: str
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RollOut:
    """What a run of the program wants of a fleet, and what it remembers from one observation to the next.

    `target` are the releases, as digests by workload. `run` is the id of this run, 8 hex digits. A run that is killed loses the rest:
    `record` (the last one that it has seen or written, because a list of machines may be behind what was written), `waits` (since when
    each machine has been moving), `failures`, `goes_back` (this run has seen the roll-out fail), and the last line that it `printed` about
    its progress, at `printed_at`.
    """

    fleet: str
    target: Mapping[str, str]
    policy: Policy
    run: str
    record: Record | None = None
    waits: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    goes_back: bool = False
    printed: str = ""
    printed_at: float = -math.inf


class Outcome(Enum):
    """How a run of a roll-out ends."""

    DONE = "all machines have the releases"
    CANARY = "the first machines have the releases, and the others wait for a promotion"
    REFUSED = "an operator went back, so nothing is rolled out"
    FAILED = "a machine did not take its release, and the others went back"


@dataclass(frozen=True)
class SetSettings:
    """Write these live settings of machines, by instance. None removes one."""

    changes: Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True)
class Say:
    """Tell the user this line."""

    line: str
    warning: bool = False


@dataclass(frozen=True)
class End:
    """The run is over. `record` is the roll-out as the machines know it, `releases` what the fleet has."""

    outcome: Outcome
    record: Record
    message: str = ""


Action = SetSettings | Say | End
