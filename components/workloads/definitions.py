"""Make the releases of the workloads that fleets run, from their settings."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.config.errors import at
from components.config.models import CONFINEMENTS, Settings, WorkloadSettings
from components.workloads.packing import PackingError, pack
from components.workloads.release import Release

_WORKLOADS = "rollcall:workloads"


def project_folder() -> Path:
    """Return the folder that a workload's `files` are relative to: the folder of Pulumi.yaml."""
    import pulumi

    return Path(pulumi.get_root_directory() or ".")


def definition(workload: WorkloadSettings) -> dict[str, Any]:
    """Return the definition of a workload for machines: `workload.json` of its release.

    A key that is not set is left out.
    """
    check = workload.check
    found = {
        "name": workload.name,
        "artifact": workload.artifact,
        "sha256": workload.sha256,
        "packages": list(workload.packages),
        "run": workload.run,
        "user": workload.user,
        "env": dict(workload.env),
        # Only the names of the secrets: another value does not make another release.
        "secrets": sorted(workload.secrets),
        "memory": workload.memory,
        "cpu": workload.cpu,
        "confinement": workload.confinement if workload.confinement != CONFINEMENTS[0] else None,
        "nginx": {"root": workload.nginx.root} if workload.nginx is not None else None,
        "check": check.words if check is not None else None,
        "grace": check.grace if check is not None else None,
    }
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def release_of(workload: WorkloadSettings, root: Path) -> Release:
    """Return the release of a workload.

    Its `files` are relative to `root`. Each is packed once in a run. Raises PackingError.
    """
    folder = root / workload.files if workload.files is not None else None
    return _packed(json.dumps(definition(workload), sort_keys=True), folder, workload.exclude)


@functools.cache
def _packed(text: str, folder: Path | None, exclude: tuple[str, ...]) -> Release:
    if folder is not None and not folder.is_dir():
        raise PackingError("is not a folder", "Name one that is there, relative to the project's folder")
    try:
        return pack(json.loads(text), folder, exclude)
    except OSError as unread:
        raise PackingError(f"cannot be read ({unread.strerror}: {unread.filename})", "Correct it") from unread
    except ValueError as wrong:
        raise PackingError(
            f"cannot be packed ({wrong})", "Correct the lines of exclude, or the names of the files"
        ) from wrong


def packed(settings: Settings, root: Path) -> tuple[Settings, list[str]]:
    """Return the settings with the digest of each workload that a fleet runs, and the reasons why one cannot be packed."""
    digests, faults = dict[str, str](), list[str]()
    used = {name for fleet in settings.fleets for name in fleet.runs}
    for each in settings.workloads:
        if each.name not in used:
            continue
        try:
            digests[each.name] = release_of(each, root).digest
        except PackingError as wrong:
            faults.append(f"{at(_WORKLOADS, each.name)}.files: {each.files} {wrong}.")
    fleets = (
        replace(fleet, digests={name: digests[name] for name in fleet.runs if name in digests})
        for fleet in settings.fleets
    )
    return replace(settings, fleets=tuple(fleets)), faults


def releases_of(settings: Settings, names: Iterable[str], root: Path) -> list[Release]:
    """Return the releases of the workloads with these names, each once, in this order."""
    known = {each.name: each for each in settings.workloads}
    return [release_of(known[name], root) for name in dict.fromkeys(names) if name in known]
