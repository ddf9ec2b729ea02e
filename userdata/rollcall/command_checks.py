"""Run the command checks of workloads. systemd runs each in a separate unit, as the workload's user and confined as the workload.

A thread starts the unit every `interval` seconds, because a command may take longer than the agent may pause. The unit writes to a file
of root in memory. The workload has only the open file, so it cannot lead the agent to another one.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

OUTPUT = Path("/run/rollcall/checks")
# After so long without a question a thread ends: the machine has left what asked it.
_UNUSED_S = 60.0
# What systemd needs besides the command's own time.
_SYSTEMD_S = 15.0
_TAIL_BYTES, _SHOWN_CHARS = 4096, 120
Run = Callable[[Sequence[str], float], "subprocess.CompletedProcess[str]"]


def unit_of(workload: str, number: int) -> str:
    """Return the unit of a workload's check `number`. No unit of a workload itself has such a name."""
    return f"check-workload-{workload}-{number}.service"


class CommandCheck:
    """A check that a thread repeats. A call returns the reason why the last run failed, and "" if it was good.

    It returns None while there is no run since the last bad one that was returned, so each run counts once.
    """

    def __init__(
        self, unit: str, command: str, *, interval: float, timeout: float, home: Path = OUTPUT, run: Run | None = None
    ) -> None:
        self._unit, self._command, self._interval, self._timeout = unit, command, interval, timeout
        self._file, self._run = home / unit.removesuffix(".service"), run or run_command
        self._result: tuple[int, str] = (0, "")
        self._seen, self._last_call = 0, 0.0
        self._thread: threading.Thread | None = None

    def __call__(self) -> str | None:
        self._last_call = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._repeat, daemon=True)
            self._thread.start()
        serial, why = self._result
        if serial == 0 or (why and serial == self._seen):
            return None
        self._seen = serial
        return why

    def _repeat(self) -> None:
        while time.monotonic() - self._last_call < _UNUSED_S:
            self.once()
            time.sleep(self._interval)

    def once(self) -> None:
        """Run the command, and keep the result for the next call."""
        try:
            why = self._why()
        except Exception as failed:  # noqa: BLE001 - a check that raises anything has failed
            why = f"error={type(failed).__name__}"
        self._result = (self._result[0] + 1, why and f"command:{self._command} {why}")

    def _why(self) -> str:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        limit = self._timeout + _SYSTEMD_S
        if self._run(["systemctl", "start", self._unit], limit).returncode == 0:
            return ""
        return f"{failure(shown(self._run, self._unit, limit))} said={_last_line(self._file)}"


def _last_line(file: Path) -> str:
    """Return the last line with text of a file, escaped and shortened."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL_BYTES))
            lines = [line.strip() for line in opened.read(_TAIL_BYTES).decode(errors="replace").splitlines()]
    except FileNotFoundError:
        lines = []
    return ascii(next((line for line in reversed(lines) if line), "")[:_SHOWN_CHARS])


def shown(run: Run, unit: str, limit: float) -> dict[str, str]:
    """Return what systemd says of a unit: `ActiveState`, `Result` and `ExecMainStatus`."""
    words = ["systemctl", "show", "--property=ActiveState,Result,ExecMainStatus", unit]
    return dict(line.partition("=")[::2] for line in run(words, limit).stdout.splitlines())


def failure(found: Mapping[str, str]) -> str:
    """Return how a unit has failed, from what systemd says of it."""
    kind = found.get("Result", "")
    return f"status={found.get('ExecMainStatus', '')}" if kind == "exit-code" else f"result={kind}"


def run_command(words: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=limit, check=False)
