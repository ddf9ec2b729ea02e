"""Define what a cloud does for the stack's machines: list, drain, stop and end them.

One list call serves a whole fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from components.joyent.records import is_public
from components.model import Instance


class CloudView(Protocol):
    def machines(self, stack: str) -> tuple[Instance, ...]:
        """Return every machine tagged with this stack that is not destroyed."""

    def of(self, instances: Sequence[str]) -> tuple[Instance, ...]:
        """Return the machines with these ids, with any tags."""

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Return the reason why it is not proven, by instance, that Rollcall created these machines.

        Proven means: for `stack` and for the fleet in the machine's tags. A tag proves nothing: a user who may only tag
        can give any machine any tags. A machine is unproven if its proof cannot be read.
        """

    def drain(self, stack: str, instances: Sequence[str]) -> None:
        """Tag machines as leaving: their agents see it within 10 s and leave.

        A machine that is gone is not an error.
        """

    def undrain(self, stack: str, instances: Sequence[str]) -> None:
        """Remove the tag from machines that have it."""

    def stop(self, stack: str, instances: Sequence[str]) -> None:
        """Begin to stop machines that will be deleted next, if their deletion would wait for that one after the other.

        On other clouds, do nothing. A machine that is gone is not an error.
        """

    def steps(self, machines: Sequence[Instance]) -> dict[str, str]:
        """Return the last step that each machine's agent reported, by instance, where the cloud shows one."""

    def end(self, instances: Sequence[str]) -> None:
        """Terminate machines without a drain. A machine that is gone is not an error."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A cloud.

    The form of its machines' ids belongs to it alone. `view` makes its view of a region from the stack's configuration.
    """

    ids: str
    view: Callable[[str, Mapping[str, str]], CloudView]


def public(addresses: Iterable[str | None]) -> tuple[str, ...]:
    """Return the public ones among `addresses`, as given."""
    return tuple(each for each in addresses if each and is_public(each))


def utc(moment: datetime | str | None) -> str:
    """Return a time as `2026-11-23T14:00:00Z`, in whatever form the cloud's client gives it.

    Other text stays as it is.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
        except ValueError:
            return str(moment)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
