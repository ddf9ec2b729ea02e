"""The values that the packages share: machines, record sets, DNS records, and what should be there. No I/O, no clock, no logging."""

from __future__ import annotations

from dataclasses import dataclass

from rollcall.ownership import Owner

# The generation of a machine that Rollcall did not boot: `rollcall adopt` marks its entries so.
BY_HAND = "000000"
GOING = ("shutting-down", "terminated", "deleted", "destroyed")


@dataclass(frozen=True, order=True, kw_only=True)
class Member:
    """A machine in the stack's state. `instance` is the cloud's id, `machine` its name in the fleet (`0`, `1`, …). `stack` is the stack
    id that it was made with, where the stack has been renamed since."""

    fleet: str
    machine: str
    generation: str
    instance: str
    stack: str = ""

    @property
    def name(self) -> str:
        return f"{self.fleet}-{self.machine}"

    def as_inputs(self) -> dict[str, str]:
        """As a RollCall's inputs have it, which name the fleet once, and the stack."""
        made_by = {"stack": self.stack} if self.stack else {}
        return {"machine": self.machine, "generation": self.generation, "instance": self.instance, **made_by}


@dataclass(frozen=True, order=True, kw_only=True)
class Stand:
    """A record set in which members of a fleet stand: all of them, or with `shards` those whose number it is (from 0).

    `value` is what each must stand there with (`10 20 4218 {generation}.rc.unilans.net.`, or with the host of a later registration,
    rollcall.host_label); empty where it is the member's public address. At a `shared` place other stacks stand by right, in names of
    their own. `beside`: the record set with the same members, whose fault counts for both.
    """

    place: str
    value: str = ""
    shard: int = 0
    shards: int = 1
    shared: bool = False
    beside: str = ""

    def holds(self, member: Member) -> bool:
        return int(member.machine) % self.shards == self.shard


@dataclass(frozen=True, order=True, kw_only=True)
class DnsRecord:
    """One value in DNS, as its API lists it. `place` is the record set (`www.scalability.expert A`), `owner` who the
    ownership text names (None: nobody of ours), `id` what its API calls it. `dead`: it leads to a name of Rollcall's where
    nothing stands, so it is nobody's any more. `alone`: its name is its owner's alone. `kept`:
    by its mark its owner is unhealthy, and stays since too few others are there."""

    place: str
    value: str
    owner: Owner | None
    id: str = ""
    dead: bool = False
    alone: bool = False
    kept: bool = False


@dataclass(frozen=True, order=True, kw_only=True)
class Instance:
    """A machine as its cloud lists it. `running` is what the API says; `addresses` are the public ones (empty: none yet);
    `note` is what the machine or its cloud says of it; `since` when it was made, as its cloud writes it."""

    instance: str
    fleet: str
    machine: str
    generation: str
    running: bool
    addresses: tuple[str, ...] = ()
    state: str = ""
    drained: bool = False
    note: str = ""
    since: str = ""


@dataclass(frozen=True, kw_only=True)
class DesiredState:
    """What is asked for: `members` of the stack's `fleet` must stand at each of `stands`; `leaving` may but need not.

    `fleets` are all fleets that the stack has or is about to give up; an entry of any other fleet is left over wherever it
    stands. The fleet with `keeper` set answers for the machines of such fleets in its place. `acknowledged` are foreign
    entries that an earlier `up` has shown. `former_stacks` are ids that the stack had before it was renamed: what has them is not
    foreign.
    """

    stack: str
    fleet: str
    members: tuple[Member, ...]
    stands: tuple[Stand, ...]
    leaving: tuple[Member, ...] = ()
    fleets: tuple[str, ...] = ()
    keeper: bool = False
    acknowledged: tuple[str, ...] = ()
    former_stacks: tuple[str, ...] = ()

    @property
    def stacks(self) -> tuple[str, ...]:
        return (self.stack, *self.former_stacks)


def describe(member: Member) -> str:
    return f"{member.name} ({member.instance})"
