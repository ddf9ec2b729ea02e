"""Run a command on several machines at once. Each line of output begins with the name of its machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TextIO

from components.commands.machines import Machine
from components.remote.base import UNREACHABLE, RemoteError, Shell
from rollcall.escaping import escaped_lines


class Output:
    """Where lines of machines go. Whole lines only, because several machines write at once."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._lock = threading.Lock()

    def line(self, machine: str, text: str, is_error: bool) -> None:
        """Write a line of a machine. Its text is made safe for a terminal."""
        with self._lock:
            print(f"{machine} | {escaped_lines(text)}", file=self._err if is_error else self._out, flush=True)


def on_each(
    machines: Sequence[Machine], shell: Callable[[Machine], Shell], command: str, batch: int, output: Output
) -> int:
    """Run a command on `batch` machines at once. Return the largest exit code. A machine that is not reached counts as 255."""

    begun: list[Shell] = []

    def one(machine: Machine) -> int:
        line = partial(output.line, machine.name)
        try:
            made = shell(machine)
            begun.append(made)
            code = made.run(command, line)
        except RemoteError as failed:
            line(str(failed), True)
            return UNREACHABLE
        if code == UNREACHABLE:
            line("exit code 255: it was not reached, or the command ended so", True)
        return code

    with ThreadPoolExecutor(max(batch, 1)) as pool:
        try:
            return max(pool.map(one, machines), default=0)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for each in begun:
                each.stop()
            raise
