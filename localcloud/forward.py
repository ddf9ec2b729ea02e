"""One HTTP request sent on to one of several addresses, from inside the namespace: what the edge and the visitor share."""

from __future__ import annotations

import http.client
import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

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
LONGEST_BODY = 10 * 2**20
CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 30.0
Connect = Callable[[str, int], socket.socket]


class UnreachableError(Exception):
    """None of the addresses took the request; the message names each and why."""


class Balancer:
    """Takes the addresses in turn, and the next one where a connection is refused."""

    def __init__(self) -> None:
        self._turn = itertools.count()

    def order(self, addresses: Sequence[str]) -> list[str]:
        start = next(self._turn) % len(addresses)
        return [*addresses[start:], *addresses[:start]]


def request_headers(environ: WSGIEnvironment) -> dict[str, str]:
    """The end-to-end headers of a WSGI request."""
    found = {key[5:].replace("_", "-").title(): str(value) for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            found[key.replace("_", "-").title()] = str(environ[key])
    hops = _hops(found.get("Connection"))
    return {key: value for key, value in found.items() if key.lower() not in hops}


def _hops(connection: str | None) -> frozenset[str]:
    """The headers that end here: those that always do, and those that `Connection` names."""
    return HOP_BY_HOP | {each.strip().lower() for each in (connection or "").split(",")}


def send(
    environ: WSGIEnvironment,
    headers: Mapping[str, str],
    addresses: Sequence[str],
    connect: Connect,
    *,
    port: int = 80,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """Status, reason, end-to-end headers and body of the first address that takes the request.

    Only a connection that could not be made is tried elsewhere: a request that was sent may have acted.
    Raises UnreachableError; http.client.HTTPException, OSError and ssl.SSLError once a connection stood.
    """
    length = min(int(environ.get("CONTENT_LENGTH") or 0), LONGEST_BODY)
    body = environ["wsgi.input"].read(length) if length else None
    path = environ.get("REQUEST_URI") or environ.get("RAW_URI") or environ.get("PATH_INFO") or "/"
    failures = []
    for address in addresses:
        try:
            stream = connect(address, port)
        except OSError as failed:
            failures.append(f"{address}: {failed.strerror or type(failed).__name__}")
            continue
        with stream:
            stream.settimeout(ANSWER_SECONDS)
            secured = tls.wrap_socket(stream, server_hostname=server_name) if tls else stream
            connection = http.client.HTTPConnection(address, port)
            connection.sock = secured
            try:
                connection.request(environ["REQUEST_METHOD"], path, body=body, headers=dict(headers))
                reply = connection.getresponse()
                hops = _hops(reply.getheader("Connection"))
                kept = [(key, value) for key, value in reply.getheaders() if key.lower() not in hops]
                return reply.status, reply.reason, kept, reply.read()
            finally:
                connection.close()
    raise UnreachableError("; ".join(failures) or "there is no address")


def answer(
    start_response: StartResponse, status: int, reason: str, headers: Iterable[tuple[str, str]], body: bytes
) -> list[bytes]:
    kept = [(key, value) for key, value in headers if key.lower() not in ("content-length", "date")]
    start_response(f"{status} {reason or 'OK'}", [*kept, ("Content-Length", str(len(body)))])
    return [body]
