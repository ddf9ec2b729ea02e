"""Send one signed request to CloudAPI: limited, retried, and each failure as one message."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import requests
import urllib3

from components.joyent import signing
from components.joyent.credentials import Credentials
from components.joyent.errors import (
    AuthenticationError,
    CloudApiError,
    FatalError,
    LostReplyError,
    NotFoundError,
    RefusedError,
    TransientError,
)
from components.joyent.fingerprints import Signer
from components.joyent.pacing import RateLimiter, Sleep, back_off, retry_after

ACCEPT_VERSION = "~9||~8"
Query = Sequence[tuple[str, str]]
_IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE")
_ALLOWED_SKEW = 300
_FIRST_ATTEMPTS = 4
# The fix for a refusal that names the problem.
_CORRECT = ". Correct what it names"
_BLAMELESS = "the key and the account are not at fault. Try again later"


@dataclass(frozen=True)
class Reply:
    """`body` is the parsed JSON, None where there is none; header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Transport:
    """Sends requests for one account. Threads may share it.

    `attempts` and `patience` (seconds) bound the retries of one request. If a server asks for a wait beyond `patience`,
    the request fails. `adapter` replaces the network.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        limiter: RateLimiter | None = None,
        sleep: Sleep = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        attempts: int = 8,
        patience: float = 90.0,
        timeout: tuple[float, float] = (10.0, 60.0),
        environ: Mapping[str, str] = os.environ,
        adapter: requests.adapters.BaseAdapter | None = None,
    ) -> None:
        self.credentials = credentials
        self.sleep, self.clock = sleep, clock
        self._limiter = limiter or RateLimiter(clock=clock)
        self._attempts, self._patience, self._timeout, self._environ = attempts, patience, timeout, environ
        self._threads = threading.local()
        self._adapter = adapter
        self._answered = False
        if credentials.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._signer: Signer | None = None
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        idempotent: bool | None = None,
    ) -> Reply:
        """Send a request. `path` is relative to the account (`/machines`).

        `idempotent` says that repeating is harmless though the method is POST. Raises an error of
        `components.joyent.errors`; LostReplyError when a request that must not be repeated may have been carried out.
        """
        target = f"/{self.credentials.account}{path}" + (f"?{urlencode(query)}" if query else "")
        repeat = method in _IDEMPOTENT if idempotent is None else idempotent
        end, attempt = self.clock() + self._patience, 0
        while True:
            try:
                return self._once(method, target, body)
            except TransientError as failed:
                pause = failed.retry_after if failed.retry_after is not None else back_off(attempt)
                attempt += 1
                if isinstance(failed, LostReplyError) and not repeat:
                    raise
                # A URL that never answered is more likely wrong than down, so fail soon.
                most = self._attempts if self._answered else min(self._attempts, _FIRST_ATTEMPTS)
                if attempt >= most or self.clock() + pause > end:
                    raise
            self.sleep(pause)

    def _once(self, method: str, target: str, body: Mapping[str, Any] | None) -> Reply:
        delay = self._limiter.reserve()
        if delay:
            self.sleep(delay)
        try:
            response = self._session().request(
                method,
                self.credentials.url + target,
                json=body,
                headers={"Accept": "application/json", "Accept-Version": ACCEPT_VERSION},
                auth=self._sign,
                timeout=self._timeout,
                verify=not self.credentials.insecure,
                allow_redirects=False,
            )
        except requests.RequestException as failed:
            raise self._unanswered(failed) from failed
        self._answered = True
        if response.status_code == 429:
            self._limiter.empty()
        reply = Reply(response.status_code, response.headers, _json(response))
        if reply.status >= 400:
            raise _error(method, target, reply)
        if method == "GET" and reply.status == 200 and reply.body is None:
            raise FatalError(f"{method} {target}: the answer is not JSON. Set TRITON_URL to the URL of a CloudAPI.")
        return reply

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As an auth hook: otherwise `requests` would replace our Authorization header with credentials from ~/.netrc.
        credentials, mine = self.credentials, self.signer
        request.headers.update(
            signing.headers(
                mine,
                account=credentials.account,
                user=credentials.user,
                method=str(request.method),
                target=request.path_url,
            )
        )
        return request

    @property
    def signer(self) -> Signer:
        """Return the signer. Raises ConfigurationError when the key cannot be used."""
        with self._lock:
            if self._signer is None:
                self._signer = self.credentials.signer(self._environ)
            return self._signer

    def _session(self) -> requests.Session:
        if not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()
            if self._adapter is not None:
                self._threads.session.mount(self.credentials.url, self._adapter)
        session: requests.Session = self._threads.session
        return session

    def _unanswered(self, failed: requests.RequestException) -> CloudApiError:
        url = self.credentials.url
        if isinstance(failed, requests.exceptions.SSLError):
            return FatalError(
                f"CloudAPI at {url}: TLS failed ({_root(failed)}). Check TRITON_URL, or set TRITON_TLS_INSECURE=1."
            )
        if isinstance(failed, requests.exceptions.InvalidURL):
            return FatalError(f"TRITON_URL: {url} is not usable ({_root(failed)}). Correct it.")
        if isinstance(failed, requests.ConnectTimeout) or isinstance(
            _reason(failed), urllib3.exceptions.NewConnectionError
        ):
            return TransientError(
                f"CloudAPI at {url}: cannot be reached ({_root(failed)}). Check TRITON_URL and the network."
            )
        return LostReplyError(
            f"CloudAPI at {url}: gave no answer ({_root(failed)}), and may have carried out the request. Run it again."
        )


def _reason(failed: BaseException) -> BaseException | None:
    inner = failed.args[0] if failed.args else None
    return getattr(inner, "reason", None) if isinstance(inner, BaseException) else None


def _root(failed: BaseException) -> str:
    return str(_reason(failed) or failed).rpartition(": ")[2] or type(failed).__name__


def _json(response: requests.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        return None


def _error(method: str, target: str, reply: Reply) -> CloudApiError:
    body = reply.body if isinstance(reply.body, Mapping) else {}
    code, message = str(body.get("code", "")), str(body.get("message", "") or "no message")
    details = tuple(each for each in body.get("errors") or () if isinstance(each, Mapping))
    message += "".join(f"; {each.get('field')}: {each.get('message') or each.get('code')}" for each in details)
    kind, fix = _kind(reply, code, message)
    fix = fix or next((found for each in details if (found := _room(each))), "")
    call = f"{method} {target.partition('?')[0]}"
    problem = f"{reply.status} {code}: {message.rstrip('.')}"
    error = kind(f"{call}: {problem}{fix or _CORRECT}.", status=reply.status, code=code, details=details)
    error.retry_after = retry_after(reply.headers.get("Retry-After"), reply.headers.get("Date"))
    return error


def _kind(reply: Reply, code: str, message: str) -> tuple[type[CloudApiError], str]:
    """Return the error class by status: the codes vary between versions and proxies (CLOUDAPI reference against restify-errors)."""
    status = reply.status
    if status in (404, 410):
        return NotFoundError, ""
    if (
        status == 429
    ):  # This and 503 are refused early (throttle, read-only mode, proxy without a server): not carried out.
        return TransientError, "; CloudAPI throttles this account. Wait, and run it again"
    if status == 503:
        return TransientError, f"; CloudAPI is busy or in maintenance, {_BLAMELESS}"
    if status == 501:
        return RefusedError, "; this data centre cannot do that. Choose another"
    if status >= 500:
        return LostReplyError, f"; CloudAPI fails, {_BLAMELESS}"
    if status in (401, 403):
        return AuthenticationError, _credentials_fix(status, message)
    if status == 400 and "skew" in message.lower():
        skew = _skew(reply.headers.get("Date"))
        by = f" (it is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'})" if abs(skew) > _ALLOWED_SKEW / 2 else ""
        return AuthenticationError, f". Set this machine's clock{by}"
    if code == "KeyRequired":
        return RefusedError, ". Add an SSH key to the account first"
    return RefusedError, ""


def _credentials_fix(status: int, message: str) -> str:
    """Return the fix for a problem with credentials. The texts are those of sdc-cloudapi, lib/auth.js."""
    if "supported signing algorithm" in message:
        return ". Sign with an RSA, ECDSA or Ed25519 key"
    if status == 401:
        return ". Check TRITON_ACCOUNT and TRITON_USER, and that the account has the public key of TRITON_KEY_ID"
    if "disabled" in message:
        return ". Have Triton's operator enable it"
    if message.startswith("Forbidden"):
        return "; this account may not use this data centre. Have Triton's operator allow it, or name another"
    return "; this key may not do that. Check TRITON_ACCOUNT, or the user's roles"


def _room(detail: Mapping[str, Any]) -> str:
    """Return the fix where there is no room for a machine: the account's limit is reached, or no server has enough left."""
    if detail.get("code") != "InsufficientCapacity":
        return ""
    if detail.get("field") == "quota":
        return ". Delete machines that are not needed, or have the account's limit raised"
    return ". Choose a smaller package, or try again later"


def _skew(date: str | None) -> float:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
    except ValueError:
        return 0.0
