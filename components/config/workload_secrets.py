"""Refuse secrets of workloads in plain text, and secrets in other keys of a workload.

The engine says of `rollcall:workloads` only whether a part of it is a secret. The stack's file shows which part that
is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from components.config.errors import at
from components.config.models import Settings
from components.config.stack_file import StackFile

KEY = "rollcall:workloads"
_SECRETS, _PASSWORD = "secrets", ("registry", "password")


def faults(settings: Settings, file: StackFile | None, *, is_secret: bool) -> list[str]:
    """Return the errors.

    `is_secret`: the engine, or the file, has a secret below the key. `file` is None where there is none.
    """
    found = [*_misplaced(settings, file.secrets if file else (), is_secret=is_secret)]
    written = _written(file.texts.get(KEY, "") if file else "")
    for workload in settings.workloads:
        values = {(_SECRETS, name): value for name, value in workload.secrets.items()}
        values |= {_PASSWORD: workload.registry.password} if workload.registry else {}
        for path, value in values.items():
            if value.get_secret_value() and (not is_secret or _at(written, workload.name, *path) is not None):
                found.append(_plain(at(KEY, workload.name, *path)))
    return found


def _plain(where: str) -> str:
    return f"{where}: is in plain text. Run `pulumi config set --secret --path '{where}'` with another value than this one."


def _misplaced(settings: Settings, secrets: Collection[tuple[str | int, ...]], *, is_secret: bool) -> Iterator[str]:
    """Yield an error for each secret that would get into a workload's definition."""
    for path in sorted((each for each in secrets if each[0] == KEY), key=str):
        if len(path) != 4 or (path[2] != _SECRETS and path[2:] != _PASSWORD):
            where = at(KEY, *path[1:])
            yield f"{where}: is a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."
    if is_secret and not secrets and not any(each.secrets or each.registry for each in settings.workloads):
        yield f"{KEY}: has a secret, and a workload's definition is in the state and in a bucket. Keep it below `secrets`."


def _written(text: str) -> object:
    """Return what a stack's file has in plain text below the key. An encrypted value is null."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _at(found: object, *path: str) -> object:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
