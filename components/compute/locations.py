"""Say which locations of a cloud a fleet's RollCall asks, and which machines there it is responsible for.

A location is a region of AWS or a data centre of Triton. A fleet's machines are at one location, `home`. Its RollCall
is responsible for the machines of its fleet there. One RollCall at each location is responsible for the machines of
fleets that the stack no longer has. The other locations of the cloud count too. A DNS record is a leftover only if its
machine runs at none of them, and a machine may remain where a fleet was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.compute.base import CloudView
from components.model import GOING, Instance


@dataclass(frozen=True, order=True, kw_only=True)
class Location:
    """The cloud of a fleet's machines and its part. `region` is the AWS region, or Triton's data centre by name.

    An empty `region` on Triton is the configured data centre.
    """

    cloud: str
    region: str = ""

    def as_inputs(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_inputs(cls, inputs: Mapping[str, Any]) -> Location:
        return cls(cloud=inputs["cloud"], region=inputs.get("region") or "")


@dataclass(frozen=True, kw_only=True)
class Locations:
    """What the RollCall of `fleet` knows of its cloud.

    `elsewhere` is where other fleets are. `former` is where fleets have been, as long as machines of the stack are
    there. `first`: this fleet is responsible for former locations that have no fleet now.
    """

    fleet: str
    fleets: tuple[str, ...]
    home: Location
    elsewhere: tuple[Location, ...] = ()
    former: tuple[Location, ...] = ()
    first: bool = False

    @classmethod
    def of(cls, props: Mapping[str, Any]) -> Locations:
        """Return the locations in the properties of a RollCall, or of a Deregistration, which asks about its machine only."""
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
        """Return every other location in which the stack may have machines."""
        return tuple(dict.fromkeys((*self.elsewhere, *self.former)))

    def responsible_for(self, location: Location, machines: Iterable[Instance]) -> list[Instance]:
        """Return the machines at a former location for which this fleet is responsible.

        Where other fleets are, one of those is responsible.
        """
        takes_unassigned = self.first and location not in self.elsewhere
        return [
            each
            for each in machines
            if each.fleet == self.fleet or (takes_unassigned and each.fleet not in self.fleets)
        ]

    def still(self, location: Location, machines: Iterable[Instance]) -> bool:
        """Return whether a former location must be remembered for the machines that are there."""
        return any(
            each.state not in GOING and (each.fleet == self.fleet or location not in self.elsewhere)
            for each in machines
        )


def is_keeper(props: Mapping[str, Any]) -> bool:
    """Return whether a RollCall is responsible for machines at its location that belong to fleets that the stack no longer has.

    One RollCall at each location is.
    """
    peers = props.get("peers") or props.get("fleets") or ()
    return bool(peers) and props["fleet"] == min(peers)


def left(olds: Mapping[str, Any], news: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the former locations of a RollCall that gets `news` after `olds`, as inputs.

    These are the ones known before, the one that its fleet moves from, and those that the last fleet moves from or is
    removed from.
    """
    home, elsewhere = Location.from_inputs(news["cloud"]), _accesses(news.get("elsewhere"))
    before = Location.from_inputs(olds["cloud"])
    given_up = [each for each in _accesses(olds.get("elsewhere")) if each not in elsewhere]
    found = sorted({*_accesses(olds.get("former")), before, *given_up} - {home})
    return [each.as_inputs() for each in found]


class FleetMachines:
    """The machines of a fleet's locations. `views` has the view of each location.

    A location that cannot be asked raises an error: its machines are not known, so none of them counts as gone.
    """

    def __init__(self, locations: Locations, views: Mapping[Location, CloudView]) -> None:
        self._locations, self._views = locations, views

    def machines(self, stack: str) -> tuple[Instance, ...]:
        """Return the machines at home, and those at former locations for which the fleet is responsible."""
        locations = self._locations
        behind = [
            each
            for location in locations.former
            for each in locations.responsible_for(location, self._views[location].machines(stack))
        ]
        return (*self._views[locations.home].machines(stack), *behind)

    def unproven(self, stack: str, machines: Sequence[Instance]) -> dict[str, str]:
        """Return the reason why it is not proven that Rollcall created these machines, by instance.

        A machine that no location proves is unproven.
        """
        found = [view.unproven(stack, machines) for view in self.views]
        return {each: why for each, why in found[0].items() if all(each in other for other in found[1:])}

    def running_elsewhere(self, stack: str) -> frozenset[str]:
        """Return the instances that run at every other location of the cloud in which the stack may have any."""
        found = (each for location in self._locations.others for each in self._views[location].machines(stack))
        return frozenset(each.instance for each in found if each.running)

    def still_former(self, stack: str) -> list[dict[str, Any]]:
        """Return the former locations that still have machines of the stack, as inputs."""
        locations = self._locations
        return [
            each.as_inputs() for each in locations.former if locations.still(each, self._views[each].machines(stack))
        ]

    @property
    def views(self) -> Sequence[CloudView]:
        """Return the views of all locations with machines that the fleet must drain. No machine is in two of them."""
        return [self._views[location] for location in (self._locations.home, *self._locations.former)]


def _accesses(listed: Sequence[Mapping[str, Any]] | None) -> tuple[Location, ...]:
    return tuple(Location.from_inputs(each) for each in listed or ())
