"""Check what needs more than one key of a mirror, and refuse its access keys in plain text.

The engine says of `rollcall:mirrors` only whether a part of it is a secret. The stack's file shows which part that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from components.config import secret_names
from components.config.errors import at
from components.config.models import FLEET_NAME, MirrorSettings, Settings
from components.config.stack_file import StackFile
from rollcall.settings import LONGEST_VALUE

KEY = "rollcall:mirrors"
# A machine waits up to a minute for each, and boot.sh for all of them (userdata/boot.sh).
MOST = 4
DEFAULT_REGION = "auto"
_KEYS = ("accessKey", "secretKey")
_LONGEST_NAME, _LONGEST_KEY = 20, 200


class Add(Protocol):
    """Add an error, unless its key has one already (components/config/checks.py)."""

    def __call__(
        self, where: str, problem: str, fix: str, *, value: str | None = None, detail: object = ""
    ) -> None: ...


def words(mirror: MirrorSettings, key: str) -> str:
    """Return the machine setting for a mirror. `key` is the name of the secret with its access key, in the machine's cloud."""
    if mirror.https is not None:
        return f"https url={mirror.address}"
    region = mirror.region or DEFAULT_REGION
    return f"s3 endpoint={mirror.address} bucket={mirror.bucket} region={region} key={key}"


def check(settings: Settings, add: Add) -> None:
    """Add every error of the mirrors."""
    if len(settings.mirrors) > MOST:
        add(KEY, f"has {len(settings.mirrors)} mirrors, and a machine asks {MOST} at most", "Remove some")
    fleets = [len(f"/rollcall/{settings.stack}/{each.name}/") for each in settings.fleets if each.cloud == "aws"]
    for mirror in settings.mirrors:
        if not re.fullmatch(FLEET_NAME, mirror.name) or len(mirror.name) > _LONGEST_NAME:
            add(mirror.key, "is not the name of a mirror", f"Use 1 to {_LONGEST_NAME} of a-z, 0-9 and inner hyphens")
        if (mirror.https is None) == (mirror.endpoint is None):
            add(mirror.key, "has not one of https and endpoint", "Write one, as {https: https://mirror.example.net/x}")
        _keys(mirror, add)
        longest = len(words(mirror, secret_names.mirror(mirror.name))) + max(fleets, default=0)
        if longest > LONGEST_VALUE:
            problem = (
                f"takes {longest} characters with the names of the stack and a fleet, and a tag has {LONGEST_VALUE}"
            )
            add(mirror.key, problem, "Shorten its address, its bucket or its name")


def _keys(mirror: MirrorSettings, add: Add) -> None:
    """Check which keys are there beside `https` or `endpoint`."""
    own = {"accessKey": mirror.access_key, "secretKey": mirror.secret_key}
    if mirror.endpoint is None:
        unused = {"bucket": mirror.bucket, "region": mirror.region, "upload": mirror.upload}
        unused.update({name: value.get_secret_value() or None for name, value in own.items()})
        for name, value in unused.items():
            if value is not None and mirror.https is not None:
                add(f"{mirror.key}.{name}", "is for a mirror with endpoint", "Take it out")
        return
    if mirror.bucket is None:
        add(f"{mirror.key}.bucket", "is missing", "Name the bucket with the releases, as rollcall-releases")
    secrets = {f"{mirror.key}.{name}": value for name, value in own.items()}
    if mirror.upload is not None:
        secrets[f"{mirror.key}.upload.accessKey"] = mirror.upload.access_key
        secrets[f"{mirror.key}.upload.secretKey"] = mirror.upload.secret_key
    for where, secret in secrets.items():
        value = secret.get_secret_value()
        if not value:
            add(where, "is missing", f"Run `pulumi config set --secret --path '{where}'`")
        elif not re.fullmatch(rf"[!-~]{{1,{_LONGEST_KEY}}}", value):
            add(where, f"is not a key of 1 to {_LONGEST_KEY} printable characters without blanks", "Set it again")


def faults(settings: Settings, file: StackFile | None, *, is_secret: bool) -> list[str]:
    """Return the errors of access keys in plain text, and of other keys that are encrypted.

    `is_secret`: the engine, or the file, has a secret below the key. `file` is None where there is none.
    """
    found = [*_misplaced(settings, file, is_secret=is_secret)]
    written = _written(file.texts.get(KEY, "") if file else "")
    for mirror in settings.mirrors:
        for path, value in _access_keys(mirror):
            plain: Any = written.get(mirror.name)
            for name in path:
                plain = plain.get(name) if isinstance(plain, Mapping) else None
            if value and (not is_secret or plain is not None):
                where = at(KEY, mirror.name, *path)
                fix = f"Run `pulumi config set --secret --path '{where}'` with another key than this one"
                found.append(f"{where}: is in plain text. {fix}.")
    return found


def _access_keys(mirror: MirrorSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and the value of each access key's parts."""
    upload = mirror.upload
    for name, field in zip(_KEYS, ("access_key", "secret_key"), strict=True):
        yield (name,), getattr(mirror, field).get_secret_value()
        yield ("upload", name), getattr(upload, field).get_secret_value() if upload is not None else ""


def _misplaced(settings: Settings, file: StackFile | None, *, is_secret: bool) -> Iterator[str]:
    """Yield an error for each secret that would get into machine settings, which are no secrets."""
    fix = "Encrypt accessKey and secretKey only"
    secrets = file.secrets if file is not None else ()
    for path in sorted((each for each in secrets if each[0] == KEY), key=str):
        inner = path[2:]
        if inner not in [way for name in _KEYS for way in ((name,), ("upload", name))]:
            yield f"{at(KEY, *path[1:])}: is a secret, and everybody who may read a machine's tags can read it. {fix}."
    if is_secret and not secrets and not any(each.endpoint for each in settings.mirrors):
        yield f"{KEY}: has a secret, and no mirror with endpoint. {fix}."


def _written(text: str) -> Mapping[str, Any]:
    """Return what a stack's file has in plain text. An encrypted value is null."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
