"""A fleet on a virtual clock: machines that take releases as agents do, and runs of a roll-out that may be killed.

tests/unit/rollout and bench/rollout.py use it. Nothing here waits: a second of the clock is a call of `Fleet.tick`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from components.rollout.observing import machine_of
from components.rollout.records import Record, newest
from components.rollout.transitions import after_observation
from components.rollout.values import End, FleetMachine, Observation, Policy, RollOut, Say, SetSettings
from rollcall.in_place import FAILED, HOLD, WANTED, ReleaseReport, WantedRelease, WorkloadReport, parse_wanted

# An agent reads its settings so often, and the program looks so often.
READS_EVERY_S, POLLS_EVERY_S = 10, 2
PLAIN = Policy()


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long each step of a machine takes, in seconds."""

    fetching: int = 3
    leaving: int = 2
    draining: int = 5
    switching: int = 1
    joining: int = 4
    booting: int = 30

    def of(self, step: str, wanted: WantedRelease) -> int:
        return int(getattr(self, step)) if step != "checking" else wanted.healthy_s


STEPS_OUT = ("leaving", "draining", "switching", "checking", "joining")
_NEXT = {
    "fetching": "leaving",
    "leaving": "draining",
    "draining": "switching",
    "switching": "checking",
    "checking": "joining",
    "joining": "done",
}


@dataclass
class Machine:
    """One machine: what its cloud keeps about it, and its agent.

    `crashed`: it has been off, and has not been in service since, so it is not out because of a roll-out. `broken` are the digests that
    do not become healthy on it.
    """

    number: int
    instance: str
    times: Times = Times()
    live: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    on: bool = True
    crashed: bool = False
    newcomer: bool = True
    reads_at: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    read: dict[str, WantedRelease] = field(default_factory=dict)
    step: str = ""
    since: int = 0
    switched_at: int = 0
    failed_step: str = ""
    report: ReleaseReport | None = None
    history: list[tuple[int, str]] = field(default_factory=list)
    back_at: int | None = None

    @property
    def name(self) -> str:
        return f"web-{self.number}"

    @property
    def on_hold(self) -> bool:
        return HOLD in self.live

    @property
    def in_service(self) -> bool:
        """Whether DNS answers with it."""
        serves = self.step in ("", "fetching", "done", FAILED) and self.back_at is None
        return self.on and serves and bool(self.runs) and not self.on_hold and not self.ill

    @property
    def ill(self) -> bool:
        return any(digest in self.broken for digest in self.runs.values())

    @property
    def out_by_release(self) -> bool:
        """Whether the machine serves nothing because of its release, and not because it is off, new, on hold, or was off."""
        if self.crashed or self.newcomer or self.on_hold or not self.on:
            return False
        return self.step in STEPS_OUT or self.back_at is not None

    def tick(self, now: int) -> None:
        if not self.on:
            return
        if now >= self.reads_at:
            self.reads_at = now + READS_EVERY_S
            self._read_settings(now)
        if self.back_at is not None and now >= self.back_at:
            self.back_at = None
        if self.step in _NEXT:
            self._go_on(now)
        if self.in_service:
            self.crashed = self.newcomer = False

    def _read_settings(self, now: int) -> None:
        wanted = {
            key[len(WANTED) :]: parse_wanted(key, text) for key, text in self.live.items() if key.startswith(WANTED)
        }
        if wanted == self.read or not wanted:
            return
        self.read = wanted
        digests = {name: each.digest for name, each in wanted.items()}
        if digests == self.runs and self.step not in STEPS_OUT and not self.ill:
            self._to("done", now)
            return
        if self.step in STEPS_OUT:
            # It is out already, so it takes the other release at once.
            self.since, self.step = now, "switching"
        else:
            self._to("fetching", now)
        self._tell()

    def _go_on(self, now: int) -> None:
        wanted = next(iter(self.read.values()))
        skipped = self.step in ("leaving", "draining") and not (wanted.drains and self.runs)
        if not skipped and now - self.since < self.times.of(self.step, wanted):
            return
        if self.step == "switching":
            releases = {name: each.digest for name, each in self.read.items()}
            # A machine that boots in the middle of a change still knows what it ran before.
            self.before, self.runs = self.before if releases == self.runs else self.runs, releases
            self.switched_at = now
            self.history.append((now, " ".join(sorted(self.runs.values()))))
        if self.step == "checking" and self.ill:
            if now - self.switched_at >= wanted.deadline_s:
                self._fail(now)
            return
        self._to(_NEXT[self.step], now)

    def _fail(self, now: int) -> None:
        """Go back to what ran before. The report comes first, and the machine is in DNS some seconds later."""
        self.failed_step, self.runs = "checking", dict(self.before)
        self.back_at = now + self.times.switching + self.times.joining
        self._to(FAILED, now)

    def _to(self, step: str, now: int) -> None:
        self.step, self.since = step, now
        self._tell()

    def _tell(self) -> None:
        self.report = ReleaseReport(
            instance=self.instance,
            on_hold=self.on_hold,
            workloads={
                name: WorkloadReport(
                    wanted=each.digest,
                    rollout=each.rollout,
                    runs=self.runs.get(name, ""),
                    kept=tuple(dict.fromkeys(each for _, each in self.history)),
                    step=self.step,
                    failed_step=self.failed_step if self.step == FAILED else "",
                    reason="reason=check-failed check=http:80:/" if self.step == FAILED else "",
                    log=("boom",) if self.step == FAILED else (),
                )
                for name, each in self.read.items()
            },
        )

    def crash(self) -> None:
        self.on, self.crashed = False, True

    def boot(self, now: int) -> None:
        """Start with the release that the settings name: a boot goes from fetching to checking. A failure is on the disk, and stays."""
        self.on, self.crashed, self.back_at = True, True, None
        self.reads_at = now + self.times.booting
        if self.step != FAILED:
            self.read, self.step = {}, ""


@dataclass
class Fleet:
    """Machines and their clock. `late` and `lost`: reports of these machines arrive so much later, or not at the moment."""

    machines: list[Machine]
    now: int = 0
    most_out: int = 0
    lost: set[str] = field(default_factory=set)
    watch: Callable[[Fleet], None] | None = None

    def tick(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.now += 1
            for each in self.machines:
                each.tick(self.now)
            self.most_out = max(self.most_out, self.out)
            if self.watch:
                self.watch(self)

    @property
    def out(self) -> int:
        return sum(each.out_by_release for each in self.machines)

    def observed(self, known: Mapping[str, str] | None = None) -> Observation:
        return Observation(
            machines=tuple(self._observed(each) for each in self.machines),
            record=newest(each.live for each in self.machines),
            known=known or {},
        )

    def _observed(self, machine: Machine) -> FleetMachine:
        return machine_of(
            machine.name,
            machine.number,
            machine.instance,
            live=dict(machine.live),
            report=None if machine.instance in self.lost else machine.report,
            answered=machine.in_service,
            state="running" if machine.on else "stopped",
        )

    def write(self, changes: Mapping[str, Mapping[str, str | None]], most: int | None = None) -> None:
        """Write settings. With `most`, the writer is killed after so many machines."""
        by_instance = {each.instance: each for each in self.machines}
        for instance, change in list(changes.items())[:most]:
            machine = by_instance.get(instance)
            for key, value in change.items() if machine else ():
                assert machine is not None
                if value is None:
                    machine.live.pop(key, None)
                else:
                    machine.live[key] = value

    @property
    def record(self) -> Record | None:
        return newest(each.live for each in self.machines)

    def wanted(self) -> set[str]:
        return {
            parse_wanted(key, text).digest
            for each in self.machines
            for key, text in each.live.items()
            if key.startswith(WANTED)
        }

    def running(self) -> set[str]:
        return {digest for each in self.machines for digest in each.runs.values()}


@dataclass
class Run:
    """A run of `pulumi up`, as far as the roll-out is concerned."""

    fleet: Fleet
    rollout: RollOut
    printed: list[str] = field(default_factory=list)
    writes: int = 0
    elsewhere: Fleet | None = None

    def step(self, killed_after: int | None = None) -> End | None:
        """Look once and act. With `killed_after`, the run is killed after it has written the settings of so many machines."""
        self.rollout, actions = after_observation(self.rollout, self._observed(), float(self.fleet.now))
        for action in actions:
            if isinstance(action, SetSettings):
                self.writes += len(action.changes)
                self.fleet.write(action.changes, killed_after)
            elif isinstance(action, Say):
                self.printed.append(action.line)
            else:
                return action
        return None

    def _observed(self) -> Observation:
        others = self.elsewhere.observed().machines if self.elsewhere else ()
        return replace(self.fleet.observed(), elsewhere=others)

    def until_end(self, most_s: int = 100_000) -> End:
        """Run until the roll-out says that it is over."""
        until = self.fleet.now + most_s
        while self.fleet.now < until:
            end = self.step()
            if end is not None:
                return end
            self.fleet.tick(POLLS_EVERY_S)
        raise AssertionError(f"no end after {most_s} s: {self.printed[-3:]}")


def fleet_of(count: int, times: Callable[[int], Times] = lambda _: Times()) -> Fleet:
    """Return a fleet of new machines, which read their settings at different moments."""
    return Fleet(
        [
            Machine(number=each, instance=f"i-{each:04}", times=times(each), reads_at=each * 3 % READS_EVERY_S)
            for each in range(count)
        ]
    )


def run_of(fleet: Fleet, releases: Mapping[str, str], policy: Policy = PLAIN, run: str = "") -> Run:
    id_ = run or secrets.token_hex(4)
    return Run(fleet, RollOut(fleet="web", target=dict(releases), policy=policy, run=id_))


def released(count: int, digest: str) -> Fleet:
    """Return a fleet that runs this release of `www`."""
    fleet = fleet_of(count)
    end = run_of(fleet, {"www": digest}, Policy(batch="100%"), run="0000000a").until_end()
    assert end.outcome.name == "DONE", end
    fleet.most_out = 0
    return fleet


def digest(word: str) -> str:
    """Return a digest that is easy to tell from others: `digest("a")`."""
    return (word.encode().hex() * 64)[:64]


def numbers(machines: Iterable[Machine], running: Collection[str]) -> list[int]:
    return [each.number for each in machines if set(each.runs.values()) == set(running)]


__all__ = ["Fleet", "Machine", "Run", "Times", "digest", "fleet_of", "numbers", "released", "replace", "run_of"]
