"""Check the clock, the APIs' reachability and the proxies."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from components.aws import account_settings, api_errors
from components.commands.doctor.engine import STACK
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.config.errors import ConfigurationError
from components.dns.cloudflare_access import cloudflare_url
from components.joyent.credentials import Credentials
from components.joyent.errors import CloudApiError
from rollcall.escaping import escaped

AREA = "Network"
# AWS: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html (5 minutes; S3 15 minutes). CloudAPI: 300 s.
SKEW_LIMIT_S = 300.0
_TIMEOUT_S = (2.0, 2.5)
_PROXY_TIMEOUT_S = 2.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def checks(env: Environment) -> list[Check]:
    apis = Apis(env)
    return [
        Check(area=AREA, name="proxies", run=lambda: proxies(env), needs=()),
        Check(area=AREA, name="APIs", run=apis.reachable, needs=(STACK,)),
        Check(area=AREA, name="clock", run=apis.clock, needs=("APIs",)),
    ]


@dataclass(frozen=True, kw_only=True)
class Api:
    """The address of an API, and how to reach it."""

    name: str
    url: str
    verify: bool | str = True
    proxies: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer of any kind: `status`, and by how many seconds the API's clock is ahead of ours (None: it has no Date)."""

    status: int
    ahead_s: float | None = None


class Apis:
    """The APIs that the stack uses. Each is asked once, without credentials."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._replies: dict[str, Reply] = {}

    def reachable(self) -> Iterator[Finding]:
        listed = apis_of(self._env)
        with ThreadPoolExecutor(max(1, len(listed))) as pool:
            yield from pool.map(self._queried, listed)
        if not listed:
            yield ok("none is used")

    def _queried(self, api: Api) -> Finding:
        try:
            self._replies[api.name] = reply = ask(api)
        except requests.Timeout as late:
            why = f"{api.url} does not answer ({type(late).__name__})"
            return not_proven(f"{api.name}: {why}. Check the network, a firewall and the proxy.", api.name)
        except requests.RequestException as failed:
            fix = "Check the network, the address and the proxy"
            if isinstance(failed, requests.exceptions.ProxyError):
                fix = "Correct HTTPS_PROXY, or set NO_PROXY"
            return wrong(f"{api.name}: {api.url} cannot be reached ({_reason(failed)}). {fix}.", api.name)
        if reply.status >= 500:
            text = f"{api.name}: {api.url} fails (HTTP {reply.status}). Nothing of yours is at fault. Try again later."
            return not_proven(text, api.name)
        return ok(api.url, api.name)

    def clock(self) -> Iterator[Finding]:
        """Compare this machine's clock with the Date header of each API."""
        known = {name: each.ahead_s for name, each in self._replies.items() if each.ahead_s is not None}
        if not known:
            yield not_proven("clock: no API said what time it is. Compare it with an NTP server.")
            return
        name, ahead = max(known.items(), key=lambda item: abs(item[1]))
        by = f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} {name}"
        if abs(ahead) >= SKEW_LIMIT_S:
            yield wrong(
                f"clock: this machine is {by}. AWS and Triton refuse requests from 5 minutes on, S3 from 15. Set the clock, and let "
                "NTP keep it (`timedatectl set-ntp true`)."
            )
        else:
            yield ok(by)


def apis_of(env: Environment) -> list[Api]:
    """Return the APIs of the stack's clouds and DNS providers."""
    settings, found = env.settings.without_dynamic_zones(), list[Api]()
    if env.settings.uses_aws:
        found += _aws(env)
    if settings.sites:
        found.append(Api(name="Cloudflare API", url=cloudflare_url(env.get)))
    if env.settings.fleets_of("joyent"):
        found += _triton(env)
    return found


def _aws(env: Environment) -> list[Api]:
    from components.aws.session import session_of

    try:
        session, keys = session_of(env.get), account_settings.read(env.get)
        url = str(session.client("sts").meta.endpoint_url)
    except ConfigurationError:
        # The check of the credentials says why.
        return []
    except api_errors.failures():
        return []
    verify = False if keys.insecure else keys.ca_bundle or True
    return [Api(name="AWS API", url=url, verify=verify, proxies={**keys.proxies} or None)]


def _triton(env: Environment) -> list[Api]:
    chosen = env.settings.joyent
    try:
        given = Credentials.read(settings={"url": chosen.url, "account": chosen.account or "unknown"})
    except CloudApiError:
        return []
    return [Api(name="CloudAPI", url=given.url, verify=not given.insecure)]


def ask(api: Api) -> Reply:
    """Send one request without credentials. Raises requests' errors."""
    began = time.time()
    with requests.Session() as session:
        # Not the credentials of ~/.netrc.
        reply = session.get(
            api.url,
            timeout=_TIMEOUT_S,
            allow_redirects=False,
            verify=api.verify,
            proxies=dict(api.proxies) if api.proxies else None,
            auth=lambda request: request,
        )
    now = (began + time.time()) / 2
    try:
        ahead = parsedate_to_datetime(reply.headers["Date"]).timestamp() - now
    except (KeyError, TypeError, ValueError):
        return Reply(status=reply.status_code)
    return Reply(status=reply.status_code, ahead_s=ahead)


def proxies(_env: Environment) -> Iterator[Finding]:
    """Check that each proxy of the environment takes connections."""
    named = {name: url for name in _PROXIES if (url := os.environ.get(name))}
    if not named:
        yield ok("none is set")
    for url in dict.fromkeys(named.values()):
        name = next(each for each, value in named.items() if value == url)
        parts = urlsplit(url if "://" in url else f"http://{url}")
        where = f"{parts.hostname}:{parts.port or 80}"
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_PROXY_TIMEOUT_S).close()
        except (OSError, ValueError) as failed:
            yield wrong(
                f"{name}: the proxy {where} cannot be reached ({_reason(failed)}). Correct it, or unset it.", name
            )
        else:
            yield ok(where, name)


def _reason(failed: Exception) -> str:
    """Return the innermost cause, without the address of an object."""
    text = str(failed).rpartition(": ")[2].strip("'\")(") or type(failed).__name__
    return escaped(text)[:120]
