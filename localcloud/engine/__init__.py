"""The Pulumi engine of a sandbox: one on the PATH that is new enough, or one built from its Go module into the cache.

Standard library only: it runs before the project's .venv exists. `go.mod` pins the engine, `host/go.mod` the last Python
language host that is a Go module; the two small launchers for Python lie in the SDK's module, whatever its version.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SDK = "github.com/pulumi/pulumi/sdk/v3"
LEAST = (3, 259)
LEAST_GO = (1, 25)
LAUNCHERS = (
    "python/cmd/pulumi-language-python-exec",
    "python/dist/pulumi-resource-pulumi-python",
)
LEAST_DISK_MIB = 6000


class EngineError(Exception):
    """There is no way to an engine on this machine; the message names the mend."""


def ensure(say: Callable[[str], None]) -> Path:
    """The folder with `pulumi` and its Python host. Builds it when there is none; `say` hears of each step."""
    found = installed()
    if found is not None:
        return found
    target = cache() / f"engine-{_hash_of_inputs()}" / "bin"
    if (target / "pulumi").exists():
        return target
    with _alone(target.parent.parent / "engine.lock"):
        if not (target / "pulumi").exists():
            _build(target, say)
    return target


def installed() -> Path | None:
    """The folder of a `pulumi` on the PATH that is 3.259 or newer and has its Python language host beside it."""
    program = shutil.which("pulumi")
    if program is None:
        return None
    try:
        said = subprocess.run([program, "version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.match(r"v?(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < LEAST:
        return None
    folder = Path(program).resolve().parent
    return folder if (folder / "pulumi-language-python").exists() else None


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall"


def _build(target: Path, say: Callable[[str], None]) -> None:
    """Into a folder beside the target, which appears whole by a rename."""
    _check_tools(target.parent.parent)
    with tempfile.TemporaryDirectory(dir=target.parent.parent, prefix="engine-building-") as scratch:
        made = Path(scratch) / "bin"
        made.mkdir()
        say("engine: building pulumi from its Go module, about 4 minutes on 2 cores, once")
        _go(HERE, "build", "-o", str(made / "pulumi"), "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi")
        say("engine: building its Python language host")
        language = f"{SDK}/python/cmd/pulumi-language-python"
        _go(HERE / "host", "build", "-o", str(made / "pulumi-language-python"), language)
        module = json.loads(_go(HERE, "list", "-m", "-json", SDK))["Dir"]
        for each in LAUNCHERS:
            copy = made / Path(each).name
            shutil.copyfile(Path(module) / each, copy)
            copy.chmod(0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)


def _check_tools(folder: Path) -> None:
    fix = "Install Go 1.25 or newer (https://go.dev/dl), or pulumi 3.259 or newer (https://www.pulumi.com/docs/install)"
    if shutil.which("go") is None:
        raise EngineError(f"pulumi: version 3.259 or newer is not on the PATH, and there is no Go to build it. {fix}.")
    said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < LEAST_GO:
        raise EngineError(
            f"pulumi: version 3.259 or newer is not on the PATH, and Go is {said.strip() or 'not usable'}. {fix}."
        )
    free = shutil.disk_usage(folder).free // 2**20
    if free < LEAST_DISK_MIB:
        raise EngineError(
            f"{folder}: has {free} MiB free, and the engine needs {LEAST_DISK_MIB} to be built. Free some, or set XDG_CACHE_HOME."
        )


def _go(folder: Path, *words: str) -> str:
    """Run Go; its result. What else it says (what it fetches and compiles, what is wrong) goes to stderr as it comes."""
    flags = ["-v", "-trimpath", "-ldflags=-s -w"] if words[0] == "build" else []
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    command = ["go", words[0], *flags, *words[1:]]
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise EngineError(
            f"go {words[0]}: failed (the reason is above). Check that the Go module proxy can be reached and the disk has room."
        )
    return done.stdout


def _hash_of_inputs() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for name in ("go.mod", "go.sum", "host/go.mod", "host/go.sum"):
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One build at a time on this machine; the second one finds the first one's result."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
