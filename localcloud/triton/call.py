"""A request to the API: its parameters, its caller, and the answer."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.wrappers import Request

from localcloud.triton.errors import ApiError, invalid_argument
from localcloud.triton.model import Machine
from localcloud.triton.signature import Wire
from localcloud.triton.store import Store
from localcloud.triton.versions import Version

# sdc-cloudapi lib/app.js; it bounds the user-script.
LARGEST_BODY = 100_000


@dataclass(frozen=True)
class Reply:
    """`body` None: no body at all."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """`path` are the variables of the route; `params` what query and body say, the body first; `caller` is for the audit trail;
    `url` is where the API was reached."""

    store: Store
    version: Version
    path: Mapping[str, str]
    params: Mapping[str, Any]
    query: Mapping[str, str]
    caller: dict[str, Any]
    url: str = ""

    @property
    def modern(self) -> bool:
        return self.version >= (8, 0, 0)

    def machine(self) -> Machine:
        """Return the machine of the route, also a deleted one."""
        return self.store.machine(self.path["machine"])

    def whole(self, name: str, usual: int) -> int:
        """A parameter that is a whole number, given as such or as text. Raises ApiError."""
        value = self.params.get(name)
        if value in (None, ""):
            return usual
        try:
            number = int(str(value))
        except ValueError as wrong:
            raise invalid_argument(f"{name} must be a number") from wrong
        if number < 0:
            raise invalid_argument(f"{name} must not be negative")
        return number


def wire_of(request: Request) -> Wire:
    environ = request.environ
    target = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if not target:
        query = environ.get("QUERY_STRING", "")
        target = request.path + (f"?{query}" if query else "")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Wire(request.method, str(target), headers, str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")))


def parameters(request: Request, query: Mapping[str, str]) -> dict[str, Any]:
    """Query and body as one. Raises ApiError for a body that is too large, damaged, or of no known kind."""
    sent = request.get_data(cache=True, parse_form_data=False)
    if len(sent) > LARGEST_BODY:
        raise ApiError(413, "RequestEntityTooLarge", f"Request body size exceeds {LARGEST_BODY}")
    digest = request.headers.get("Content-MD5")
    if sent and digest and digest != base64.b64encode(hashlib.md5(sent).digest()).decode():  # noqa: S324 - RFC 1864
        raise ApiError(400, "BadDigest", "Content-MD5 does not match the body")
    return {**query, **(_body(request, sent) if sent else {})}


def _body(request: Request, sent: bytes) -> dict[str, Any]:
    kind = request.mimetype or "application/octet-stream"
    if kind == "application/json":
        try:
            body = json.loads(sent)
        except ValueError as wrong:
            raise ApiError(400, "InvalidContent", f"Invalid JSON: {wrong}") from wrong
        return body if isinstance(body, dict) else {}
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(sent.decode("utf-8", "replace"), keep_blank_values=True))
    if kind == "multipart/form-data":
        return dict(request.form.items())
    if kind in ("application/octet-stream", "text/plain"):
        return {}
    raise ApiError(415, "UnsupportedMediaType", kind)
