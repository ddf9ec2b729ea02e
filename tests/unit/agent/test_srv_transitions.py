"""rollcall.srv_transitions: which state and which action follow from an event, as tables; no clock, no network, no chance."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from rollcall.errors import TransientError
from rollcall.route53api import ConflictError
from rollcall.srv_transitions import (
    ASK_AGAIN_S,
    CONFLICT_S,
    PATIENCE,
    ROUNDS,
    TRIES,
    Action,
    AskDns,
    Decided,
    Done,
    Event,
    Failed,
    FindFormer,
    FormerFound,
    Host,
    HostsRemoved,
    HostWritten,
    Join,
    Leave,
    LeaveIfEnough,
    LeaveUnhealthy,
    Mark,
    Marked,
    NotShown,
    Phase,
    Raise,
    RemoveHosts,
    SetFound,
    SetWritten,
    Shown,
    Tidied,
    Tidy,
    WriteHost,
    Writer,
    WriteSet,
    next_call,
    step,
)

A, B = "198.51.100.1", "198.51.100.2"
ONE, TWO = "aaaaaa.rc.example.org", "bbbbbb.rc.example.org"
DOWN, RACE = TransientError("reason=api-failing"), ConflictError("reason=contended")
JOIN = Join(A, was_used=False)

NEW = Writer()
OVER = Writer(host=Host.UNKNOWN)
CREATING = Writer(phase=Phase.HOST)
READING = Writer(phase=Phase.HOST, host=Host.UNKNOWN)
CREATED = Writer(host=Host.WRITTEN, addresses=A)
AGAIN = replace(CREATED, retries=True)
WAITING = replace(AGAIN, phase=Phase.WAITING, changed=True)
WRITING = replace(CREATED, phase=Phase.RECORD_SET, changed=True)
ADDED = replace(WRITING, added=frozenset({TWO}), values=("1", "2"))
MARKING = Writer(phase=Phase.MARKS, host=Host.UNKNOWN)
LEAVING = replace(MARKING, phase=Phase.RECORD_SET, leaving=(ONE, TWO), pending=(ONE, TWO))
DYING = replace(LEAVING, removes_hosts=True)
REMOVING = replace(DYING, phase=Phase.REMOVAL, pending=(), changed=True)
UNHEALTHY = Writer(phase=Phase.UNHEALTHY, host=Host.UNKNOWN)


def failed(writer: Writer) -> Writer:
    return replace(writer, phase=Phase.IDLE, retries=True)


ROWS: list[tuple[Writer, Event, Writer, Action]] = [
    # The host
    (NEW, JOIN, CREATING, WriteHost(create=True)),
    (NEW, Join(A, was_used=True), Writer(phase=Phase.FORMER, host=Host.UNKNOWN), FindFormer()),
    (Writer(phase=Phase.FORMER, host=Host.UNKNOWN), FormerFound(A), READING, WriteHost(create=False)),
    (OVER, JOIN, READING, WriteHost(create=False)),
    (OVER, Join(A, was_used=True), READING, WriteHost(create=False)),
    (CREATING, Failed(RACE, conflict=True), READING, WriteHost(create=False)),
    (CREATING, Failed(DOWN), failed(CREATING), Raise(DOWN)),
    (READING, Failed(RACE, conflict=True), failed(READING), Raise(RACE)),
    (CREATING, HostWritten(A, changed=True), WRITING, WriteSet()),
    (READING, HostWritten(A, changed=False), Writer(phase=Phase.RECORD_SET, host=Host.UNKNOWN, addresses=A), WriteSet()),
    (AGAIN, Join(B, was_used=False), replace(AGAIN, phase=Phase.HOST), WriteHost(create=True)),
    # Another machine may write the value
    (AGAIN, JOIN, replace(WAITING, changed=False), AskDns()),
    (AGAIN, Join(A, was_used=True), replace(WAITING, changed=False), AskDns()),
    (replace(READING, retries=True), HostWritten(A, changed=False),
     Writer(phase=Phase.RECORD_SET, host=Host.UNKNOWN, addresses=A, retries=True), WriteSet()),
    (WAITING, Shown(), OVER, Done(changed=True)),
    (WAITING, NotShown(chance=0), replace(WAITING, queries=1), AskDns(ASK_AGAIN_S)),
    (replace(WAITING, queries=1), NotShown(chance=1), replace(WAITING, queries=2), AskDns(ASK_AGAIN_S)),
    (replace(WAITING, queries=1), NotShown(chance=0), replace(WAITING, queries=1, phase=Phase.RECORD_SET), WriteSet()),
    (replace(WAITING, queries=PATIENCE - 1), NotShown(chance=PATIENCE - 1),
     replace(WAITING, queries=PATIENCE - 1, phase=Phase.RECORD_SET), WriteSet(pause=ASK_AGAIN_S)),
    (WAITING, Failed(DOWN), failed(WAITING), Raise(DOWN)),
    # The record set
    (WRITING, SetFound(), OVER, Done(changed=True)),
    (replace(WRITING, changed=False), SetFound(), OVER, Done(changed=False)),
    (WRITING, SetWritten(("1",), frozenset(), changed=False), replace(WRITING, values=("1",)), Tidy()),
    (replace(WRITING, changed=False), SetWritten(("1", "2"), frozenset({TWO}), changed=True), ADDED, Tidy()),
    (replace(WRITING, values=("1",)), Tidied(), OVER, Done(changed=True)),
    (ADDED, Tidied(), replace(ADDED, writes=1), WriteSet(pause=(0, 0))),
    (replace(ADDED, writes=3), Tidied(), replace(ADDED, writes=4), WriteSet(pause=(0, 1.5))),
    (replace(ADDED, writes=ROUNDS - 2), Tidied(), replace(ADDED, writes=ROUNDS - 1), WriteSet(pause=(0, ROUNDS / 2 - 1))),
    (replace(ADDED, writes=ROUNDS - 1), Tidied(), replace(ADDED, writes=ROUNDS), WriteSet(adds=False, pause=(0, (ROUNDS - 1) / 2))),
    (replace(ADDED, writes=TRIES - 1), Tidied(), OVER, Done(changed=True)),
    (ADDED, Failed(RACE, conflict=True), replace(ADDED, writes=1), WriteSet(pause=(0, 0))),
    (ADDED, Failed(DOWN), replace(ADDED, writes=1), WriteSet(pause=(0, 0))),
    (WRITING, Failed(RACE, conflict=True), failed(WRITING), Raise(RACE)),
    (failed(WRITING), JOIN, replace(WAITING, changed=False), AskDns()),
    # It leaves
    (CREATED, Leave(removes_hosts=False), MARKING, Mark()),
    (CREATED, Leave(removes_hosts=True), replace(MARKING, removes_hosts=True), Mark()),
    (MARKING, Marked((ONE, TWO)), LEAVING, WriteSet(host=ONE)),
    (MARKING, Marked(()), OVER, Done(changed=False)),
    (LEAVING, SetFound(), replace(LEAVING, pending=(TWO,)), WriteSet(host=TWO)),
    (replace(LEAVING, added=frozenset({"c"})), Tidied(),
     replace(LEAVING, added=frozenset({"c"}), writes=1), WriteSet(pause=(0, 0), host=ONE)),
    (replace(LEAVING, pending=(TWO,), changed=True), Tidied(), OVER, Done(changed=True)),
    (replace(DYING, pending=(TWO,), changed=True), Tidied(), REMOVING, RemoveHosts((ONE, TWO))),
    (REMOVING, HostsRemoved(changed=False), OVER, Done(changed=True)),
    (replace(REMOVING, changed=False), HostsRemoved(changed=True), OVER, Done(changed=True)),
    (replace(REMOVING, changed=False), HostsRemoved(changed=False), OVER, Done(changed=False)),
    # A leave that failed begins where it must
    (MARKING, Failed(RACE, conflict=True), failed(MARKING), Raise(RACE)),
    (failed(MARKING), Leave(removes_hosts=False), MARKING, Mark()),
    (replace(LEAVING, pending=(TWO,)), Failed(RACE, conflict=True), failed(replace(LEAVING, pending=(TWO,))), Raise(RACE)),
    (failed(replace(LEAVING, pending=(TWO,))), Leave(removes_hosts=False), LEAVING, WriteSet(host=ONE)),
    (REMOVING, Failed(DOWN), failed(REMOVING), Raise(DOWN)),
    (failed(REMOVING), Leave(removes_hosts=True), DYING, WriteSet(host=ONE)),
    (REMOVING, Failed(RACE, conflict=True), failed(replace(REMOVING, leaving=())), Raise(RACE)),
    (failed(LEAVING), JOIN, replace(READING, retries=True), WriteHost(create=False)),
    # It is unhealthy
    (CREATED, LeaveUnhealthy(), UNHEALTHY, LeaveIfEnough()),
    (UNHEALTHY, Decided(), OVER, Done(changed=False)),
    (UNHEALTHY, Failed(RACE, conflict=True), replace(UNHEALTHY, writes=1), LeaveIfEnough(CONFLICT_S)),
    (replace(UNHEALTHY, writes=TRIES - 1), Failed(RACE, conflict=True), failed(replace(UNHEALTHY, writes=TRIES - 1)), Raise(RACE)),
    (UNHEALTHY, Failed(DOWN), failed(UNHEALTHY), Raise(DOWN)),
]  # fmt: skip


@pytest.mark.parametrize(("before", "event", "after", "action"), ROWS)
def test_a_step(before: Writer, event: Event, after: Writer, action: Action) -> None:
    assert step(before, event) == (after, action)


def test_the_table_has_every_event_and_every_action() -> None:
    assert {type(event) for _, event, _, _ in ROWS} == {*get_args(Event)}
    assert {type(action) for *_, action in ROWS} == {*get_args(Action)}


@pytest.mark.parametrize(("writer", "known"), [
    (NEW, NEW), (OVER, OVER), (CREATED, AGAIN), (failed(WRITING), AGAIN),
    (failed(CREATING), NEW), (failed(READING), OVER), (failed(REMOVING), OVER), (failed(UNHEALTHY), OVER),
    (replace(READING, addresses=A, retries=True), OVER),
])  # fmt: skip
def test_what_is_known_at_the_next_call(writer: Writer, known: Writer) -> None:
    assert next_call(writer) == known
