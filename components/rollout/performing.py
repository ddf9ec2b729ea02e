"""Perform a roll-out: ask the clouds and DNS, and do what `transitions.py` decides."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from components.compute.locations import Location, Locations
from components.joyent.engine import Engine
from components.model import DesiredState, Instance, Member
from components.registration.diff import find_drift
from components.registration.inventory import Registries
from components.registration.props import desired_of
from components.rollout.observing import machine_of
from components.rollout.records import newest
from components.rollout.transitions import after_observation
from components.rollout.values import End, FleetMachine, Observation, RollOut, Say, SetSettings, Stage
from components.workloads.release import Release
from rollcall.in_place import WANTED, ReleaseReport, parse_wanted

POLL_S = 2.0
# Where a cloud shows the steps of a machine that boots, the answer takes a call for each machine.
_STEPS_EVERY_S = 10.0

# Return the release with a digest, for machines without a store; None: it is not known here.
Source = Callable[[str], Release | None]
# Return what can be asked at another location, where fleets of the same sites and services may be.
Views = Callable[[Location], Registries]


class RollOutError(Exception):
    """A release was not rolled out. The message names each machine, its step and the reason."""


def observed(
    registries: Registries,
    props: Mapping[str, Any],
    instances: Sequence[Instance],
    *,
    answered: Collection[str] = (),
    steps: Mapping[str, str] | None = None,
    others: Iterable[FleetMachine] = (),
) -> Observation:
    """Return what a roll-out sees. `answered` are the instances that DNS answers with, `instances` all machines of the stack."""
    desired = desired_of(props)
    listed = {each.instance: each for each in instances}
    reports = registries.reports([listed[each.instance] for each in desired.members if each.instance in listed])
    return Observation(
        machines=tuple(
            _machine(each, listed.get(each.instance), reports, each.instance in answered, steps or {})
            for each in desired.members
        ),
        elsewhere=tuple(others),
        record=newest(each.live for each in instances if each.fleet == desired.fleet),
        known=props.get("known") or {},
    )


def _machine(
    member: Member,
    instance: Instance | None,
    reports: Mapping[str, ReleaseReport],
    answered: bool,
    steps: Mapping[str, str],
) -> FleetMachine:
    return machine_of(
        member.name,
        int(member.machine),
        member.instance,
        live=instance.live if instance else {},
        report=reports.get(member.instance),
        answered=answered,
        state=instance.state if instance else "",
        step=steps.get(member.instance, ""),
    )


def views_of(props: Mapping[str, Any], registries: Callable[[Mapping[str, Any]], Registries]) -> Views:
    """Return what can be asked at other locations than that of a Release with these properties. Each is made once."""

    @functools.cache
    def at(location: Location) -> Registries:
        return registries({**props, "cloud": location.as_inputs(), "places": [], "elsewhere": [], "former": []})

    return at


class Performer:
    """One run of a roll-out."""

    def __init__(
        self,
        registries: Registries,
        props: Mapping[str, Any],
        rollout: RollOut,
        engine: Engine,
        source: Source,
        views: Views,
    ) -> None:
        self._registries, self._props, self._rollout, self._engine, self._source = (
            registries,
            props,
            rollout,
            engine,
            source,
        )
        self._views = views
        self._desired: DesiredState = desired_of(props)
        self._delivered = set[str]()
        self._steps: Mapping[str, str] = {}
        self._steps_at = 0.0

    def run(self) -> End:
        """Roll out until the run is over. Raises EngineGoneError within 5 s of the engine's end."""
        # An `up` that was killed may have asked members to leave.
        self._registries.undrain(self._desired.stack, self._desired.members)
        while True:
            seen = self._observe()
            self._rollout, actions = after_observation(self._rollout, seen, time.monotonic())
            for action in actions:
                if isinstance(action, End):
                    self._take_back(seen)
                    return action
                self._apply(action)
            self._engine.sleep(POLL_S)

    def _observe(self) -> Observation:
        registries, desired = self._registries, self._desired
        instances = registries.instances(desired.stack)
        found = observed(registries, self._props, instances, others=self._others(instances))
        found = self._with_dns(found, instances)
        return self._with_steps(found, instances)

    def _with_dns(self, found: Observation, instances: Sequence[Instance]) -> Observation:
        """Say which machines DNS answers with wherever they join."""
        registries, desired = self._registries, self._desired
        records = registries.dns_records()
        if registries.gone:
            return found
        waiting = {each.instance for each in find_drift(desired, records, instances, registries.answers()).waiting}
        return replace(
            found, machines=tuple(replace(each, answered=each.instance not in waiting) for each in found.machines)
        )

    def _with_steps(self, found: Observation, instances: Sequence[Instance]) -> Observation:
        """Say how far machines are that have never reported."""
        silent = {each.instance for each in found.machines if each.report is None}
        now = time.monotonic()
        if silent and now - self._steps_at >= _STEPS_EVERY_S:
            members = [each for each in self._desired.members if each.instance in silent]
            self._steps, self._steps_at = self._registries.steps(members, instances), now
        return replace(
            found,
            machines=tuple(
                replace(each, step=self._steps.get(each.instance, "")) if each.instance in silent else each
                for each in found.machines
            ),
        )

    def _others(self, instances: Sequence[Instance]) -> list[FleetMachine]:
        """Return the machines of fleets that share a site or a service with this one."""
        found = []
        home = Locations.of(self._props).home
        for each in self._props.get("sharing") or ():
            location = Location.from_inputs(each["cloud"])
            registries = self._registries if location == home else self._views(location)
            listed = instances if registries is self._registries else registries.instances(self._desired.stack)
            machines = [one for one in listed if one.fleet == each["fleet"] and one.running]
            reports = registries.reports(machines)
            found += [
                machine_of(
                    f"{one.fleet}-{one.machine}",
                    int(one.machine) if one.machine.isdecimal() else 0,
                    one.instance,
                    live=one.live,
                    report=reports.get(one.instance),
                    answered=True,
                    state=one.state,
                )
                for one in machines
            ]
        return found

    def _apply(self, action: SetSettings | Say) -> None:
        if isinstance(action, Say):
            self._engine.say(action.line, warning=action.warning)
            return
        self._deliver(action.changes)
        self._registries.set_settings(self._desired.stack, action.changes)

    def _deliver(self, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Give machines without a store the releases that their new settings name."""
        given: dict[tuple[str, ...], list[str]] = {}
        for instance, change in changes.items():
            wanted = [parse_wanted(key, text).digest for key, text in change.items() if text and key.startswith(WANTED)]
            if wanted:
                given.setdefault(tuple(sorted(wanted)), []).append(instance)
        for digests, instances in given.items():
            releases = [found for each in digests if (found := self._source(each)) is not None]
            if releases:
                self._registries.deliver(instances, releases)
                self._delivered.update(instances)

    def _take_back(self, seen: Observation) -> None:
        """Remove the releases that were delivered from machines that have them on their disks by now."""
        settled = {each.instance for each in seen.machines if each.stage is Stage.SETTLED}
        if found := sorted(self._delivered & settled):
            self._registries.deliver(found, [])
