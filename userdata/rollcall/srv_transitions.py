"""Decide what a machine does next in the SRV record set of its service: a state machine without I/O, clock and chance.

`route53.py` carries it out. docs/architecture.md draws it. A record set changes by compare-and-swap, so two machines that write it at once
are in conflict. A machine that writes it therefore writes the values of all machines that wait, and the others see the result in DNS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from rollcall.errors import TransientError

# How often a machine writes the record set in one call, in how many of these it adds other machines, and how often it asks DNS before.
TRIES, ROUNDS, PATIENCE = 25, 6, 8
# Seconds between two questions to DNS, and before another try of an unhealthy machine.
ASK_AGAIN_S, CONFLICT_S = (0.5, 1.5), (0.0, 0.5)
# A pause lasts a random number of seconds between the two.
Pause = tuple[float, float] | None


class Host(Enum):
    """What a machine knows of its host's records."""

    # They are not there, so they can be created without a read.
    ABSENT = auto()
    # This machine created them, and perhaps no SRV value leads to them yet.
    WRITTEN = auto()
    # They must be read before they are written.
    UNKNOWN = auto()


class Phase(Enum):
    """What was asked for last."""

    IDLE = auto()
    # Find the hosts of earlier registrations.
    FORMER = auto()
    HOST = auto()
    # Ask DNS for the value that another machine may write.
    WAITING = auto()
    RECORD_SET = auto()
    # Say at the hosts that they leave.
    MARKS = auto()
    REMOVAL = auto()
    UNHEALTHY = auto()


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A machine that writes an SRV record set.

    `addresses` are those with which the host was written (None: not known). `retries`: an earlier try failed, probably because many
    machines join at once. `queries` counts questions to DNS, `writes` tries to write. `added` are the other machines whose values the last
    write added, and `values` all that it wrote. `leaving` are the hosts that say that they leave, and `pending` those that the record set
    may still have. `removes_hosts`: the hosts are removed together with their values.
    """

    phase: Phase = Phase.IDLE
    host: Host = Host.ABSENT
    addresses: str | None = None
    retries: bool = False
    queries: int = 0
    writes: int = 0
    changed: bool = False
    added: frozenset[str] = frozenset()
    values: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    removes_hosts: bool = False


def next_call(writer: Writer) -> Writer:
    """Return what is still known at the next call, which may come much later."""
    written = writer.host is Host.WRITTEN
    return Writer(host=writer.host, addresses=writer.addresses if written else None, retries=written)


@dataclass(frozen=True)
class Join:
    """The machine must be in the record set with these addresses. `was_used`: an earlier process has used its host name."""

    addresses: str
    was_used: bool


@dataclass(frozen=True)
class FormerFound:
    """The hosts of earlier registrations were found."""

    addresses: str


@dataclass(frozen=True)
class HostWritten:
    """The host has these addresses."""

    addresses: str
    changed: bool


@dataclass(frozen=True)
class Shown:
    """The name servers answer with this machine's host."""


@dataclass(frozen=True)
class NotShown:
    """They do not answer with it. `chance` is a random number below PATIENCE."""

    chance: int


@dataclass(frozen=True)
class SetFound:
    """The record set has what this machine wants."""


@dataclass(frozen=True)
class SetWritten:
    """The record set has `values`, with the hosts `added` of other machines. `changed`: it was written."""

    values: tuple[str, ...]
    added: frozenset[str]
    changed: bool


@dataclass(frozen=True)
class Tidied:
    """The records of dead machines and of earlier registrations were removed."""


@dataclass(frozen=True)
class Leave:
    """The machine must not be in the record set. `removes_hosts`: remove its hosts at once, because it is dead."""

    removes_hosts: bool


@dataclass(frozen=True)
class Marked:
    """These hosts say that they leave."""

    hosts: tuple[str, ...]


@dataclass(frozen=True)
class HostsRemoved:
    """The hosts were removed."""

    changed: bool


@dataclass(frozen=True)
class LeaveUnhealthy:
    """The machine is unhealthy."""


@dataclass(frozen=True)
class Decided:
    """An unhealthy machine has left, or stays because it must."""


@dataclass(frozen=True)
class Failed:
    """A request failed. `conflict`: another machine has changed the records since they were read."""

    fault: TransientError
    conflict: bool = False


Event = (
    Join
    | FormerFound
    | HostWritten
    | Shown
    | NotShown
    | SetFound
    | SetWritten
    | Tidied
    | Leave
    | Marked
    | HostsRemoved
    | LeaveUnhealthy
    | Decided
    | Failed
)


@dataclass(frozen=True)
class FindFormer:
    """Find the hosts of earlier registrations. They stay until callers have forgotten them."""


@dataclass(frozen=True)
class WriteHost:
    """Write the host's records. `create`: without a read; this fails if there are any."""

    create: bool


@dataclass(frozen=True)
class AskDns:
    """Ask the name servers for the record set, after `pause`."""

    pause: Pause = None


@dataclass(frozen=True)
class WriteSet:
    """Read and write the record set, after `pause`.

    `host` is the one to write (empty: the present one). `adds`: with the values of the machines that wait.
    """

    adds: bool = True
    pause: Pause = None
    host: str = ""


@dataclass(frozen=True)
class Tidy:
    """Remove the records of dead machines and of earlier registrations that the snapshot of the last write had."""


@dataclass(frozen=True)
class Mark:
    """Say at all hosts of this machine that they leave."""


@dataclass(frozen=True)
class RemoveHosts:
    """Remove these hosts."""

    hosts: tuple[str, ...]


@dataclass(frozen=True)
class LeaveIfEnough:
    """Leave if enough other machines stay, after `pause`."""

    pause: Pause = None


@dataclass(frozen=True)
class Done:
    """End the call. `changed`: a record was changed."""

    changed: bool


@dataclass(frozen=True)
class Raise:
    """End the call with this error."""

    fault: TransientError


Action = FindFormer | WriteHost | AskDns | WriteSet | Tidy | Mark | RemoveHosts | LeaveIfEnough | Done | Raise
Step = tuple[Writer, Action]


def step(writer: Writer, event: Event) -> Step:
    """Return the next state, and what must be done before the next event."""
    if isinstance(event, Join | FormerFound | HostWritten | Shown | NotShown):
        return _join(writer, event)
    if isinstance(event, SetFound | SetWritten | Tidied):
        return _after_set(writer, event)
    if isinstance(event, Failed):
        return _after_failure(writer, event)
    return _leave(writer, event)


def _join(writer: Writer, event: Join | FormerFound | HostWritten | Shown | NotShown) -> Step:
    if isinstance(event, Join):
        writer = Writer(host=writer.host, addresses=writer.addresses, retries=writer.retries)
        if writer.host is Host.ABSENT and event.was_used:
            # The records of the earlier process may still be there.
            return replace(writer, phase=Phase.FORMER, host=Host.UNKNOWN), FindFormer()
        if writer.addresses != event.addresses:
            return replace(writer, phase=Phase.HOST), WriteHost(create=writer.host is not Host.UNKNOWN)
        return _after_host(writer)
    if isinstance(event, FormerFound):
        return replace(writer, phase=Phase.HOST), WriteHost(create=False)
    if isinstance(event, HostWritten):
        host = Host.UNKNOWN if writer.host is Host.UNKNOWN else Host.WRITTEN
        return _after_host(replace(writer, host=host, addresses=event.addresses, changed=event.changed))
    if isinstance(event, Shown):
        return _done(replace(writer, changed=True))
    # The longer DNS does not show our value, the more probable it is that we write the values of all machines that wait.
    if event.chance < writer.queries:
        return _write_set(writer)
    queries = writer.queries + 1
    if queries == PATIENCE:
        return _write_set(writer, ASK_AGAIN_S)
    return replace(writer, queries=queries), AskDns(ASK_AGAIN_S)


def _after_host(writer: Writer) -> Step:
    if writer.host is Host.WRITTEN and writer.retries:
        return replace(writer, phase=Phase.WAITING), AskDns()
    return _write_set(writer)


def _write_set(writer: Writer, pause: Pause = None) -> Step:
    host = writer.pending[0] if writer.pending else ""
    return replace(writer, phase=Phase.RECORD_SET), WriteSet(writer.writes < ROUNDS, pause, host)


def _after_set(writer: Writer, event: SetFound | SetWritten | Tidied) -> Step:
    if isinstance(event, SetWritten):
        changed = writer.changed or event.changed
        return replace(writer, values=event.values, added=event.added, changed=changed), Tidy()
    return _after_write(writer)


def _after_write(writer: Writer) -> Step:
    """Write again as long as a write adds other machines: they may have left meanwhile, and more may have come.

    They read after they have written that they leave, and we write after we have read.
    """
    writer = replace(writer, writes=writer.writes + 1)
    if writer.added and writer.writes < TRIES:
        return _write_set(writer, (0.0, (writer.writes - 1) / 2))
    writer = replace(writer, writes=0, added=frozenset(), values=(), pending=writer.pending[1:])
    if writer.pending:
        return _write_set(writer)
    if writer.removes_hosts:
        return replace(writer, phase=Phase.REMOVAL), RemoveHosts(writer.leaving)
    return _done(writer)


def _leave(writer: Writer, event: Leave | Marked | HostsRemoved | LeaveUnhealthy | Decided) -> Step:
    if isinstance(event, Leave):
        leaving = writer.leaving
        writer = Writer(host=Host.UNKNOWN, leaving=leaving, pending=leaving, removes_hosts=event.removes_hosts)
        # The mark comes first, because a machine that adds missing hosts would write our values again.
        return _write_set(writer) if leaving else (replace(writer, phase=Phase.MARKS), Mark())
    if isinstance(event, Marked):
        writer = replace(writer, leaving=event.hosts, pending=event.hosts)
        return _write_set(writer) if event.hosts else _done(writer)
    if isinstance(event, LeaveUnhealthy):
        return Writer(phase=Phase.UNHEALTHY, host=Host.UNKNOWN), LeaveIfEnough()
    return _done(replace(writer, changed=writer.changed or (isinstance(event, HostsRemoved) and event.changed)))


def _after_failure(writer: Writer, event: Failed) -> Step:
    if writer.phase is Phase.HOST and event.conflict and writer.host is not Host.UNKNOWN:
        return replace(writer, host=Host.UNKNOWN), WriteHost(create=False)
    if writer.phase is Phase.RECORD_SET and writer.added:
        return _after_write(writer)
    if writer.phase is Phase.UNHEALTHY and event.conflict and writer.writes < TRIES - 1:
        return replace(writer, writes=writer.writes + 1), LeaveIfEnough(CONFLICT_S)
    if writer.phase is Phase.REMOVAL and event.conflict:
        # The hosts must be read and marked again.
        writer = replace(writer, leaving=())
    return replace(writer, phase=Phase.IDLE, retries=True), Raise(event.fault)


def _done(writer: Writer) -> Step:
    return Writer(host=Host.UNKNOWN), Done(writer.changed)
