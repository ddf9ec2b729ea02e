"""Decide which members of a record set are alive, and remove what a crash left there.

Each member watches the next two in the set. It asks by a signed datagram whether the member that the record names runs at the record's
address (`rollcall.probe`). Silence removes no member, because a broken path looks like a death. The watcher challenges a silent
member: it puts a TXT into the zone, which a live member finds there and takes away. If the challenge is still there after
`ANSWER_WITHIN_S`, the watcher removes the member's records (docs/decisions/0005).

`step` is the whole state machine, without I/O and without a clock. `CrashMonitor` does what it says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from rollcall import probe
from rollcall.ownership import Owner
from rollcall.registry import Registry
from rollcall.settings import Join, Route53Join, challenge_name

# With two failed probes before it, an agent that is away for 30 s is not removed.
ANSWER_WITHIN_S = 24.0
# Route53 updates its name servers within a minute.
PROPAGATION_LIMIT_S = 60.0
# After so many unanswered probes in a row a member is challenged; after a challenge that it answered it has time.
FAILED_PROBES, PROBE_COOLDOWN = 2, 16
log = logging.getLogger("rollcall")


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A watched member. `generation` is what it is asked for (empty: not known), `silent` counts unanswered probes in a row, `owner` is
    set while it is challenged, and it has until `ANSWER_WITHIN_S` after `since` to answer."""

    generation: str = ""
    silent: int = 0
    owner: Owner | None = None
    since: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The member was asked directly."""

    alive: bool
    now: float


@dataclass(frozen=True, kw_only=True)
class OwnerFound:
    """The DNS provider was asked for the owner of a silent member's record; `ours`: it belongs to this stack."""

    owner: Owner | None
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Challenged:
    """The challenge is in the zone. Name servers may be late with it."""

    owner: Owner
    now: float


@dataclass(frozen=True, kw_only=True)
class ChallengeSeen:
    """The name servers answer with the challenge, so its member can find it."""

    now: float


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """The challenge was taken away; `unanswered`: it was still there."""

    unanswered: bool


@dataclass(frozen=True)
class Unwatched:
    """The member is no longer a neighbour, or no longer in the set."""


Event = Probed | Unwatched | OwnerFound | Challenged | ChallengeSeen | Withdrawn


@dataclass(frozen=True)
class FindOwner:
    """Ask the DNS provider whose record this is."""


@dataclass(frozen=True)
class AskAgain:
    """Probe the member again: it was asked for a generation that its record no longer names."""


@dataclass(frozen=True)
class Challenge:
    """Put a challenge for this member into the zone."""

    owner: Owner


@dataclass(frozen=True)
class Withdraw:
    """Take this watcher's challenge away."""

    owner: Owner


@dataclass(frozen=True)
class Remove:
    """Remove the dead member's records."""

    owner: Owner


Action = FindOwner | AskAgain | Challenge | Withdraw | Remove


def step(suspect: Suspect, event: Event) -> tuple[Suspect, Action | None]:
    """Return the next state, and what must be done before the next event."""
    if isinstance(event, Probed):
        return _after_probe(replace(suspect, silent=0 if event.alive else suspect.silent + 1), event.now)
    if isinstance(event, Unwatched):
        return replace(suspect, silent=0), Withdraw(suspect.owner) if suspect.owner else None
    if isinstance(event, OwnerFound):
        return _after_owner(suspect, event)
    if isinstance(event, Challenged):
        return replace(suspect, owner=event.owner, since=event.now + PROPAGATION_LIMIT_S), None
    if isinstance(event, ChallengeSeen):
        return replace(suspect, since=min(suspect.since, event.now)), None
    rested = Suspect(generation=suspect.generation, silent=-PROBE_COOLDOWN if suspect.silent else 0)
    if event.unanswered and suspect.silent and suspect.owner:
        # Should the removal fail, a new challenge comes first: the member may be back by then.
        return replace(rested, silent=FAILED_PROBES), Remove(suspect.owner)
    # It lives. If it cannot be reached from here, that may last, so the next challenge has time.
    return rested, None


def _after_owner(suspect: Suspect, event: OwnerFound) -> tuple[Suspect, Action | None]:
    if event.owner is None or not event.ours:
        # A foreign record, or one that is gone already. Do not ask the provider again soon.
        return Suspect(silent=-PROBE_COOLDOWN), None
    if event.owner.generation != suspect.generation:
        # The record has changed hands since we learned of it, or nobody knew.
        return replace(suspect, generation=event.owner.generation), AskAgain()
    return suspect, Challenge(event.owner)


def _after_probe(suspect: Suspect, now: float) -> tuple[Suspect, Action | None]:
    if suspect.owner is None:
        return suspect, FindOwner() if suspect.silent >= FAILED_PROBES else None
    expired = now - suspect.since >= ANSWER_WITHIN_S
    return suspect, Withdraw(suspect.owner) if expired or not suspect.silent else None


def neighbours(answered: Iterable[str], mine: Collection[str]) -> set[str]:
    """Return the two members that follow each of `mine` in the set.

    Each family of addresses is a ring of its own: a machine without IPv6 could only find that no member answers by it.
    """
    found: set[str] = set()
    for own in mine:
        ring = sorted(each for each in answered if (":" in each) == (":" in own))
        found.update(([each for each in ring if each > own] + ring)[:2])
    return found.difference(mine)


def generation_of(host: str) -> str:
    """Return the generation in the name of a service's host: `GENERATION.rc.DOMAIN`."""
    return host.partition(".")[0]


def challenger(me: Owner, told: Join) -> str:
    """Name this watcher in a challenge. All sets of a domain share a member's challenges, so the set is named too."""
    if isinstance(told, Route53Join):
        return f"{told.incarnation}.{told.service}/{me.generation}"
    return me.generation


class CrashMonitor:
    """The watching of one membership.

    `look_up` asks the name servers. `reach` asks the member at an answer of DNS, by its generation, whether it lives; None: it cannot be
    asked, and nothing follows. `doubt` is called after each challenge: one of the two machines may have an old key. Raises what
    `registry` raises; what was not done is tried at the next call.
    """

    def __init__(
        self,
        told: Join,
        registry: Registry,
        *,
        look_up: Callable[[str], frozenset[str] | None],
        reach: Callable[[str, str], bool | None],
        clock: Callable[[], float],
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._told, self._registry = told, registry
        self._look_up, self._reach, self._clock, self._doubt = look_up, reach, clock, doubt
        self._suspects: dict[str, Suspect] = {}

    @property
    def challenged(self) -> frozenset[Owner]:
        """The members with a challenge of this watcher."""
        return frozenset(each.owner for each in self._suspects.values() if each.owner)

    def answer(self, me: Owner) -> None:
        """Take away the challenges for this machine: it lives."""
        if self._look_up(challenge_name(me, self._told)):
            self._registry.challenge(me, False)
            self._doubt()

    def watch(self, me: Owner, answered: Collection[str], mine: Collection[str]) -> None:
        """Probe the neighbours of `mine` among the `answered` members, and do what follows from it."""
        watched = neighbours(answered, mine)
        for key in self._suspects.keys() - watched:
            self._follow(me, key, Unwatched())
            del self._suspects[key]
        for key in sorted(watched):
            self._suspects.setdefault(key, self._unknown(key))
            self._follow(me, key, self._probed(key))
            suspect, now = self._suspects[key], self._clock()
            if suspect.owner and suspect.since > now and self._look_up(challenge_name(suspect.owner, self._told)):
                self._follow(me, key, ChallengeSeen(now=now))

    def _unknown(self, key: str) -> Suspect:
        """A member that was not watched before, with the generation that its host name or the provider's last list has."""
        host = isinstance(self._told, Route53Join)
        return Suspect(generation=generation_of(key) if host else self._registry.generations.get(key, ""))

    def _probed(self, key: str) -> Probed | None:
        alive = self._reach(key, self._suspects[key].generation)
        return None if alive is None else Probed(alive=alive, now=self._clock())

    def _follow(self, me: Owner, key: str, event: Event | None) -> None:
        while event is not None:
            self._suspects[key], action = step(self._suspects[key], event)
            event = self._do(me, key, action) if action else None

    def _do(self, me: Owner, key: str, action: Action) -> Event | None:
        """Carry out one action; what it gave, if anything follows from that."""
        registry, by = self._registry, challenger(me, self._told)
        if isinstance(action, FindOwner):
            owner = registry.owner_at(key)
            return OwnerFound(owner=owner, ours=owner is not None and owner.stack == me.stack)
        if isinstance(action, AskAgain):
            return self._probed(key)
        if isinstance(action, Challenge):
            registry.challenge(action.owner, True, by)
            log.warning("challenged silent=%s owner=%s", key, action.owner)
            self._doubt()
            return Challenged(owner=action.owner, now=self._clock())
        if isinstance(action, Withdraw):
            unanswered = registry.challenge(action.owner, False, by)
            if not unanswered and self._suspects[key].silent:
                log.warning("lives silent=%s owner=%s look='is UDP %d blocked?'", key, action.owner, probe.PORT)
            return Withdrawn(unanswered=unanswered)
        registry.leave(action.owner)
        log.warning("removed dead=%s owner=%s", key, action.owner)
        # Answers of DNS may show it for a while yet.
        self._suspects[key] = Suspect(silent=-PROBE_COOLDOWN)
        return None
