"""Check what a rehearsal needs of this machine. docs/rehearsal.md says what runs there; `make prepare` installs what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, ok, wrong

AREA = "Rehearsal"
# The commands that the local clouds call, by the Debian package that has them: tests compare it with localcloud/runtime/prepare.py.
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


def checks(env: Environment) -> list[Check]:
    return [
        Check(area=AREA, name="this machine", run=machine),
        Check(area=AREA, name="commands", run=commands),
        Check(area=AREA, name="disk", run=lambda: disk(env)),
    ]


def machine() -> Iterator[Finding]:
    if sys.platform != "linux":
        yield wrong(f"{sys.platform}: a rehearsal boots Linux containers. Run it on Linux.")
    elif os.geteuid() != 0:
        yield wrong("root: network namespaces and machines need it. Run it as root (`sudo -E make up`).")
    else:
        yield ok("Linux, as root")


def commands() -> Iterator[Finding]:
    missing = sorted(package for command, package in PACKAGES.items() if shutil.which(command) is None)
    if missing:
        yield wrong(
            f"commands: {', '.join(missing)} are missing. Run `make prepare`, or `apt-get install {' '.join(missing)}`."
        )
    else:
        yield ok(f"all {len(PACKAGES)}")
    if shutil.which("pulumi") is None and shutil.which("go") is None:
        yield wrong(
            "go: neither pulumi nor go is on the PATH, so the engine cannot be built. Install Go 1.25 or newer.",
            "engine",
        )


def disk(env: Environment) -> Iterator[Finding]:
    free = shutil.disk_usage(env.root).free // 2**20
    if free < LEAST_DISK_MIB:
        yield wrong(f"{env.root}: has {free} MiB free, and {LEAST_DISK_MIB} are needed. Free some.")
    else:
        yield ok(f"{free} MiB free")
