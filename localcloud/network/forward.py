"""Forward one HTTP request to one of several addresses, from inside the namespace. The edge and the visitor both use this.

Bodies are streamed in both directions, so a large or slow one takes no memory and its beginning is not delayed.
"""

from __future__ import annotations

import http.client
import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# RFC 9110 section 7.6.1
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-connection",
    ]
)
# Cloudflare accepts 100 MB on its free plan and answers 413 to more.
LONGEST_BODY = 100 * 2**20
ANSWER_SECONDS = 30.0
_PIECE = 2**16
Connect = Callable[[str, int], socket.socket]


class UnreachableError(Exception):
    """None of the addresses accepted a connection. The message names each one with its error; `last` is the last error."""

    def __init__(self, message: str, last: OSError | None) -> None:
        super().__init__(message)
        self.last = last


class TooLongError(Exception):
    """The request's body is longer than LONGEST_BODY."""


class Balancer:
    """A balancer that uses the addresses in turn, and the next one if a connection is refused."""

    def __init__(self) -> None:
        self._turn = itertools.count()

    def order(self, addresses: Sequence[str]) -> list[str]:
        start = next(self._turn) % len(addresses)
        return [*addresses[start:], *addresses[:start]]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply. `headers` are those to pass on. `body` comes in pieces and closes the connection at its end."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: Iterable[bytes]


def request_headers(environ: WSGIEnvironment) -> dict[str, str]:
    """The end-to-end headers of a WSGI request."""
    found = {key[5:].replace("_", "-").title(): str(value) for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            found[key.replace("_", "-").title()] = str(environ[key])
    hops = _hops(found.get("Connection"))
    return {key: value for key, value in found.items() if key.lower() not in hops}


def request_target(environ: WSGIEnvironment) -> str:
    """The path and query as the client wrote them; without the host, which an absolute form (RFC 9112 3.2.2) names."""
    written = str(environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "/")
    if not written.startswith("/"):
        query = environ.get("QUERY_STRING")
        written = quote(str(environ.get("PATH_INFO") or "/"), encoding="latin-1") + (f"?{query}" if query else "")
    # A request line must be ASCII. All ASCII characters stay as the client wrote them.
    return quote(written, safe="".join(map(chr, range(0x21, 0x7F))), encoding="latin-1")


def send(
    environ: WSGIEnvironment,
    headers: Mapping[str, str],
    addresses: Sequence[str],
    connect: Connect,
    *,
    port: int = 80,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    trusts: Callable[[ssl.SSLSocket], None] = lambda _: None,
) -> Reply:
    """Return the reply of the first address that accepts the request. The caller must read its body to the end or close it.

    Another address is tried only if the connection failed: a request that was sent may have had an effect. `trusts` checks a TLS connection
    before anything is sent. Raises UnreachableError and TooLongError. After a connection is made, it also raises http.client.HTTPException,
    OSError, ssl.SSLError, and whatever `trusts` raises.
    """
    body = _Body(environ)
    stream = _connected(addresses, connect, port)
    try:
        stream.settimeout(ANSWER_SECONDS)
        if tls is not None:
            stream = secured = tls.wrap_socket(stream, server_hostname=server_name)
            trusts(secured)
        connection = http.client.HTTPConnection("origin", port)
        connection.sock = stream
        # http.client would add its own Accept-Encoding.
        connection.putrequest(
            environ["REQUEST_METHOD"], request_target(environ), skip_host=True, skip_accept_encoding=True
        )
        for key, value in headers.items():
            connection.putheader(key, value)
        if body.chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(body if body.some else None, encode_chunked=body.chunked)
        reply = connection.getresponse()
    except BaseException:
        stream.close()
        raise
    hops = _hops(reply.getheader("Connection"))
    end_to_end = tuple((key, value) for key, value in reply.getheaders() if key.lower() not in hops)
    return Reply(status=reply.status, reason=reply.reason, headers=end_to_end, body=_Pieces(reply, stream))


def pass_on(start_response: StartResponse, reply: Reply, headers: Iterable[tuple[str, str]]) -> Iterable[bytes]:
    """Answer with `reply`, under `headers` instead of its own."""
    start_response(f"{reply.status} {reply.reason or 'OK'}", list(headers))
    return reply.body


def close(reply: Reply) -> None:
    """Close the connection of a reply that is not read."""
    end = getattr(reply.body, "close", None)
    if end is not None:
        end()


def answer(
    start_response: StartResponse, status: int, reason: str, headers: Iterable[tuple[str, str]], body: bytes
) -> list[bytes]:
    """Answer with a text of the sandbox."""
    start_response(f"{status} {reason}", [*headers, ("Content-Length", str(len(body)))])
    return [body]


class _Body:
    """A request's body, as http.client reads it. Raises TooLongError where it is, or turns out to be, too long."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._source: IO[bytes] = environ["wsgi.input"]
        self._read = 0
        self.chunked = bool(environ.get("wsgi.input_terminated"))
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.some = self.chunked or length > 0
        if length > LONGEST_BODY:
            raise TooLongError(str(length))

    def read(self, size: int = _PIECE) -> bytes:
        found = self._source.read(size)
        self._read += len(found)
        if self._read > LONGEST_BODY:
            raise TooLongError(str(self._read))
        return found


class _Pieces:
    """A reply's body, each piece as it arrives. The iterating caller must close it (PEP 3333)."""

    def __init__(self, reply: http.client.HTTPResponse, stream: socket.socket) -> None:
        self._reply, self._stream = reply, stream

    def __iter__(self) -> Iterator[bytes]:
        try:
            while piece := self._reply.read1(_PIECE):
                yield piece
        except http.client.HTTPException as broken:
            raise ConnectionResetError("the reply broke off") from broken
        if self._reply.length:
            raise ConnectionResetError("the reply broke off")

    def close(self) -> None:
        self._reply.close()
        self._stream.close()


def _connected(addresses: Sequence[str], connect: Connect, port: int) -> socket.socket:
    failures, last = [], None
    for address in addresses:
        try:
            return connect(address, port)
        except OSError as failed:
            failures.append(f"{address}: {failed.strerror or type(failed).__name__}")
            last = failed
    raise UnreachableError("; ".join(failures) or "there is no address", last)


def _hops(connection: str | None) -> frozenset[str]:
    """The headers that end here: those that always do, and those that `Connection` names."""
    return HOP_BY_HOP | {each.strip().lower() for each in (connection or "").split(",")}
