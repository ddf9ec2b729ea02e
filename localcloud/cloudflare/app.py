"""The v4 API as a WSGI app: routes, authentication, rate limit and the envelope around every answer."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from localcloud.cloudflare import errors, handlers, identity
from localcloud.cloudflare.call import Call, Reply, authenticated
from localcloud.cloudflare.limits import Limiter
from localcloud.cloudflare.store import Store
from localcloud.cloudflare.tokens import Token
from localcloud.network.routing import NoRouteError, Router, WrongMethodError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/client/v4"
Handler = Callable[[Call], Reply]
# Where Cloudflare has operations that are not in the table below: https://developers.cloudflare.com/api/
_ID = "[0-9a-f]{32}"
_ELSEWHERE = re.compile(
    rf"[A-Z]+ {PREFIX}/(?:"
    rf"(?:zones|accounts)/{_ID}(?:/.+)?|user(?:/.+)?|accounts|organizations(?:/.+)?|memberships(?:/.+)?|radar/.+|live"
    r")/?"
)
# They are in the place of a record's id.
_OF_RECORDS = ("export", "import", "scan", "usage")


class App:
    """The API over a Store. Callable as WSGI."""

    def __init__(self, store: Store, limiter: Limiter, origin_certificates: identity.OriginCertificates) -> None:
        self._store, self._limiter = store, limiter
        table = _routes(origin_certificates)
        self._router = Router((method, f"{PREFIX}{path}", (path, handler)) for method, path, handler in table)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        headers: dict[str, str] = {}
        try:
            reply = self._answer(request, headers)
            response = _envelope(200, True, reply.result, messages=list(reply.messages), info=reply.info)
        except errors.ApiError as refusal:
            headers.update(refusal.headers)
            response = _envelope(refusal.status, False, None, refusals=refusal.body())
        response.headers.update(headers)
        return response(environ, start_response)

    def throttled(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers as when the rate limit is exceeded."""
        refusal = self._limiter.refusal(retry_after=5)
        response = _envelope(refusal.status, False, None, refusals=refusal.body())
        response.headers.update(refusal.headers)
        return response(environ, start_response)

    def _answer(self, request: Request, headers: dict[str, str]) -> Reply:
        path, handler, args = self._route(request)
        if path == "/ips":
            token: Token | None = None
        else:
            token = authenticated(request, self._store, verifies=path.endswith("/tokens/verify"))
            headers.update(self._limiter.count(self._store.user if token.owner == "user" else token.id))
        return handler(Call(self._store, request, args, token))

    def _route(self, request: Request) -> tuple[str, Handler, dict[str, str]]:
        try:
            (path, handler), args = self._router.match(request.method, request.path)
        except WrongMethodError as wrong:
            if _ELSEWHERE.fullmatch(f"{request.method} {request.path}"):
                raise errors.not_emulated(request.method, request.path) from wrong
            raise errors.ApiError(405, 10405, "Method not allowed for this authentication scheme") from wrong
        except NoRouteError as unknown:
            if _ELSEWHERE.fullmatch(f"{request.method} {request.path}"):
                raise errors.not_emulated(request.method, request.path) from unknown
            raise errors.no_route(request.path) from unknown
        if args.get("record_id") in _OF_RECORDS:
            raise errors.not_emulated(request.method, request.path)
        for name, value in args.items():
            if name in ("zone_id", "account_id", "record_id", "token_id") and not _is_id(value):
                raise errors.no_route(request.path)
        return path, handler, args


def _routes(origin: identity.OriginCertificates) -> list[tuple[str, str, Handler]]:
    zone, records = "/zones/<zone_id>", "/zones/<zone_id>/dns_records"
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/ips", handlers.list_ips),
        ("GET", "/accounts", handlers.list_accounts),
        ("GET", "/accounts/<account_id>", handlers.get_account),
        ("GET", "/zones", handlers.list_zones),
        ("POST", "/zones", handlers.create_zone),
        ("GET", zone, handlers.get_zone),
        ("PATCH", zone, handlers.edit_zone),
        ("DELETE", zone, handlers.delete_zone),
        ("GET", f"{zone}/dnssec", handlers.get_dnssec),
        ("GET", f"{zone}/pagerules", handlers.list_page_rules),
        ("PUT", f"{zone}/activation_check", handlers.check_activation),
        ("GET", records, handlers.list_records),
        ("POST", records, handlers.create_record),
        ("POST", f"{records}/batch", handlers.batch_records),
        ("GET", f"{records}/<record_id>", handlers.get_record),
        ("PATCH", f"{records}/<record_id>", handlers.edit_record),
        ("PUT", f"{records}/<record_id>", handlers.overwrite_record),
        ("DELETE", f"{records}/<record_id>", handlers.delete_record),
        ("GET", f"{zone}/settings", handlers.list_settings),
        ("PATCH", f"{zone}/settings", handlers.edit_settings),
        ("GET", f"{zone}/settings/<setting_id>", handlers.get_setting),
        ("PATCH", f"{zone}/settings/<setting_id>", handlers.edit_setting),
        ("GET", "/user", identity.get_user),
        ("GET", "/certificates", origin.list),
        ("POST", "/certificates", origin.create),
        ("GET", "/certificates/<certificate_id>", origin.get),
        ("DELETE", "/certificates/<certificate_id>", origin.revoke),
    ]
    for owner in ("/user", "/accounts/<account_id>"):
        table += [
            ("GET", f"{owner}/tokens", identity.list_tokens),
            ("POST", f"{owner}/tokens", identity.create_token),
            ("GET", f"{owner}/tokens/verify", identity.verify_token),
            ("GET", f"{owner}/tokens/permission_groups", identity.list_groups),
            ("GET", f"{owner}/tokens/<token_id>", identity.get_token),
            ("PUT", f"{owner}/tokens/<token_id>", identity.update_token),
            ("DELETE", f"{owner}/tokens/<token_id>", identity.delete_token),
            ("PUT", f"{owner}/tokens/<token_id>/value", identity.roll_token),
        ]
    return table


def _is_id(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def _envelope(
    status: int,
    success: bool,
    result: Any,
    *,
    refusals: list[dict[str, Any]] | None = None,
    messages: list[Any] | None = None,
    info: Any = None,
) -> Response:
    body = {"success": success, "errors": refusals or [], "messages": messages or [], "result": result}
    if info is not None:
        body["result_info"] = info
    response = Response(json.dumps(body, separators=(",", ":")), status, content_type="application/json")
    response.headers["CF-RAY"] = f"{secrets.token_hex(8)}-LAB"
    response.headers["Server"] = "cloudflare"
    return response
