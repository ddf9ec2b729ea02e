"""A visitor of the site, on behalf of the host. Each request goes to the address that DNS has at that moment."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from localcloud.network.forward import (
    Balancer,
    Reply,
    TooLongError,
    UnreachableError,
    answer,
    close,
    pass_on,
    request_headers,
    send,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Requests without a body can be sent again.
_REPEATED = ("GET", "HEAD")


class Visitor:
    """A WSGI app on the host's loopback.

    `resolve` returns the addresses of a host name. `connect` reaches one of them from the visitor's own address inside the namespace. A
    request is for the host in X-Rollcall-Host, otherwise for the one in Host (`curl --resolve`, a browser's hosts file). If Host is this
    machine itself, the request is for the site, which `site` returns at that moment.

    If the reply redirects to https at the same host, the visitor follows at once over TLS, as a browser does. `ca` (PEM) must have signed
    the host's certificate. `X-Rollcall-Over: tls` in a reply says that this happened.
    """

    def __init__(
        self,
        site: Callable[[], str],
        resolve: Callable[[str], list[str]],
        connect: Callable[[str, int], socket.socket],
        ca: str = "",
    ) -> None:
        self._site, self._resolve, self._connect = site, resolve, connect
        self._balancer = Balancer()
        self._tls = ssl.create_default_context(cadata=ca or None)

    def trust(self, ca: str) -> None:
        """Trust another certificate authority (PEM)."""
        self._tls.load_verify_locations(cadata=ca)

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = request_headers(environ)
        host = headers.pop("X-Rollcall-Host", None) or self._named(headers.get("Host", ""))
        headers["Host"] = host
        addresses = sorted(self._resolve(host))
        if not addresses:
            return _sorry(start_response, f"{host} resolves to nothing: no machine is registered")
        try:
            reply = send(environ, headers, self._balancer.order(addresses), self._connect)
            secured = environ["REQUEST_METHOD"] in _REPEATED and _leads_to_https(reply, host)
            if secured:
                close(reply)
                order = self._balancer.order(addresses)
                reply = send(environ, headers, order, self._connect, port=443, tls=self._tls, server_name=host)
        except UnreachableError as failed:
            return _sorry(start_response, f"{host}: no address takes a connection ({failed})")
        except TooLongError:
            return answer(start_response, 413, "Content Too Large", [], b"")
        except (OSError, http.client.HTTPException) as failed:
            return _sorry(start_response, f"{host}: the connection broke ({type(failed).__name__})")
        over = [("X-Rollcall-Over", "tls")] if secured else []
        return pass_on(start_response, reply, [*reply.headers, *over])

    def _named(self, host: str) -> str:
        name = host.partition(":")[0].lower()
        here = not name or name == "localhost" or name.startswith("[") or name.replace(".", "").isdecimal()
        return self._site() if here else name


def _leads_to_https(reply: Reply, host: str) -> bool:
    location = next((value for key, value in reply.headers if key.lower() == "location"), "")
    return reply.status in (301, 302, 307, 308) and urlsplit(location)[:2] == ("https", host)


def _sorry(start_response: StartResponse, why: str) -> list[bytes]:
    return answer(start_response, 502, "Bad Gateway", [("Content-Type", "text/plain")], f"{why}\n".encode())
