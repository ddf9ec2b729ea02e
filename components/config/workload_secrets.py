"""Refuse secrets of workloads in plain text, and secrets in other keys of a workload.

The engine says of `rollcall:workloads` only whether a part of it is a secret. The stack's file shows which part that
is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from components.config.errors import at
from components.config.models import Settings
from components.config.stack_file import StackFile

KEY = "rollcall:workloads"
_SECRETS = "secrets"


def faults(settings: Settings, file: StackFile | None, *, is_secret: bool) -> list[str]:
    """Return the errors.

    `is_secret`: the engine, or the file, has a secret below the key. `file` is None where there is none.
    """
    found = [*_misplaced(settings, file.secrets if file else (), is_secret=is_secret)]
    written = _secrets_of(file.texts.get(KEY, "") if file else "")
    for workload in settings.workloads:
        for name, value in workload.secrets.items():
            if value.get_secret_value() and (not is_secret or written.get(workload.name, {}).get(name) is not None):
                found.append(_plain(at(KEY, workload.name, _SECRETS, name)))
    return found


def _plain(where: str) -> str:
    return f"{where}: is in plain text. Run `pulumi config set --secret --path '{where}'` with another value than this one."


def _misplaced(settings: Settings, secrets: Collection[tuple[str | int, ...]], *, is_secret: bool) -> Iterator[str]:
    """Yield an error for each secret that would get into a workload's definition."""
    for path in sorted((each for each in secrets if each[0] == KEY), key=str):
        if len(path) != 4 or path[2] != _SECRETS:
            where = at(KEY, *path[1:])
            yield f"{where}: is a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."
    if is_secret and not secrets and not any(each.secrets for each in settings.workloads):
        yield f"{KEY}: has a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."


def _secrets_of(text: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what a stack's file has in plain text below `secrets` of each workload. An encrypted value is null."""
    try:
        workloads = json.loads(text)
    except ValueError:
        return {}
    found = {}
    for name, workload in workloads.items() if isinstance(workloads, dict) else ():
        secrets = workload.get(_SECRETS) if isinstance(workload, dict) else None
        if isinstance(secrets, dict):
            found[name] = secrets
    return found
