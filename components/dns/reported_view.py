"""The answers for a private zone, as the machines in its VPCs report them (rollcall.resolver_view, docs/decisions/0028).

No name server of a private zone can be asked from outside of its VPCs, and Route53's TestDNSAnswer "only supports querying public hosted
zones" (https://docs.aws.amazon.com/Route53/latest/APIReference/API_TestDNSAnswer.html).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from rollcall.escaping import escaped
from rollcall.resolver_view import ASK_S, VALID_S, ResolverReport
from rollcall.zoneview import ZoneView

# One round of a roll call asks for many names, and uses the same reports for all.
_AGE_S = 0.9
_MOST_SHOWN = 3
_LONGEST = 300


class ReportedView(ZoneView):
    """The answers of the resolvers of machines. `read` returns the reports by machine; `ttl` is the longest TTL of the records, in seconds.

    Every machine with a report has a vote: resolvers in other VPCs, or in other zones of a region, have caches of their own.
    """

    def __init__(
        self,
        zone: str,
        read: Callable[[], Mapping[str, ResolverReport]],
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(zone, clock=clock)
        self.resolvers = ()
        self._read, self._ttl = read, ttl
        self._last: tuple[float, Mapping[str, ResolverReport]] | None = None

    @property
    def reports(self) -> Mapping[str, ResolverReport]:
        """The reports that are not too old, by the name of the machine."""
        now = self._clock()
        if self._last is None or now - self._last[0] > _AGE_S:
            self._last = (now, self._read())
        return self._last[1]

    @property
    def delay(self) -> float:
        """Seconds by which an answer may be old: for a TTL it is in the cache of a resolver, and then a machine reports it."""
        return self._ttl + 2 * ASK_S

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def source(self) -> str:
        """Whose answers these are, as one line."""
        names = sorted(self.reports)
        by = f"the resolvers of {', '.join(names)}" if names else f"none: no machine has reported for {VALID_S:.0f} s"
        return f"{self._zone}: private zone, seen by {by}; an answer may be {self.delay:.0f} s old"

    def votes(self, name: str, rtype: str, *, cached: bool = True) -> list[frozenset[str]]:
        return [each.values(name, rtype) for each in self.reports.values()]

    def compare(self, name: str, rtype: str) -> str:
        """Return what machines report for `name`, as one line: first those that lack a value which another one reports."""
        reports = self.reports
        if not reports:
            return f"{name} {rtype}: no machine has reported for {VALID_S:.0f} s what its resolver answers"
        by_values = sorted(reports, key=lambda each: (len(reports[each].values(name, rtype)), each))
        shown = [self._shown(each, reports[each], name, rtype) for each in by_values[:_MOST_SHOWN]]
        rest = len(by_values) - len(shown)
        return f"{name} {rtype}: {'; '.join(shown)}{f'; {rest} more report' if rest else ''}"

    def split(self, name: str, rtype: str) -> str:
        return ""

    def ttls(self, name: str, rtype: str, values: Collection[str]) -> set[float] | None:
        return None

    @staticmethod
    def _shown(machine: str, report: ResolverReport, name: str, rtype: str) -> str:
        values = escaped(", ".join(sorted(report.values(name, rtype))) or "nothing")
        return f"the resolver of {machine} answers {values[:_LONGEST]}"
