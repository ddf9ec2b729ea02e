"""Installs what a rehearsal needs, each step cached and skipped when it is up to date. Standard library only: it runs before
the project's .venv exists.

    python3 -m localcloud.prepare [--only STEP]

Exit code 1 and one line that names the mend when a step cannot be done; nothing half made stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
# What the local clouds call on the host, by the Debian package that brings it.
PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "nft": "nftables",
    "dig": "bind9-dnsutils",
    "shellcheck": "shellcheck",
    "dpkg-scanpackages": "dpkg-dev",
}
LEAST_DISK_MIB = 3000


class CannotPrepareError(Exception):
    """This machine lacks something that we cannot install; the message names the mend."""


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall"


def check_machine() -> str:
    if sys.platform != "linux":
        raise CannotPrepareError(
            f"the local clouds boot Linux containers; this is {platform.system()}. Run it on Linux, or deploy with plain `pulumi up`"
        )
    if os.geteuid() != 0:
        raise CannotPrepareError(
            "the local clouds make network namespaces and boot machines, which takes root; run it as root (sudo -E make up)"
        )
    if sys.version_info < (3, 11):
        raise CannotPrepareError(
            f"Python 3.11 or newer is needed, this is {platform.python_version()}; install python3.11"
        )
    for place in (ROOT, cache()):
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free // 2**20
        if free < LEAST_DISK_MIB:
            raise CannotPrepareError(
                f"{place} has {free} MiB free, {LEAST_DISK_MIB} are needed; free some, or set XDG_CACHE_HOME to a larger disk"
            )
    return "ok"


def install_packages() -> str:
    missing = sorted(
        {package for command, package in PACKAGES.items() if shutil.which(command) is None} | _venv_package()
    )
    if not missing:
        return "up to date"
    if shutil.which("apt-get") is None:
        raise CannotPrepareError(
            f"{', '.join(missing)} are missing and there is no apt-get; install what brings {', '.join(PACKAGES)}"
        )
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], env=quiet, mend="check the machine's package sources")
    run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        env=quiet,
        mend="check the machine's package sources and disk",
    )
    return f"installed {' '.join(missing)}"


def _venv_package() -> set[str]:
    with contextlib.suppress(ImportError):
        import ensurepip  # noqa: F401
        import venv  # noqa: F401

        return set()
    return {"python3-venv"}


def make_venv() -> str:
    # Of pyproject.toml only what is installed counts, which stands before the settings of the checks.
    package = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff]")[0]
    wanted = hashlib.sha256((ROOT / "requirements-dev.txt").read_bytes() + package.encode()).hexdigest()
    stamp = VENV / "rollcall-requirements"
    if stamp.exists() and stamp.read_text() == wanted and (VENV / "bin" / "python").exists():
        return "up to date"
    if VENV.exists():
        shutil.rmtree(VENV)
    run([sys.executable, "-m", "venv", str(VENV)], mend="install python3-venv")
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(
        [*pip, "--require-hashes", "-r", str(ROOT / "requirements-dev.txt")],
        mend="check that PyPI (or your index) can be reached",
    )
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], mend="see pip's message")
    stamp.write_text(wanted)
    return "made .venv"


def get_engine() -> str:
    found = run([sys.executable, "-m", "localcloud.engine"], capture=True, mend="see the line above")
    return found.strip().splitlines()[-1]


def build_image() -> str:
    run([str(VENV / "bin" / "python"), "-m", "localcloud.image"], mend="see the line above")
    return "ok"


def run(command: list[str], *, mend: str, env: dict[str, str] | None = None, capture: bool = False) -> str:
    """Run a step's command; its progress goes to stderr. Raises CannotPrepareError with the mend when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else sys.stderr,
            text=True,
        )
    except (subprocess.CalledProcessError, OSError) as failed:
        raise CannotPrepareError(
            f"`{' '.join(command[:4])} …` failed ({failed.__class__.__name__}); {mend}"
        ) from failed
    return done.stdout or ""


STEPS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("machine", check_machine),
    ("packages", install_packages),
    ("python", make_venv),
    ("engine", get_engine),
    ("image", build_image),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[name for name, _ in STEPS], action="append", help="do just these steps")
    chosen = parser.parse_args().only
    times: dict[str, float] = {}
    for name, step in STEPS:
        if chosen and name not in chosen:
            continue
        began = time.monotonic()
        try:
            result = step()
        except (CannotPrepareError, OSError) as fault:
            print(f"rollcall: {name}: {fault}", file=sys.stderr)
            return 1
        times[name] = round(time.monotonic() - began, 1)
        say(f"{name:<9} {times[name]:6.1f} s  {result}")
    (ROOT / ".rollcall").mkdir(exist_ok=True)
    (ROOT / ".rollcall" / "prepare.json").write_text(json.dumps(times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
