"""The answers of name servers for the names that an agent reads. For a private zone (`own`), these are the answers of its resolvers.

Only the zone's own name servers say whether there is a challenge. A resolver that is asked too early caches for up to half an hour
(RFC 2308 section 5) that there is none. The members of a record set exist already, so for them a resolver's answer is good enough if no
name server can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rollcall.zoneview import ZoneView

# For so long the agent does not ask a name server that was silent, so that its other work is not late.
_LEFT_ALONE_S = 60.0


class Answers:
    """The view that this machine has of its zones."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, bool], ZoneView] = {}

    def any_of(self, name: str, zone: str, *, ipv6: bool = True, own: bool = False) -> frozenset[str] | None:
        """Return what at least one name server answers; None if none can be asked.

        The values are a host's addresses, the targets of a service's set (`v1._theService._tcp…`), or the texts of a challenge
        (`….c.rc.…`).
        """
        votes = self._votes(name, zone, ipv6, own)
        return None if votes is None else _shown(value for each in votes for value in frozenset().union(*each))

    def all_of(self, name: str, zone: str, *, own: bool = False) -> frozenset[str] | None:
        """Return what every name server with a vote answers; None if none can be asked."""
        votes = self._votes(name, zone, True, own)
        return None if votes is None else _shown(value for each in votes for value in frozenset.intersection(*each))

    def ttls(
        self, name: str, zone: str, rtype: str, values: Collection[str], *, own: bool = False
    ) -> set[float] | None:
        """Return the TTLs with which name servers answer all of these values; None if none can be asked.

        A resolver counts TTLs down, so for a private zone an answer with all values is None too.
        """
        return self._view(zone, own).ttls(name, rtype, values)

    def values(self, name: str, zone: str, rtype: str) -> frozenset[str] | None:
        """Return what all resolvers of this machine answer, as zone files have it; None if none can be asked."""
        votes = self._view(zone, True).votes(name, rtype)
        return frozenset.intersection(*votes) if votes else None

    def negative_s(self, zone: str) -> float:
        """Return for how many seconds the resolvers of this machine remember that a name does not exist."""
        return self._view(zone, True).negative_s

    @property
    def notes(self) -> tuple[str, ...]:
        """The name servers that cannot be asked, and the reasons, one line for each."""
        return tuple(note for _, view in sorted(self._views.items()) for note in view.notes)

    def _votes(self, name: str, zone: str, ipv6: bool, own: bool) -> list[list[frozenset[str]]] | None:
        """Return the votes for each type of record that `name` may have."""
        view, types = self._view(zone, own), types_of(name, ipv6)
        found = [view.votes(name, each, cached=each != "TXT") for each in types]
        return found if all(found) else None

    def _view(self, zone: str, own: bool) -> ZoneView:
        # Imported late: a machine that boots reads its identity before dnspython is installed.
        from rollcall.zoneview import ResolverView, ZoneView

        if (zone, own) not in self._views:
            self._views[zone, own] = ResolverView(zone) if own else ZoneView(zone, quiet=_LEFT_ALONE_S)
        return self._views[zone, own]


def name_servers_answer(zone: str) -> Callable[[str], frozenset[str] | None]:
    """Return a function that asks the name servers of `zone` for the targets of a record set.

    It asks no resolver, because a resolver would cache that the set does not exist yet.
    """
    from rollcall.zoneview import ZoneView

    view = ZoneView(zone)

    def query(name: str) -> frozenset[str] | None:
        votes = view.votes(name, "SRV", cached=False)
        return _shown(value for each in votes for value in each) if votes else None

    return query


def types_of(name: str, ipv6: bool = True) -> tuple[str, ...]:
    if ".c.rc." in name:
        return ("TXT",)
    return ("SRV",) if "._" in name else ("A", "AAAA") if ipv6 else ("A",)


def _shown(values: Iterable[str]) -> frozenset[str]:
    """Return values as the agent compares them: the target of an SRV, the text of a TXT, an address as it is."""
    return frozenset(
        each.strip('"') if each.startswith('"') else each.rpartition(" ")[2].rstrip(".").lower() for each in values
    )
