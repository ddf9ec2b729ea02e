"""A fleet on a virtual clock behind the interfaces that the provider of Release and the commands use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from components.compute.locations import Location
from components.model import Instance, Member
from components.rollout import providers
from components.rollout.providers import ReleaseProvider
from components.workloads.release import Release
from rollcall.in_place import ReleaseReport
from tests.simulated_fleet import Fleet, fleet_of

EC2 = Location(cloud="aws", region="us-west-2")


class Cloud:
    """The cloud, DNS and the engine of a fleet of a stack. A second of `sleep` is a second of the fleet."""

    gone: tuple[str, ...] = ()
    longest_ttl = 0.0
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, fleet: Fleet, name: str = "web", location: Location = EC2) -> None:
        self.fleet, self.name, self.location = fleet, name, location
        self.printed: list[str] = []
        self.written: list[Mapping[str, Mapping[str, str | None]]] = []
        self.delivered: list[tuple[list[str], list[str]]] = []
        self.undrained: list[str] = []
        # For so many seconds after a change a list of machines has their settings as they were before, as CloudAPI's may.
        self.lag_s = 0
        self._lists_from, self._before = 0, dict[str, dict[str, str]]()

    def instances(self, stack: str) -> tuple[Instance, ...]:
        return tuple(
            Instance(
                instance=each.instance,
                fleet=self.name,
                machine=str(each.number),
                generation="9f27ab",
                running=each.on,
                state="running" if each.on else "stopped",
                live=dict(self._before.get(each.instance, each.live) if self._lags else each.live),
            )
            for each in self.fleet.machines
        )

    @property
    def _lags(self) -> bool:
        return self.fleet.now < self._lists_from

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        wanted = {each.instance for each in machines} - self.fleet.lost
        return {each.instance: each.report for each in self.fleet.machines if each.report and each.instance in wanted}

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        self.written.append(changes)
        if not self._lags:
            self._before = {each.instance: dict(each.live) for each in self.fleet.machines}
            self._lists_from = self.fleet.now + self.lag_s
        self.fleet.write(changes)

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        self.delivered.append((list(instances), [each.digest for each in releases]))

    def undrain(self, stack: str, members: Sequence[Member]) -> None:
        self.undrained += [each.instance for each in members]

    def dns_records(self) -> tuple[Any, ...]:
        return ()

    def answers(self) -> dict[Any, Any]:
        return {}

    def steps(self, members: Sequence[Member], instances: Sequence[Instance]) -> dict[str, str]:
        return {each.instance: "boot: apt runs" for each in members}

    def say(self, text: str, *, warning: bool = False) -> None:
        self.printed.append(text)

    def sleep(self, seconds: float) -> None:
        self.fleet.tick(int(seconds))

    def monotonic(self) -> float:
        return float(self.fleet.now)

    def props(self, releases: Mapping[str, str], **policy: Any) -> dict[str, Any]:
        return {
            "stack": "prod",
            "fleet": self.name,
            "fleets": [self.name],
            "peers": [self.name],
            "members": [
                {"machine": str(each.number), "generation": "9f27ab", "instance": each.instance}
                for each in self.fleet.machines
            ],
            "places": [],
            "cloud": self.location.as_inputs(),
            "drain_delay": 5,
            "releases": dict(releases),
            "files": {name: "" for name in releases},
            "policy": {"batch": "1", "healthy": 10, "deadline": 60, "canary": 0, "timeout": 120, **policy},
            "differing": [],
        }


class Stack:
    """A stack with one Release, as the engine keeps it: each method is a run of the engine."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.provider = cloud, ReleaseProvider()
        self.state: dict[str, Any] | None = None

    def preview(self, releases: Mapping[str, str], **policy: Any) -> tuple[bool, list[str]]:
        """Refresh, and return whether the Release changes, and the lines that the preview shows."""
        assert self.state is not None
        providers.ROLLED.clear()
        self.state = dict(self.provider.read("id", self.state).outs or {})
        self.cloud.printed.clear()
        props = self.cloud.props(releases, **policy)
        self.provider.check(self.state, props)
        found = self.provider.diff("id", self.state, props)
        return bool(found.changes), list(self.cloud.printed)

    def refresh(self) -> list[str]:
        """Refresh as `destroy` does, without a program. Return what it shows."""
        assert self.state is not None
        self.cloud.printed.clear()
        read = self.provider.read("id", self.state)
        self.provider.diff("id", dict(read.outs or {}), self.state)
        return list(self.cloud.printed)

    def up(self, releases: Mapping[str, str], **policy: Any) -> bool:
        """Run `up`. Return whether it changed anything. Raises RollOutError."""
        props = self.cloud.props(releases, **policy)
        providers.ROLLED.clear()
        if self.state is None:
            self.state = dict(self.provider.create(props).outs or {})
            return True
        changes, _ = self.preview(releases, **policy)
        if changes:
            self.state = dict(self.provider.update("id", self.state, props).outs or {})
        return changes

    def replace(self, releases: Mapping[str, str]) -> None:
        """Run `up --replace` for the Release: the engine creates another one, and then deletes this one."""
        before = self.state
        self.state = None
        self.up(releases)
        assert before is not None
        self.provider.delete("id", before)

    def destroy(self) -> None:
        assert self.state is not None
        providers.ROLLED.clear()
        self.provider.delete("id", self.state)


def cloud_of(count: int, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return a stack with so many new machines. Its time and its engine are those of the fleet."""
    found = Cloud(fleet_of(count))
    monkeypatch.setattr(providers, "Engine", lambda *_: found)
    monkeypatch.setattr("components.rollout.performing.time.monotonic", found.monotonic)
    monkeypatch.setattr(ReleaseProvider, "_registries", lambda *_: found)
    return found
