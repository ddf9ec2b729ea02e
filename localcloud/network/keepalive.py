"""One WSGI exchange on a connection that may stay open for the next (RFC 9112 section 9.3).

werkzeug closes after each reply, since it cannot tell where the next request begins when an app leaves part of a body
unread. Here the body is bounded, and what an app leaves of it is read away; so a client in a machine shakes hands once.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import LimitedStream

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.serving import WSGIRequestHandler

_log = logging.getLogger("localcloud.network.http")
access = logging.getLogger("localcloud.access")
# The key in the WSGI environment for an app's note about a request. The note must not contain secrets.
NOTED = "localcloud.noted"
# What an app leaves of a body is read so far, so that its sender gets to see the reply; then the connection ends.
_LONGEST_REST, _REST_SECONDS = 2**26, 2.0
# RFC 9110 section 7.6.1: these are about a connection, which is ours to manage and not the app's.
_OURS = ("connection", "keep-alive", "transfer-encoding")


class Exchange:
    """A request that was read from `handler`'s connection, and its reply. `serve()` never raises for what an app does."""

    def __init__(self, handler: WSGIRequestHandler, environ: WSGIEnvironment) -> None:
        self._handler, self._environ = handler, environ
        if not environ.get("wsgi.input_terminated"):
            length = str(environ.get("CONTENT_LENGTH") or "0")
            environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], int(length) if length.isdecimal() else 0)
            # The end of such a body is not known.
            handler.close_connection |= not length.isdecimal()
        self._given: tuple[int, str, list[tuple[str, str]]] | None = None
        self._begun = self._in_chunks = False
        self._left: int | None = None

    def serve(self, app: Callable[..., Iterable[bytes]]) -> None:
        began = time.monotonic()
        try:
            self._run(app)
        except (ConnectionError, TimeoutError):
            self._handler.close_connection = True
        except Exception:  # noqa: BLE001 - the service continues after one request's error, and logs it
            _log.exception("%s %s", self._environ["REQUEST_METHOD"], self._environ["PATH_INFO"])
            self._fail()
        self._note(time.monotonic() - began)
        if not self._read_away():
            self._handler.close_connection = True

    def _run(self, app: Callable[..., Iterable[bytes]]) -> None:
        result = app(self._environ, self._start)
        try:
            for data in result:
                if data:
                    self._write(data)
            self._end()
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info is not None and self._begun:
            raise exc_info[1].with_traceback(exc_info[2])
        code, _, reason = status.partition(" ")
        self._given = (int(code), reason, headers)
        return self._write

    def _begin(self) -> None:
        if self._given is None:
            raise RuntimeError("the app answered before start_response()")
        code, reason, headers = self._given
        handler, names = self._handler, {key.lower() for key, _ in headers}
        handler.send_response_only(code, reason)
        if "date" not in names:
            handler.send_header("Date", handler.date_time_string())
        for key, value in headers:
            if key.lower() not in _OURS:
                handler.send_header(key, value)
            if key.lower() == "content-length":
                self._left = int(value)
        if self._bodiless(code):
            self._left = 0
        elif self._left is None and handler.request_version >= "HTTP/1.1":
            self._in_chunks = True
            handler.send_header("Transfer-Encoding", "chunked")
        elif self._left is None:
            handler.close_connection = True
        if handler.close_connection:
            handler.send_header("Connection", "close")
        handler.end_headers()
        self._begun = True

    def _bodiless(self, code: int) -> bool:
        return self._environ["REQUEST_METHOD"] == "HEAD" or code < 200 or code in (204, 304)

    def _write(self, data: bytes) -> None:
        if not self._begun:
            self._begin()
        out = self._handler.wfile
        if self._in_chunks:
            out.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            sent = data if self._left is None else data[: self._left]
            out.write(sent)
            self._left = None if self._left is None else self._left - len(sent)
        out.flush()

    def _end(self) -> None:
        if not self._begun:
            self._begin()
        if self._in_chunks:
            self._handler.wfile.write(b"0\r\n\r\n")
        elif self._left:
            # Less than was announced: only the connection's end can tell the client.
            self._handler.close_connection = True
        self._handler.wfile.flush()

    def _fail(self) -> None:
        """Report an error of the app to its client: by a 500, or by a reply that ends early."""
        handler = self._handler
        handler.close_connection = True
        if not self._begun:
            self._given = (500, "Internal Server Error", [("Content-Length", "0")])
            self._left, self._in_chunks = None, False
            try:
                self._end()
            except OSError:
                return

    def _read_away(self) -> bool:
        """Read the rest of the request's body that the app did not read. Return whether the next request begins here."""
        rest, read = self._environ["wsgi.input"], 0
        self._handler.connection.settimeout(_REST_SECONDS)
        try:
            while read < _LONGEST_REST:
                more = len(rest.read(io.DEFAULT_BUFFER_SIZE))
                if not more:
                    self._handler.connection.settimeout(self._handler.timeout)
                    return True
                read += more
        except Exception:  # noqa: BLE001 - whatever a stream says of a broken body, the connection is of no more use
            return False
        return False

    def _note(self, seconds: float) -> None:
        """Who asked for what and what came of it: no header, no body, no query, since these may hold secrets."""
        environ, code = self._environ, self._given[0] if self._begun and self._given else "cut"
        path = environ["PATH_INFO"].encode("unicode_escape").decode()[:200]
        noted = str(environ.get(NOTED) or "").encode("unicode_escape").decode()[:200]
        access.info(
            "%s %s:%s %s %s %s %.0f ms%s",
            environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REQUEST_METHOD"],
            path, code, seconds * 1000, f" {noted}" if noted else "",
        )  # fmt: skip
