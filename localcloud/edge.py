"""Cloudflare's edge for proxied names: ends the visitor's connection, asks an origin, says who the visitor was.

https://developers.cloudflare.com/fundamentals/reference/http-headers/ and, for its own error pages,
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
"""

from __future__ import annotations

import http.client
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from localcloud.forward import Balancer, UnreachableError, answer, request_headers, send

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Route(Protocol):
    """Where a proxied host's requests go: addresses, or a name outside the zone to resolve; the zone's settings."""

    @property
    def origins(self) -> Sequence[str]: ...
    @property
    def target(self) -> str | None: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


class Edge:
    """A WSGI app for the edge's addresses, plain and TLS alike.

    `connect` reaches an origin from one of the edge's addresses; `origin_ca` is the PEM of the CA that signs origin
    certificates, which ssl mode `strict` insists on.
    """

    def __init__(
        self,
        route_of: Callable[[str], Route | None],
        resolve: Callable[[str], list[str]],
        connect: Callable[[str, int], socket.socket],
        origin_ca: str = "",
    ) -> None:
        self._route_of, self._resolve, self._connect = route_of, resolve, connect
        self._origin_ca = origin_ca
        self._balancer = Balancer()

    def app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
        route = self._route_of(host)
        if route is None:
            return _page(start_response, 409, "Error 1001: DNS resolution error", f"{host} is not proxied here")
        scheme = str(environ["wsgi.url_scheme"])
        if scheme == "http" and route.settings.get("always_use_https") == "on":
            location = f"https://{host}{environ.get('REQUEST_URI') or environ.get('PATH_INFO', '/')}"
            return answer(start_response, 301, "Moved Permanently", [("Location", location)], b"")
        addresses = sorted(route.origins) or (self._resolve(route.target) if route.target else [])
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
        mode = settings.get("ssl", "full")
        secured = scheme == "https" and mode in ("full", "strict")
        headers = self._headers(environ, host, scheme)
        try:
            tls = self._tls(str(mode)) if secured else None
            status, reason, given, body = send(
                environ,
                headers,
                self._balancer.order(addresses),
                self._connect,
                port=443 if secured else 80,
                tls=tls,
                server_name=host,
            )
        except UnreachableError as down:
            return _page(start_response, 521, "Error 521: Web server is down", str(down))
        except ssl.SSLCertVerificationError as bad:
            return _page(start_response, 526, "Error 526: Invalid SSL certificate", bad.verify_message)
        except ssl.SSLError as bad:
            return _page(start_response, 525, "Error 525: SSL handshake failed", str(bad.reason))
        except TimeoutError:
            return _page(start_response, 524, "Error 524: A timeout occurred", host)
        except (OSError, http.client.HTTPException) as broken:
            return _page(start_response, 520, "Error 520: unknown error", type(broken).__name__)
        named = [("CF-RAY", headers["Cf-Ray"]), ("Server", "cloudflare"), ("CF-Cache-Status", "DYNAMIC")]
        kept = [(key, value) for key, value in given if key.lower() != "server"]
        return answer(start_response, status, reason, [*kept, *named], body)

    @staticmethod
    def _headers(environ: WSGIEnvironment, host: str, scheme: str) -> dict[str, str]:
        """What the visitor sent, less what only the edge may say."""
        headers = {key: value for key, value in request_headers(environ).items() if not key.lower().startswith("cf-")}
        visitor = str(environ.get("REMOTE_ADDR", ""))
        before = headers.get("X-Forwarded-For")
        headers.update(
            {
                "Host": host,
                "Cf-Connecting-Ip": visitor,
                "Cf-Ray": f"{secrets.token_hex(8)}-LOC",
                "Cf-Visitor": f'{{"scheme":"{scheme}"}}',
                "Cdn-Loop": "cloudflare; loops=1",
                "X-Forwarded-For": f"{before}, {visitor}" if before else visitor,
                "X-Forwarded-Proto": scheme,
            }
        )
        return headers

    def _tls(self, mode: str) -> ssl.SSLContext:
        """`full` takes any certificate; `strict` one that the Origin CA signed for this name."""
        if mode == "strict":
            return ssl.create_default_context(cadata=self._origin_ca or None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def _page(start_response: StartResponse, status: int, title: str, why: str) -> list[bytes]:
    return answer(start_response, status, title, [("Content-Type", "text/plain")], f"{title}\n{why}\n".encode())
