"""The interface between the local DNS server and a cloud that has zones."""

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
    """How a cloud's name servers answer in points that the RFCs leave open. The default adds nothing.

    `largest_udp` is the size limit of a datagram, by EDNS. `in_random_order`: the values of every set are in random order; otherwise only
    addresses rotate. `adds_servers`: the authority section of an answer has the zone's NS. `adds_addresses`: the additional section has the
    addresses of its targets. `hostmaster` is the mailbox in the SOA of a zone that does not define a SOA.
    """

    largest_udp: int = 1232
    in_random_order: bool = False
    adds_servers: bool = False
    adds_addresses: bool = False
    hostmaster: str = ""


class ZoneSource(Protocol):
    """A cloud's zones as its name servers see them (after propagation), with names in presentation format.

    Many threads call it often, so it must be fast. If it has a `manner`, the server answers for its zones in this manner.
    """

    def zones(self) -> tuple[str, ...]:
        """The zones' names, lower case without the final dot."""

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        """Every record set at `name`; empty where the name exists only as a parent of others; None where it does not exist."""
