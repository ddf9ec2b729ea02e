"""Give workloads their secrets, and start the workloads that have secrets or a `before` hook (docs/workloads.md, "Secrets").

A thread of the agent does this.

The agent writes a secret from the machine's cloud into a file below /run, which is in memory and for root only. systemd passes it on to the
workload's credentials (`LoadCredential=`). It is never on a disk, so each boot fetches it again. A workload starts when it has all of its
secrets. After a new revision a machine fetches them, waits for its turn, and restarts the workload.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rollcall import containers
from rollcall.backoff import Backoff, as_error
from rollcall.clouds import Cloud
from rollcall.errors import FatalError, TransientError
from rollcall.files import write_whole
from rollcall.settings import Secrets

HOME = Path("/run/rollcall/secrets")
DEFINITIONS = Path("/opt/rollcall/workloads")
STEP_S = 2.0
LONGEST_PAUSE_S = 30.0
# A machine reads its settings every ten seconds, restarts, and is unhealthy after ten more. `MOST_TURNS` limits the time for a fleet.
TURN_S, MOST_TURNS = 30.0, 20
# After so long the agent has asked DNS again (WATCH of the agent), so its count of the others is up to date.
SETTLE_S = 8.0
# A store may still return an old value for a moment. So the secrets are read once more so long after a change.
AGAIN_S = 60.0
_SYSTEMCTL_S = 60.0
# The file with the revision that a workload has. Without it the agent starts the workload, and runs its hook before.
REVISION = ".revision"
# What gets a workload, its definition and its release, and returns why it may not start yet.
Hook = Callable[[str, Mapping[str, Any], str], str]
log = logging.getLogger("rollcall")


@dataclass
class _State:
    """The progress of a workload with a `revision`. `others` is the largest number of other machines since it is known."""

    revision: str
    since: float
    others: int = 0
    put: bool = False
    again: float | None = None
    tries: Backoff = field(default_factory=lambda: Backoff(LONGEST_PAUSE_S))


class WorkloadSecrets:
    """Keep the secrets of this machine's workloads in line with its settings.

    `others` returns how many other machines are where this one has joined; None where it has not joined, and so may restart. `faults` has
    the reason for each workload that waits. `systemctl` runs it with these words. `before` gets a workload, its definition and its release,
    and returns why it may not start yet. `images` get those of containers.
    """

    def __init__(
        self,
        cloud: Cloud,
        others: Callable[[], int | None],
        *,
        home: Path = HOME,
        definitions: Path = DEFINITIONS,
        clock: Callable[[], float] = time.monotonic,
        systemctl: Callable[[Sequence[str]], None] | None = None,
        mounts: Path = Path("/proc/mounts"),
        before: Hook = lambda *_: "",
        images: containers.Images | None = None,
    ) -> None:
        self._cloud, self._others, self._clock = cloud, others, clock
        self._home, self._definitions, self._mounts = home, definitions, mounts
        self._systemctl, self._before = systemctl or _systemctl, before
        self._images = images or containers.Images()
        self._states: dict[str, _State] = {}
        self.faults: dict[str, str] = {}

    def step(self, wanted: Sequence[Secrets]) -> None:
        """Do what is due for each workload. If one fails, it is tried again, and the others still get their turn."""
        now, faults = self._clock(), dict[str, str]()
        for each in wanted:
            state = self._states.get(each.workload)
            if state is None or state.revision != each.revision:
                state = self._states[each.workload] = _State(each.revision, now)
            if now >= state.tries.not_before:
                self._try(each, state, now)
            if state.tries.error:
                faults[each.workload] = state.tries.error
        for workload, fault in faults.items():
            if self.faults.get(workload) != fault:
                log.warning("%s", fault)
        self.faults = faults

    def _try(self, wanted: Secrets, state: _State, now: float) -> None:
        try:
            waits = self._step(wanted, state, now)
        except Exception as raised:  # noqa: BLE001 - whatever a cloud answers
            fault = as_error(raised)
            state.tries.failed(fault, now)
            if "workload=" not in state.tries.error:
                state.tries.error += f" workload={wanted.workload}"
        else:
            state.tries.worked()
            state.tries.error = waits

    def ensure(self, wanted: Secrets, definition: Mapping[str, Any]) -> str:
        """Fetch the secrets and the image of a release in place that this machine does not have. Those of the release that runs stay.

        Return why the release waits for its image, or an empty text.
        """
        folder = self._home / wanted.workload
        if not all((folder / name).is_file() for name in containers.secret_names(definition)):
            self._put(wanted.workload, self._fetched(wanted, definition))
        return self._images.waits(wanted.workload, definition)

    def started(self, wanted: Secrets) -> None:
        """Note that a release in place was started with its secrets."""
        write_whole(self._home / wanted.workload / REVISION, wanted.revision)

    def forget(self, workload: str, names: Collection[str]) -> None:
        """Delete the secrets of a workload except those with these names."""
        folder = self._home / workload
        for old in folder.iterdir() if folder.is_dir() else ():
            if old.name not in (*names, REVISION, containers.LOGIN):
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def _step(self, wanted: Secrets, state: _State, now: float) -> str:
        """Take the secrets if they are due. Return why a restart waits for others, or an empty text."""
        file = self._home / wanted.workload / REVISION
        applied = file.read_text() if file.is_file() else None
        if applied == wanted.revision:
            if state.again is not None and now >= state.again:
                self._read_again(wanted, state)
            return ""
        definition = self._definition(wanted.workload)
        if applied is not None:
            due, waits = self._turn(wanted, state, definition, now)
            if not due:
                return waits
        if not state.put:
            self._replace(wanted.workload, self._fetched(wanted, definition))
            state.put = True
        if applied is None and (waits := self._images.waits(wanted.workload, definition)):
            return waits
        if applied is None and (waits := self._before(wanted.workload, definition, self._release(wanted.workload))):
            return waits
        self._start(wanted.workload, "start" if applied is None else "restart")
        write_whole(file, wanted.revision)
        state.again = now + AGAIN_S
        log.info("secrets taken: workload=%s revision=%s", wanted.workload, wanted.revision)
        return ""

    def _turn(self, wanted: Secrets, state: _State, definition: Mapping[str, Any], now: float) -> tuple[bool, str]:
        """Return whether this machine may restart a workload now, and the reason if something other than its turn prevents it.

        At least half of the other machines must be in DNS. Unhealthy ones are not there, so a value with which the workload does not start
        reaches only half of the machines.
        """
        others = self._others()
        state.others = max(state.others, others or 0)
        grace = float(definition.get("grace") or 0)
        if now < state.since + SETTLE_S + wanted.turn % MOST_TURNS * (TURN_S + grace):
            return False, ""
        needed = (state.others + 1) // 2
        if others is not None and others < needed:
            return False, f"reason=secrets-wait-for-others others={others} needed={needed} workload={wanted.workload}"
        return True, ""

    def _read_again(self, wanted: Secrets, state: _State) -> None:
        values = self._fetched(wanted, self._definition(wanted.workload))
        state.again = None
        if self._replace(wanted.workload, values):
            self._start(wanted.workload, "restart")
            log.info(
                "secrets taken: workload=%s revision=%s said='another value than at first'",
                wanted.workload,
                wanted.revision,
            )

    def _definition(self, workload: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads((self._definitions / workload / "current/workload.json").read_text())
        except FileNotFoundError as missing:
            raise TransientError(f"reason=secrets-before-workload workload={workload}") from missing
        return found

    def _release(self, workload: str) -> str:
        return (self._definitions / workload / "current").resolve().name

    def _fetched(self, wanted: Secrets, definition: Mapping[str, Any]) -> dict[str, str]:
        """Return the values of all secrets of a workload, without line breaks at the end, which Triton's tools do not preserve."""
        return {
            name: self._cloud.secret(f"{wanted.prefix}{name}").rstrip("\n")
            for name in containers.secret_names(definition)
        }

    def _replace(self, workload: str, values: Mapping[str, str]) -> bool:
        changed = self._put(workload, values)
        self.forget(workload, values)
        return changed

    def _put(self, workload: str, values: Mapping[str, str]) -> bool:
        """Write the secrets to files of root in memory. Return whether one has changed."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_memory(self._home, self._mounts):
            raise FatalError(f"reason=secrets-on-disk folder={self._home} workload={workload} said='it is not a tmpfs'")
        folder = self._home / workload
        folder.mkdir(mode=0o700, exist_ok=True)
        changed = False
        for name, value in values.items():
            file = folder / name
            if not file.is_file() or file.read_text() != value:
                write_whole(file, value, 0o600)
                changed = True
        return changed

    def _start(self, workload: str, verb: str) -> None:
        self._systemctl([verb, "--no-block", f"workload-{workload}.service"])


def _is_memory(folder: Path, mounts: Path) -> bool:
    """Return whether a folder is in memory (https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html)."""
    at, kind = folder.resolve(), ""
    best = -1
    for line in mounts.read_text().splitlines():
        _, point, form, *_ = line.split(" ")
        if (at == Path(point) or Path(point) in at.parents) and len(point) >= best:
            best, kind = len(point), form
    return kind in ("tmpfs", "ramfs")


def _systemctl(words: Sequence[str]) -> None:
    """Run systemctl. Raises TransientError."""
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=False)
    except (OSError, subprocess.SubprocessError) as failed:
        raise TransientError(f"reason=systemctl-failed unit={words[-1]} error={type(failed).__name__}") from failed
    if done.returncode:
        raise TransientError(f"reason=systemctl-failed unit={words[-1]} said={done.stderr.strip()[:120]!r}")
