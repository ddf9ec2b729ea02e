"""Files at https addresses of the operator's own web servers, which machines of the local clouds cannot reach.

`python -m localcloud publish URL FILE` puts a file there. So a stack file names the same address in a rehearsal and for real.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_CHUNK = 1 << 16


class PublishError(Exception):
    """The file cannot be published; the message names the fix."""


class Published:
    """Serve copies of files by host and path. `folder` has the copies, by their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[tuple[str, str], tuple[Path, str]] = {}

    def add(self, url: str, file: Path, kind: str = "application/octet-stream") -> tuple[str, str]:
        """Copy a file and serve it at this address, with the media type `kind`. Return the address's host and the file's SHA-256.

        Raises PublishError.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if parts.scheme != "https" or "." not in host or parts.port not in (None, 443) or parts.path in ("", "/"):
            raise PublishError(
                f"{url}: is not the https address of a file. Write it as https://releases.example.com/api-1."
            )
        try:
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, self._folder / digest)
        except OSError as unread:
            raise PublishError(f"{file}: cannot be read ({unread.strerror}). Name a file.") from unread
        with self._lock:
            self._files[host, unquote(parts.path)] = self._folder / digest, kind
        return host, digest

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer GET and HEAD as a plain web server does, and 404 for what is not published."""
        host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
        with self._lock:
            file, kind = self._files.get((host, environ.get("PATH_INFO", "/")), (None, ""))
        if file is None or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        headers = [("Content-Length", str(file.stat().st_size)), ("Content-Type", kind)]
        start_response("200 OK", headers)
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else _read(file)


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while part := opened.read(_CHUNK):
            yield part
