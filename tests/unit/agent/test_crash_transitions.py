"""rollcall.crash_transitions: which state and which action follow from an event, as tables; no clock, no network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollcall.crash_monitor import neighbours, patience_of
from rollcall.crash_transitions import (
    ANSWER_WITHIN_S,
    FAILED_PROBES,
    LATE_S,
    PROBE_COOLDOWN,
    PROPAGATION_LIMIT_S,
    READ_EACH_S,
    READ_LATEST_S,
    READ_S,
    UNANSWERED_S,
    UNCOMPARED_S,
    UNSEEN_S,
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
    Remove,
    Removed,
    SearchAgain,
    Sight,
    SightAction,
    SightEvent,
    StopAsking,
    Suspect,
    Unwatched,
    Withdraw,
    Withdrawn,
    step,
    step_sight,
)
from rollcall.ownership import Owner

DEAD = Owner("local", "web", "0", "ab12cd", "i-0123456789abcdef0")
KNOWN = Suspect(generation=DEAD.generation)
SILENT = Suspect(generation=DEAD.generation, silent=FAILED_PROBES)
ACCUSED = Suspect(generation=DEAD.generation, silent=FAILED_PROBES, owner=DEAD, since=100.0)
PATIENT = Suspect(generation=DEAD.generation, silent=FAILED_PROBES, owner=DEAD, since=100.0, patience=300.0)
LATE = 100.0 + ANSWER_WITHIN_S


@pytest.mark.parametrize(("before", "event", "after", "action"), [
    (KNOWN, Probed(alive=True, now=0), KNOWN, None),
    (SILENT, Probed(alive=True, now=0), KNOWN, None),
    (KNOWN, Probed(alive=False, now=0), Suspect(generation="ab12cd", silent=1), None),
    (Suspect(silent=FAILED_PROBES - 1), Probed(alive=False, now=0), Suspect(silent=FAILED_PROBES), FindOwner()),
    (Suspect(silent=-1), Probed(alive=False, now=0), Suspect(), None),
    # The record's owner
    (SILENT, OwnerFound(owner=DEAD, ours=True), SILENT, Challenge(DEAD)),
    (SILENT, OwnerFound(owner=DEAD, ours=False), Suspect(silent=-PROBE_COOLDOWN), None),
    (SILENT, OwnerFound(owner=None, ours=False), Suspect(silent=-PROBE_COOLDOWN), None),
    (Suspect(silent=2), OwnerFound(owner=DEAD, ours=True), SILENT, SearchAgain()),
    (Suspect(generation="fe98dc", silent=2), OwnerFound(owner=DEAD, ours=True), SILENT, SearchAgain()),
    # The challenge
    (SILENT, Challenged(owner=DEAD, now=100.0 - PROPAGATION_LIMIT_S), ACCUSED, None),
    (ACCUSED, ChallengeSeen(now=60.0), Suspect(generation="ab12cd", silent=2, owner=DEAD, since=60.0), None),
    (ACCUSED, ChallengeSeen(now=160.0), ACCUSED, None),
    (ACCUSED, Probed(alive=False, now=LATE - 1), Suspect(generation="ab12cd", silent=3, owner=DEAD, since=100.0), None),
    (ACCUSED, Probed(alive=False, now=LATE), Suspect(generation="ab12cd", silent=3, owner=DEAD, since=100.0), AskPatience(DEAD)),
    (ACCUSED, Patience(seconds=0, now=LATE), ACCUSED, Withdraw(DEAD)),
    (ACCUSED, Patience(seconds=300, now=LATE), PATIENT, None),
    (PATIENT, Probed(alive=False, now=399), replace(PATIENT, silent=3), None),
    (PATIENT, Probed(alive=False, now=400), replace(PATIENT, silent=3), AskPatience(DEAD)),
    (PATIENT, Patience(seconds=300, now=400), PATIENT, Withdraw(DEAD)),
    (PATIENT, Probed(alive=True, now=200), replace(PATIENT, silent=0), Withdraw(DEAD)),
    (ACCUSED, Probed(alive=True, now=LATE - 1), Suspect(generation="ab12cd", owner=DEAD, since=100.0), Withdraw(DEAD)),
    # What its withdrawal showed
    (ACCUSED, Withdrawn(unanswered=True), SILENT, Remove(DEAD)),
    (ACCUSED, Withdrawn(unanswered=False), Suspect(generation="ab12cd", silent=-PROBE_COOLDOWN), None),
    (Suspect(generation="ab12cd", owner=DEAD), Withdrawn(unanswered=True), KNOWN, None),
    (SILENT, Removed(), Suspect(silent=-PROBE_COOLDOWN), None),
    # No longer a neighbour
    (SILENT, Unwatched(), KNOWN, None),
    (ACCUSED, Unwatched(), Suspect(generation="ab12cd", owner=DEAD, since=100.0), Withdraw(DEAD)),
])  # fmt: skip
def test_a_step(before: Suspect, event: Event, after: Suspect, action: Action | None) -> None:
    assert step(before, event) == (after, action)


@pytest.mark.parametrize(("challengers", "seconds"), [
    ((), 0), (("ab12cd",), 0), (("late-300",), 300), (("ab12cd", "late-300/v1._s._tcp", "late-60"), 300), (("late-",), 0),
    (("late-999999999",), 300), (("late--5", "late-x"), 0),
])  # fmt: skip
def test_how_long_a_member_asks_to_be_waited_for(challengers: tuple[str, ...], seconds: float) -> None:
    assert patience_of(challengers) == seconds


def test_an_agent_that_is_away_for_thirty_seconds_is_not_removed() -> None:
    """Each probe at the worst moment, seven seconds apart, and a name server that has the challenge at once."""
    suspect, now = KNOWN, 0.0
    action: Action | None = None
    while not isinstance(action, AskPatience):
        suspect, action = step(suspect, Probed(alive=False, now=now))
        if isinstance(action, FindOwner):
            suspect, _ = step(suspect, Challenged(owner=DEAD, now=now))
            suspect, _ = step(suspect, ChallengeSeen(now=now))
        now += 7.0
    assert 30 < now - 7.0 < 50


@pytest.mark.parametrize(("answered", "mine", "watched"), [
    ("abcd", "a", "bc"), ("abcd", "c", "ad"), ("abcd", "d", "ab"), ("ab", "a", "b"), ("a", "a", ""), ("", "a", ""), ("bc", "a", "bc"),
])  # fmt: skip
def test_each_watches_the_two_that_follow_it(answered: str, mine: str, watched: str) -> None:
    assert neighbours(answered, mine) == {*watched}


SEES = Sight(domain="example.org", answered=100.0)
NO_SERVER = "no name server of example.org can be asked"
BLIND = replace(SEES, reason=NO_SERVER)
LATE_ONE = replace(BLIND, late=True)
UNSHOWN = "the name servers answer 10.0.0.1 for www.example.org, without 198.51.100.1"
HIDDEN = replace(SEES, without_me=UNSHOWN, unseen_since=100.0, compared=100.0)
MINE, OTHERS = frozenset({"198.51.100.1"}), frozenset({"10.0.0.1"})
NONE: frozenset[str] = frozenset()
TEXT = frozenset({"challenge"})


def compared(answered: frozenset[str], now: float) -> Compared:
    return Compared(name="www.example.org", answered=answered, mine=MINE, now=now)


@pytest.mark.parametrize(("before", "event", "after", "action"), [
    # It sees DNS
    (SEES, ChallengesQueried(texts=NONE, now=110), replace(SEES, answered=110), None),
    (SEES, ChallengesQueried(texts=TEXT, now=110), replace(SEES, answered=110), Answer(challenged=True)),
    (SEES, ChallengesQueried(texts=None, now=100 + UNANSWERED_S - 1), SEES, None),
    # No name server answers
    (SEES, ChallengesQueried(texts=None, now=100 + UNANSWERED_S), BLIND, AskToWait()),
    (SEES, ChallengesQueried(texts=None, now=100 + UNANSWERED_S, joined=False), BLIND, None),
    (BLIND, ChallengesQueried(texts=None, now=200), BLIND, AskToWait()),
    (BLIND, PatienceRequested(now=200), replace(LATE_ONE, next_read=200 + READ_S), ReadChallenges()),
    (BLIND, PatienceRequested(now=200, size=150), replace(LATE_ONE, next_read=200 + 150 * READ_EACH_S), ReadChallenges()),
    (BLIND, PatienceRequested(now=200, size=9999), replace(LATE_ONE, next_read=200 + READ_LATEST_S), ReadChallenges()),
    (replace(LATE_ONE, next_read=260), ChallengesQueried(texts=None, now=259), replace(LATE_ONE, next_read=260), None),
    (replace(LATE_ONE, next_read=260), ChallengesQueried(texts=None, now=260), replace(LATE_ONE, next_read=320), ReadChallenges()),
    # It sees DNS again, or leaves
    (LATE_ONE, ChallengesQueried(texts=NONE, now=200), replace(LATE_ONE, answered=200, reason=""), Answer(challenged=False)),
    (LATE_ONE, ChallengesQueried(texts=None, now=200, joined=False), LATE_ONE, Answer(challenged=False)),
    (LATE_ONE, Answered(), BLIND, None),
    (LATE_ONE, Leaving(), LATE_ONE, StopAsking()),
    (BLIND, Leaving(), BLIND, None),
    # The name servers do not show it
    (SEES, compared(MINE | OTHERS, 100), replace(SEES, compared=100), None),
    (SEES, compared(OTHERS, 100), HIDDEN, None),
    (HIDDEN, compared(OTHERS, 100 + UNCOMPARED_S), replace(HIDDEN, compared=100 + UNCOMPARED_S), None),
    (HIDDEN, compared(OTHERS, 101 + UNCOMPARED_S), replace(HIDDEN, compared=101 + UNCOMPARED_S, unseen_since=101 + UNCOMPARED_S), None),
    (HIDDEN, compared(MINE, 110), replace(HIDDEN, compared=110, without_me=""), None),
    (HIDDEN, ChallengesQueried(texts=NONE, now=99 + UNSEEN_S), replace(HIDDEN, answered=99 + UNSEEN_S), None),
    (HIDDEN, ChallengesQueried(texts=NONE, now=100 + UNSEEN_S),
     replace(HIDDEN, answered=100 + UNSEEN_S, reason=f"{UNSHOWN}: a split horizon?"), AskToWait()),
])  # fmt: skip
def test_a_step_of_the_sight_state_machine(
    before: Sight, event: SightEvent, after: Sight, action: SightAction | None
) -> None:
    assert step_sight(before, event) == (after, action)


def test_the_others_wait_longer_than_a_blind_machine_needs_to_read_its_challenges() -> None:
    assert LATE_S > 2 * READ_LATEST_S
