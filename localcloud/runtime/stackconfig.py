"""A stack's configuration for the sandbox: all that describes the deployment, and nothing that leads to real clouds.

What names an account, an endpoint, a profile or a secret of the real stack stays out: the environment names the local clouds,
and a secret that only the stack's own secrets provider can open is of no use here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rollcall.yaml_keys import duplicates

# Of the providers' own settings these describe the deployment.
_PROVIDER_KEYS = ("aws:region", "aws:defaultTags")
# Beside `config`: how the real stack's secrets are encrypted.
_SECRETS = ("encryptionsalt", "encryptedkey", "secretsprovider")
_OURS = "rollcall:"
_MIRRORS = "rollcall:mirrors"
_ACCOUNTS = {"rollcall:joyent": ("url", "account", "keyId")}


def sandboxed(text: str) -> tuple[dict[str, Any], list[str]]:
    """Return the content of the sandbox's copy of this `Pulumi.<stack>.yaml`, and the keys that it leaves out, sorted.

    Raises ValueError where the text is not a mapping.
    """
    whole = yaml.safe_load(text) or {}
    if not isinstance(whole, Mapping) or not isinstance(whole.get("config") or {}, Mapping):
        raise ValueError("is not a mapping with a `config`. Correct it")
    config: dict[str, Any] = {}
    left = [key for key in _SECRETS if key in whole]
    for key, value in (whole.get("config") or {}).items():
        plain = _without_secrets(value)
        if (not key.startswith(_OURS) and key not in _PROVIDER_KEYS) or plain is None:
            left.append(key)
        elif key == _MIRRORS and isinstance(value, Mapping):
            config[key] = {name: each for name, each in value.items() if not _is_store(each)}
            left += [f"{key}.{name}" for name in value if name not in config[key]]
        elif key in _ACCOUNTS and isinstance(plain, Mapping):
            left += [f"{key}.{each}" for each in plain if each in _ACCOUNTS[key]]
            config[key] = {each: item for each, item in plain.items() if each not in _ACCOUNTS[key]}
        else:
            config[key] = plain
            left += [f"the secrets in {key}"] if plain != value else []
    return {"config": config}, sorted(left)


def _is_store(mirror: Any) -> bool:
    """Return whether a mirror is a store of the real stack, which `up` would write to. A web server is only read, by machines."""
    return isinstance(mirror, Mapping) and "endpoint" in mirror


def _without_secrets(value: Any) -> Any:
    """Return the value, or None if it is or contains a secret that only the stack's secrets provider can decrypt."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"secure"}:
        return None
    found = {key: _without_secrets(item) for key, item in value.items()}
    return {key: item for key, item in found.items() if item is not None or value[key] is None}


def _secrets_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of each encrypted value."""
    if not isinstance(value, Mapping):
        return
    if set(value) == {"secure"}:
        yield path, value
        return
    for key, item in value.items():
        yield from _secrets_in(item, (*path, str(key)))


def _keep_secret(config: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put an encrypted value back, if the configuration still has what it belongs to."""
    *folders, last = path
    at: Any = config
    for each in folders:
        if each == "secrets" and isinstance(at, dict):
            at.setdefault(each, {})
        if not isinstance(at, Mapping) or each not in at:
            return
        at = at[each]
    if isinstance(at, dict):
        at.setdefault(last, value)


def _name_folders(config: Mapping[str, Any], folder: Path) -> None:
    """Make each workload's `files` absolute: they are relative to the project, and the sandbox's project is in another folder."""
    workloads = config.get(f"{_OURS}workloads")
    for each in workloads.values() if isinstance(workloads, Mapping) else ():
        if isinstance(each, dict) and isinstance(each.get("files"), str) and each["files"]:
            each["files"] = str(folder / each["files"])


def copy(source: Path, target: Path) -> list[str]:
    """Write the sandbox's copy of a `Pulumi.<stack>.yaml`. Return the keys that it leaves out.

    The secrets that `pulumi config set --secret` has put into the copy stay, with the engine's salt for them, because a reader who then
    changes the source would have to set them again. Raises ValueError where `source` is not a configuration, or has a key twice: the copy
    would have the last one only, and the program that is sandboxed could not say so.
    """
    before = target.read_text() if target.exists() else ""
    salt = [line for line in before.splitlines() if line.startswith("encryptionsalt:")]
    text = source.read_text()
    if doubled := duplicates(text, source.name):
        raise ValueError(f"{source.name}: has a key twice. {' '.join(doubled)}")
    try:
        config, left = sandboxed(text)
    except (ValueError, yaml.YAMLError) as wrong:
        raise ValueError(f"{source.name}: {wrong}.") from wrong
    _name_folders(config["config"], source.parent.absolute())
    for path, value in _secrets_in((yaml.safe_load(before) or {}).get("config") or {}):
        if path[0].startswith(_OURS):
            _keep_secret(config["config"], path, value)
    fresh = target.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(config, sort_keys=False) + "".join(f"{line}\n" for line in salt))
    fresh.rename(target)
    return left
