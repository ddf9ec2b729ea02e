"""Create a Ready: it waits for many machines, with one list call for all of them in a poll, and has their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from components.joyent.errors import FatalError, WaitTimeoutError
from components.joyent.machine import failure
from components.joyent.machine_fields import plain
from components.joyent.pacing import wait_until
from components.joyent.provider import DATACENTER, JoyentProvider, unknown
from components.joyent.records import MachineRecord
from components.joyent.session import Session

_REFRESH_AGE = 10.0
_POLL_AGE = 1.0


@dataclass(frozen=True, kw_only=True)
class ReadyArgs:
    """The inputs of a Ready.

    `machines`: the ids to wait for, all together. `timeout`: fail after this many seconds without progress of any
    machine. `datacenter`: the name or URL of their data centre, if it is not the configured one.
    """

    machines: pulumi.Input[Sequence[pulumi.Input[str]]]
    timeout: pulumi.Input[float] = 600
    datacenter: pulumi.Input[str] | None = None


class Ready(Resource, module="joyent", name="Ready"):  # type: ignore[misc, call-arg]
    """The wait for machines. It is created when every machine runs. It fails naming each machine that does not, and why.

    `addresses` is `{machine id: public IPv4 address}`, without those that have none. `primary_ips` is the primary
    address of each. A refresh reads them again, since a restart may change them.
    """

    addresses: pulumi.Output[Mapping[str, str]]
    primary_ips: pulumi.Output[Mapping[str, str]]

    def __init__(self, name: str, args: ReadyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props = {**vars(args), "addresses": None, "primary_ips": None}
        super().__init__(ReadyProvider(), name, props, opts)


class ReadyProvider(JoyentProvider):
    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        inputs = _inputs(news)
        timeout = inputs["timeout"]
        known = not unknown(timeout)
        if known and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0):
            return CheckResult(
                inputs, [CheckFailure("timeout", f"must be a number of seconds above 0, not {timeout!r}. Correct it.")]
            )
        return CheckResult(inputs, self.location_faults(inputs))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        return DiffResult(changes=_inputs(_olds) != _inputs(_news), replaces=[])

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("ready", self._wait(_inputs(props)))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        return UpdateResult(self._wait(_inputs(_news)))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        inputs = _inputs(props)
        listed = self.session_for(inputs).machines.all(_REFRESH_AGE)
        found = [listed[machine] for machine in inputs["machines"] if machine in listed]
        return ReadResult(id_, {**inputs, **_addresses(found)}, inputs)

    def _wait(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        ids: Sequence[str] = inputs["machines"]
        session = self.session_for(inputs)
        waiting: list[str] = []
        states: list[tuple[str, str, bool]] = []

        def all_run() -> list[MachineRecord] | None:
            found = {machine: session.machines.find(machine, _POLL_AGE) for machine in ids}
            _refuse_failed(session, found)
            waiting[:] = [
                f"{each.name} ({each.id}) is {each.state}" for each in found.values() if each and not _runs(each)
            ]
            states[:] = [(each.id, each.state, _runs(each)) for each in found.values() if each]
            return None if waiting else [each for each in found.values() if each]

        try:
            running = wait_until(
                "machines", all_run, timeout=float(inputs["timeout"]), sleep=session.sleep, progress=lambda: states
            )
        except WaitTimeoutError as late:
            names = ", ".join(waiting)
            fix = "Run `pulumi up` again to wait longer, or raise the time-out"
            raise WaitTimeoutError(
                f"machines: not running, no progress for {inputs['timeout']:g} s: {names}. {fix}."
            ) from late
        return {**inputs, **_addresses(running)}


def _refuse_failed(session: Session, found: Mapping[str, MachineRecord | None]) -> None:
    """Fail at once, naming all machines that can never run, rather than at the end of the time-out."""
    dead = [f"{machine} is gone" for machine, each in found.items() if each is None]
    dead += [
        f"{each.name} ({each.id}) has failed: {failure(session.api, each.id)}"
        for each in found.values()
        if each and each.state == "failed"
    ]
    if dead:
        raise FatalError(
            f"machines: {'; '.join(dead)}. Run `pulumi up --refresh`: it shows these machines and replaces them."
        )


def _runs(machine: MachineRecord) -> bool:
    # For a moment after a start, CloudAPI may show a machine as running before it lists its NICs.
    return machine.state == "running" and bool(machine.ips)


def _inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    there = {DATACENTER: plain(props[DATACENTER])} if props.get(DATACENTER) is not None else {}
    return {"machines": plain(props["machines"]), "timeout": plain(props["timeout"]), **there}


def _addresses(machines: Sequence[MachineRecord]) -> dict[str, dict[str, str]]:
    return {
        "addresses": {each.id: each.public_ip for each in machines if each.public_ip},
        "primary_ips": {each.id: each.primary_ip for each in machines if each.primary_ip},
    }
