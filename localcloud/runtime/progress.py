"""Report the progress of a step: its start, its state from time to time, and one line with its time at the end.

Standard library only: `localcloud.runtime.prepare` runs before the project's .venv exists. At a terminal the line of a step that goes on is
written over; elsewhere there is a plain line every 30 s at most. What a step's commands print goes to a log file, which is named
with its last lines when they fail.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

EVERY_S = 30.0
REDRAW_S = 0.5
POLL_S = 0.1
# A step that ends within this time gets no line at its beginning.
SHORT_S = 1.0
LAST_LINES = 20
_TAIL_BYTES = 8192
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x00-\x08\x0b-\x1f\x7f]")


class Step:
    """One step of a command, reported to `out`."""

    def __init__(self, name: str, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._out, self._clock = out, clock
        self._rewrites = out.isatty() and os.environ.get("TERM") != "dumb"
        self._began = self._printed_at = clock()
        self._doing = ""
        self._drawn = False
        self.begun = False
        self.logs: set[Path] = set()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    def begin(self, doing: str) -> None:
        """Say at once what begins, and about how long it takes."""
        self._doing, self.begun = doing, True
        self._printed_at = self._clock()
        if self._rewrites:
            self._draw()
        else:
            self._print(f"==> {self.name}: {doing}")

    def going(self, doing: str = "") -> None:
        """Report the progress from time to time. Frequent calls are cheap."""
        self._doing = doing or self._doing
        if self._clock() - self._printed_at < (REDRAW_S if self._rewrites else EVERY_S):
            return
        self._printed_at = self._clock()
        if self._rewrites:
            self._draw()
        else:
            self._print(f"==> {self.name}: {self.seconds:.0f} s, {self._doing}".rstrip(", "))

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._erase()
        self._print(text)
        if self._rewrites and self._doing:
            self._draw()

    def end(self, result: str = "") -> None:
        """Print the step's line: its name, its time, and its result."""
        self._erase()
        self._print(f"==> {self.name:<13} {self.seconds:6.1f} s  {result}".rstrip())

    def stop(self) -> None:
        """Clear the step's line on the terminal, so that an error starts on an empty line."""
        self._erase()

    def _draw(self) -> None:
        text = f"==> {self.name:<13} {self.seconds:4.0f} s    {self._doing}"
        # Leave the last column empty: some terminals wrap to the next line there.
        self._out.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        self._out.flush()
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._drawn = False

    def _print(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def logged(
    command: Sequence[str],
    log: Path,
    step: Step,
    doing: str,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Run a command to the end, all of its output in `log`, behind that of the step's commands before it; its exit code. Raises
    OSError where it cannot be started.

    `doing` describes the command and about how long it takes, unless the step has described it. A command that ends at once prints nothing.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab" if log in step.logs else "wb") as output:
        step.logs.add(log)
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    began = time.monotonic()
    with ended(process):
        while not _has_ended(process, POLL_S):
            if step.begun:
                step.going(last_line(log))
            elif time.monotonic() - began >= SHORT_S:
                step.begin(doing)
    return process.returncode


def _has_ended(process: subprocess.Popen[bytes], within: float) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(within)
    return process.returncode is not None


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process when the block ends, also after an exception."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def tail(log: Path, lines: int = LAST_LINES) -> list[str]:
    """The last lines of a log that say something, without what moves a terminal's cursor."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # Take the last state of a line that was written over.
    plain = (_CONTROL.sub("", each.rstrip("\r").rpartition("\r")[2]).strip() for each in text.split("\n"))
    return [each for each in plain if each][-lines:]


def last_line(log: Path) -> str:
    return next(iter(tail(log, 1)), "")


def log_named(log: Path) -> str:
    """Return the part of an error about the log of the failed command: its path and its last lines."""
    found = tail(log)
    if not found:
        return f"{log} is empty."
    return "\n".join([f"Read {log}. Its last lines:", *(f"    {each}" for each in found)])
