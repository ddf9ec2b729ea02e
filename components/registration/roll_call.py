"""The roll call: wait until every member answers, remove leftover records, end orphaned machines.

This module asks and acts; `transitions.py` decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from components.joyent.engine import Engine
from components.model import DesiredState, DnsRecord, Member, member_of
from components.registration.diff import Drift, find_drift, owned, with_doubts
from components.registration.draining import POLL_S, drain_members, say_once
from components.registration.inventory import Registries
from components.registration.messages import complaint
from components.registration.props import desired_with
from components.registration.transitions import (
    Action,
    Answered,
    Call,
    EndCause,
    EndMachines,
    Fail,
    GiveUp,
    Pause,
    Progress,
    RemoveRecords,
    Report,
    Say,
    Snapshot,
    after_actions,
    after_snapshot,
    needs_elsewhere,
)
from rollcall.escaping import escaped_lines


class RollCallError(Exception):
    """A machine does not answer or does not leave, or too many would be removed. The message names each and the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(escaped_lines(message))


def until_answered(
    registries: Registries, props: Mapping[str, Any], *, leaving: tuple[Member, ...], engine: Engine
) -> Drift:
    """Wait until every member answers, remove leftover records and end orphaned machines. Return what still differs.

    Raises RollCallError when nothing changed for the time-out, or when the safety limit forbids what would be removed.
    """
    desired = desired_with(props, leaving=leaving)
    call = Call(
        desired=desired,
        timeout=float(props["timeout"]),
        drain_delay=drain_delay(registries, props),
        safety_limit=bool(props.get("safe_deletes", True)),
    )
    return _RollCall(call, registries, engine).run()


class _RollCall:
    """One roll call in progress: what it has asked for, and how it carries out what is decided."""

    def __init__(self, call: Call, registries: Registries, engine: Engine) -> None:
        self._call, self._registries, self._engine = call, registries, engine
        self._desired = call.desired
        self._doubts: dict[str, str] = {}
        self._notes: set[str] = set()

    def run(self) -> Drift:
        began = time.monotonic()
        progress = Progress(since=began, steps_at=began)
        self._registries.undrain(self._desired.stack, self._desired.members)
        while True:
            snapshot = self._observe()
            progress, actions = after_snapshot(self._call, progress, snapshot)
            for action in actions:
                if isinstance(action, Answered):
                    return snapshot.drift
                self._apply(action)
            now = time.monotonic()
            progress, reports = after_actions(
                self._call,
                progress,
                snapshot,
                now=now,
                steps=self._steps(snapshot) if progress.wants_steps(now) else None,
                resolver_delay=self._registries.delay,
            )
            for report in reports:
                self._report(report, snapshot)
            self._engine.sleep(POLL_S)

    def _observe(self) -> Snapshot:
        """Ask the clouds, the DNS providers and the name servers, in this order."""
        registries, desired = self._registries, self._desired
        instances = registries.instances(desired.stack)
        records = registries.dns_records()
        if desired.members and registries.gone:
            # Its name servers are not asked any more.
            return Snapshot(drift=Drift(), deleted_zones=registries.gone)
        drift = find_drift(desired, records, instances, registries.answers())
        drift = proven(registries, desired, drift, self._doubts)
        say_once(registries.notes, self._notes, self._engine)
        owners = {each.owner.instance for each in drift.leftovers if each.owner is not None}
        snapshot = Snapshot(
            drift=drift,
            instances=tuple(instances),
            records=len(records),
            invisible=frozenset(each for each in owners if not registries.sees(each)),
            former=frozenset(
                each.instance for stack in desired.former_stacks for each in registries.instances(stack) if each.running
            ),
        )
        if not needs_elsewhere(snapshot):
            return snapshot
        return replace(snapshot, elsewhere=registries.running_elsewhere(desired.stack))

    def _steps(self, snapshot: Snapshot) -> dict[str, str]:
        waiting = [each for each in self._desired.members if each in snapshot.drift.waiting]
        return self._registries.steps(waiting, snapshot.instances)

    def _apply(self, action: Action) -> None:
        """Carry out one action. Raises RollCallError where the roll call has failed."""
        if isinstance(action, Fail):
            raise RollCallError(action.message)
        if isinstance(action, RemoveRecords):
            self._remove(action.records)
        elif isinstance(action, EndMachines):
            self._end(action)
        elif isinstance(action, Pause):
            self._engine.sleep(action.seconds)

    def _remove(self, records: Iterable[DnsRecord]) -> None:
        removed = list(records)
        self._registries.remove(removed)
        # A machine that watched the dead one may have challenged it. A machine in no state has no Deregistration that removes that.
        for owner in sorted({each.owner for each in removed if each.owner is not None}):
            self._registries.unchallenge(owner)
        for each in removed:
            self._engine.say(f"{self._desired.fleet}: removed {each.value} from {each.key}, no machine runs there")

    def _end(self, action: EndMachines) -> None:
        """Drain machines like all others that leave, then end them."""
        fleet, stack = self._desired.fleet, self._desired.stack
        members = [member_of(each) for each in action.machines]
        # Caches have only what was in DNS.
        was_in_dns = bool(owned(self._registries.dns_records(), stack, members))
        drain_members(
            self._registries, stack, members, self._engine, drain_delay=self._call.drain_delay if was_in_dns else 0
        )
        self._registries.end(each.instance for each in members)
        if action.cause is EndCause.TWIN:
            ended = ", ".join(each.instance for each in members)
            self._engine.say(f"{fleet}: ended {ended}, made by an `up` that was interrupted")
            return
        for each in members:
            self._engine.say(f"{fleet}: ended {each.instance} ({each.name}), which was in no state", warning=True)

    def _report(self, report: Report, snapshot: Snapshot) -> None:
        """Tell the user how far the members are. Raises RollCallError where the roll call gives up."""
        if isinstance(report, Say):
            self._engine.say(report.line)
        elif isinstance(report, GiveUp):
            text = complaint(self._desired, snapshot.drift, snapshot.instances, self._registries, report.seconds)
            raise RollCallError(text)


def proven(registries: Registries, desired: DesiredState, drift: Drift, doubts: dict[str, str] | None = None) -> Drift:
    """Return the drift with some orphaned machines as unproven: those that only their tags connect to this stack.

    `doubts` has what was found of each machine before, by instance, and gets what is found now.
    """
    known = doubts if doubts is not None else {}
    unchecked = [each for each in drift.orphans if each.instance not in known]
    if unchecked:
        doubts_by_stack = [registries.unproven(stack, unchecked) for stack in desired.stacks]
        doubts = {
            each: reason
            for each, reason in doubts_by_stack[0].items()
            if all(each in other for other in doubts_by_stack)
        }
        known.update({each.instance: doubts.get(each.instance, "") for each in unchecked})
    return with_doubts(drift, {instance: reason for instance, reason in known.items() if reason})


def drain_delay(registries: Registries, props: Mapping[str, Any]) -> float:
    """Return for how many seconds a machine serves after its records are gone: at most as long as caches keep them."""
    return min(float(props["drain_delay"]), registries.longest_ttl)
