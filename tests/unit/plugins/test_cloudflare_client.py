"""The Cloudflare stand-in tries again as the provider's own client does."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from localcloud.plugins import cloudflare
from localcloud.plugins.resource import GoneError, PluginError

GOOD = b'{"success": true, "result": "it"}'
BAD = b'{"success": false, "errors": [{"code": 10000, "message": "no"}]}'


class Wire:
    """Answers in turn: a status and its headers, or a connection that is lost. The last one is the answer to all that follow."""

    def __init__(self, *answers: tuple[int, dict[str, str]] | None) -> None:
        self.answers, self.requests = list(answers), 0

    def request(self, method: str, url: str, **_: Any) -> requests.Response:
        self.requests += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise requests.ConnectionError("lost")
        reply = requests.Response()
        reply.status_code, reply._content = answer[0], GOOD if answer[0] == 200 else BAD
        reply.headers.update(answer[1])
        return reply


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("localcloud.plugins.cloudflare.time.sleep", found.append)
    monkeypatch.setattr("localcloud.plugins.cloudflare.random.uniform", lambda low, high: high)
    return found


def api(wire: Wire) -> cloudflare.Api:
    made = cloudflare.Api({"apiToken": "x", "baseUrl": "http://127.0.0.1:9"})
    made._session = wire  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("first", [None, (408, {}), (409, {}), (429, {}), (500, {}), (503, {})])
def test_what_may_pass_is_asked_for_again(waits: list[float], first: tuple[int, dict[str, str]] | None) -> None:
    wire = Wire(first, first, (200, {}))
    assert api(wire).call("GET", "/zones") == "it"
    assert (wire.requests, waits) == (3, [0.5, 1.0])


def test_the_wait_that_it_asks_for_is_kept_if_it_is_below_a_minute(waits: list[float]) -> None:
    wire = Wire((429, {"Retry-After": "7"}), (429, {"Retry-After": "60"}), (429, {"Retry-After": "soon"}), (200, {}))
    assert api(wire).call("GET", "/zones") == "it"
    assert waits == [7.0, 1.0, 2.0]


@pytest.mark.parametrize("last", [None, (503, {})])
def test_after_eleven_times_it_gives_up(waits: list[float], last: tuple[int, dict[str, str]] | None) -> None:
    wire = Wire(last)
    with pytest.raises(PluginError, match="lost" if last is None else "HTTP 503: no"):
        api(wire).call("GET", "/zones")
    assert wire.requests == 11 and waits == [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_does_not_pass_is_asked_for_once(waits: list[float], status: int) -> None:
    wire = Wire((status, {}))
    with pytest.raises(GoneError if status == 404 else PluginError):
        api(wire).call("DELETE", "/zones/x")
    assert (wire.requests, waits) == (1, [])
