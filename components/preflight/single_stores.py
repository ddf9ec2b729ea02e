"""Name the stores of releases that a fleet has no mirror for: while such a store does not answer, no new machine of the fleet starts."""

from __future__ import annotations

from pathlib import Path

from components.config.errors import at
from components.config.models import FleetSettings, Settings
from components.preflight.quotas import Found
from components.resources import triton_cargo

_FIX = "Add one (rollcall:mirrors, docs/workloads.md)"


def found(settings: Settings, root: Path, region: str) -> Found:
    """Return a note for EC2 fleets without a mirror, and a warning for each Triton fleet with stores in AWS only.

    `root` is the project's folder, and `region` is the stack's region.
    """
    notes = []
    for name, fleets in settings.by_region("aws").items():
        if fleets and not settings.mirrors:
            names = " and ".join(each.name for each in fleets)
            notes.append(
                f"rollcall:mirrors: machines of {names} fetch releases from the stack's bucket in {name or region} only, which has no "
                f"mirror. {_FIX}, so that new machines start while S3 does not answer there."
            )
    warnings = [each for fleet in settings.fleets_of("joyent") for each in _in_aws_only(settings, fleet, root, region)]
    return Found(notes=tuple(notes), warnings=tuple(warnings))


def _in_aws_only(settings: Settings, fleet: FleetSettings, root: Path, region: str) -> list[str]:
    cargo = triton_cargo.cargo(settings, fleet, root)
    fetched = {each.digest for each in cargo.fetched} - {each.digest for each in cargo.delivered}
    if not fetched or any(not each.is_in_aws for each in settings.mirrors):
        return []
    names = " and ".join(name for name, digest in fleet.digests.items() if digest in fetched)
    stores = [f"the stack's bucket in {region}"] if settings.has_iam_user(fleet) else []
    stores += [f"the mirror {each.name}" for each in settings.mirrors]
    return [
        f"{at('rollcall:fleets', fleet.name)}.runs: its machines fetch {names} from AWS only ({' and '.join(stores)}). Add a mirror "
        "outside AWS (rollcall:mirrors, docs/workloads.md), so that new machines start while AWS does not answer."
    ]
