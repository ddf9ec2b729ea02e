"""Send the operator's requests to Cloudflare. Retry where that may help, and describe each failure.

A refusal says something about the token; an outage, a rate limit and an unreachable network do not.
https://developers.cloudflare.com/fundamentals/api/reference/limits/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollcall.errors import FatalError, TransientError
from rollcall.retrying import retried

OPERATOR = "CLOUDFLARE_API_TOKEN"
# For how many seconds one request is tried again. If Cloudflare asks for a longer wait, the request fails at once.
PATIENCE_S = 30.0
_TIMEOUT_S = (5.0, 20.0)
# Cloudflare's codes: localcloud/cloudflare/errors.py names where each was seen.
_UNKNOWN_TOKEN, _BAD_HEADER, _UNAUTHORIZED = 1000, 6003, 9109
# A request that may have been carried out is not sent twice.
_REPEATED = ("GET", "PATCH", "PUT", "DELETE")


class ApiFailingError(TransientError):
    """Cloudflare did not answer this request, and may answer the same one later. The message is for people."""


class ApiRefusedError(FatalError):
    """Cloudflare refused this request.

    `status` is the HTTP status, `code` is Cloudflare's code. `permission`: the token works, and may not do this. The
    message is for people.
    """

    def __init__(self, message: str, status: int, *, code: int = 0, permission: bool = False) -> None:
        super().__init__(message)
        self.status, self.code, self.permission = status, code, permission


class CloudflareApi:
    """Cloudflare's API at `url` with a token. `key` is where the token comes from, as a fault names it.

    Every call raises ApiFailingError or ApiRefusedError.
    """

    def __init__(self, url: str, token: str, key: str = OPERATOR) -> None:
        import requests

        self.url, self.key = url, key
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **query: str) -> Any:
        """Return the `result` of a GET."""
        return self.call("GET", path, query=query).get("result")

    def all(self, path: str, per_page: int = 50, **query: str) -> list[Any]:
        """Return the results on all pages of a GET."""
        found: list[Any] = []
        page, pages = 1, 1
        while page <= pages:
            body = self.call("GET", path, query={**query, "page": str(page), "per_page": str(per_page)})
            found += body.get("result") or []
            pages = int((body.get("result_info") or {}).get("total_pages") or 1)
            page += 1
        return found

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        retries: bool = True,
    ) -> Mapping[str, Any]:
        """Return the whole answer to a request. Without `retries` it is sent once."""
        within = PATIENCE_S if retries and method in _REPEATED else 0.0
        return retried(lambda: self._once(method, path, body, query), within)

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, query: Mapping[str, str] | None
    ) -> Mapping[str, Any]:
        import requests

        try:
            reply = self._session.request(method, self.url + path, params=query, json=body, timeout=_TIMEOUT_S)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.SSLError,
        ) as wrong:
            # The caller gets these as they are, with the message.
            message = (
                f"CLOUDFLARE_BASE_URL: {self.url} cannot be reached ({type(wrong).__name__}). Correct the address."
            )
            raise ApiRefusedError(message, 0) from wrong
        except requests.RequestException as failed:
            raise ApiFailingError(
                f"CLOUDFLARE_BASE_URL: {self.url} cannot be reached ({type(failed).__name__}). Check the network and the address."
            ) from failed
        if reply.status_code == 429 or reply.status_code >= 500:
            after = reply.headers.get("Retry-After", "")
            raise ApiFailingError(self._later(reply.status_code, after), float(after) if after.isdecimal() else 0.0)
        try:
            answer: Any = reply.json()
            refused = not (reply.ok and answer["success"])
            first = (answer.get("errors") or [{}])[0]
        except (AttributeError, KeyError, LookupError, TypeError, ValueError) as foreign:
            raise ApiFailingError(
                f"CLOUDFLARE_BASE_URL: what answers at {self.url} is not Cloudflare's API (HTTP {reply.status_code}). Correct the address, "
                "or the proxy on the way."
            ) from foreign
        if refused:
            inner = (first.get("error_chain") or [{}])[0].get("message")
            message = ": ".join(filter(None, (str(first.get("message") or ""), inner)))
            raise self._refusal(f"{method} {path}", reply.status_code, int(first.get("code") or 0), message)
        found: Mapping[str, Any] = answer
        return found

    def _later(self, status: int, after: str) -> str:
        if status == 429:
            wait = f" and asks to wait {after} s" if after.isdecimal() else ""
            return (
                f"{self.key}: Cloudflare takes no more requests of this token's owner for now (HTTP 429){wait}. "
                "The token is not at fault. Wait, and run it again."
            )
        return (
            f"CLOUDFLARE_BASE_URL: Cloudflare's API fails (HTTP {status}). The token is not at fault. Try again later; "
            "https://www.cloudflarestatus.com shows outages."
        )

    def _refusal(self, operation: str, status: int, code: int, message: str) -> ApiRefusedError:
        answer, permission = f"(HTTP {status}): {message} ({code})", False
        if code == _BAD_HEADER:
            problem, fix = f"is not an API token {answer}", "Give an API token, not a global key"
        elif "from location" in message:
            problem, fix = f"the token may not be used from this machine {answer}", "Add the address to its IP filter"
        elif code == _UNKNOWN_TOKEN or (code == _UNAUTHORIZED and "access token" in message):
            problem, fix = f"Cloudflare does not accept it {answer}", "Give a valid token"
        elif permission := status in (401, 403):
            problem = f"Cloudflare does not let this token {operation} {answer}"
            fix = "Give it the permission for it; docs/operations.md lists them"
        else:
            problem, fix = f"Cloudflare refuses {operation} {answer}", "Correct what it names"
        return ApiRefusedError(f"{self.key}: {problem}. {fix}.", status, code=code, permission=permission)
