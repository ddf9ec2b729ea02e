"""The host's side of a Joyent machine's metadata: protocol version 2 on a Unix socket.

Protocol: https://eng.tritondatacenter.com/mdata/protocol.html. A connection starts with `NEGOTIATE V2`, answered with
`V2_OK`; then each request and answer is one line `V2 LENGTH CRC32 ID COMMAND-OR-CODE [BASE64]`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_LONGEST_LINE = 1 << 20
_FRAME = re.compile(r"V2 ([0-9]+) ([0-9a-f]{8}) ([^ ]+ [^ ]+(?: [^ ]*)?)", re.ASCII)


class MetadataSide(Protocol):
    """One machine's metadata as its guest sees it; keys with `sdc:` are read-only views of the machine."""

    def get(self, key: str) -> str | None: ...

    def put(self, key: str, value: str) -> None:
        """Raises ValueError if the guest may not set this key."""

    def delete(self, key: str) -> None:
        """Raises ValueError if the guest may not delete this key; one that is not there is no error."""

    def keys(self) -> list[str]: ...


class FrameError(ValueError):
    """A line that is not an intact frame of version 2."""


def frame(request_id: str, code: str, payload: str | None = None) -> str:
    """One line, without its end; length and CRC-32 are those of what follows them."""
    words = [request_id, code]
    if payload is not None:
        words.append(base64.b64encode(payload.encode()).decode("ascii"))
    body = " ".join(words)
    return f"V2 {len(body)} {zlib.crc32(body.encode('ascii')):08x} {body}"


def parse(line: str) -> tuple[str, str, str | None]:
    """A line -> (request id, command or code, payload); FrameError if it is damaged."""
    try:
        found = _FRAME.fullmatch(line)
        if found is None:
            raise FrameError("not a frame of version 2")
        length, checksum, body = found.groups()
        if int(length) != len(body) or int(checksum, 16) != zlib.crc32(body.encode("ascii")):
            raise FrameError("damaged frame: length or CRC-32 differs")
        words = body.split(" ")
        return words[0], words[1], _decoded(words[2]) if len(words) == 3 else None
    except ValueError as error:
        raise FrameError(str(error)) from error


def answer(side: MetadataSide | None, line: str) -> str:
    """The answer to one line of an open connection; never raises for what a guest sends."""
    if line == "NEGOTIATE V2":
        return "V2_OK"
    try:
        request_id, command, payload = parse(line)
    except FrameError:
        return "invalid command"
    if side is None:
        return frame(request_id, "FAILURE", "the metadata of this machine is not available")
    try:
        code, result = _act(side, command, payload)
    except ValueError as error:
        return frame(request_id, "FAILURE", str(error))
    return frame(request_id, code, result)


def _act(side: MetadataSide, command: str, payload: str | None) -> tuple[str, str | None]:
    if command == "KEYS":
        return "SUCCESS", "\n".join(side.keys())
    if payload is None:
        raise ValueError(f"{command} needs a key")
    if command == "GET":
        value = side.get(payload)
        return ("NOTFOUND", None) if value is None else ("SUCCESS", value)
    if command == "DELETE":
        side.delete(payload)
        return "SUCCESS", None
    if command == "PUT":
        key, _, value = payload.partition(" ")
        side.put(_decoded(key), _decoded(value))
        return "SUCCESS", None
    raise ValueError(f"unknown command {command}")


def _decoded(text: str) -> str:
    return base64.b64decode(text, validate=True).decode("utf-8")


class MetadataServer:
    """Answers on `folder`/metadata.sock for the side that `find` returns at each request, until close()."""

    def __init__(self, folder: Path, find: Callable[[], MetadataSide | None]) -> None:
        self._find = find
        path = folder / "metadata.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # sun_path holds 108 bytes (unix(7)), fewer than a checkout's path may have: reach it through the open directory.
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._listener.bind(f"/proc/self/fd/{handle}/metadata.sock")
            path.chmod(0o600)
            self._listener.listen(16)
        except OSError:
            self._listener.close()
            raise
        finally:
            os.close(handle)
        threading.Thread(target=self._accept, name="metadata", daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            # Wakes the thread in accept(2), which close(2) alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="metadata", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # It is not an error if a guest disconnects in the middle of an answer.
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
            connection.settimeout(300)
            while line := stream.readline(_LONGEST_LINE):
                reply = answer(self._find(), line.decode("ascii", "replace").rstrip("\n"))
                stream.write(f"{reply}\n".encode("ascii"))
                stream.flush()
