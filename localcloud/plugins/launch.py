"""Start a stand-in as the engine starts any plugin: `launch.py STATE NAME [ENGINE]`. Runs without any package, in milliseconds.

The local clouds have a process in which the stand-ins' packages are imported already (localcloud.plugins.preloaded). This program asks it
for a copy of itself with the same environment and output. Then this process only waits, and the copy ends with it. If there is no such
process, the stand-in starts here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

SOCKET = "plugins.sock"
CODE = Path(__file__).resolve().parent.parent.parent


def ask(
    path: Path,
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    streams: Sequence[int] = (0, 1, 2),
) -> int | None:
    """Run the stand-in in a copy of the prepared process until it ends. Return its exit code; None if there is no such process.

    The copy gets this process's environment and standard streams, or those that are given.
    """
    environment = dict(os.environ if environment is None else environment)
    request = {"name": name, "arguments": list(arguments), "environment": environment, "folder": str(Path.cwd())}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
            socket.send_fds(connection, [b"\0"], list(streams))
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = connection.recv(1)
        except OSError:
            return None
        if answer != b"+":
            return None
        # The exit code, at the end.
        try:
            code = connection.recv(1)
        except (OSError, KeyboardInterrupt):
            return 0
    return code[0] if code else 1


def main(words: Sequence[str]) -> NoReturn:
    # The parent of the engine may have set the signal to be ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    state, name, *arguments = words
    code = ask(Path(state) / SOCKET, name, arguments)
    if code is not None:
        sys.exit(code)
    os.environ["PYTHONPATH"] = str(CODE)
    os.execv(sys.executable, [sys.executable, "-u", "-m", "localcloud.plugins.serve", name, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
