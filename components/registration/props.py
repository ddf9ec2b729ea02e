"""What the properties of a RollCall or a Deregistration mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.compute.locations import Locations, is_keeper
from components.dns.registry import place_of
from components.model import DesiredState, ForeignRecord, Member
from components.registration.inventory import Registries


def registries_of(props: Mapping[str, Any], config: Mapping[str, str]) -> Registries:
    """What a RollCall or a Deregistration with these properties looks at."""
    return Registries(tuple(place_of(each) for each in props["places"]), Locations.of(props), config)


def roll_of(props: Mapping[str, Any]) -> DesiredState:
    """The roll that a RollCall's properties in the state call, with nobody leaving but who has been seen off."""
    return roll_with(props, leaving=())


def roll_with(props: Mapping[str, Any], *, leaving: tuple[Member, ...]) -> DesiredState:
    return DesiredState(
        stack=props["stack"],
        fleet=props["fleet"],
        members=members_of(props),
        record_sets=tuple(found for each in props["places"] for found in place_of(each).record_sets),
        leaving=(*leaving, *members_of({**props, "members": props.get("seen_off", ())})),
        fleets=tuple(props.get("fleets", ())),
        keeper=is_keeper(props),
        acknowledged=tuple(map(ForeignRecord.from_inputs, props.get("acknowledged", ()))),
        former_stacks=tuple(props.get("former_stacks", ())),
    )


def members_of(props: Mapping[str, Any]) -> tuple[Member, ...]:
    return tuple(_member(each, props["fleet"]) for each in props["members"])


def _member(told: Mapping[str, Any], fleet: str) -> Member:
    return Member(
        fleet=told.get("fleet", fleet),
        machine=told["machine"],
        generation=told["generation"],
        instance=told["instance"],
        stack=told.get("stack", ""),
    )


def with_given_up(props: Mapping[str, Any], *fleets: str) -> dict[str, Any]:
    """With all fleets that the stack still has machines of, these `fleets` too."""
    return {**props, "fleets": sorted({*props["fleets"], *props.get("given_up", ()), *fleets})}
