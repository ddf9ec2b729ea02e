"""The RollCalls of all fleets, which are made once all machines are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pulumi

from components.compute.locations import Location
from components.registration.resources import RollCall, RollCallArgs
from components.resources.fleets.base import Fleet
from components.resources.fleets.targets import refuse_left_out
from components.rollout.resources import Release


def call_rolls(
    fleets: Sequence[Fleet],
    deployed: Iterable[str] = (),
    uncounted: Sequence[Mapping[str, str]] = (),
    releases: Sequence[pulumi.Resource] = (),
) -> list[RollCall]:
    """Create a RollCall for each fleet, after the machines of all fleets: no old machine leaves before every new one answers.

    They come after the `releases` of all fleets too. A machine without a release does not answer, and a roll-out that fails leaves
    everything else as it is.

    `deployed` are the names of the fleets in the state. `uncounted` are its machines that no roll call has counted. Where
    they belong to a fleet that the program no longer has, one fleet at each location drains them.
    """
    names = {each.name for each in fleets}
    given_up = sorted({*deployed} - names)
    machines = [each for fleet in fleets for each in (*fleet.machines, *fleet.pre_roll_call_resources)]
    everybody = [*machines, *releases]
    released = {each.fleet_name: each.members for each in releases if isinstance(each, Release)}
    called = [
        RollCall(
            fleet.name,
            RollCallArgs(
                stack=fleet.stack,
                fleet=fleet.name,
                fleets=[each.name for each in fleets],
                members=refuse_left_out(fleet.name, "Release", released[fleet.name], fleet.members)
                if fleet.name in released
                else fleet.members,
                places=fleet.places,
                cloud=fleet.access.as_inputs(),
                timeout=fleet.settings.timeout,
                drain_delay=fleet.args.drain_delay,
                peers=peers_of(fleet, fleets),
                elsewhere=[each.as_inputs() for each in elsewhere(fleet.access, (one.access for one in fleets))],
                safe_deletes=fleet.args.safe_deletes,
                ssh=fleet.settings.ssh is not None,
                given_up=given_up,
                uncounted=[
                    each
                    for each in uncounted
                    if each["fleet"] == fleet.name
                    or (each["fleet"] not in names and fleet.name == min(peers_of(fleet, fleets)))
                ],
            ),
            opts=pulumi.ResourceOptions(parent=fleet, depends_on=everybody),
        )
        for fleet in fleets
    ]
    for fleet, roll_call in zip(fleets, called, strict=True):
        refuse_left_out(fleet.name, "RollCall", roll_call.members, fleet.members)
    return called


def peers_of(fleet: Fleet, fleets: Iterable[Fleet]) -> list[str]:
    """Return the names of the fleets at the same location, with this one."""
    return [each.name for each in fleets if each.access == fleet.access]


def elsewhere(home: Location, everywhere: Iterable[Location]) -> list[Location]:
    """Return the other locations of the same cloud, each once, sorted."""
    return sorted({each for each in everywhere if each.cloud == home.cloud and each != home})
