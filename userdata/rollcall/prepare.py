"""Set the system of this machine to what its settings say: time zone, logs, volumes.

The boot script calls it at every boot, before a workload starts. The agent calls it through the boot script if a setting has changed. Each
step compares before it acts. The proxy and the mirror of apt are in the boot script itself, which needs them before it has this package.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rollcall.files import write_whole
from rollcall.machine import LOGS, SCRIPT, TIMEZONE, VOLUMES

_COMMAND_S, _PACKAGES_S = 60.0, 900.0
_SYSLOG = "etc/rsyslog.d/60-rollcall.conf"
# journald keeps its own copy, and gives each line to rsyslog too.
_FORWARD = "etc/systemd/journald.conf.d/rollcall.conf"
_UPLOAD = "etc/systemd/journal-upload.conf.d/rollcall.conf"

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    limit = _PACKAGES_S if SCRIPT in words else _COMMAND_S
    return subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)


def prepare(keys: Mapping[str, str], root: Path = Path("/"), run: Run = run) -> None:
    """Apply the settings of the machine's system. Raises RollcallError or ValueError if a volume cannot be mounted.

    A machine serves without its time zone and its log target, so a failure of these is one line on standard error.
    """
    for step in (_timezone, _logs):
        try:
            fault = step(keys, root, run)
        except (OSError, subprocess.SubprocessError) as failed:
            fault = f"error={type(failed).__name__}"
        if fault:
            print(f"going on: step={step.__name__.strip('_')} {fault}", file=sys.stderr, flush=True)
    if text := keys.get(VOLUMES):
        # EC2 machines only, so Triton's do not carry it.
        from rollcall.volume_settings import parse_volumes
        from rollcall.volumes import Volumes

        Volumes(root, run).mount(parse_volumes(text))


def _timezone(keys: Mapping[str, str], root: Path, run: Run) -> str:
    """Set the time zone. Without the setting the machine keeps what it has. Return what failed."""
    zone = keys.get(TIMEZONE, "")
    data = root / "usr/share/zoneinfo" / zone
    if not zone or (root / "etc/localtime").resolve() == data.resolve():
        return ""
    if not data.is_file():
        return f"reason=no-timezone timezone={zone}"
    # As timedatectl does it, which needs a bus that may not be there yet.
    fresh = root / "etc/.localtime.rollcall-new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(f"/usr/share/zoneinfo/{zone}" if root == Path("/") else data)
    fresh.replace(root / "etc/localtime")
    write_whole(root / "etc/timezone", f"{zone}\n", 0o644)
    print(f"timezone timezone={zone}", flush=True)
    return ""


def _logs(keys: Mapping[str, str], root: Path, run: Run) -> str:
    """Send the journal where the setting says, and nowhere else. Return what failed."""
    kind, _, target = keys.get(LOGS, "").partition("=")
    if kind not in ("", "syslog", "http"):
        return f"reason=unknown-target value={kind[:40]!r}"
    syslog = target if kind == "syslog" else ""
    changed = {
        "rsyslog": _differs(root / _SYSLOG, _rsyslog(syslog) if syslog else ""),
        "systemd-journald": _differs(root / _FORWARD, "[Journal]\nForwardToSyslog=yes\n" if syslog else ""),
        "systemd-journal-upload": _differs(root / _UPLOAD, f"[Upload]\nURL={target}\n" if kind == "http" else ""),
    }
    package, unit = {
        "syslog": ("rsyslog", "rsyslog"),
        "http": ("systemd-journal-remote", "systemd-journal-upload"),
    }.get(kind, ("", ""))
    if kind != "http" and changed["systemd-journal-upload"]:
        run(("systemctl", "disable", "--now", "--quiet", "systemd-journal-upload.service"))
    if changed["systemd-journald"]:
        run(("systemctl", "restart", "systemd-journald.service"))
    if not syslog and changed["rsyslog"]:
        run(("systemctl", "try-restart", "rsyslog.service"))
    if not unit:
        return ""
    done = run(("/bin/sh", SCRIPT, "need", package))
    if done.returncode:
        reason = done.stderr.strip().rpartition("reason=")[2][:200]
        return f"reason={reason or 'package-missing'}"
    verb = "restart" if changed[unit] else "start"
    for words in (("enable", "--quiet"), (verb,)):
        done = run(("systemctl", *words, f"{unit}.service"))
        if done.returncode:
            return f"reason=not-started unit={unit} said={done.stderr.strip()[:200]!r}"
    if changed[unit]:
        print(f"logs {kind}={target}", flush=True)
    return ""


def _rsyslog(target: str) -> str:
    """Return the rule that sends everything to a server by TCP, and keeps it in a queue on the disk while the server is away.

    https://www.rsyslog.com/doc/configuration/modules/omfwd.html
    """
    host, _, port = target.rpartition(":")
    return (
        f'*.* action(type="omfwd" target="{host.strip("[]")}" port="{port}" protocol="tcp" action.resumeRetryCount="-1"\n'
        '    queue.type="LinkedList" queue.filename="rollcall" queue.maxDiskSpace="100m" queue.saveOnShutdown="on")\n'
    )


def _differs(path: Path, text: str) -> bool:
    """Write a file, or remove it if it is to be empty. Return whether it was different."""
    before = path.read_text() if path.exists() else ""
    if before == text:
        return False
    if text:
        write_whole(path, text, 0o644)
    else:
        path.unlink()
    return True
