"""Check the keys of a fleet that say how another release of its workloads reaches its machines."""

from __future__ import annotations

from components.config.errors import Add, at
from components.config.models import IN_PLACE, SAMPLES, FleetSettings, Settings

_FLEETS = "rollcall:fleets"
# The keys that are for `release: in-place` only, and the fields that have them.
_OWN_KEYS = {
    "batch": "batch",
    "minHealthyTime": "min_healthy_time",
    "deadline": "deadline",
    "canary": "canary",
}


def check(settings: Settings, fleet: FleetSettings, add: Add) -> None:
    """Add every error of these keys."""
    key = at(_FLEETS, fleet.name)
    if not fleet.in_place:
        for name, field in _OWN_KEYS.items():
            if getattr(fleet, field) != getattr(FleetSettings, field):
                add(f"{key}.{name}", f"is for release: {IN_PLACE}", f"Take it out, or set release to {IN_PLACE}")
        return
    if not fleet.runs:
        problem = f"is {IN_PLACE}, and the fleet runs no workload of rollcall:workloads"
        add(f"{key}.release", problem, "Set runs, or take release out")
    for name in (each for each in fleet.runs if each in SAMPLES):
        problem = f"has the sample {name}, which is part of the agent's release and cannot change in place"
        add(f"{key}.runs", problem, "Run a workload of rollcall:workloads instead, or take release out")
    if fleet.canary > fleet.count:
        problem = f"is {fleet.canary}, and the fleet has {fleet.count} machines"
        add(f"{key}.canary", problem, f"Set {fleet.count} at the most")
    _deadline(settings, fleet, key, add)
    _batch(settings, fleet, key, add)


def _deadline(settings: Settings, fleet: FleetSettings, key: str, add: Add) -> None:
    """Refuse a deadline that a healthy release could not keep."""
    least, why = fleet.min_healthy_time, "must be healthy without interruption"
    for workload in settings.workloads_of(fleet):
        start = max((each.grace or 0 for each in workload.check), default=0)
        start += workload.before.timeout if workload.before is not None else 0
        if start + fleet.min_healthy_time > least:
            least = start + fleet.min_healthy_time
            why = f"with {workload.name} may take {start} seconds to start, and must then be healthy"
    if fleet.deadline <= least:
        problem = f"is {fleet.deadline}, and a machine {why} for {fleet.min_healthy_time} seconds"
        add(f"{key}.deadline", problem, f"Set it to more than {least}")


def _batch(settings: Settings, fleet: FleetSettings, key: str, add: Add) -> None:
    """Refuse a batch with which every machine of a name in DNS would leave at the same time."""
    drained = [each.name for each in settings.workloads_of(fleet) if each.drain]
    alone = [join for join in fleet.joins if len(settings.fleets_at(join)) == 1]
    if 1 < fleet.count == fleet.batch_size and drained and alone:
        problem = f"is {fleet.batch}: all {fleet.count} machines of {alone[0]} would leave DNS at the same time"
        add(f"{key}.batch", problem, f"Set {fleet.count - 1} at the most, or a smaller share")
