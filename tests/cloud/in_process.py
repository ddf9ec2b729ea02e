"""Clients of a local cloud without sockets: their requests call its WSGI app in this thread.

For tests of thousands of calls that are about what the calls do. A call over loopback, with a thread of the server, takes twice the time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

import requests
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

if TYPE_CHECKING:
    from localcloud.network.http import WSGIApp


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class _Raw(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class _Adapter(HTTPAdapter):
    """The transport of a session of `requests`."""

    def __init__(self, app: WSGIApp) -> None:
        super().__init__()
        self._app = app

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        try:
            reply = called(self._app, str(request.method), str(request.url), request.headers, body)
        except ConnectionResetError as cut:
            raise requests.ConnectionError(str(cut), request=request) from cut
        raw = HTTPResponse(io.BytesIO(reply.body), reply.headers, reply.status, preload_content=False)
        return self.build_response(request, raw)


def serve_session(session: requests.Session, url: str, app: WSGIApp) -> None:
    """Let `app` answer what a session asks of `url`."""
    session.mount(url, _Adapter(app))


def serve_boto(client: Any, app: WSGIApp) -> Callable[[], None]:
    """Let `app` answer a client of boto3. Return how to end that."""

    def answer(request: Any, **_: Any) -> AWSResponse:
        headers = {name: each if isinstance(each, str) else each.decode() for name, each in request.headers.items()}
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        try:
            reply = called(app, request.method, request.url, headers, body)
        except ConnectionResetError as cut:
            raise ConnectionClosedError(endpoint_url=request.url) from cut
        return AWSResponse(request.url, reply.status, reply.headers, _Raw(reply.body))

    client.meta.events.register("before-send", answer)
    return lambda: client.meta.events.unregister("before-send", answer)


def called(app: WSGIApp, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Return what the app answers. Raises ConnectionResetError where a fault cuts the connection."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(parts.path or "/").decode("latin-1"),
        "QUERY_STRING": parts.query,
        "REQUEST_URI": target,
        "RAW_URI": target,
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": parts.hostname,
        "SERVER_PORT": str(parts.port or 80),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": parts.netloc,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    result = app(environ, lambda status, fields, *_: begun.append((status, fields)))  # type: ignore[arg-type, func-returns-value, return-value]
    try:
        found = b"".join(result)
    finally:
        getattr(result, "close", lambda: None)()
    status, fields = begun[0]
    return Reply(int(status.split()[0]), dict(fields), b"" if method == "HEAD" else found)
