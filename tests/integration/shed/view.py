"""The shed's machines as roll calls list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.compute.base import reports_of
from components.model import Instance
from components.workloads.release import Release
from rollcall.in_place import LIVE, ReleaseReport
from rollcall.resolver_view import ResolverReport
from rollcall.settings import DRAIN, FLEET, GENERATION, MACHINE, STACK

from .api import ask


class ShedView:
    """One list call serves a whole fleet."""

    def machines(self, stack: str) -> tuple[Instance, ...]:
        return tuple(_seen(each) for each in ask("GET", "/machines", params={STACK: stack}))

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        return tuple(_seen(each) for each in ask("GET", "/machines") if each["id"] in instances)

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        for each in instances:
            ask("PATCH", f"/machines/{each}", json={"labels": {DRAIN: "true"}})

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        for each in self.machines(stack):
            if each.drained and each.instance in instances:
                ask("PATCH", f"/machines/{each.instance}", json={"labels": {DRAIN: None}})

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Deleting a machine does not wait."""

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        return {each.instance: each.note for each in machines if each.note}

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Anybody may label a machine, and the shed shows nothing that only its creator can give it."""
        return {each.instance: "the shed shows labels only" for each in machines}

    def end(self, instances: Sequence[str]) -> None:
        for each in instances:
            ask("DELETE", f"/machines/{each}")

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        for machine in self.machines(stack):
            if machine.instance in changes:
                ask("PATCH", f"/machines/{machine.instance}", json={"labels": dict(changes[machine.instance])})

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        wanted = {each.instance for each in machines}
        return reports_of({each["id"]: each["report"] for each in ask("GET", "/machines") if each["id"] in wanted})

    def resolver_reports(self, machines: Sequence[Instance]) -> dict[str, ResolverReport]:
        """No machine of the shed is in a VPC."""
        return {}

    def console(self, machine: Instance) -> str | None:
        return None

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        """The shed has no store, and its labels are too small for a release: `release: in-place` is for workloads that machines fetch."""


def _seen(machine: Mapping[str, Any]) -> Instance:
    labels = machine["labels"]
    return Instance(
        instance=machine["id"],
        fleet=labels.get(FLEET, ""),
        machine=labels.get(MACHINE, ""),
        generation=labels.get(GENERATION, ""),
        running=machine["state"] == "on",
        addresses=tuple(machine["addresses"]),
        state=machine["state"],
        drained=labels.get(DRAIN) == "true",
        note=machine["note"],
        live={key: value for key, value in labels.items() if key.startswith(LIVE)},
    )
