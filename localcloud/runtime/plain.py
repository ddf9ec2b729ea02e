"""Plain `pulumi` in a shell that `make -s env` has pointed at the local clouds.

The engine finds its project, the selected stack and the stack's configuration by the folder that it works in, and writes the salt
of the stack's secrets into the configuration there. So in the checkout it is sent to the sandbox's folder of links
(`localcloud/runtime/sandbox.py`), and what has changed in the checkout's configuration since is copied there before. In any other
project, and where `--cwd` says which, it is the engine as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from localcloud.runtime.prepare import ROOT
from localcloud.runtime.stackconfig import copy

PROGRAM, PROJECT = "program", "Pulumi.yaml"
_COPIED = f"{PROGRAM}/.copied.json"
_RUNTIME = {"name": "python", "options": {"virtualenv": ".venv"}}
_PROJECTS = (PROJECT, "Pulumi.yml", "Pulumi.json")
# Options with a file that is named as seen from the caller's folder.
_FILES = ("--config-file", "--event-log", "--file", "--import-file", "--out", "--plan", "--save-plan")


def write_command(state: Path, python: Path, engine: Path) -> Path:
    """Make the command; the folder that belongs on the PATH before the engine's own."""
    folder = state / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from localcloud.runtime.plain import main; sys.exit(main(sys.argv[1:]))"
    # -P: the caller's folder may have modules of any name.
    words = shlex.join([str(python), "-P", "-c", code, str(ROOT), str(state), str(engine)])
    fresh = folder / "pulumi.new"
    fresh.write_text(f'#!/bin/sh\n# Made by `make -s env`: see localcloud/runtime/plain.py.\nexec {words} "$@"\n')
    fresh.chmod(0o755)
    fresh.rename(folder / "pulumi")
    return folder


def main(words: Sequence[str]) -> int:
    """Replace this process by the engine: `STATE ENGINE [ARGUMENT …]`. If that fails, return the exit code and print one line on stderr."""
    state, engine, *arguments = words
    if not _is_ours(arguments, project_of(Path(state))):
        return _become(engine, arguments)
    if not (Path(state) / _COPIED).exists():
        print(
            "rollcall: nothing is deployed on the local clouds. Run `make up` or `make preview` first.", file=sys.stderr
        )
        return 1
    try:
        copy_changed(Path(state))
    except ValueError as wrong:
        print(f"rollcall: {wrong}", file=sys.stderr)
        return 1
    return _become(engine, ["--cwd", f"{state}/{PROGRAM}", *_absolute(arguments)])


def _become(engine: str, arguments: Sequence[str]) -> int:
    try:
        os.execv(engine, [engine, *arguments])
    except OSError as gone:
        print(f"rollcall: {engine}: {gone.strerror}. Run `make prepare`, then `make -s env` again.", file=sys.stderr)
    return 1


def copy_project(state: Path, source: Path, name: str, project: Path = ROOT) -> list[str]:
    """Copy the project, and the stack's configuration as `name`. Return the keys that the copy of the configuration leaves out.

    `project` is the folder of its Pulumi.yaml. Raises ValueError, as stackconfig.copy does.
    """
    work = state / PROGRAM
    left = copy(source, work / name)
    shutil.copyfile(project / PROJECT, work / PROJECT) if project == ROOT else _write_project(project, work / PROJECT)
    copied = {"source": str(source), "name": name, "project": str(project), "digest": _digest(source, project)}
    (state / _COPIED).write_text(json.dumps(copied))
    return left


def project_of(state: Path) -> Path:
    """Return the folder of the project that was copied last, or the checkout."""
    file = state / _COPIED
    return Path(json.loads(file.read_text())["project"]) if file.exists() else ROOT


def read_project(project: Path) -> dict[str, Any]:
    """Return the content of a project's Pulumi.yaml. Raises ValueError if Rollcall of this checkout is not its program."""
    file = project / PROJECT
    try:
        found = yaml.safe_load(file.read_text())
        main = project / found.get("main", "")
        name = found["name"]
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as wrong:
        raise ValueError(f"{file}: is not the file of a Pulumi project with a `name`. Correct it.") from wrong
    if (main.parent if main.is_file() else main).resolve() != ROOT:
        raise ValueError(
            f"{file}: main is {found.get('main')}, and this Rollcall is in {ROOT}. Use the one that main names."
        )
    return {**found, "name": str(name)}


def _write_project(project: Path, target: Path) -> None:
    """Write the project's file for the sandbox's folder, which has the program and its virtual environment in itself."""
    found = {key: value for key, value in read_project(project).items() if key not in ("main", "stackConfigDir")}
    target.write_text(yaml.safe_dump({**found, "runtime": _RUNTIME}, sort_keys=False))


def copy_changed(state: Path) -> None:
    """Copy the project again if the checkout's files have changed since the last copy.

    Until then the changes of `pulumi config set` in the copy stay.
    """
    copied = json.loads((state / _COPIED).read_text())
    source = Path(copied["source"])
    project = Path(copied["project"])
    if source.exists() and _digest(source, project) != copied["digest"]:
        copy_project(state, source, copied["name"], project)


def _digest(source: Path, project: Path) -> str:
    return hashlib.sha256(source.read_bytes() + b"\0" + (project / PROJECT).read_bytes()).hexdigest()


def _is_ours(arguments: Sequence[str], project: Path) -> bool:
    """Whether the engine would work on the checkout's project, or on the operator's that was copied."""
    if arguments[:1] == ["version"] or any(each in ("-C", "--cwd") or each.startswith("--cwd=") for each in arguments):
        return False
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / name).exists() for name in _PROJECTS):
            return folder in (ROOT, project)
    return False


def _absolute(arguments: Sequence[str]) -> list[str]:
    """The same with absolute paths of files."""
    found: list[str] = []
    for at, each in enumerate(arguments):
        option, equals, value = each.partition("=")
        if equals and option in _FILES:
            found.append(f"{option}={_seen_from_here(value)}")
        else:
            found.append(_seen_from_here(each) if at and arguments[at - 1] in _FILES else each)
    return found


def _seen_from_here(file: str) -> str:
    return file if file == "-" or "://" in file else str(Path(file).absolute())
