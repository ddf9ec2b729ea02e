"""`python -m localcloud.plugins.preloaded SOCKET`: a process that has imported what the stand-ins need, and makes copies of itself.

An engine starts each plugin once or twice for each command, and most of a stand-in's time was its imports and boto3's models. A copy
made by fork has them. The process serves until its standard input ends, which is when the local clouds do.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from localcloud.plugins import STAND_INS
from localcloud.plugins.launch import SOCKET

_CODE = Path(__file__).resolve().parent.parent.parent
_WAIT_S = 5.0
# The name and the arguments that a caller gives -> the exit code.
Run = Callable[[str, Sequence[str]], int]


class Preloaded:
    """The process, as the local clouds start and end it."""

    module = "localcloud.plugins.preloaded"

    def __init__(self, state: Path, log: Path) -> None:
        self._path = state / SOCKET
        command = [sys.executable, "-m", self.module, str(self._path)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=_CODE, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
            )

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._path.unlink(missing_ok=True)


def main(path: Path) -> None:
    # The local clouds import this module too, and need none of that.
    run = import_module("localcloud.plugins.serve").run
    for name in STAND_INS:
        import_module(f"localcloud.plugins.{name}").PLUGIN.preload()
    copy_for_each(path, run)


def copy_for_each(path: Path, run: Run) -> None:
    """Make a copy of this process for each caller at the socket `path`, which `run`s what it asks for; until standard input ends."""
    gc.freeze()
    # Copies are not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        path.chmod(0o600)
        server.listen(16)
        ours = path.stat().st_ino
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            with connection:
                if os.fork() == 0:
                    server.close()
                    _become(connection, run)
    # The next local clouds in this folder may have created their socket already.
    with contextlib.suppress(OSError):
        if path.stat().st_ino == ours:
            path.unlink()


def _become(connection: socket.socket, run: Run) -> NoReturn:
    """Run what the caller asks for, and end together with the caller."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        request = _received(connection)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        connection.sendall(b"+")
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        code = run(request["name"], request["arguments"])
    finally:
        with contextlib.suppress(OSError):
            connection.sendall(bytes([code]))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _received(connection: socket.socket) -> dict[str, Any]:
    """Take over the caller's standard streams; return what it asks for."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    with connection.makefile("rb") as lines:
        request: dict[str, Any] = ast.literal_eval(lines.readline().decode())
    return request


def _end_with(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Python takes half a second to tear down what was imported.
    os._exit(0)
