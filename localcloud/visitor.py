"""A visitor of the site, on behalf of the host: each request goes to where DNS points at that moment."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from localcloud.forward import Balancer, TooLongError, UnreachableError, answer, pass_on, request_headers, send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Visitor:
    """A WSGI app on the host's loopback. `resolve` gives the addresses of a host name, `connect` reaches one of them from
    the visitor's own address inside the namespace. A request is for the host that X-Rollcall-Host names; else for the one
    in Host (`curl --resolve`, a browser's hosts file); and for the site where that is this machine itself."""

    def __init__(
        self, host: str, resolve: Callable[[str], list[str]], connect: Callable[[str, int], socket.socket]
    ) -> None:
        self._host, self._resolve, self._connect = host, resolve, connect
        self._balancer = Balancer()

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = request_headers(environ)
        asked = headers.pop("X-Rollcall-Host", None) or self._named(headers.get("Host", ""))
        headers["Host"] = asked
        addresses = sorted(self._resolve(asked))
        if not addresses:
            return _sorry(start_response, f"{asked} resolves to nothing: no machine is registered")
        try:
            reply = send(environ, headers, self._balancer.order(addresses), self._connect)
        except UnreachableError as failed:
            return _sorry(start_response, f"{asked}: no address takes a connection ({failed})")
        except TooLongError:
            return answer(start_response, 413, "Content Too Large", [], b"")
        except (OSError, http.client.HTTPException) as failed:
            return _sorry(start_response, f"{asked}: the connection broke ({type(failed).__name__})")
        return pass_on(start_response, reply, reply.headers)

    def _named(self, host: str) -> str:
        name = host.partition(":")[0].lower()
        here = not name or name == "localhost" or name.startswith("[") or name.replace(".", "").isdecimal()
        return self._host if here else name


def _sorry(start_response: StartResponse, why: str) -> list[bytes]:
    return answer(start_response, 502, "Bad Gateway", [("Content-Type", "text/plain")], f"{why}\n".encode())
