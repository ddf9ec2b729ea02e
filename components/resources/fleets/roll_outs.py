"""The Releases of fleets with `release: in-place`, which roll other releases through their machines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pulumi

from components.config.models import joins_site
from components.resources import release_files
from components.resources.fleets.base import Fleet
from components.resources.fleets.roll_calls import elsewhere, peers_of
from components.rollout.providers import FOLDER
from components.rollout.resources import Release, ReleaseArgs
from components.workloads import release as packed


def roll_out(
    fleets: Sequence[Fleet], release_of: Callable[[str], packed.Release], undrained: Collection[str] = ()
) -> list[Release]:
    """Create a Release for each fleet that changes in place, after its machines.

    `release_of` returns the release of a workload. `undrained` are the workloads that change without leaving DNS. Fleets that
    share a site or a service have their batches one after the other.
    """
    made: list[tuple[Fleet, Release]] = []
    for fleet in (each for each in fleets if each.settings.in_place):
        before = [release for other, release in made if shares(fleet, other)]
        if fleet.args.delivered and not pulumi.runtime.is_dry_run():
            release_files.write(FOLDER, fleet.args.delivered)
        release = Release(
            fleet.name,
            _args(fleet, fleets, release_of, undrained),
            opts=pulumi.ResourceOptions(
                parent=fleet, depends_on=[*fleet.machines, *fleet.pre_roll_call_resources, *before]
            ),
        )
        made.append((fleet, release))
    return [release for _, release in made]


def shares(one: Fleet, other: Fleet) -> bool:
    """Return whether two fleets join the same site, or the same service, in whatever incarnation."""
    return bool(_joined(one) & _joined(other))


def _joined(fleet: Fleet) -> set[str]:
    return {join if joins_site(join) else join.partition("/")[0] for join in fleet.settings.joins}


def _args(
    fleet: Fleet, fleets: Sequence[Fleet], release_of: Callable[[str], packed.Release], undrained: Collection[str]
) -> ReleaseArgs:
    settings = fleet.settings
    sharing = [each for each in fleets if each is not fleet and each.settings.in_place and shares(fleet, each)]
    return ReleaseArgs(
        stack=fleet.stack,
        fleet=fleet.name,
        fleets=[each.name for each in fleets],
        members=fleet.members,
        places=fleet.places,
        cloud=fleet.access.as_inputs(),
        peers=peers_of(fleet, fleets),
        elsewhere=[each.as_inputs() for each in elsewhere(fleet.access, (one.access for one in fleets))],
        releases=settings.digests,
        files={name: release_of(name).manifest for name in settings.digests},
        batch=settings.batch,
        healthy=settings.min_healthy_time,
        deadline=settings.deadline,
        canary=settings.canary,
        timeout=settings.timeout,
        drain_delay=fleet.args.drain_delay,
        undrained=[name for name in settings.digests if name in undrained],
        sharing=[{"fleet": each.name, "cloud": each.access.as_inputs()} for each in sharing],
    )
