"""components.commands.census: a machine that is not in the program, the state, a roll call and its cloud is named with what lacks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.commands.census import Missing, StateMachine, missing
from components.model import Instance, Member

MEMBER = Member(fleet="web", machine="0", generation="aaaaaa", instance="i-00000000000000001")
IN_STATE = StateMachine(member=MEMBER)
SEEN = Instance(instance=MEMBER.instance, fleet="web", machine="0", generation="aaaaaa", running=True, state="running")
WHO = "web-0 (i-00000000000000001)"
GOING = replace(IN_STATE, going=True, counted=False)
SUCCESSOR = StateMachine(member=replace(MEMBER, generation="bbbbbb", instance="i-00000000000000002"))
ITS_MACHINE = replace(SEEN, generation="bbbbbb", instance="i-00000000000000002")


def test_a_machine_that_is_everywhere_is_not_a_difference() -> None:
    assert missing("web", 1, [IN_STATE], [SEEN]) == Missing()
    assert missing("web", 0, [], []) == Missing()


@pytest.mark.parametrize(
    ("count", "in_state", "seen", "lacks", "message"),
    [
        (1, [], [], "in_state", "web-0 is in the program and not in the state"),
        (2, [IN_STATE], [SEEN], "in_state", "web-1 is in the program and not in the state"),
        (0, [IN_STATE], [SEEN], "in_program", f"{WHO} is in the state and not in the program"),
        (None, [IN_STATE], [SEEN], "in_program", f"{WHO} is in the state and not in the program"),
        (1, [replace(IN_STATE, counted=False)], [SEEN], "in_roll_call", f"{WHO} is in the state and in no roll call"),
        (1, [IN_STATE], [], "in_cloud", f"{WHO} is in the state and its cloud does not list it"),
        (
            1,
            [IN_STATE],
            [replace(SEEN, state="terminated", running=False)],
            "in_cloud",
            f"{WHO} is in the state and its",
        ),
        (
            1,
            [IN_STATE],
            [replace(SEEN, state="stopped", running=False)],
            "in_cloud",
            f"{WHO} does not run, its cloud says",
        ),
        (1, [GOING, SUCCESSOR], [SEEN, ITS_MACHINE], "in_program", f"{WHO} is in the state to be deleted"),
    ],
)
def test_what_one_of_them_lacks_is_named(
    count: int | None, in_state: list[StateMachine], seen: list[Instance], lacks: str, message: str
) -> None:
    found = missing("web", count, in_state, seen)
    (line,) = getattr(found, lacks)
    assert line.startswith(message)
    assert replace(found, **{lacks: ()}) == Missing()


def test_a_machine_that_only_waits_for_its_deletion_is_not_the_one_that_the_program_wants() -> None:
    found = missing("web", 1, [GOING], [SEEN])
    assert found.in_state == ("web-0 is in the program and not in the state: `pulumi up` makes it",)
