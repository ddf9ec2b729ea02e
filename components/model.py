"""Define the values that the packages share: machines, record sets, DNS records, and what should be there.

No I/O, no clock, no logging.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rollcall.in_place import HOLD, Hold, parse_hold
from rollcall.ownership import Owner
from rollcall.settings import PRIVATE, PUBLIC

# The generation of a machine that Rollcall did not boot. `rollcall adopt` writes it into the marks of its records.
BY_HAND = "000000"
GOING = ("shutting-down", "terminated", "deleted", "destroyed")


@dataclass(frozen=True, order=True, kw_only=True)
class Member:
    """A machine in the stack's state.

    `instance` is the cloud's id, `machine` its name in the fleet (`0`, `1`, …). `stack` is the stack id that it was
    created with, where the stack has been renamed since.
    """

    fleet: str
    machine: str
    generation: str
    instance: str
    stack: str = ""

    @property
    def name(self) -> str:
        return f"{self.fleet}-{self.machine}"

    def as_inputs(self) -> dict[str, str]:
        """Return it as a RollCall's inputs have it. These name the fleet and the stack only once."""
        made_by = {"stack": self.stack} if self.stack else {}
        return {"machine": self.machine, "generation": self.generation, "instance": self.instance, **made_by}


@dataclass(frozen=True, order=True)
class RecordKey:
    """The name and the type of a record set, for example `www.scalability.expert` and `A`."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.name} {self.type}"


@dataclass(frozen=True, kw_only=True)
class ExpectedRecordSet:
    """A record set that must have the members of a fleet: all of them, or with `shards` those of shard `shard` (from 0).

    `value` is the value of each member (`10 20 4218 {generation}.rc.unilans.net.`, or the same with the host label of a later
    registration, rollcall.host_label). It is empty where the value is the member's address. Its kind is `address`
    (rollcall.settings.PUBLIC or PRIVATE). `private`: it is in a private zone, which only resolvers of its VPCs can ask. A `shared` record
    set has records of other stacks too. `beside`: a record set with the same members; a fault there is not reported again here.
    """

    key: RecordKey
    value: str = ""
    shard: int = 0
    shards: int = 1
    shared: bool = False
    beside: RecordKey | None = None
    address: str = PUBLIC
    private: bool = False

    def holds(self, member: Member) -> bool:
        return int(member.machine) % self.shards == self.shard


@dataclass(frozen=True, order=True, kw_only=True)
class DnsRecord:
    """One value of a record set, as the DNS provider's API lists it. Sorted by name and type first.

    - `owner` is the machine that its ownership mark names; None: it has no mark.
    - `id` is the provider's id.
    - `dead`: it leads to a name below Rollcall's label that has no record.
    - `alone`: no other machine may use its name.
    - `kept`: its mark says that the machine is unhealthy and stays, because too few others are left.
    - `leaving`: its host's mark says that the machine has left the record sets or is about to. The host stays for
      callers
      with a cached SRV value (docs/decisions/0014).
    """

    key: RecordKey
    value: str
    owner: Owner | None
    id: str = ""
    dead: bool = False
    alone: bool = False
    kept: bool = False
    leaving: bool = False


@dataclass(frozen=True, order=True, kw_only=True)
class Instance:
    """A machine as its cloud lists it.

    `running` is what the API says. `addresses` are the public ones (empty: none yet), and `private_addresses` those that record sets with
    private addresses have. `note` is what the machine or its
    cloud reports about it. `since` is when it was created, as its cloud writes it. `live` are the settings that the
    program writes to running machines (rollcall.in_place.LIVE). `store` is the setting for the machine's release store, and
    `releases` those for the digests of its workloads, by workload. A machine that changes in place has none of them.
    """

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
    live: Mapping[str, str] = field(default_factory=dict, compare=False)
    store: str = ""
    releases: Mapping[str, str] = field(default_factory=dict, compare=False)
    private_addresses: tuple[str, ...] = ()

    def addresses_of(self, kind: str) -> tuple[str, ...]:
        """Return the addresses for record sets of a kind (`ExpectedRecordSet.address`)."""
        return self.private_addresses if kind == PRIVATE else self.addresses

    @property
    def hold(self) -> Hold | None:
        """Why an operator keeps the machine out of DNS; None: nobody does."""
        return parse_hold(self.live[HOLD]) if HOLD in self.live else None


@dataclass(frozen=True, order=True, kw_only=True)
class ForeignRecord:
    """A foreign record that an `up` has shown, so that later previews do not.

    `stack` is the stack that its ownership mark names (empty: it has no mark).
    """

    key: RecordKey
    value: str
    stack: str = ""

    def as_inputs(self) -> dict[str, str]:
        """Return it as plain JSON, as the state has it."""
        return {"name": self.key.name, "type": self.key.type, "value": self.value, "stack": self.stack}

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, str]) -> ForeignRecord:
        return cls(key=RecordKey(inputs["name"], inputs["type"]), value=inputs["value"], stack=inputs["stack"])


@dataclass(frozen=True, kw_only=True)
class DesiredState:
    """What should be in DNS: each of `members` of the stack's `fleet` in each of `record_sets`. `leaving` may be there, too.

    `fleets` are all fleets of the stack, with those that are about to be removed; a record of any other fleet is a
    leftover record. The fleet with `keeper` set is responsible for the machines of such fleets at its location.
    `acknowledged` are foreign records that an earlier `up` has shown. `former_stacks` are the ids that the stack had
    before it was renamed: their records are not foreign.
    """

    stack: str
    fleet: str
    members: tuple[Member, ...]
    record_sets: tuple[ExpectedRecordSet, ...]
    leaving: tuple[Member, ...] = ()
    fleets: tuple[str, ...] = ()
    keeper: bool = False
    acknowledged: tuple[ForeignRecord, ...] = ()
    former_stacks: tuple[str, ...] = ()

    @property
    def stacks(self) -> tuple[str, ...]:
        return (self.stack, *self.former_stacks)


def describe(member: Member) -> str:
    return f"{member.name} ({member.instance})"


def member_of(machine: Instance) -> Member:
    """Return the member that a machine is, by the tags in its cloud."""
    return Member(
        fleet=machine.fleet, machine=machine.machine, generation=machine.generation, instance=machine.instance
    )
