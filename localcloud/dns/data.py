"""What the local DNS server asks of a cloud that holds zones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class RecordSet:
    """All values of one name and type, as an authoritative server answers them.

    `name` is lower case without the final dot; `values` are in presentation format (RFC 1035 section 5.1), TXT quoted,
    names within them with or without the final dot.
    """

    name: str
    type: str
    ttl: int
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a cloud's name servers answer, where the RFCs leave it to them. The default adds nothing.

    `largest_udp` is what a datagram holds at most, by EDNS. `in_random_order`: the values of every set; else those of addresses take
    turns. `adds_servers`: the zone's NS in the authority section of an answer; `adds_addresses`: those of its targets in the additional
    section. `hostmaster` is the mailbox in the SOA of a zone that has none of its own.
    """

    largest_udp: int = 1232
    in_random_order: bool = False
    adds_servers: bool = False
    adds_addresses: bool = False
    hostmaster: str = ""


class ZoneSource(Protocol):
    """A cloud's zones as its name servers see them (after propagation), names in presentation format. Called often, from many
    threads: be quick. Where it has a `manner`, its zones are answered so."""

    def zones(self) -> tuple[str, ...]:
        """The zones' names, lower case without the final dot."""

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        """Every record set at `name`; empty where the name exists only as a parent of others; None where it does not exist."""
