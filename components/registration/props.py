"""What the properties of a RollCall or a Deregistration mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.compute.locations import Locations, is_keeper
from components.dns.registry import place_of
from components.model import DesiredState, ForeignRecord, Member
from components.registration.inventory import Registries


def registries_of(props: Mapping[str, Any], config: Mapping[str, str]) -> Registries:
    """Return the DNS providers and clouds that a RollCall or a Deregistration with these properties asks."""
    places = tuple(place_of(each) for each in props["places"])
    return Registries(places, Locations.of(props), config, props["stack"])


def desired_of(props: Mapping[str, Any]) -> DesiredState:
    """Return the desired state of a RollCall as it is in the state. Only machines that were drained before may leave."""
    return desired_with(props, leaving=())


def desired_with(props: Mapping[str, Any], *, leaving: tuple[Member, ...]) -> DesiredState:
    return DesiredState(
        stack=props["stack"],
        fleet=props["fleet"],
        members=members_of(props),
        record_sets=tuple(found for each in props["places"] for found in place_of(each).record_sets),
        leaving=(*leaving, *members_of({**props, "members": props.get("drained", ())})),
        fleets=tuple(props.get("fleets", ())),
        keeper=is_keeper(props),
        acknowledged=tuple(map(ForeignRecord.from_inputs, props.get("acknowledged", ()))),
        former_stacks=tuple(props.get("former_stacks", ())),
    )


def members_of(props: Mapping[str, Any]) -> tuple[Member, ...]:
    return tuple(_member(each, props["fleet"]) for each in props["members"])


def _member(inputs: Mapping[str, Any], fleet: str) -> Member:
    return Member(
        fleet=inputs.get("fleet", fleet),
        machine=inputs["machine"],
        generation=inputs["generation"],
        instance=inputs["instance"],
        stack=inputs.get("stack", ""),
    )


def with_given_up(props: Mapping[str, Any], *fleets: str) -> dict[str, Any]:
    """Return properties that name all fleets of which the stack still has machines, with these `fleets`."""
    return {**props, "fleets": sorted({*props["fleets"], *props.get("given_up", ()), *fleets})}
