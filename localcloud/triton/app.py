"""CloudAPI as a WSGI app: everything between a request's bytes and its handler, in the order of lib/app.js.

Route, version, signature (parsed, with its date), body, caller, account, machine, read-only mode, throttle, handler.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from werkzeug.wrappers import Request, Response

from localcloud.network.routing import NoRouteError, WrongMethodError
from localcloud.triton import authentication, throttle, versions
from localcloud.triton.call import Call, Reply, parameters, wire_of
from localcloud.triton.errors import ApiError, not_found
from localcloud.triton.routes import ROUTER, Route
from localcloud.triton.store import Store
from localcloud.triton.versions import Version

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SERVER = "cloudapi/9.20.0"
_JSON = ("application/json", "*/*", "application/*", "text/plain", "text/*", "application/octet-stream")
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Accept, Accept-Version, Content-Length, Content-MD5, Content-Type, Date, Api-Version, Response-Time",
    "Access-Control-Allow-Methods": "POST, GET, HEAD, PUT, DELETE",
    "Access-Control-Expose-Headers": "Api-Version, Request-Id, Response-Time",
}


@dataclass
class _Maintenance:
    """Read-only mode: the value of the switch and the time at which it should be over."""

    value: str = ""
    until: float = 0.0


class App:
    """The API over a Store. Callable as WSGI. `clock` is the server's own, which a fault may have skewed."""

    def __init__(self, store: Store, buckets: throttle.Buckets, clock: Callable[[], float]) -> None:
        self._store, self._buckets, self._clock = store, buckets, clock
        self._maintenance: _Maintenance | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request, started = Request(environ), time.monotonic()
        version = versions.OFFERED[0]
        try:
            version = versions.chosen(_wanted_version(request))
            reply = self._answer(request, version)
        except ApiError as refusal:
            reply = Reply(refusal.status, refusal.body(), refusal.headers)
        return self._response(request, reply, version, started)(environ, start_response)

    def throttled(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers as when the rate limit is exceeded."""
        refusal = throttle.refusal(throttle.Throttle())
        reply = Reply(refusal.status, refusal.body())
        response = self._response(Request(environ), reply, versions.OFFERED[0], time.monotonic())
        return response(environ, start_response)

    def _answer(self, request: Request, version: Version) -> Reply:
        wire = wire_of(request)
        raw_path, _, raw_query = wire.target.partition("?")
        words = [unquote(word) for word in raw_path.split("/") if word]
        route, path = _route(request.method, words)
        if not any(accepted in _JSON for accepted in _accepted(request)):
            raise ApiError(406, "WrongAccept", f"Server accepts: {', '.join(_JSON)}")
        signed = authentication.parsed(wire, self._clock())
        query = dict(parse_qsl(raw_query, keep_blank_values=True))
        params = parameters(request, query)
        if words == ["--ping"]:
            return self._ping()
        with self._store.lock:
            caller = authentication.caller(self._store, signed, version)
            authentication.authorize(self._store, caller, words[0], raw_path)
            call = Call(
                self._store, version, path, params, query, caller.audit(request.remote_addr or ""), _url(request)
            )
            if "machine" in path:
                # Before the throttle: an unknown machine costs nothing.
                self._store.machine(path["machine"])
            self._check_maintenance(request.method)
            self._buckets.take(self._store.login, route.family)
            return route.handler(call)

    def _ping(self) -> Reply:
        offered = [versions.text(each) for each in versions.OFFERED]
        body = {"ping": "pong", "cloudapi": {"versions": offered}}
        return Reply(200, body, {"Triton-Datacenter-Name": self._store.datacenter})

    def _check_maintenance(self, method: str) -> None:
        value = self._store.switch("readonly") if method in ("PUT", "POST", "DELETE") else None
        if value is None:
            if method in ("PUT", "POST", "DELETE"):
                self._maintenance = None
            return
        headers = {}
        if value:
            if self._maintenance is None or self._maintenance.value != value:
                self._maintenance = _Maintenance(value, self._clock() + float(value))
            headers["Retry-After"] = formatdate(self._maintenance.until, usegmt=True)
        message = "This Triton data center is being upgraded"
        raise ApiError(503, "ServiceUnavailable", message, headers=headers)

    def _response(self, request: Request, reply: Reply, version: Version, started: float) -> Response:
        headers = {
            "Server": SERVER, "Api-Version": versions.text(version), "Request-Id": str(uuid.uuid4()),
            **_CORS,
        }  # fmt: skip
        if self._store.switch("skew") is not None:
            # The HTTP server adds the date, but it knows the true one.
            headers["Date"] = formatdate(self._clock(), usegmt=True)
        headers["Response-Time"] = str(int((time.monotonic() - started) * 1000))
        content = b"" if reply.body is None else json.dumps(reply.body).encode()
        if content:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(content).digest()).decode()  # noqa: S324 - RFC 1864
        response = Response(content, reply.status, headers={**headers, **reply.headers})
        response.autocorrect_location_header = False
        if reply.body is not None:
            response.content_type = "application/json"
        else:
            response.headers.pop("Content-Type", None)
        return response


def _route(method: str, words: list[str]) -> tuple[Route, dict[str, str]]:
    """Raises ApiError 404, or 405 where the path has other methods. A word may have a slash, so the router gets it quoted."""
    try:
        route, path = ROUTER.match(method, f"/{'/'.join(quote(word, safe='') for word in words)}")
    except WrongMethodError as wrong:
        allow = {"Allow": ", ".join(wrong.allowed)}
        raise ApiError(405, "MethodNotAllowed", f"{method} is not allowed", headers=allow) from wrong
    except NoRouteError as unknown:
        raise not_found(f"/{'/'.join(words)} does not exist") from unknown
    return route, {name: unquote(word) for name, word in path.items()}


def _wanted_version(request: Request) -> str:
    return request.headers.get("Accept-Version") or request.headers.get("Api-Version") or "*"


def _accepted(request: Request) -> list[str]:
    header = request.headers.get("Accept")
    if not header:
        return ["*/*"]
    return [part.partition(";")[0].strip().lower() for part in header.split(",")]


def _url(request: Request) -> str:
    return f"{request.scheme}://{request.host}"
