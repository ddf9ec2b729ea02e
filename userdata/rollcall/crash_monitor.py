"""Decide which members of a record set are alive, and remove the records that a crash left there.

Each member watches the next two in the set. It asks by a signed datagram whether the member that the record names runs at the record's
address (`rollcall.probe`). Silence alone removes no member, because a broken network path causes the same silence as a crash. The watcher
challenges a silent member: it puts a TXT into the zone, and a live member finds and removes this TXT. If the challenge is still there after
`ANSWER_WITHIN_S`, the watcher removes the member's records (docs/decisions/0005).

`crash_transitions.py` decides, without I/O and without a clock. `CrashMonitor` probes, and carries out the decisions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable

from rollcall import probe
from rollcall.crash_transitions import (
    LATE_S,
    Action,
    Answer,
    Answered,
    AskPatience,
    AskToWait,
    Challenge,
    Challenged,
    ChallengeSeen,
    ChallengesQueried,
    Compared,
    Event,
    FindOwner,
    Leaving,
    OwnerFound,
    Patience,
    PatienceRequested,
    Probed,
    ReadChallenges,
    Removed,
    SearchAgain,
    Sight,
    SightAction,
    SightEvent,
    Suspect,
    Unwatched,
    Withdraw,
    Withdrawn,
    step,
    step_sight,
)
from rollcall.host_label import generation_of
from rollcall.ownership import Owner
from rollcall.registry import Registry
from rollcall.settings import Join, challenge_name

_LATE = "late-"
log = logging.getLogger("rollcall")


def neighbours(answered: Iterable[str], mine: Collection[str]) -> set[str]:
    """Return the two members that follow each of `mine` in the set.

    Each family of addresses is a separate ring: a machine without IPv6 could only find that no member answers over IPv6.
    """
    found: set[str] = set()
    for own in mine:
        ring = sorted(each for each in answered if (":" in each) == (":" in own))
        found.update(([each for each in ring if each > own] + ring)[:2])
    return found.difference(mine)


def challenger(me: Owner, join: Join) -> str:
    """Return the name of this watcher in a challenge. All sets of a domain share a member's challenges, so it contains the set too."""
    return f"{join.challenger_suffix}/{me.generation}".lstrip("/")


def patience_of(challengers: Iterable[str]) -> float:
    """Return how many seconds a member asks the others to wait, by the texts beside its challenges."""
    numbers = (each.removeprefix(_LATE).partition("/")[0] for each in challengers if each.startswith(_LATE))
    return max((min(float(each), LATE_S) for each in numbers if each.isdecimal()), default=0.0)


class CrashMonitor:
    """The crash monitor of one membership.

    `look_up` asks any of the name servers, and `everywhere` asks all of them. `reach` asks the member at an answer of DNS, by its
    generation, whether it runs (None: it cannot be asked, so nothing is decided). `doubt` is called after each challenge, because one of
    the two machines may have an old key. `hidden` says for how many seconds a challenge may be hidden by resolvers. `watch` raises what
    `registry` raises, after it has checked all members. The next call tries again what failed.
    """

    def __init__(
        self,
        join: Join,
        registry: Registry,
        *,
        look_up: Callable[[str], frozenset[str] | None],
        everywhere: Callable[[str], frozenset[str] | None],
        reach: Callable[[str, str], bool | None],
        clock: Callable[[], float],
        doubt: Callable[[], None] = lambda: None,
        hidden: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._join, self._registry = join, registry
        self._look_up, self._everywhere = look_up, everywhere
        self._reach, self._clock, self._doubt, self._hidden = reach, clock, doubt, hidden
        self._suspects: dict[str, Suspect] = {}
        self._sight = Sight(domain=join.domain, answered=clock())
        self._faults: list[Exception] = []

    @property
    def note(self) -> str:
        """The reason why this machine cannot see its challenges in DNS, and the consequence; empty if it can."""
        consequence = f"challenges are looked for by the API, and the others wait {LATE_S} s for an answer"
        return f"{self._sight.reason}; {consequence}" if self._sight.reason else ""

    @property
    def challenged(self) -> frozenset[Owner]:
        """The members with a challenge of this watcher."""
        return frozenset(each.owner for each in self._suspects.values() if each.owner)

    def answer(self, me: Owner, *, joined: bool = True) -> None:
        """Remove the challenges for this machine, because it runs. A machine that has not joined does not ask the others to wait."""
        texts, reason = self._look_up(challenge_name(me, self._join)), self._sight.reason
        event = ChallengesQueried(
            texts=texts, now=self._clock(), size=self._registry.size, joined=joined, hidden=self._hidden()
        )
        self._sight, action = step_sight(self._sight, event)
        if self._sight.reason != reason:
            log.warning("%s", self.note or f"the name servers of {self._join.domain} show this machine again")
        self._follow_sight(me, action)

    def compare(self, name: str, answered: Collection[str] | None, mine: Collection[str]) -> None:
        """Note whether the name servers show this machine's own record. The provider has it."""
        if answered is None:
            return
        event = Compared(name=name, answered=frozenset(answered), mine=frozenset(mine), now=self._clock())
        self._sight, _ = step_sight(self._sight, event)

    def end(self, me: Owner) -> None:
        """Stop asking the others to wait, because this machine leaves."""
        self._sight, action = step_sight(self._sight, Leaving())
        self._follow_sight(me, action)

    def _follow_sight(self, me: Owner, action: SightAction | None) -> None:
        while action is not None:
            event = self._do_sight(me, action)
            self._sight, action = step_sight(self._sight, event) if event else (self._sight, None)

    def _do_sight(self, me: Owner, action: SightAction) -> SightEvent | None:
        """Carry out one action for this machine's own challenges. Return the event that follows, if any."""
        registry = self._registry
        if isinstance(action, AskToWait):
            registry.challenge(me, True, self._patience())
            return PatienceRequested(now=self._clock(), size=registry.size)
        if isinstance(action, ReadChallenges):
            others = [by for by in registry.challengers(me) if not by.startswith(_LATE)]
            for by in others:
                registry.challenge(me, False, by)
            if others:
                self._doubt()
            return None
        if isinstance(action, Answer):
            registry.challenge(me, False)
            if action.challenged:
                self._doubt()
            return Answered()
        registry.challenge(me, False, self._patience())
        return Answered()

    def _patience(self) -> str:
        """Return the text beside challenges that asks the others to wait. Each set has a different one."""
        return f"{_LATE}{LATE_S}{self._join.challenger_suffix}"

    def watch(self, me: Owner, answered: Collection[str], mine: Collection[str]) -> None:
        """Probe the neighbours of `mine` among the `answered` members, and carry out what follows."""
        self._faults = []
        watched = neighbours(answered, mine)
        for key in self._suspects.keys() - watched:
            self._follow(me, key, Unwatched())
            del self._suspects[key]
        for key in sorted(watched):
            self._suspects.setdefault(key, self._unknown(key))
            self._follow(me, key, self._probed(key))
            suspect, now = self._suspects[key], self._clock()
            if suspect.owner and suspect.since > now and self._everywhere(challenge_name(suspect.owner, self._join)):
                self._follow(me, key, ChallengeSeen(now=now))
        if self._faults:
            raise self._faults[0]

    def _unknown(self, key: str) -> Suspect:
        """Return the state of a member that was not watched before. Its generation comes from its host name or the provider's last list."""
        known = generation_of(key) if self._join.HAS_HOSTS else self._registry.generations.get(key, "")
        return Suspect(generation=known)

    def _probed(self, key: str) -> Probed | None:
        alive = self._reach(key, self._suspects[key].generation)
        return None if alive is None else Probed(alive=alive, now=self._clock())

    def _follow(self, me: Owner, key: str, event: Event | None) -> None:
        while event is not None:
            self._suspects[key], action = step(self._suspects[key], event)
            event = self._attempt(me, key, action) if action else None

    def _attempt(self, me: Owner, key: str, action: Action) -> Event | None:
        """Carry out one action. Keep what it raises for the end of the round, so that the other members are still checked."""
        try:
            return self._do(me, key, action)
        except Exception as fault:  # noqa: BLE001 - raised after all members were checked
            self._faults.append(fault)
            return None

    def _do(self, me: Owner, key: str, action: Action) -> Event | None:
        """Carry out one action. Return the event that follows, if any."""
        registry, by = self._registry, challenger(me, self._join)
        if isinstance(action, FindOwner):
            owner = registry.owner_at(key)
            return OwnerFound(owner=owner, ours=owner is not None and owner.stack == me.stack)
        if isinstance(action, SearchAgain):
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
                log.warning("lives silent=%s owner=%s fix='open UDP %d'", key, action.owner, probe.PORT)
            return Withdrawn(unanswered=unanswered)
        registry.leave(action.owner)
        for late in (each for each in registry.challengers(action.owner) if each.startswith(_LATE)):
            registry.challenge(action.owner, False, late)
        log.warning("removed dead=%s owner=%s", key, action.owner)
        return Removed()
