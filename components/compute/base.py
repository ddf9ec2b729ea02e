"""What a cloud does for the stack's machines: list them, drain, stop and end them. One list call serves a whole fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from components.joyent.records import is_public
from components.model import Instance


class CloudView(Protocol):
    def machines(self, stack: str) -> tuple[Instance, ...]:
        """Every machine tagged with this stack that is not destroyed."""

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        """Those with these ids, whatever they are tagged with."""

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Why it is not proven, by instance, that Rollcall made these machines for `stack` and the fleet that they are tagged with.

        A tag proves nothing: whoever may only tag can give any machine any tags. One whose proof cannot be read is unproven."""

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        """Mark machines as leaving: their agents see it within 10 s and leave. One that is gone is no error."""

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        """Take the mark away where it is."""

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Begin to stop machines that are about to be deleted, if their deletion would wait for that one after the other; else
        nothing. One that is gone is no error."""

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        """What each machine's agent last said of itself, by instance, where it has said anything that the cloud shows."""

    def end(self, instances: Sequence[str]) -> None:
        """Terminate, without a drain; one that is gone is no error."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A cloud, by the form of its machines' ids, which no other cloud's have, and by its view: of a region, with the stack's
    configuration."""

    ids: str
    view: Callable[[str, Mapping[str, str]], CloudView]


def public(addresses: Iterable[str | None]) -> tuple[str, ...]:
    """The public ones among `addresses`, as given."""
    return tuple(each for each in addresses if each and is_public(each))


def utc(moment: datetime | str | None) -> str:
    """`2026-11-23T14:00:00Z`, however the cloud's client gives it; what is no time stays as it is."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        except ValueError:
            return str(moment)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
