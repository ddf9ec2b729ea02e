"""The places of one cloud: regions of AWS, data centres of Triton. Which of them a fleet's RollCall looks at, and for what.

A fleet's machines are in one place, `home`. Its RollCall answers for the machines of its own fleet there, and one RollCall in
each place for those of fleets that the stack has no more. Others of the cloud's places count too: an entry in DNS is nobody's
only if its machine runs in none of them, and a machine may have stayed behind where a fleet has been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.compute.base import CloudView
from components.model import GOING, Instance


@dataclass(frozen=True, order=True, kw_only=True)
class Location:
    """The cloud that a fleet's machines are on. `region` is the AWS region, or Triton's data centre by name; empty on Triton is
    the one that is configured."""

    cloud: str
    region: str = ""

    def as_inputs(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Location:
        return cls(cloud=inputs["cloud"], region=inputs.get("region") or "")


@dataclass(frozen=True, kw_only=True)
class Locations:
    """What the RollCall of `fleet` knows of its cloud. `elsewhere` is where other fleets are; `former` where fleets have been, as
    long as machines of the stack are there. `first`: this fleet answers for former places that no fleet is in now."""

    fleet: str
    fleets: tuple[str, ...]
    home: Location
    elsewhere: tuple[Location, ...] = ()
    former: tuple[Location, ...] = ()
    first: bool = False

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Locations:
        """By the properties of a RollCall, or of a Deregistration, which asks about its own machine only."""
        home, elsewhere = Location.from_inputs(props["cloud"]), _accesses(props.get("elsewhere"))
        return cls(
            fleet=props["fleet"],
            fleets=tuple(props.get("fleets") or ()),
            home=home,
            elsewhere=elsewhere,
            former=tuple(each for each in _accesses(props.get("former")) if each != home),
            first=is_keeper(props) and all(home < each for each in elsewhere),
        )

    @property
    def others(self) -> tuple[Location, ...]:
        """Every other place in which the stack may have machines."""
        return tuple(dict.fromkeys((*self.elsewhere, *self.former)))

    def charges(self, place: Location, machines: Iterable[Instance]) -> list[Instance]:
        """Those of the machines in a former place that this fleet answers for. A place where other fleets are has a keeper."""
        kept = self.first and place not in self.elsewhere
        return [each for each in machines if each.fleet == self.fleet or (kept and each.fleet not in self.fleets)]

    def still(self, place: Location, machines: Iterable[Instance]) -> bool:
        """Whether a former place must be remembered for the machines that are there."""
        return any(
            each.state not in GOING and (each.fleet == self.fleet or place not in self.elsewhere) for each in machines
        )


def is_keeper(props: Mapping[str, Any]) -> bool:
    """Whether a RollCall answers for the machines in its place whose fleet the stack has no more: one in each place does."""
    peers = props.get("peers") or props.get("fleets") or ()
    return bool(peers) and props["fleet"] == min(peers)


def left(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The former places of a RollCall that is told `news` after `olds`, as inputs: those known before, the one that its fleet
    moves from, and those that the last fleet moves from or is given up in."""
    home, elsewhere = Location.from_inputs(news["cloud"]), _accesses(news.get("elsewhere"))
    before = Location.from_inputs(olds["cloud"])
    given_up = [each for each in _accesses(olds.get("elsewhere")) if each not in elsewhere]
    found = sorted({*_accesses(olds.get("former")), before, *given_up} - {home})
    return [each.as_inputs() for each in found]


class Places:
    """The machines of a realm. `views` has the view of each place. A place that cannot be asked raises: what is there is not
    known, and so nothing is gone."""

    def __init__(self, realm: Locations, views: Mapping[Location, CloudView]) -> None:
        self._realm, self._views = realm, views

    def machines(self, stack: str) -> tuple[Instance, ...]:
        """Those at home, and those in former places that the fleet answers for."""
        realm = self._realm
        behind = [each for place in realm.former for each in realm.charges(place, self._views[place].machines(stack))]
        return (*self._views[realm.home].machines(stack), *behind)

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Why it is not proven that Rollcall made these machines, by instance. What no place proves is unproven."""
        found = [view.unproven(stack, machines) for view in self.views]
        return {each: why for each, why in found[0].items() if all(each in other for other in found[1:])}

    def running_elsewhere(self, stack: str) -> frozenset[str]:
        """The instances that run in every other place of the cloud in which the stack may have any."""
        found = (each for place in self._realm.others for each in self._views[place].machines(stack))
        return frozenset(each.instance for each in found if each.running)

    def still_former(self, stack: str) -> list[dict[str, Any]]:
        """The former places that still have machines of the stack, as inputs."""
        realm = self._realm
        return [each.as_inputs() for each in realm.former if realm.still(each, self._views[each].machines(stack))]

    @property
    def views(self) -> Sequence[CloudView]:
        """Those of all places whose machines are the fleet's to see off: none is in two of them."""
        return [self._views[place] for place in (self._realm.home, *self._realm.former)]


def _accesses(listed: Sequence[Mapping[str, Any]] | None) -> tuple[Location, ...]:
    return tuple(Location.from_inputs(each) for each in listed or ())
