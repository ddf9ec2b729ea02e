"""What a job of a machine consists of: pauses, requests to the hypervisor, and what the hypervisor reports."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

from localcloud.machines.compute import Hypervisor

Event = Literal["running", "stopped", "failed"]


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Ask:
    """Something to ask the hypervisor for."""

    what: Callable[[Hypervisor], None]


@dataclass(frozen=True)
class Await:
    """What the hypervisor reports next about the machine."""


Steps = Generator[Pause | Ask | Await, Event | None, bool]


@dataclass
class Job:
    """`action` as the audit trail names it, None for what it does not list. `power`: handles what the hypervisor reports."""

    action: str | None
    steps: Steps
    caller: dict[str, Any]
    power: bool = False
    waiting: bool = False
    reports: deque[Event] = field(default_factory=deque)
