"""Read `Pulumi.<stack>.yaml` as the engine does, without the engine, and find keys that it has twice.

The engine reads with go-yaml v3, for which `yes` is text. It gives every key as text, which is JSON where the value is
not text (tests/unit/config/test_stack_file.py has what pulumi 3.259 answers). PyYAML has other rules, and takes the
last one of keys that are written twice: https://yaml.org/spec/1.2.2/#3213-node-comparison requires that the keys of a
mapping are unique.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rollcall.yaml_keys import MERGE, duplicates

_PROJECT = ("Pulumi.yaml", "Pulumi.yml")
_STACK = ("Pulumi.{}.yaml", "Pulumi.{}.yml")
_SECURE = "secure"
# https://github.com/go-yaml/yaml/blob/v3/resolve.go
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_INTEGER = r"[-+]?(0[bB][01]+|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)"
_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class StackFileError(Exception):
    """A stack's file cannot be read. The message names it."""


@dataclass(frozen=True, kw_only=True)
class StackFile:
    """The content of a stack's file and the project's.

    `texts` are the keys' values as the engine gives them, without encrypted ones. `secrets` are the paths of the
    encrypted ones, each from its key on. With `is_partial`, an environment adds keys that only the engine can read.
    """

    project: str
    texts: Mapping[str, str]
    secrets: tuple[tuple[str | int, ...], ...] = ()
    is_partial: bool = False

    def is_secret(self, key: str) -> bool:
        return any(path[0] == key for path in self.secrets)


@dataclass
class _Found:
    texts: dict[str, str] = field(default_factory=dict)
    secrets: list[tuple[str | int, ...]] = field(default_factory=list)


def project_of(program: Path) -> Path:
    """Return the folder of the project that a program belongs to: one above whose file names it as `main`, else its own."""
    for above in program.parents:
        main = _plain(_project_file(above)).get("main")
        if isinstance(main, str) and (above / main).resolve() in (program, program / "__main__.py"):
            return above
    return program


def folder_of(root: Path) -> Path:
    """Return the folder of the stacks' files: the folder of the project's file, or the one that this file names."""
    return root / str(_plain(_project_file(root)).get("stackConfigDir") or "")


def stacks(root: Path) -> list[str]:
    """Return the names of the stacks that have a file, sorted."""
    files = [each.name for each in folder_of(root).glob("Pulumi.*.y*ml") if each.name.endswith((".yaml", ".yml"))]
    return sorted({each.removeprefix("Pulumi.").rpartition(".")[0] for each in files})


def read(root: Path, stack: str) -> StackFile:
    """Return what the file of a stack says, with the project's defaults. Raises StackFileError."""
    project, whole = _loaded(_project_file(root)), _loaded(stack_file(root, stack))
    name = str(project.get("name") or "")
    found = _Found()
    for key, declared in _config(project, "the project").items():
        default = declared.get("default", declared.get("value")) if isinstance(declared, Mapping) else declared
        if default is not None:
            _add(found, _full(key, name), default)
    for key, value in _config(whole, stack).items():
        found.texts.pop(_full(key, name), None)
        _add(found, _full(key, name), value)
    return StackFile(
        project=name, texts=found.texts, secrets=tuple(found.secrets), is_partial=bool(whole.get("environment"))
    )


def stack_file(root: Path, stack: str) -> Path:
    """Return the path of a stack's file. The file may not exist."""
    files = [folder_of(root) / name.format(stack) for name in _STACK]
    return next((each for each in files if each.is_file()), files[0])


def faults(root: Path, stack: str) -> list[str]:
    """Return the errors of the project's file and of the stack's: keys that are written twice.

    The engine reports files that do not exist or are not YAML.
    """
    files = (_project_file(root), *(folder_of(root) / name.format(stack) for name in _STACK))
    return [fault for each in files for fault in duplicates(_text(each), each.name)]


class _EngineLoader(yaml.SafeLoader):
    """Reads plain scalars as go-yaml v3 does."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0] and value != MERGE:
            return "!plain"
        return super().resolve(kind, value, implicit)


def _scalar(_: Any, node: Any) -> Any:
    text = node.value
    if text in _WORDS:
        return _WORDS[text]
    digits = text.replace("_", "")
    if re.fullmatch(_INTEGER, digits):
        return _integer(digits)
    if re.fullmatch(_FLOAT, digits):
        number = float(digits)
        return int(number) if number.is_integer() else number
    return f"{text} 00:00:00 +0000 UTC" if re.fullmatch(_DATE, text) else text


def _integer(digits: str) -> int:
    sign, base = (-1 if digits.startswith("-") else 1), digits.lstrip("+-")
    octal = re.fullmatch(r"0[oO]?([0-7]+)", base)
    return sign * (int(octal[1], 8) if octal else int(base, 0))


_EngineLoader.add_constructor("!plain", _scalar)


def _add(found: _Found, key: str, value: Any) -> None:
    secrets: list[tuple[str | int, ...]] = []
    plain = _without_secrets(value, (key,), secrets)
    found.secrets += secrets
    if (key,) not in secrets:
        found.texts[key] = plain if isinstance(plain, str) else "" if plain is None else json.dumps(plain, default=str)


def _without_secrets(value: Any, path: tuple[str | int, ...], secrets: list[tuple[str | int, ...]]) -> Any:
    """Return the value with null instead of encrypted values, and add their paths to `secrets`."""
    if isinstance(value, Mapping):
        if set(value) == {_SECURE} and isinstance(value[_SECURE], str):
            secrets.append(path)
            return None
        return {_name(key): _without_secrets(item, (*path, _name(key)), secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, (*path, index), secrets) for index, item in enumerate(value)]
    return value


def _name(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _full(key: Any, project: str) -> str:
    """Return a key with its namespace. A key without one is a key of the project."""
    return _name(key) if ":" in _name(key) else f"{project}:{_name(key)}"


def _config(whole: Mapping[str, Any], of: str) -> Mapping[Any, Any]:
    found = whole.get("config") or {}
    if not isinstance(found, Mapping):
        raise StackFileError(f"config: that of {of} is not a mapping. Write it as `config:` with a line for each key.")
    return found


def _loaded(file: Path) -> dict[str, Any]:
    """Return the content of a file. Raises StackFileError, which quotes nothing from the file: it may have a secret."""
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), _EngineLoader)
    except OSError as missing:
        raise StackFileError(
            f"{file.name}: cannot be read ({missing.strerror}). Name a stack that has a file."
        ) from None
    except yaml.MarkedYAMLError as wrong:
        position = wrong.problem_mark
        line = f" at line {position.line + 1}" if position else ""
        raise StackFileError(f"{file.name}: is not YAML{line}. Correct it.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as wrong:
        raise StackFileError(f"{file.name}: is not YAML ({type(wrong).__name__}). Correct it.") from None
    if not isinstance(found or {}, dict):
        raise StackFileError(f"{file.name}: is not a mapping. Write it as `config:` with a line for each key.")
    return found or {}


def _project_file(root: Path) -> Path:
    return next((root / name for name in _PROJECT if (root / name).is_file()), root / _PROJECT[0])


def _plain(file: Path) -> dict[str, Any]:
    try:
        return _loaded(file)
    except StackFileError:
        return {}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
