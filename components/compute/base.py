"""Define what a cloud does for the stack's machines: list, drain, stop and end them, and write and read their settings.

One list call serves a whole fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Protocol

from components.joyent.records import is_public
from components.model import Instance
from components.workloads.release import Release
from rollcall.escaping import escaped
from rollcall.in_place import ReleaseReport, WorkloadReport, parse_report
from rollcall.resolver_view import ResolverReport
from rollcall.settings import WORKLOAD


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

    def console(self, machine: Instance) -> str | None:
        """Return the console of a machine, as the cloud gives it: a stranger's text. None: this cloud gives no console."""

    def end(self, instances: Sequence[str]) -> None:
        """Terminate machines without a drain. A machine that is gone is not an error."""

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Write settings of running machines of `stack`, by instance. None removes a setting.

        Each machine sees the change within 10 s. A machine that is gone is not an error.
        """

    def reports(self, machines: Sequence[Instance]) -> dict[str, ReleaseReport]:
        """Return what machines report about their releases in place, by instance. A machine without a report is not in it."""

    def resolver_reports(self, machines: Sequence[Instance]) -> dict[str, ResolverReport]:
        """Return what machines report about the answers of their resolvers, by instance, without reports that are too old."""

    def deliver(self, instances: Sequence[str], releases: Sequence[Release]) -> None:
        """Give machines these releases, if their cloud has no store from which they could fetch them.

        Remove all others that were delivered before. On a cloud with a store, do nothing. A machine that is gone is not an error.
        """


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


def releases_in(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of workloads in the settings of a machine, by workload. They are safe for a terminal."""
    found = {key[len(WORKLOAD) :]: str(each) for key, each in sorted(settings.items()) if key.startswith(WORKLOAD)}
    return {escaped(name): escaped(digest) for name, digest in found.items()}


def reports_of(texts: Mapping[str, str]) -> dict[str, ReleaseReport]:
    """Return the reports in these texts, by instance. They are safe for a terminal, because machines write them.

    A text that is no report, or the report of another machine, is left out.
    """
    found = {instance: parse_report(text) for instance, text in texts.items()}
    return {
        instance: replace(each, workloads={escaped(name): _safe(one) for name, one in each.workloads.items()})
        for instance, each in found.items()
        if each is not None and each.instance == instance
    }


def _safe(report: WorkloadReport) -> WorkloadReport:
    fields: dict[str, Any] = {
        key: escaped(value) if isinstance(value, str) else tuple(map(escaped, value))
        for key, value in vars(report).items()
    }
    return WorkloadReport(**fields)


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
