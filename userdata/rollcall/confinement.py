"""Confine workloads, and check that this machine really does it: systemd ignores settings that the kernel does not support.

`IPAddressDeny=` needs the unified cgroup hierarchy and BPF
(https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html), and all settings that hide files need mount
namespaces. Triton's LX zones have none of these.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

LINES = Path(__file__).parents[1] / "units/confinement.conf"
_UNIT, _LIMIT_S = "rollcall-confinement", 30.0
# This program runs confined. If a filter blocks its datagram, it gets an error at once, so it needs no answer.
_PROBE = """import os, socket, sys
lacks = 2 * any(map(os.path.exists, sys.argv[2:]))
try:
    if sys.argv[1]:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", (sys.argv[1], 9))
        lacks += 1
except PermissionError:
    pass
except OSError:
    lacks += 1
sys.exit(lacks)
"""
# Any user can see these paths if they are not hidden.
_HIDDEN = ("/opt/rollcall/releases", "/native/.zonecontrol/metadata.sock", "/.zonecontrol/metadata.sock", "/dev/ttyS1")
_LACKS = {1: "metadata", 2: "files", 3: "files,metadata"}


def lines(home: str) -> str:
    """Return the lines that confine a unit with its files in `home`."""
    return LINES.read_text().replace("@HOME@", home)


def addresses() -> str:
    """Return the line that keeps a unit from the metadata service."""
    return _properties("", "IPAddressDeny=")[0]


def lacking(home: str, *, metadata: bool) -> str:
    """Return what a workload can reach on this machine although it must not: `files`, `metadata` or both. Empty: it is confined.

    If that is not known, return the reason. `metadata`: whether there is a metadata service at the confined address, as on EC2.
    """
    address = addresses().split()[0].partition("=")[2]
    command = ["systemd-run", "--quiet", f"--unit={_UNIT}", "--property=Type=oneshot", "--property=DynamicUser=yes"]
    command += [f"--property={each}" for each in _properties(home)]
    _run(["systemctl", "reset-failed", f"{_UNIT}.service"])
    try:
        done = _run([*command, "/usr/bin/python3", "-c", _PROBE, address if metadata else "", *_HIDDEN])
        if done.returncode == 0:
            return ""
        status = _run(["systemctl", "show", "--property=ExecMainStatus", "--value", f"{_UNIT}.service"]).stdout.strip()
    except (OSError, subprocess.SubprocessError) as failed:
        return f"unknown error={type(failed).__name__}"
    finally:
        _run(["systemctl", "reset-failed", f"{_UNIT}.service"])
    return _LACKS.get(int(status or 0), f"unknown status={status} said={done.stderr.strip()[:100]!r}")


def stop(unit: str) -> None:
    """Stop a unit, if it runs."""
    _run(["systemctl", "stop", "--no-block", f"{unit}.service"])


def _properties(home: str, start: str = "") -> list[str]:
    return [each for each in lines(home).splitlines() if "=" in each and each[0] != "#" and each.startswith(start)]


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
