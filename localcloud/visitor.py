"""A visitor of the site, on behalf of the host: each request goes to where DNS points at that moment."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from localcloud.forward import Balancer, UnreachableError, answer, request_headers, send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Visitor:
    """A WSGI app on the host's loopback. `resolve` gives the addresses of a host name, `connect` reaches one of them from
    the visitor's own address inside the namespace."""

    def __init__(
        self, host: str, resolve: Callable[[str], list[str]], connect: Callable[[str, int], socket.socket]
    ) -> None:
        self._host, self._resolve, self._connect = host, resolve, connect
        self._balancer = Balancer()

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = request_headers(environ)
        asked = headers.get("X-Rollcall-Host") or self._host
        headers["Host"] = asked
        addresses = sorted(self._resolve(asked))
        if not addresses:
            return _sorry(start_response, f"{asked} resolves to nothing: no machine is registered")
        try:
            found = send(environ, headers, self._balancer.order(addresses), self._connect)
        except UnreachableError as failed:
            return _sorry(start_response, f"{asked}: no address takes a connection ({failed})")
        except (OSError, http.client.HTTPException) as failed:
            return _sorry(start_response, f"{asked}: the connection broke ({type(failed).__name__})")
        return answer(start_response, *found)


def _sorry(start_response: StartResponse, why: str) -> list[bytes]:
    return answer(start_response, 502, "Bad Gateway", [("Content-Type", "text/plain")], f"{why}\n".encode())
