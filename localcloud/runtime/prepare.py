"""Install what a sandbox needs. Each step is cached and skipped when it is up to date. It uses the standard library only, because it runs
before the project's .venv exists.

    python3 -m localcloud.runtime.prepare [--only STEP]

Each step is one line with its time; a step that takes long says so when it begins, and how it goes now and then. What pip, apt,
mmdebstrap and go print is in `.rollcall/logs/prepare-STEP.log`. Exit code 1 when a step cannot be done, with one line that names the
fix and, where a command failed, the log and its last lines; nothing half made stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from localcloud.runtime.progress import Step, last_line, log_named, logged

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
STAMP = "rollcall-requirements"
LOGS = ROOT / ".rollcall" / "logs"
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
    """This machine lacks something that this program cannot install; the message has the fix."""


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollcall"


def check_machine(_step: Step | None = None) -> str:
    if sys.platform != "linux":
        raise CannotPrepareError(
            f"{platform.system()}: the local clouds boot Linux containers. Run it on Linux, or deploy with plain `pulumi up`."
        )
    if os.geteuid() != 0:
        raise CannotPrepareError(
            "root: the local clouds need it for network namespaces and machines. Run it as root (sudo -E make up)."
        )
    if sys.version_info < (3, 11):
        raise CannotPrepareError(
            f"Python: 3.11 or newer is needed, and this is {platform.python_version()}. Install python3.11."
        )
    for folder in (ROOT, cache()):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free // 2**20
        if free < LEAST_DISK_MIB:
            raise CannotPrepareError(
                f"{folder}: has {free} MiB free, and {LEAST_DISK_MIB} are needed. Free some, or set XDG_CACHE_HOME to a larger disk."
            )
    return "ok"


def install_packages(step: Step) -> str:
    missing = sorted(
        {package for command, package in PACKAGES.items() if shutil.which(command) is None} | _venv_package()
    )
    if not missing:
        return "up to date"
    if shutil.which("apt-get") is None:
        raise CannotPrepareError(
            f"{', '.join(missing)}: missing, and there is no apt-get. Install the packages that have {', '.join(PACKAGES)}."
        )
    step.begin(f"installing {', '.join(missing)}, about a minute")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(step, ["apt-get", "update", "-q"], env=quiet, fix="Check the machine's package sources")
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    run(step, install, env=quiet, fix="Check the machine's package sources and disk")
    return f"installed {' '.join(missing)}"


def _venv_package() -> set[str]:
    with contextlib.suppress(ImportError):
        import ensurepip  # noqa: F401
        import venv  # noqa: F401

        return set()
    return {"python3-venv"}


def wanted_packages() -> str:
    """Return a hash of what determines the content of .venv, which is in the file STAMP of a complete one."""
    # Only the part of pyproject.toml before the settings of the checks affects what is installed.
    package = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff]")[0]
    return hashlib.sha256((ROOT / "requirements-dev.txt").read_bytes() + package.encode()).hexdigest()


def make_venv(step: Step) -> str:
    wanted, stamp = wanted_packages(), VENV / STAMP
    if stamp.exists() and stamp.read_text() == wanted and (VENV / "bin" / "python").exists():
        return "up to date"
    if VENV.exists():
        shutil.rmtree(VENV)
    step.begin("making .venv with what requirements-dev.txt lists, about 2 minutes the first time")
    run(step, [sys.executable, "-m", "venv", str(VENV)], fix="Install python3-venv")
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    pip += ["--progress-bar", "off"]
    wheels = [*pip, "--require-hashes", "-r", str(ROOT / "requirements-dev.txt")]
    run(step, wheels, fix="Check that PyPI (or your index) can be reached and that the disk has room")
    run(step, [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], fix="Read the message of pip")
    stamp.write_text(wanted)
    return "made .venv"


def get_engine(step: Step) -> str:
    build = "building the Pulumi engine from its Go module, about 4 minutes on 2 cores, once"
    engine = [sys.executable, "-m", "localcloud.engine"]
    return run(step, engine, env={**os.environ, "PATH": callers_path()}, fix="Read its message", doing=build)


def build_image(step: Step) -> str:
    image = [str(VENV / "bin" / "python"), "-m", "localcloud.machines.image"]
    doing = "building the machines' image of Debian 12, about 2 minutes, once"
    return run(step, image, fix="Read its message", doing=doing)


def callers_path() -> str:
    """PATH without what `make -s env` puts there: a `pulumi` that works on the stack of a sandbox."""
    folders = map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))
    return os.pathsep.join(
        str(each) for each in folders if (each.name, each.parent.parent.name) != ("bin", ".rollcall")
    )


def run(
    step: Step, command: Sequence[str], *, fix: str, env: Mapping[str, str] | None = None, doing: str = "working"
) -> str:
    """Run a step's command, which prints into the step's log; its last line. Raises CannotPrepareError with the fix when it fails."""
    log, shown = LOGS / f"prepare-{step.name}.log", shlex.join(command[:4])
    try:
        code = logged(command, log, step, doing, env=env, cwd=ROOT)
    except OSError as missing:
        raise CannotPrepareError(f"{shown}: cannot be started ({missing.strerror}). {fix}.") from missing
    if code:
        raise CannotPrepareError(f"{shown} …: failed with exit code {code}. {fix}.\n{log_named(log)}")
    return last_line(log)


STEPS: tuple[tuple[str, Callable[[Step], str]], ...] = (
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
    for name, prepare in STEPS:
        if chosen and name not in chosen:
            continue
        step = Step(name, sys.stderr)
        try:
            result = prepare(step)
        except (CannotPrepareError, OSError) as fault:
            step.stop()
            print(f"rollcall: {name}: {fault}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            step.stop()
            print(f"rollcall: {name}: interrupted. Run the same `make` again: it continues from here.", file=sys.stderr)
            return 130
        times[name] = round(step.seconds, 1)
        step.end(result)
    LOGS.mkdir(parents=True, exist_ok=True)
    (LOGS / "prepare.json").write_text(json.dumps(times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
