"""Find the networks of a Triton fleet's machines: those that it names, or else the only ones of its data centre that fit.

CloudAPI's ListNetworks says of each network whether it is `public` (its addresses are reached from the internet) and
whether it is a `fabric` (private to the account): docs/index.md of sdc-cloudapi, and translateNetwork in its
lib/endpoints/networks.js.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from components.config.joins import joins_by_address
from components.config.models import FleetSettings, Settings
from components.joyent.catalogue import is_uuid
from components.joyent.records import NetworkRecord
from rollcall.settings import PRIVATE, PUBLIC


class NetworksError(Exception):
    """A fleet's networks cannot be used. The message names its key, the existing networks and the fix."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What a fleet joins with its public addresses, and what with its private ones, by the names in `joins`."""

    public: tuple[str, ...] = ()
    private: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, fleet: FleetSettings) -> Joined:
        found = joins_by_address(settings, fleet)
        return cls(public=found[PUBLIC], private=found[PRIVATE])


@dataclass(frozen=True, kw_only=True)
class Datacenter:
    """A data centre with the networks that the account may use there.

    `name` is asked for only where a message needs it.
    """

    name: Callable[[], str]
    networks: Sequence[NetworkRecord]

    def resolve(self, fleet: FleetSettings, joined: Joined | None = None) -> tuple[FleetSettings, tuple[str, ...]]:
        """Return the fleet with the names of its machines' networks, and the networks' ids. Raises NetworksError.

        A network named by the fleet keeps the fleet's word for it. By default, a fleet joins everything with public addresses.
        """
        joined = joined or Joined(public=fleet.joins)
        found = self._named(fleet) if fleet.networks else self._default(fleet, joined)
        self._check(fleet, joined, found)
        words = fleet.networks or tuple(self._word(each) for each in found)
        return replace(fleet, networks=words), tuple(each.id for each in found)

    def notes(self, fleet: FleetSettings, ids: Sequence[str]) -> tuple[str, ...]:
        """Return what an operator should know of a fleet on these networks."""
        on = [each for each in self.networks if each.id in ids]
        if not on or any(each.public or not each.fabric or each.internet_nat for each in on):
            return ()
        return (
            f"{fleet.name}: its machines are only on {self._list(on)}, which has no NAT to the internet (internet_nat: false): they"
            " must reach DNS, its API and their packages in another way",
        )

    def _default(self, fleet: FleetSettings, joined: Joined) -> list[NetworkRecord]:
        """Return the only public network where the fleet needs one, then the only fabric network where it needs one."""
        public = [self._only_public(fleet)] if joined.public else []
        return public + ([self._only_fabric(fleet, joined)] if joined.private else [])

    def _named(self, fleet: FleetSettings) -> list[NetworkRecord]:
        found: list[NetworkRecord] = []
        for word in fleet.networks:
            fitting = [each for each in self.networks if word == (each.id if is_uuid(word) else each.name)]
            if not fitting:
                near = get_close_matches(word, [each.name for each in self.networks], n=1)
                guess = f" (did you mean {near[0]}?)" if near else ""
                there = f"the data centre {self.name()} has no network {word!r}; it has {self._list(self.networks)}"
                raise _fault(fleet, there, f"Correct the name{guess}")
            if len(fitting) > 1:
                several = f"{word!r} is the name of {len(fitting)} networks of the data centre {self.name()}"
                raise _fault(fleet, f"{several}: {self._list(fitting)}", "Write the id of one")
            if fitting[0] in found:
                raise _fault(fleet, f"names {fitting[0]} twice", "Name each network once")
            found += fitting
        return found

    def _only_public(self, fleet: FleetSettings) -> NetworkRecord:
        public = self._public()
        if len(public) == 1:
            return public[0]
        count = f"{len(public)} public networks" if public else "no public network"
        fix = (
            f"Name one of the public ones, as networks: [{self._word(public[0])}]"
            if public
            else "Ask its operator for one, or set `address: private` for what the fleet joins"
        )
        there = f"the data centre {self.name()} has {count}; it has {self._list(self.networks)}"
        raise _fault(fleet, f"is not set, and {there}", fix)

    def _only_fabric(self, fleet: FleetSettings, joined: Joined) -> NetworkRecord:
        fabrics = [each for each in self.networks if each.fabric and not each.public]
        if len(fabrics) == 1:
            return fabrics[0]
        count = f"{len(fabrics)} fabric networks" if fabrics else "no fabric network"
        public = [self._word(self._public()[0])] if joined.public and self._public() else []
        fix = (
            f"Name one of them, as networks: [{', '.join([*public, self._word(fabrics[0])])}]"
            if fabrics
            else "Make one with `triton vlan create` and `triton network create`, or name another private network"
        )
        there = f"the data centre {self.name()} has {count}; it has {self._list(self.networks)}"
        wanted = f"{', '.join(joined.private)} takes private addresses"
        raise _fault(fleet, f"is not set, {wanted}, and {there}", fix)

    def _check(self, fleet: FleetSettings, joined: Joined, found: Sequence[NetworkRecord]) -> None:
        public = [each for each in found if each.public]
        if len(public) > 1:
            # lib/machines.js of sdc-cloudapi: "Can specify a maximum of 1 public networks".
            several = f"names {len(public)} public networks, {self._list(public)}"
            raise _fault(fleet, f"{several}, and CloudAPI puts a machine on one at most", "Keep one of them")
        if joined.public and not any(not each.fabric for each in public):
            self._lacks(fleet, found, PUBLIC, joined.public, self._public())
        # The addresses of a fabric count as private, also where CloudAPI calls it public.
        if joined.private and not any(each.fabric or not each.public for each in found):
            others = [each for each in self.networks if not each.public]
            self._lacks(fleet, found, PRIVATE, joined.private, others)

    def _lacks(
        self,
        fleet: FleetSettings,
        found: Sequence[NetworkRecord],
        kind: str,
        joins: Sequence[str],
        others: Sequence[NetworkRecord],
    ) -> None:
        raise _fault(
            fleet,
            f"names no {kind} network ({self._list(found)}), and machines register {kind} addresses for {', '.join(joins)}",
            f"Add a {kind} network; the data centre {self.name()} has {self._list(others)}",
        )

    def _public(self) -> list[NetworkRecord]:
        return [each for each in self.networks if each.public and not each.fabric]

    def _word(self, network: NetworkRecord) -> str:
        """Return a text by which a fleet may name a network."""
        return network.name if sum(each.name == network.name for each in self.networks) == 1 else network.id

    def _list(self, shown: Iterable[NetworkRecord]) -> str:
        return ", ".join(f"{self._word(each)} ({kind(each)})" for each in shown) or "none at all"


def is_on(machine: Iterable[str], wanted: Sequence[str], listed: Iterable[str]) -> bool:
    """Return whether a machine with NICs on these networks is on all that are wanted. All are ids.

    `listed` is what ListNetworks shows. Of a pool it does not show the member that a machine was given. A machine that
    is being created has no NICs yet.
    """
    has = set(machine)
    return not has or len(set(wanted) - has) <= len(has - set(listed))


def kind(network: NetworkRecord) -> str:
    """Return what a network is, for people."""
    if network.fabric:
        return f"fabric {network.subnet}".strip()
    return "public" if network.public else "private"


def _fault(fleet: FleetSettings, problem: str, fix: str) -> NetworksError:
    return NetworksError(f"rollcall:fleets.{fleet.name}.networks: {problem}. {fix}.")
