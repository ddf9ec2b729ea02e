"""Make the releases of the workloads that fleets run, from their settings."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.config.errors import at
from components.config.models import CONFINEMENTS, CheckSettings, Settings, WorkloadSettings, without_tag
from components.config.stack_file import project_of
from components.workloads.packing import PackingError, files_of, pack
from components.workloads.release import Release
from rollcall.unit_files import UnitFileError, read_unit

_WORKLOADS = "rollcall:workloads"
# The keys that an agent must not ignore, with the first format of a definition that has them.
_FORMATS = {"unit": 2, "before": 2, "checks": 2, "container": 3, "awsCredentials": 4}


def project_folder() -> Path:
    """Return the folder that a workload's `files` are relative to: the folder of Pulumi.yaml."""
    import pulumi

    # Older language hosts do not say it: the one that is a Go module, with which a rehearsal may run, sets only the program's folder.
    root = pulumi.get_root_directory()
    return Path(root) if root else project_of(Path.cwd())


def definition(workload: WorkloadSettings) -> dict[str, Any]:
    """Return the definition of a workload for machines: `workload.json` of its release.

    A key that is not set is left out.
    """
    graces = [each.grace for each in workload.check if each.grace is not None]
    found = {
        "name": workload.name,
        "artifact": workload.artifact,
        "sha256": workload.sha256,
        "packages": list(workload.packages),
        "run": workload.run,
        "unit": workload.unit,
        "before": {"run": workload.before.run, "timeout": workload.before.timeout}
        if workload.before is not None
        else None,
        "user": workload.user,
        "env": dict(workload.env),
        # Only the names of the secrets: another value does not make another release.
        "secrets": sorted(workload.secrets),
        "awsCredentials": workload.aws_credentials or None,
        "memory": workload.memory,
        "cpu": workload.cpu,
        "confinement": workload.confinement if workload.confinement != CONFINEMENTS[0] else None,
        "container": _container(workload) if workload.container is not None else None,
        "nginx": {"root": workload.nginx.root} if workload.nginx is not None else None,
        "check": workload.check[0].words if workload.has_plain_check else None,
        "grace": max(graces, default=None),
        "checks": [] if workload.has_plain_check else [_check(each) for each in workload.check],
    }
    used = {key: value for key, value in found.items() if value not in (None, [], {})}
    lowest = max((_FORMATS.get(key, 1) for key in used), default=1)
    # Others keep the format that every agent reads.
    return {**used, "format": lowest} if lowest > 1 else used


def _container(workload: WorkloadSettings) -> dict[str, Any]:
    image, _, digest = (workload.container or "").partition("@")
    found = {
        # podman ignores a tag beside a digest. Without the tag, another name for the same image is the same release.
        "image": f"{without_tag(image)}@{digest}",
        "registry": {"user": workload.registry.user} if workload.registry is not None else None,
        "ports": list(workload.ports),
        "args": list(workload.args),
        "capabilities": list(workload.capabilities),
        "readOnly": workload.read_only,
    }
    return {key: value for key, value in found.items() if value not in (None, [], False)}


def _check(check: CheckSettings) -> dict[str, Any]:
    found = {
        "check": check.words,
        "timeout": check.timeout or check.TIMEOUT_S,
        "interval": (check.interval or check.EVERY_S) if check.command else None,
        "grace": check.grace,
    }
    return {key: value for key, value in found.items() if value is not None}


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
        else:
            faults += _unit_faults(each, root)
    fleets = (
        replace(fleet, digests={name: digests[name] for name in fleet.runs if name in digests})
        for fleet in settings.fleets
    )
    return replace(settings, fleets=tuple(fleets)), faults


def _unit_faults(workload: WorkloadSettings, root: Path) -> list[str]:
    """Return why a workload's unit file is refused. A machine checks that of an artifact, when it has the artifact."""
    if workload.unit is None or workload.files is None:
        return []
    where = f"{at(_WORKLOADS, workload.name)}.unit: {workload.unit}"
    try:
        read_unit(_unit_text(root / workload.files, workload.exclude, workload.unit))
    except KeyError:
        return [
            f"{where} is not among the packed files of {workload.files}. Name a file that is there and not excluded."
        ]
    except UnicodeDecodeError:
        return [f"{where} is not text in UTF-8. Save it as UTF-8."]
    except UnitFileError as wrong:
        return [f"{where} {wrong}."]
    return []


def _unit_text(folder: Path, exclude: tuple[str, ...], unit: str) -> str:
    """Return the text of a packed file. Raises KeyError if it is not packed."""
    packed = dict(files_of(folder, exclude))
    file = packed[unit]
    if file.is_symlink():
        file = packed[os.path.normpath(Path(unit).parent / file.readlink())]
    return file.read_text(encoding="utf-8")


def releases_of(settings: Settings, names: Iterable[str], root: Path) -> list[Release]:
    """Return the releases of the workloads with these names, each once, in this order."""
    known = {each.name: each for each in settings.workloads}
    return [release_of(known[name], root) for name in dict.fromkeys(names) if name in known]
