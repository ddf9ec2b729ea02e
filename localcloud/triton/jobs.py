"""The jobs that the data centre does after it has answered: one at a time for each machine, each with its delays.

A job is a generator of steps: it pauses, asks the hypervisor for something, or waits for what the hypervisor reports.
Steps run under the account's lock; the hypervisor is called without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from localcloud.machines.compute import Hypervisor
from localcloud.triton.model import Machine, iso
from localcloud.triton.schedule import Schedule
from localcloud.triton.steps import Ask, Event, Job, Pause

_log = logging.getLogger(__name__)


class Jobs:
    """Runs the jobs of all machines. `lock` is the account's; `clock` tells the time in the audit trail."""

    def __init__(self, lock: Any, schedule: Schedule, hypervisor: Hypervisor, clock: Callable[[], float]) -> None:
        self._lock, self._schedule, self._hypervisor, self._clock = lock, schedule, hypervisor, clock

    def add(self, machine: Machine, job: Job) -> None:
        """Add a job. The caller must have the lock. The job starts when those before it are done."""
        machine.jobs.append(job)
        if len(machine.jobs) == 1:
            self._schedule(0.0, lambda: self._go_on(machine, job, None))

    def report(self, machine: Machine, event: Event) -> None:
        """Report an event of the hypervisor. The calling observer must have the lock."""
        job = machine.jobs[0] if machine.jobs else None
        if job is None or not job.power:
            settle(machine, event, self._clock())
        elif job.waiting:
            job.waiting = False
            self._schedule(0.0, lambda: self._go_on(machine, job, event))
        else:
            job.reports.append(event)

    def _go_on(self, machine: Machine, job: Job, event: Event | None) -> None:
        while True:
            with self._lock:
                step = self._step(machine, job, event)
            if not isinstance(step, Ask):
                return
            # Without the lock: what is reported meanwhile waits in `reports`.
            step.what(self._hypervisor)
            event = None

    def _step(self, machine: Machine, job: Job, event: Event | None) -> Ask | None:
        while True:
            try:
                step = job.steps.send(event)
            except StopIteration as done:
                self._finish(machine, job, bool(done.value))
                return None
            if isinstance(step, Ask):
                job.reports.clear()
                return step
            if isinstance(step, Pause):
                self._schedule(step.seconds, lambda: self._go_on(machine, job, None))
                return None
            if not job.reports:
                job.waiting = True
                return None
            event = job.reports.popleft()

    def _finish(self, machine: Machine, job: Job, success: bool) -> None:
        now = self._clock()
        machine.jobs.popleft()
        machine.updated = now
        for event in job.reports:
            settle(machine, event, now)
        if job.action is not None:
            record = {
                "success": "yes" if success else "no",
                "time": iso(now),
                "action": job.action,
                "caller": job.caller,
            }
            machine.audit.insert(0, record)
        if machine.jobs:
            following = machine.jobs[0]
            self._schedule(0.0, lambda: self._go_on(machine, following, None))


def settle(machine: Machine, event: Event, now: float) -> None:
    """Set the machine's state after an event without a request: it turned itself off, crashed, or started again."""
    if not machine.exists:
        return
    machine.state = "running" if event == "running" else "stopped"
    machine.updated = now
