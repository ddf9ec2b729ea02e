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
from rollcall.host_label import generation_of
from rollcall.ownership import Owner
from rollcall.registry import Registry
from rollcall.settings import Join, Route53Join, challenge_name

# With two failed probes before it, an agent that is away for 30 s is not removed.
ANSWER_WITHIN_S = 24.0
# Route53 updates its name servers within a minute.
PROPAGATION_LIMIT_S = 60.0
# A machine that cannot see a challenge in DNS asks to be waited for so long, and looks for one by the API at least every READ_LATEST_S.
LATE_S, READ_S, READ_LATEST_S, READ_EACH_S = 300, 60.0, 120.0, 0.5
# How long name servers must not answer, or not show this machine, until it does not rely on them.
UNANSWERED_S, UNSEEN_S = 10.0, 120.0
# After such a pause in between it starts anew: a machine that was unhealthy was not in DNS.
UNCOMPARED_S = 30.0
# After so many unanswered probes in a row a member is challenged; after a challenge that it answered it has time.
FAILED_PROBES, PROBE_COOLDOWN = 2, 16
_LATE = "late-"
log = logging.getLogger("rollcall")


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A watched member. `generation` is what it is asked for (empty: not known), `silent` counts unanswered probes in a row, `owner` is
    set while it is challenged, and it has `patience` seconds after `since` to answer."""

    generation: str = ""
    silent: int = 0
    owner: Owner | None = None
    since: float = 0.0
    patience: float = ANSWER_WITHIN_S


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
class Patience:
    """How long this member asks to be waited for: it cannot see a challenge in DNS, and looks for it by the provider's API."""

    seconds: float
    now: float


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """The challenge was taken away; `unanswered`: it was still there."""

    unanswered: bool


@dataclass(frozen=True)
class Unwatched:
    """The member is no longer a neighbour, or no longer in the set."""


Event = Probed | Unwatched | OwnerFound | Challenged | ChallengeSeen | Patience | Withdrawn


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
class AskPatience:
    """Look whether the member asks to be waited for longer."""

    owner: Owner


@dataclass(frozen=True)
class Withdraw:
    """Take this watcher's challenge away."""

    owner: Owner


@dataclass(frozen=True)
class Remove:
    """Remove the dead member's records."""

    owner: Owner


Action = FindOwner | AskAgain | Challenge | AskPatience | Withdraw | Remove


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
    if isinstance(event, Patience):
        return _after_patience(replace(suspect, patience=max(ANSWER_WITHIN_S, event.seconds)), event.now)
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
    if not suspect.silent:
        return suspect, Withdraw(suspect.owner)
    return suspect, AskPatience(suspect.owner) if now - suspect.since >= suspect.patience else None


def _after_patience(suspect: Suspect, now: float) -> tuple[Suspect, Action | None]:
    expired = suspect.owner is not None and now - suspect.since >= suspect.patience
    return suspect, Withdraw(suspect.owner) if suspect.owner and expired else None


def neighbours(answered: Iterable[str], mine: Collection[str]) -> set[str]:
    """Return the two members that follow each of `mine` in the set.

    Each family of addresses is a ring of its own: a machine without IPv6 could only find that no member answers by it.
    """
    found: set[str] = set()
    for own in mine:
        ring = sorted(each for each in answered if (":" in each) == (":" in own))
        found.update(([each for each in ring if each > own] + ring)[:2])
    return found.difference(mine)


def challenger(me: Owner, told: Join) -> str:
    """Name this watcher in a challenge. All sets of a domain share a member's challenges, so the set is named too."""
    if isinstance(told, Route53Join):
        return f"{told.incarnation}.{told.service}/{me.generation}"
    return me.generation


def patience_of(challengers: Iterable[str]) -> float:
    """Return for how many seconds a member asks to be waited for, by what stands beside its challenges."""
    numbers = (each.removeprefix(_LATE).partition("/")[0] for each in challengers if each.startswith(_LATE))
    return max((min(float(each), LATE_S) for each in numbers if each.isdecimal()), default=0.0)


class CrashMonitor:
    """The watching of one membership.

    `look_up` asks the name servers, any of them, and `everywhere` all of them. `reach` asks the member at an answer of DNS, by its
    generation, whether it lives; None: it cannot be asked, and nothing follows. `doubt` is called after each challenge: one of the two
    machines may have an old key. Raises what `registry` raises, when all members were looked at; what was not done is tried at the next
    call.
    """

    def __init__(
        self,
        told: Join,
        registry: Registry,
        *,
        look_up: Callable[[str], frozenset[str] | None],
        everywhere: Callable[[str], frozenset[str] | None],
        reach: Callable[[str, str], bool | None],
        clock: Callable[[], float],
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._told, self._registry = told, registry
        self._look_up, self._everywhere = look_up, everywhere
        self._reach, self._clock, self._doubt = reach, clock, doubt
        self._suspects: dict[str, Suspect] = {}
        self._answered = clock()
        self._compared = self._unseen_since = 0.0
        self._without_me = ""
        self._late = False
        self._next_read = 0.0
        self.note = ""
        self._faults: list[Exception] = []

    @property
    def challenged(self) -> frozenset[Owner]:
        """The members with a challenge of this watcher."""
        return frozenset(each.owner for each in self._suspects.values() if each.owner)

    def answer(self, me: Owner, *, joined: bool = True) -> None:
        """Take away the challenges for this machine: it lives. One that has not joined asks for no patience."""
        texts, now = self._look_up(challenge_name(me, self._told)), self._clock()
        self._answered = now if texts is not None else self._answered
        self._say(self._blind(now))
        if self.note and joined:
            self._answer_late(me, now)
        elif texts or self._late:
            self._registry.challenge(me, False)
            self._late = False
            if texts:
                self._doubt()

    def compare(self, name: str, answered: Collection[str] | None, mine: Collection[str]) -> None:
        """Note whether the name servers show this machine's own entry, which the provider has."""
        if answered is None:
            return
        now, before = self._clock(), self._compared
        self._compared = now
        if {*mine} <= {*answered}:
            self._without_me = ""
            return
        if not self._without_me or now - before > UNCOMPARED_S:
            self._unseen_since = now
        others = ", ".join(sorted(answered)) or "nothing"
        self._without_me = f"the name servers answer {others} for {name}, without {', '.join(sorted(mine))}"

    def end(self, me: Owner) -> None:
        """This machine leaves: it asks for no patience."""
        if self._late:
            self._registry.challenge(me, False, self._patience())
            self._late = False

    def _blind(self, now: float) -> str:
        """Why this machine cannot rely on seeing a challenge in DNS, or nothing."""
        if now - self._answered >= UNANSWERED_S:
            return f"no name server of {self._told.domain} can be asked"
        if self._without_me and now - self._unseen_since >= UNSEEN_S:
            return f"{self._without_me}: a split horizon?"
        return ""

    def _say(self, why: str) -> None:
        consequence = f"challenges are looked for by the API, and the others wait {LATE_S} s for an answer"
        note = f"{why}; {consequence}" if why else ""
        if note.partition(";")[0] != self.note.partition(";")[0]:
            log.warning("%s", note or f"the name servers of {self._told.domain} show this machine again")
        self.note = note

    def _patience(self) -> str:
        """The text beside challenges that asks the others to wait; each set has its own."""
        place = f"/{self._told.incarnation}.{self._told.service}" if isinstance(self._told, Route53Join) else ""
        return f"{_LATE}{LATE_S}{place}"

    def _answer_late(self, me: Owner, now: float) -> None:
        """Look for challenges by the API, now and then, and have the watchers wait for that."""
        if not self._late:
            self._registry.challenge(me, True, self._patience())
            self._late = True
        if now < self._next_read:
            return
        self._next_read = now + min(max(READ_S, READ_EACH_S * self._registry.size), READ_LATEST_S)
        others = [by for by in self._registry.challengers(me) if not by.startswith(_LATE)]
        for by in others:
            self._registry.challenge(me, False, by)
        if others:
            self._doubt()

    def watch(self, me: Owner, answered: Collection[str], mine: Collection[str]) -> None:
        """Probe the neighbours of `mine` among the `answered` members, and do what follows from it."""
        self._faults = []
        watched = neighbours(answered, mine)
        for key in self._suspects.keys() - watched:
            self._follow(me, key, Unwatched())
            del self._suspects[key]
        for key in sorted(watched):
            self._suspects.setdefault(key, self._unknown(key))
            self._follow(me, key, self._probed(key))
            suspect, now = self._suspects[key], self._clock()
            if suspect.owner and suspect.since > now and self._everywhere(challenge_name(suspect.owner, self._told)):
                self._follow(me, key, ChallengeSeen(now=now))
        if self._faults:
            raise self._faults[0]

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
            event = self._attempt(me, key, action) if action else None

    def _attempt(self, me: Owner, key: str, action: Action) -> Event | None:
        """Carry out one action. What it raises is kept for the end of the round: one member's records hide no other member's death."""
        try:
            return self._do(me, key, action)
        except Exception as fault:  # noqa: BLE001 - raised when all were looked at
            self._faults.append(fault)
            return None

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
        if isinstance(action, AskPatience):
            seconds = patience_of(registry.challengers(action.owner))
            if seconds > self._suspects[key].patience:
                log.warning("waits silent=%s owner=%s seconds=%.0f reason='it sees no DNS'", key, action.owner, seconds)
            return Patience(seconds=seconds, now=self._clock())
        if isinstance(action, Withdraw):
            unanswered = registry.challenge(action.owner, False, by)
            if not unanswered and self._suspects[key].silent:
                log.warning("lives silent=%s owner=%s look='is UDP %d blocked?'", key, action.owner, probe.PORT)
            return Withdrawn(unanswered=unanswered)
        registry.leave(action.owner)
        for late in (each for each in registry.challengers(action.owner) if each.startswith(_LATE)):
            registry.challenge(action.owner, False, late)
        log.warning("removed dead=%s owner=%s", key, action.owner)
        # Answers of DNS may show it for a while yet.
        self._suspects[key] = Suspect(silent=-PROBE_COOLDOWN)
        return None
