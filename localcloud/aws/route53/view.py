"""A zone as its name servers answer it: changes arrive when they have propagated."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

from localcloud.aws.route53.names import WILDCARD, BadNameError, from_presentation, normalize, parents, within
from localcloud.aws.route53.records import Key, RecordSet
from localcloud.aws.route53.values import presented
from localcloud.dns import data

_ALIAS_TTL = 60
_MULTIVALUE_ANSWERS = 8
_DEEPEST_ALIAS = 5


class View:
    """Thread-safe. Names that exist only as parents of others are empty, not missing (RFC 8020)."""

    def __init__(self, zone: str, clock: Callable[[], float]) -> None:
        self._zone = zone
        self._clock = clock
        self._lock = threading.Lock()
        self._names: dict[str, dict[Key, RecordSet]] = {}
        self._parents: Counter[str] = Counter()
        self._coming: deque[tuple[float, Mapping[Key, RecordSet | None]]] = deque()
        self._random = random.Random()  # noqa: S311 - which answers of many, as Route53 does

    def publish(self, changes: Mapping[Key, RecordSet | None], due: float) -> None:
        """Show these at `due`, and never before what was published earlier."""
        with self._lock:
            self._coming.append((max(due, self._coming[-1][0]) if self._coming else due, dict(changes)))

    def lookup(self, name: str) -> tuple[data.RecordSet, ...] | None:
        """`name` is in presentation format, as in `localcloud.dns.data`."""
        try:
            wanted = from_presentation(name)
        except BadNameError:
            return None
        with self._lock:
            self._arrive()
            found = self._names.get(wanted)
            if found is None:
                if wanted in self._parents or wanted == self._zone:
                    return ()
                found = self._wildcard(wanted)
                if found is None:
                    return None
            return self._answers(name, list(found.values()))

    def _arrive(self) -> None:
        now = self._clock()
        while self._coming and self._coming[0][0] <= now:
            for key, each in self._coming.popleft()[1].items():
                self._put(key, each)

    def _put(self, key: Key, each: RecordSet | None) -> None:
        name = key[0]
        before = name in self._names
        if each is not None:
            self._names.setdefault(name, {})[key] = each
        elif before:
            self._names[name].pop(key, None)
            if not self._names[name]:
                del self._names[name]
        after = name in self._names
        if before != after:
            for parent in parents(name, self._zone):
                self._parents[parent] += 1 if after else -1
                if not self._parents[parent]:
                    del self._parents[parent]

    def _wildcard(self, name: str) -> dict[Key, RecordSet] | None:
        """RFC 4592: the wildcard below the closest name that exists."""
        encloser = name.partition(".")[2]
        while within(encloser, self._zone):
            if encloser in self._names or encloser in self._parents or encloser == self._zone:
                return self._names.get(f"{WILDCARD}.{encloser}")
            encloser = encloser.partition(".")[2]
        return None

    def _answers(self, name: str, sets: Sequence[RecordSet]) -> tuple[data.RecordSet, ...]:
        found = []
        for record_type in dict.fromkeys(each.type for each in sets):
            here = [each for each in sets if each.type == record_type]
            chosen = self._chosen(here)
            ttl, values = self._resolved(chosen, record_type)
            if values:
                found.append(data.RecordSet(name.lower().rstrip("."), record_type, ttl, tuple(map(presented, values))))
        return tuple(found)

    def _chosen(self, sets: Sequence[RecordSet]) -> Sequence[RecordSet]:
        if not sets[0].identifier:
            return sets
        if "MultiValueAnswer" in sets[0].routing:
            return self._random.sample(list(sets), min(_MULTIVALUE_ANSWERS, len(sets)))
        weights = [int(each.routing.get("Weight", "1")) for each in sets]
        return self._random.choices(sets, weights if any(weights) else None)

    def _resolved(self, sets: Sequence[RecordSet], record_type: str, depth: int = 0) -> tuple[int, list[str]]:
        ttls: list[int] = []
        values: list[str] = []
        for each in sets:
            if not each.alias:
                ttls.append(each.ttl or 0)
                values += each.values
            elif depth < _DEEPEST_ALIAS:
                target = normalize(each.alias.get("DNSName", ""))
                further = [known for known in self._names.get(target, {}).values() if known.type == record_type]
                ttl, more = (
                    self._resolved(self._chosen(further), record_type, depth + 1) if further else (_ALIAS_TTL, [])
                )
                ttls.append(ttl)
                values += more
        return min(ttls, default=0), values
