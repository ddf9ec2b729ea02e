"""Run commands on a machine by the `ssh` of this computer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import IO

from components.remote.base import Line

# Known hosts are not stored: no secret is sent, and a new machine has a key that no client has seen before.
OPTIONS = (
    "-axT -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=2"
    " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)
# The shell reads ROLLCALL_SSH when this runs, as git's GIT_SSH_COMMAND: a key, a jump host, another client.
_CLIENT = f'exec ${{ROLLCALL_SSH:-ssh}} {OPTIONS} "$@"'


class SshShell:
    """A machine, as `user` at its `address`."""

    def __init__(self, user: str, address: str) -> None:
        self._to = f"{user}@{address}"
        self._process: subprocess.Popen[str] | None = None

    def run(self, command: str, line: Line) -> int:
        words = ["sh", "-c", _CLIENT, "ssh", "--", self._to, command]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A client of ROLLCALL_SSH may start others. `stop` ends all of them.
            start_new_session=True,
        )
        self._process = process
        try:
            assert process.stdout is not None and process.stderr is not None
            errors = threading.Thread(target=_read, args=(process.stderr, True, line), daemon=True)
            errors.start()
            _read(process.stdout, False, line)
            errors.join()
            return process.wait()
        finally:
            self.stop()
            process.wait()

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def _read(stream: IO[str], is_error: bool, line: Line) -> None:
    with stream:
        for each in stream:
            line(each.rstrip("\r\n"), is_error)
