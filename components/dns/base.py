"""What a DNS provider does at one place: list records, remove them, and say what the name servers answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from components.model import DnsRecord, ExpectedRecordSet, RecordKey
from rollcall.ownership import Owner
from rollcall.settings import Join
from rollcall.zoneview import ZoneView


class Records(Protocol):
    """What stands at one place. Raises the errors of `rollcall.errors`."""

    def entries(self) -> tuple[DnsRecord, ...]:
        """Every entry there, ours and foreign."""

    def answers(self) -> dict[RecordKey, frozenset[str] | None]:
        """For each record set what every name server answers; None where that says nothing about single machines."""

    def remove(self, entries: Iterable[DnsRecord]) -> None:
        """Remove those of `entries` that are of this place; one that is gone already is no error."""

    def take_out(self, entries: Iterable[DnsRecord]) -> None:
        """As `remove`, of machines that run: the hosts of their services stay for callers that have a value in a cache."""

    def still_answered(self, entries: Iterable[DnsRecord]) -> list[DnsRecord]:
        """Those of `entries`, which the API lists no more, that a name server still answers with."""

    def compared(self, keys: Collection[RecordKey]) -> list[str]:
        """For each of these record sets that is here, what each name server and each resolver answers, as one line."""

    def split(self) -> list[str]:
        """A line for each record set here for which the resolvers have another answer than the name servers."""

    def challenged(self, gone: Owner) -> bool:
        """Whether there may be challenges for `gone`, by what `entries` last found."""

    def unchallenge(self, gone: Owner) -> None:
        """Take away the challenges for `gone`, whatever its instance was; none is no error."""


class Place(Protocol):
    """Where members are in a zone: what a resource's inputs say of it, by `kind`. Another provider is a file beside this one, and a line
    in components/dns/registry.py (docs/another-dns-provider.md)."""

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
    def record_sets(self) -> tuple[ExpectedRecordSet, ...]:
        """The record sets that every member must be in."""

    @property
    def told(self) -> Join:
        """What machines are told of it, without their secrets."""

    @property
    def lingering(self) -> float:
        """Seconds for which resolvers may go on leading callers to a member that has left."""

    def as_inputs(self) -> dict[str, Any]:
        """As a resource's inputs name it; the registry's reader of this `kind` makes it again of them."""

    def records(self, view: ZoneView, config: Mapping[str, str]) -> Records:
        """Its records. `view` is what the zone's name servers answer, `config` the stack's configuration, with the credentials."""


# Seconds for which an API that fails is asked again: an `up` waits for it, and fails for nothing that passes.
WITHIN = 60.0


def families(ipv6: bool) -> tuple[str, ...]:
    """The types of the records in which a member's addresses must stand."""
    return ("A", "AAAA") if ipv6 else ("A",)


def without_ipv6(inputs: dict[str, Any]) -> dict[str, Any]:
    """A place's inputs as they were before there was IPv6, where it is off: a state does not change for nothing."""
    return {key: value for key, value in inputs.items() if key != "ipv6" or value}


def challenges(text: str, gone: Owner) -> bool:
    """Whether a TXT challenges this machine: who it is, with any instance, and perhaps by whom."""
    return text.startswith(f'"{str(gone).rpartition(" ")[0]} ')
