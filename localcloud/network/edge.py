"""Cloudflare's edge for proxied names: terminate the visitor's connection, ask an origin, and pass on the visitor's address.

https://developers.cloudflare.com/fundamentals/reference/http-headers/ and, for its own error pages,
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""

from __future__ import annotations

import errno
import http.client
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from localcloud.network.forward import (
    Balancer,
    TooLongError,
    UnreachableError,
    answer,
    pass_on,
    request_headers,
    request_target,
    send,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Route(Protocol):
    """The route of a proxied host's requests: addresses, or a name outside the zone to resolve; and the zone's settings."""

    @property
    def origins(self) -> Sequence[str]: ...
    @property
    def target(self) -> str | None: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


class _RevokedError(Exception):
    """The origin's certificate was revoked."""


class Edge:
    """A WSGI app for the edge's addresses, plain and TLS alike.

    `connect` reaches an origin from one of the edge's addresses; `origin_ca` is the PEM of the CA that signs origin
    certificates, which ssl mode `strict` insists on; `revoked` tells of a serial number of that CA's whether it is.
    """

    def __init__(
        self,
        route_of: Callable[[str], Route | None],
        resolve: Callable[[str], list[str]],
        connect: Callable[[str, int], socket.socket],
        origin_ca: str = "",
        revoked: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._route_of, self._resolve, self._connect = route_of, resolve, connect
        self._origin_ca, self._revoked = origin_ca, revoked
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._balancer = Balancer()

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
        route = self._route_of(host)
        if route is None:
            return _page(start_response, 409, "Error 1001: DNS resolution error", f"{host} is not proxied here")
        scheme = str(environ["wsgi.url_scheme"])
        other = self._other_scheme(scheme, route.settings)
        if other is not None:
            location = f"{other}://{host}{request_target(environ)}"
            return answer(start_response, 301, "Moved Permanently", [("Location", location)], b"")
        # Origins with both families are asked by IPv4; the edge's addresses here have no other.
        origins = [each for each in route.origins if ":" not in each] or route.origins
        addresses = sorted(origins) or (self._resolve(route.target) if route.target else [])
        if not addresses:
            return _page(start_response, 530, "Error 1016: Origin DNS error", f"{host} has no origin")
        return self._forward(environ, start_response, host, scheme, route.settings, addresses)

    def _forward(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        host: str,
        scheme: str,
        settings: Mapping[str, Any],
        addresses: Sequence[str],
    ) -> Iterable[bytes]:
        mode = str(settings.get("ssl", "full"))
        secured = scheme == "https" and mode in ("full", "strict")
        headers = self._headers(environ, host, scheme)
        try:
            reply = send(
                environ,
                headers,
                self._balancer.order(addresses),
                self._connect,
                port=443 if secured else 80,
                tls=self._tls(mode) if secured else None,
                server_name=host,
                trusts=self._check_revoked if mode == "strict" else lambda _: None,
            )
        except UnreachableError as down:
            status, title = _down(down.last)
            return _page(start_response, status, title, str(down))
        except TooLongError:
            return _page(start_response, 413, "Payload Too Large", host)
        except ssl.SSLCertVerificationError as bad:
            return _page(start_response, 526, "Error 526: Invalid SSL certificate", bad.verify_message)
        except _RevokedError as bad:
            return _page(start_response, 526, "Error 526: Invalid SSL certificate", str(bad))
        except ssl.SSLError as bad:
            return _page(start_response, 525, "Error 525: SSL handshake failed", str(bad.reason))
        except TimeoutError:
            return _page(start_response, 524, "Error 524: A timeout occurred", host)
        except (OSError, http.client.HTTPException) as broken:
            return _page(start_response, 520, "Error 520: unknown error", type(broken).__name__)
        named = [("CF-RAY", headers["Cf-Ray"]), ("Server", "cloudflare"), ("CF-Cache-Status", "DYNAMIC")]
        return pass_on(
            start_response, reply, [*(each for each in reply.headers if each[0].lower() != "server"), *named]
        )

    @staticmethod
    def _other_scheme(scheme: str, settings: Mapping[str, Any]) -> str | None:
        """Return the scheme to which a visitor is redirected: https if the zone always uses it, http if its TLS is off.

        https://developers.cloudflare.com/ssl/origin-configuration/ssl-modes/off/
        """
        if settings.get("ssl") == "off":
            return "http" if scheme == "https" else None
        return "https" if scheme == "http" and settings.get("always_use_https") == "on" else None

    @staticmethod
    def _headers(environ: WSGIEnvironment, host: str, scheme: str) -> dict[str, str]:
        """Return the visitor's headers, except those that only the edge may set, plus the edge's headers."""
        headers = {key: value for key, value in request_headers(environ).items() if not key.lower().startswith("cf-")}
        visitor = str(environ.get("REMOTE_ADDR", ""))
        before, loop = headers.get("X-Forwarded-For"), headers.get("Cdn-Loop")
        headers.update(
            {
                "Host": host,
                "Cf-Connecting-Ip": visitor,
                "Cf-Ray": f"{secrets.token_hex(8)}-LOC",
                "Cf-Visitor": f'{{"scheme":"{scheme}"}}',
                # RFC 8586: the values of other networks stay.
                "Cdn-Loop": f"{loop}, cloudflare; loops=1" if loop else "cloudflare; loops=1",
                "X-Forwarded-For": f"{before}, {visitor}" if before else visitor,
                "X-Forwarded-Proto": scheme,
            }
        )
        return headers

    def _check_revoked(self, connection: ssl.SSLSocket) -> None:
        shown = connection.getpeercert() or {}
        if self._revoked(int(str(shown.get("serialNumber", "0")), 16)):
            raise _RevokedError("the certificate is revoked")

    def _tls(self, mode: str) -> ssl.SSLContext:
        """Return the TLS context of a mode. `full` accepts any certificate; `strict` only one that the Origin CA signed for this name."""
        if mode not in self._contexts:
            context = ssl.create_default_context(cadata=self._origin_ca or None)
            if mode != "strict":
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[mode] = context
        return self._contexts[mode]


def _down(why: OSError | None) -> tuple[int, str]:
    if isinstance(why, TimeoutError):
        return 522, "Error 522: Connection timed out"
    if why is not None and why.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return 523, "Error 523: Origin is unreachable"
    return 521, "Error 521: Web server is down"


def _page(start_response: StartResponse, status: int, title: str, why: str) -> list[bytes]:
    return answer(start_response, status, title, [("Content-Type", "text/plain")], f"{title}\n{why}\n".encode())
