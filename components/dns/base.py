"""Define what a DNS provider does at one place: list records, remove them, and say what the name servers answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from components.model import DnsRecord, ExpectedRecordSet, RecordKey
from rollcall.ownership import Owner
from rollcall.settings import PUBLIC, Join
from rollcall.zoneview import ZoneView


class Records(Protocol):
    """The records at one place. Raises the errors of `rollcall.errors`."""

    def dns_records(self) -> tuple[DnsRecord, ...]:
        """Return every record there, ours and foreign."""

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """Return what every name server answers for each record set; None where the answers do not show single machines."""

    def remove(self, records: Iterable[DnsRecord]) -> None:
        """Remove those of `records` that are at this place. A record that is gone already is not an error."""

    def take_out(self, records: Iterable[DnsRecord]) -> None:
        """Remove records of machines that run. The hosts of their services stay for callers with a cached value."""

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        """Return those of `records`, which the API no longer lists, that a name server still answers with."""

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        """Return a line for each of these record sets that is here: what each name server and each resolver answers."""

    def split(self) -> list[str]:
        """Return a line for each record set here for which the resolvers have another answer than the name servers."""

    def challenged(self, gone: Owner) -> bool:
        """Return whether there may be challenges for `gone`, by what `dns_records` last found."""

    def unchallenge(self, gone: Owner) -> None:
        """Remove the challenges for `gone`, for any instance. If there are none, that is not an error."""


class Place(Protocol):
    """A place where members are in a zone: what a resource's inputs say of it, by `kind`.

    Another provider is a file beside this one, and a line in components/dns/registry.py (docs/another-dns-provider.md).
    """

    @property
    def kind(self) -> str:
        """The first word of its machines' settings, too (rollcall.settings.KINDS)."""

    @property
    def zone(self) -> str:
        """The provider's id of the zone."""

    @property
    def domain(self) -> str:
        """The zone's name."""

    @property
    def private(self) -> bool:
        """Whether only resolvers in the VPCs of the zone answer for it."""

    @property
    def record_sets(self) -> tuple[ExpectedRecordSet, ...]:
        """The record sets that every member must be in."""

    @property
    def machine_settings(self) -> Join:
        """The machine settings for it, without secrets."""

    @property
    def cached_seconds(self) -> float:
        """For how many seconds resolvers may continue to lead callers to a member that has left."""

    def as_inputs(self) -> dict[str, Any]:
        """Return it as a resource's inputs name it. The registry's reader of this `kind` makes it again from them."""

    def records(self, view: ZoneView, config: Mapping[str, str]) -> Records:
        """Return its records.

        `view` is what the zone's name servers answer. `config` is the stack's configuration, with the credentials.
        """


# For how many seconds an API that fails is asked again. An `up` waits for it, and does not fail because of a short failure.
WITHIN = 60.0


def families(ipv6: bool) -> tuple[str, ...]:
    """Return the types of the records that a member's addresses must be in."""
    return ("A", "AAAA") if ipv6 else ("A",)


# The fields of a place that were added later, with the value that changes nothing.
_LATER: Mapping[str, Any] = {"ipv6": False, "address": PUBLIC, "private": False}


def without_defaults(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return a place's inputs without later fields that are off, so the state of an old stack does not change."""
    return {key: value for key, value in inputs.items() if key not in _LATER or value != _LATER[key]}


def challenges(text: str, gone: Owner) -> bool:
    """Return whether a TXT challenges this machine.

    It names the machine, with any instance, and perhaps the challenger.
    """
    return text.startswith(f'"{str(gone).rpartition(" ")[0]} ')
