"""Start a stand-in as the engine starts any plugin: `launch.py STATE NAME [ENGINE]`. Runs without any package, in milliseconds.

The local clouds have a process in which the stand-ins' packages are imported already (localcloud.plugins.preloaded). This program asks it
for a copy of itself with the same environment and output. Then this process only waits, and the copy ends with it. If there is no such
process, the stand-in starts here.

Each command of the engine starts this program several times. So it imports only modules that are part of Python's executable or need no
other module: `socket`, `signal`, `json` and `pathlib` take twice as long as Python itself.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

SOCKET = "plugins.sock"


def ask(
    path: str | os.PathLike[str],
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    streams: Sequence[int] = (0, 1, 2),
) -> int | None:
    """Run the stand-in in a copy of the prepared process until it ends. Return its exit code; None if there is no such process.

    The copy gets this process's environment and standard streams, or those that are given.
    """
    environment = dict(os.environ if environment is None else environment)
    request = {"name": name, "arguments": list(arguments), "environment": environment, "folder": os.getcwd()}  # noqa: PTH109
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        try:
            connection.connect(os.fspath(path))
            connection.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", streams))])
            # A Python literal on one line.
            connection.sendall(ascii(request).encode() + b"\n")
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
    finally:
        connection.close()
    return code[0] if code else 1


def main(words: Sequence[str]) -> NoReturn:
    # The parent of the engine may have set the signal to be ignored.
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    state, name, *arguments = words
    code = ask(os.path.join(state, SOCKET), name, arguments)  # noqa: PTH118
    if code is not None:
        sys.exit(code)
    here = os.path.realpath(__file__)
    os.environ["PYTHONPATH"] = here.rsplit(os.sep, 3)[0]
    os.execv(sys.executable, [sys.executable, "-u", "-m", "localcloud.plugins.serve", name, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
