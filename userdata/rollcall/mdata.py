"""The metadata of a Triton machine: the guest tools, and the socket that a zone has beside them.

The tools need a process for each key, and the agent reads a dozen of keys every ten seconds. The protocol is version 2:
https://eng.tritondatacenter.com/mdata/protocol.html. On the serial line of a virtual machine programs take turns by a lock and discard
what an earlier one left unread (section 3.1), so the agent leaves that to the tools.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import subprocess
import zlib
from collections.abc import Callable, Iterator
from io import BufferedRWPair
from pathlib import Path

from rollcall.errors import FatalError, TransientError

# As one asks: `mdata-get KEY`, `mdata-list`, `mdata-put KEY VALUE`. Raises FatalError if there is no such key, TransientError if the host
# does not answer.
Ask = Callable[..., str]
_COMMANDS = {"mdata-get": "GET", "mdata-list": "KEYS", "mdata-put": "PUT"}
_WITHIN_S = 30.0


def ask_tool(*words: str) -> str:
    """Return what one of the guest tools prints, without its last line end."""
    done = run_tool(words)
    if done.returncode == 1:
        raise FatalError(f"reason=no-metadata key={words[-1]}")
    if done.returncode:
        raise TransientError(f"reason=no-metadata tool={words[0]} exit={done.returncode}")
    return done.stdout.rstrip("\n")


def run_tool(words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, capture_output=True, text=True, timeout=_WITHIN_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as failed:
        raise TransientError(f"reason=tool-failed tool={words[0]} error={type(failed).__name__}") from failed


@contextlib.contextmanager
def socket_at(path: Path) -> Iterator[Ask]:
    """Yield a function that asks over one connection to the socket. It does not ask again before it has an answer."""
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(_WITHIN_S)
            connection.connect(str(path))
            with connection.makefile("rwb") as stream:
                if _answer(stream, "NEGOTIATE V2") != "V2_OK":
                    raise ValueError("version")
                yield lambda *words: _ask(stream, *words)
    except (OSError, ValueError) as failed:
        raise TransientError(f"reason=no-metadata socket={path} error={type(failed).__name__}") from failed


def _ask(stream: BufferedRWPair, tool: str, *words: str) -> str:
    payload = " ".join(map(_encoded, words)) if len(words) > 1 else "".join(words)
    request = secrets.token_hex(4)
    body = " ".join((request, _COMMANDS[tool], *([_encoded(payload)] if words else ())))
    line = _answer(stream, f"V2 {len(body)} {zlib.crc32(body.encode()):08x} {body}")
    version, length, checksum, body = line.split(" ", 3)
    of, code, *value = body.split(" ")
    if (version, int(length), int(checksum, 16), of) != ("V2", len(body), zlib.crc32(body.encode()), request):
        raise ValueError("damaged, or the answer to another request")
    if code == "NOTFOUND":
        raise FatalError(f"reason=no-metadata key={words[-1]}")
    if code != "SUCCESS":
        raise TransientError(f"reason=no-metadata command={_COMMANDS[tool]} code={code}")
    return base64.b64decode("".join(value)).decode().rstrip("\n")


def _answer(stream: BufferedRWPair, line: str) -> str:
    stream.write(f"{line}\n".encode())
    stream.flush()
    return stream.readline().decode("ascii").rstrip("\n")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
