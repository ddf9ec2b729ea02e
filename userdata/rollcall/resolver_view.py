"""Report what this machine's resolvers answer for the record sets that it joins in a private zone.

Only machines in the VPCs of a private zone can ask for its records, so the roll call cannot. Each machine writes the answers into one
object of the stack's bucket, which no other machine may write (docs/decisions/0028). It writes it when an answer changes, and again every
`REPEAT_S`. The roll call ignores an object that is older than `VALID_S`, by the clock of the bucket.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from rollcall.backoff import as_error
from rollcall.route53 import set_name, srv_names
from rollcall.settings import ServiceJoin
from rollcall.timers import seconds

FORMAT = 1
ASK_S = seconds("view", 5.0)
REPEAT_S, VALID_S = 120.0, 300.0
_LONGEST_TEXT = 1_000_000
log = logging.getLogger("rollcall")
Answers = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, kw_only=True)
class ResolverReport:
    """What the resolvers of a machine answer: values by name and type. A name that they did not answer for is missing."""

    instance: str
    answers: Answers = field(default_factory=dict)

    def text(self) -> str:
        """Return the report as JSON in one line. The same answers have the same text."""
        answers = {
            name: {rtype: sorted(each) for rtype, each in sorted(types.items())}
            for name, types in sorted(self.answers.items())
        }
        found = {"format": FORMAT, "instance": self.instance, "answers": answers}
        return json.dumps(found, separators=(",", ":"))

    def values(self, name: str, rtype: str) -> frozenset[str]:
        return frozenset(self.answers.get(name.lower(), {}).get(rtype, ()))


def parse_resolver_report(text: str) -> ResolverReport | None:
    """Return the report that a machine wrote. None for a text that is no report, or that has a newer format."""
    try:
        found = json.loads(text[:_LONGEST_TEXT])
        if int(found["format"]) > FORMAT:
            return None
        answers = {
            str(name): {str(rtype): tuple(map(str, values)) for rtype, values in types.items()}
            for name, types in found["answers"].items()
        }
        return ResolverReport(instance=str(found["instance"]), answers=answers)
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


class Ask(Protocol):
    """Ask the resolvers for the values of a name; None: they do not answer."""

    def __call__(self, name: str, zone: str, rtype: str) -> frozenset[str] | None: ...


class ResolverReporter:
    """Asks for the record sets of this machine, and writes the report. `ask` asks the resolvers, and `write` raises RollcallError.

    The addresses of a member are asked for once, and again at each repetition: a member's host name has always the same address.
    """

    def __init__(self, ask: Ask, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._write, self._clock = ask, write, clock
        self._hosts: dict[str, dict[str, tuple[str, ...]]] = {}
        self._written, self._due = "", 0.0
        self._logged = ""

    def step(self, instance: str, joins: Iterable[ServiceJoin]) -> None:
        """Ask now, and write the report if it has changed or must be repeated. A failure is logged once, and tried again."""
        repeats = self._clock() >= self._due
        if repeats:
            self._hosts = {}
        text = ResolverReport(instance=instance, answers=self._answers(list(joins))).text()
        if text == self._written and not repeats:
            return
        try:
            self._write(text)
        except Exception as fault:  # noqa: BLE001 - a store may answer anything
            problem, self._written = str(as_error(fault)), ""
            if problem != self._logged:
                log.warning("resolver view not reported: %s", problem)
            self._logged = problem
            return
        self._logged, self._written, self._due = "", text, self._clock() + REPEAT_S

    def _answers(self, joins: list[ServiceJoin]) -> Answers:
        found: dict[str, dict[str, tuple[str, ...]]] = {}
        for join in joins:
            names = [set_name(join), *(name for name, on in srv_names(join).items() if on)]
            for name in names:
                values = self._ask(name, join.domain, "SRV")
                if values is None:
                    continue
                found[name] = {"SRV": tuple(each.lower() for each in values)}
                for value in values:
                    host = value.rpartition(" ")[2].rstrip(".").lower()
                    if join.is_member(host):
                        found[host] = self._addresses(host, join)
        self._hosts = {host: types for host, types in found.items() if "SRV" not in types}
        return found

    def _addresses(self, host: str, join: ServiceJoin) -> dict[str, tuple[str, ...]]:
        types = ("A", "AAAA") if join.ipv6 else ("A",)
        known = self._hosts.get(host, {})
        if any(known.values()):
            return known
        answers = {rtype: self._ask(host, join.domain, rtype) for rtype in types}
        return {rtype: tuple(values) for rtype, values in answers.items() if values is not None}
