"""Find which releases of its workloads each machine of a deployed fleet runs and should run.

A fleet with `release: in-place` is read as a preview reads it (components/rollout). The machines of other fleets have their releases
as settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.commands.census import StateMachine
from components.model import Instance, describe
from components.registration.diff import Drift
from components.registration.inventory import Registries
from components.rollout import messages, planning
from components.rollout.performing import observed
from components.rollout.planning import Progress
from components.rollout.values import FleetMachine, Policy, Stage
from rollcall.in_place import FAILED, GATE, WANTED

RELEASE = "pulumi-python:dynamic/rollcall:Release"


@dataclass(frozen=True, kw_only=True)
class MachineRelease:
    """The release of one workload on one machine, by the first digits of the digests.

    `wants` is what its settings name, and `runs` what it reports. Only a machine that changes in place reports it. `step` is what such a
    machine does while it is not done.
    """

    workload: str
    wants: str
    runs: str = ""
    step: str = ""

    def __str__(self) -> str:
        if self.runs and self.runs == self.wants:
            text = f"runs {self.workload} {self.runs}"
        elif self.runs:
            text = f"runs {self.workload} {self.runs}, wants {self.wants or 'none'}"
        else:
            text = f"{'wants' if self.step else 'has'} {self.workload} {self.wants}"
        return f"{text}: {self.step}" if self.step else text


@dataclass(frozen=True, kw_only=True)
class FleetReleases:
    """The releases of each machine, by instance, the last roll-out, and the differences as lines."""

    machines: Mapping[str, tuple[MachineRelease, ...]] = field(default_factory=dict)
    roll_out: Progress | None = None
    differences: tuple[str, ...] = ()


def release_props(resources: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the properties of the Releases in an exported state, by fleet."""
    return {
        str(each["outputs"]["fleet"]): each["outputs"]
        for each in resources
        if each.get("type") == RELEASE and not each.get("delete")
    }


def found(
    registries: Registries,
    props: Mapping[str, Any],
    release: Mapping[str, Any] | None,
    machines: Sequence[StateMachine],
    instances: Sequence[Instance],
    drift: Drift,
) -> FleetReleases:
    """Return the releases of a fleet.

    `props` are the properties of its roll call, and `release` those of its Release if the state has one. `machines` are the fleet's in the
    state, and `instances` all that its cloud lists.
    """
    going = {each.member.instance for each in machines if each.going}
    listed = {each.instance: each for each in instances if each.instance not in going}
    members = [each for each in props["members"] if each["instance"] in listed]
    settings = {key for each in members for key in listed[each["instance"]].live}
    if release is not None or any(key.startswith((WANTED, GATE)) for key in settings):
        return _in_place(registries, {**props, "members": members}, release, instances, drift)
    return by_setting([each for each in machines if each.member.instance in listed], listed)


def _in_place(
    registries: Registries,
    props: Mapping[str, Any],
    release: Mapping[str, Any] | None,
    instances: Sequence[Instance],
    drift: Drift,
) -> FleetReleases:
    waiting = {each.instance for each in drift.waiting}
    answered = {each["instance"] for each in props["members"]} - waiting
    seen = observed(registries, props, instances, answered=answered)
    # Before the first roll-out is complete, the state has no policy, and no machine is a canary.
    roll_out = planning.progress(props["fleet"], seen, planning.policy_of(release) if release else Policy())
    unfinished = [f"{roll_out.state}: {roll_out.line}"] if roll_out and roll_out.unfinished else []
    return FleetReleases(
        machines={each.instance: tuple(_releases(each)) for each in seen.machines},
        roll_out=roll_out,
        differences=(*planning.differing(seen), *unfinished),
    )


def _releases(machine: FleetMachine) -> Iterator[MachineRelease]:
    reports = machine.report.workloads if machine.report else {}
    for name in sorted({*machine.wanted, *reports}):
        wanted, report = machine.wanted.get(name), reports.get(name)
        yield MachineRelease(
            workload=name,
            wants=_digits(wanted.digest) if wanted else "",
            runs=_digits(report.runs) if report else "",
            step=_step(machine, name),
        )


def _step(machine: FleetMachine, workload: str) -> str:
    wanted = machine.wanted.get(workload)
    if wanted is None or machine.stage is Stage.SETTLED:
        return ""
    answer = machine.answer_of(wanted)
    if answer is not None and answer.step == FAILED:
        return f"failed at {answer.failed_step}: {answer.reason}"
    return messages.step_with(machine, wanted)


def by_setting(machines: Sequence[StateMachine], listed: Mapping[str, Instance]) -> FleetReleases:
    """Return the releases of a fleet whose machines have them as settings: a pure function.

    The fleet has the release that most machines of its last roll call have by the state. `listed` are the machines of the cloud, by
    instance.
    """
    counted = [each for each in machines if each.counted] or machines
    digests = {
        name: _most([each.releases.get(name, "") for each in counted]) for each in counted for name in each.releases
    }
    lines = [
        f"{describe(each.member)} has {_named(name, now.get(name, ''))}, and its fleet {_named(name, digest)}. "
        "Run `pulumi up` to correct it"
        for each in machines
        for now in (listed[each.member.instance].releases,)
        for name, digest in sorted(digests.items())
        if now.get(name, "") != digest
    ]
    return FleetReleases(
        machines={
            each.member.instance: tuple(
                MachineRelease(workload=name, wants=_digits(digest))
                for name, digest in sorted(listed[each.member.instance].releases.items())
            )
            for each in machines
        },
        differences=tuple(sorted(lines)),
    )


def _most(digests: Sequence[str]) -> str:
    return Counter(digests).most_common(1)[0][0]


def _named(workload: str, digest: str) -> str:
    return f"{workload} {_digits(digest)}" if digest else f"no {workload}"


def _digits(digest: str) -> str:
    return digest[: messages.PASTED]
