"""The local Cloudflare behind HTTP, and the official SDK as its client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import cloudflare
import httpx

from localcloud.cloudflare import Cloudflare
from localcloud.network.http import Server, listen

OPERATOR = "operator-0123456789_abcdefghijABCDEFGHIJ"
EDGES = ("198.51.100.2", "203.0.113.2")
ZONE = "scalability.expert"


class Clock:
    """A clock that does not move by itself."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Front:
    """One HTTP server and one connection pool for a whole file of tests; each test has its own cloud behind it."""

    def __init__(self) -> None:
        self.cloud: Cloudflare | None = None
        self._socket = listen("127.0.0.1")
        self._server = Server(self._serve, [self._socket])
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.ports[0]}/client/v4"
        self.http = httpx.Client(timeout=10)

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert self.cloud is not None
        return self.cloud.app(environ, start_response)

    def stop(self) -> None:
        self.http.close()
        self._server.stop()
        self._socket.close()


class Lab:
    """A new local Cloudflare with one zone on the free plan. `api` is the operator's client."""

    def __init__(self, front: Front, **options: Any) -> None:
        self.clock = Clock()
        self.cloud = front.cloud = Cloudflare(
            operator_token=OPERATOR, edge_addresses=EDGES, clock=self.clock, **options
        )
        self.zone = self.cloud.add_zone(ZONE)
        self.url, self._http = front.url, front.http
        self.api = self.client(OPERATOR)

    def client(self, token: str) -> cloudflare.Cloudflare:
        return cloudflare.Cloudflare(api_token=token, base_url=self.url, max_retries=0, http_client=self._http)

    def raw(self, method: str, path: str, token: str | None = OPERATOR, **options: Any) -> httpx.Response:
        """A request as it is, without the SDK. `token` None: no Authorization header."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self._http.request(method, f"{self.url}{path}", headers=headers, **options)

    def record(self, **fields: Any) -> Any:
        """Create an A record of www; `fields` replace the usual ones."""
        usual = {"type": "A", "name": "www", "content": "198.51.100.10", "ttl": 60}
        return self.api.dns.records.create(zone_id=self.zone, **{**usual, **fields})

    def names(self, **query: Any) -> list[str]:
        """The names (without the zone's) of what a list with these filters finds."""
        found = self.api.dns.records.list(zone_id=self.zone, **query)
        return [each.name.removesuffix(f".{ZONE}") for each in found]

    def token(self, *groups: str, resources: dict[str, Any] | None = None, **options: Any) -> cloudflare.Cloudflare:
        """A client with a new token that has these permission groups on the zone."""
        wanted = [{"id": next(iter(self.api.user.tokens.permission_groups.list(name=name))).id} for name in groups]
        made = self.api.user.tokens.create(
            name="scoped",
            policies=[
                {
                    "effect": "allow",
                    "permission_groups": wanted,
                    "resources": resources or {f"com.cloudflare.api.account.zone.{self.zone}": "*"},
                }
            ],
            **options,
        )
        assert made is not None and made.value is not None
        return self.client(made.value)


@contextlib.contextmanager
def refused(status: int, code: int, message: str = "") -> Iterator[None]:
    """The block must end in a refusal with this status and code, and `message` in its text."""
    try:
        yield
    except cloudflare.APIStatusError as refusal:
        first = refusal.body["errors"][0]
        assert (refusal.status_code, first["code"]) == (status, code), first
        assert message in str(first), first
    else:
        raise AssertionError(f"not refused; {code} was expected")
