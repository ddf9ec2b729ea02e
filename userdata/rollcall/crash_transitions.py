"""The crash monitor's decisions: two pure state machines, without I/O and without a clock. `crash_monitor.py` carries them out.

`step` follows one watched member (`Suspect`): silent, challenged, removed. `step_sight` follows this machine itself (`Sight`): a machine
that cannot see challenges in DNS asks the others to wait, and looks for challenges by the provider's API. docs/architecture.md draws both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rollcall.ownership import Owner
from rollcall.timers import seconds

# Together with the two failed probes before it, this lets an agent be absent for 30 s without being removed.
ANSWER_WITHIN_S = seconds("answer-within", 24.0)
# Route53 updates its name servers within a minute.
PROPAGATION_LIMIT_S = 60.0
# A machine that cannot see a challenge in DNS asks the others to wait for LATE_S, and reads the API at least every READ_LATEST_S.
LATE_S, READ_S, READ_LATEST_S, READ_EACH_S = 300, 60.0, 120.0, 0.5
# After so long a time without an answer of the name servers, or without this machine in it, the machine does not rely on them.
UNANSWERED_S, UNSEEN_S = 10.0, 120.0
# After such a pause between two comparisons the time starts from zero, because a machine that was unhealthy was not in DNS.
UNCOMPARED_S = 30.0
# After FAILED_PROBES unanswered probes in a row a member is challenged. After a challenge that it answered, it may
# fail PROBE_COOLDOWN more.
FAILED_PROBES, PROBE_COOLDOWN = 2, 16
# A resolver may hide a challenge for so long, and the machine still answers it in time.
HIDDEN_LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A watched member.

    `generation` is the one that probes ask for (empty: not known). `silent` counts unanswered probes in a row. `owner` is set while the
    member is challenged. It has `patience` seconds after `since` to answer.
    """

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
    """The DNS provider returned the owner of a silent member's record. `ours`: it belongs to this stack."""

    owner: Owner | None
    ours: bool


@dataclass(frozen=True, kw_only=True)
class Challenged:
    """The challenge is in the zone. Name servers may show it later."""

    owner: Owner
    now: float


@dataclass(frozen=True, kw_only=True)
class ChallengeSeen:
    """The name servers answer with the challenge, so its member can find it."""

    now: float


@dataclass(frozen=True, kw_only=True)
class Patience:
    """The member asks the others to wait so long, because it cannot see a challenge in DNS and reads the provider's API instead."""

    seconds: float
    now: float


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """The challenge was removed; `unanswered`: it was still there."""

    unanswered: bool


@dataclass(frozen=True)
class Removed:
    """The dead member's records are gone from the provider."""


@dataclass(frozen=True)
class Unwatched:
    """The member is no longer a neighbour, or no longer in the set."""


Event = Probed | Unwatched | OwnerFound | Challenged | ChallengeSeen | Patience | Withdrawn | Removed


@dataclass(frozen=True)
class FindOwner:
    """Ask the DNS provider for the owner of this record."""


@dataclass(frozen=True)
class SearchAgain:
    """Probe the member again: it was asked for a generation that its record no longer names."""


@dataclass(frozen=True)
class Challenge:
    """Put a challenge for this member into the zone."""

    owner: Owner


@dataclass(frozen=True)
class AskPatience:
    """Read whether the member asks the others to wait longer."""

    owner: Owner


@dataclass(frozen=True)
class Withdraw:
    """Remove this watcher's challenge."""

    owner: Owner


@dataclass(frozen=True)
class Remove:
    """Remove the dead member's records."""

    owner: Owner


Action = FindOwner | SearchAgain | Challenge | AskPatience | Withdraw | Remove


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
    if isinstance(event, Removed):
        # Cached answers of DNS may still show it for a while.
        return Suspect(silent=-PROBE_COOLDOWN), None
    return _after_withdrawal(suspect, event)


def _after_withdrawal(suspect: Suspect, event: Withdrawn) -> tuple[Suspect, Action | None]:
    rested = Suspect(generation=suspect.generation, silent=-PROBE_COOLDOWN if suspect.silent else 0)
    if event.unanswered and suspect.silent and suspect.owner:
        # If the removal fails, challenge the member again first: it may run again by then.
        return replace(rested, silent=FAILED_PROBES), Remove(suspect.owner)
    # The member runs. If probes do not reach it from here, that may last, so the next challenge is not urgent.
    return rested, None


def _after_owner(suspect: Suspect, event: OwnerFound) -> tuple[Suspect, Action | None]:
    if event.owner is None or not event.ours:
        # A foreign record, or one that is removed already. Do not ask the provider again soon.
        return Suspect(silent=-PROBE_COOLDOWN), None
    if event.owner.generation != suspect.generation:
        # The record's owner has changed since we read it, or it was not known.
        return replace(suspect, generation=event.owner.generation), SearchAgain()
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


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Whether this machine sees its own challenges in DNS. Times are in seconds of one clock.

    `answered` is when a name server last answered. `without_me` says what the name servers answer instead of this machine's record
    (empty: they show it), since `unseen_since`. They were last compared at `compared`. `late`: this machine asks the others to wait. The
    API is read again from `next_read` on. For `hidden` seconds resolvers remember that there is no challenge. `reason` says why this
    machine does not rely on DNS (empty: it does).
    """

    domain: str
    answered: float
    without_me: str = ""
    unseen_since: float = 0.0
    compared: float = 0.0
    late: bool = False
    next_read: float = 0.0
    hidden: float = 0.0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class ChallengesQueried:
    """The name servers were asked for challenges for this machine.

    `texts` None: no name server answered. `size` is how many records the set has. `joined`: this machine is in the set. `hidden`: for so
    many seconds resolvers remember that a name does not exist; 0 if no resolver was asked.
    """

    texts: frozenset[str] | None
    now: float
    size: int = 0
    joined: bool = True
    hidden: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The answer for the set `name` was compared with this machine's own records."""

    name: str
    answered: frozenset[str]
    mine: frozenset[str]
    now: float


@dataclass(frozen=True, kw_only=True)
class PatienceRequested:
    """The others have been asked to wait."""

    now: float
    size: int = 0


@dataclass(frozen=True)
class Answered:
    """This machine's challenges, and its request to wait, were removed."""


@dataclass(frozen=True)
class Leaving:
    """This machine leaves the set."""


SightEvent = ChallengesQueried | Compared | PatienceRequested | Answered | Leaving


@dataclass(frozen=True)
class AskToWait:
    """Ask the others to wait, by a text beside this machine's challenges."""


@dataclass(frozen=True)
class ReadChallenges:
    """Read challenges by the provider's API, and remove them."""


@dataclass(frozen=True)
class Answer:
    """Remove all challenges for this machine; `challenged`: DNS has shown one."""

    challenged: bool


@dataclass(frozen=True)
class StopAsking:
    """Remove this machine's request to wait."""


SightAction = AskToWait | ReadChallenges | Answer | StopAsking


def step_sight(sight: Sight, event: SightEvent) -> tuple[Sight, SightAction | None]:
    """Return the next state of this machine's sight, and what must be done before the next event."""
    if isinstance(event, ChallengesQueried):
        return _after_query(sight, event)
    if isinstance(event, Compared):
        return _after_comparison(sight, event), None
    if isinstance(event, PatienceRequested):
        return _read(replace(sight, late=True), event.now, event.size)
    if isinstance(event, Leaving):
        return sight, StopAsking() if sight.late else None
    return replace(sight, late=False), None


def _after_query(sight: Sight, event: ChallengesQueried) -> tuple[Sight, SightAction | None]:
    answered = sight.answered if event.texts is None else event.now
    sight = replace(sight, answered=answered, hidden=event.hidden)
    sight = replace(sight, reason=_blind(sight, event.now))
    if sight.reason and event.joined:
        return _read(sight, event.now, event.size) if sight.late else (sight, AskToWait())
    if event.texts or sight.late:
        return sight, Answer(challenged=bool(event.texts))
    return sight, None


def _read(sight: Sight, now: float, size: int) -> tuple[Sight, SightAction | None]:
    """Read challenges by the API from time to time: less often in a large set, since all its members ask the same API."""
    if now < sight.next_read:
        return sight, None
    return replace(sight, next_read=now + min(max(READ_S, READ_EACH_S * size), READ_LATEST_S)), ReadChallenges()


def _after_comparison(sight: Sight, event: Compared) -> Sight:
    if event.mine <= event.answered:
        return replace(sight, compared=event.now, without_me="")
    again = not sight.without_me or event.now - sight.compared > UNCOMPARED_S
    others, mine = ", ".join(sorted(event.answered)) or "nothing", ", ".join(sorted(event.mine))
    return replace(
        sight,
        compared=event.now,
        unseen_since=event.now if again else sight.unseen_since,
        without_me=f"the name servers answer {others} for {event.name}, without {mine}",
    )


def _blind(sight: Sight, now: float) -> str:
    """Return why this machine cannot rely on DNS to show a challenge; empty if it can."""
    if now - sight.answered >= UNANSWERED_S:
        return f"no name server of {sight.domain} can be asked"
    if sight.hidden > HIDDEN_LIMIT_S:
        return f"the resolvers remember for {sight.hidden:.0f} s that a name of {sight.domain} does not exist"
    if sight.without_me and now - sight.unseen_since >= UNSEEN_S:
        return f"{sight.without_me}: a split horizon?"
    return ""
