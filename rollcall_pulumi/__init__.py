"""Rollcall as a library: a component for a Pulumi program with resources of its own (docs/library.md)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Not one of its parts: the finder of an editable install would find it below any package of this name.
_FOUND = find_spec("components")
if _FOUND is None or Path(_FOUND.origin or "").parent.parent != Path(__file__).parents[1]:
    raise ImportError(
        "rollcall_pulumi: Python finds another package `components` first. Rename the folder `components` of your program."
    )

from components.resources.fleets.inputs import FleetInputs  # noqa: E402
from rollcall_pulumi.deployment import Deployment, DeploymentArgs  # noqa: E402

__all__ = ["Deployment", "DeploymentArgs", "FleetInputs"]
