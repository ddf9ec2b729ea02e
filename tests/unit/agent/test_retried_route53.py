"""How often Route53 is asked while it fails: hard at first, and then once for each try of the agent; and how a call ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rollcall import registry
from rollcall.errors import FatalError, TransientError
from rollcall.settings import Route53Join
from tests.unit.agent.fakes import ADDRESS, OWNER

pytestmark = pytest.mark.clouds
SERVICE_JOIN = Route53Join(
    zone="Z1",
    domain="unilans.net",
    service="_theService._tcp",
    incarnation="v1",
    port=4218,
    priority=1,
    weight=1,
    ttl=5,
)
EMPTY = (
    b'<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ResourceRecordSets/>'
    b"<IsTruncated>false</IsTruncated><MaxItems>300</MaxItems></ListResourceRecordSetsResponse>"
)


class Api(ThreadingHTTPServer):
    """Answers every request with `code` and an empty zone, and counts."""

    daemon_threads = True
    code = 503
    calls = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reached = threading.Event()
        self.answering = threading.Event()
        self.answering.set()

    def counted(self) -> int:
        """Requests since the last time that this was asked."""
        found, self.calls = self.calls, 0
        return found


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.calls += 1
        self.server.reached.set()
        self.server.answering.wait(30)
        self.send_response(self.server.code)
        self.send_header("Content-Length", str(len(EMPTY)))
        self.end_headers()
        self.wfile.write(EMPTY)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        # The third request comes 1.5 s after the first at the latest (rollcall.retrying).
        monkeypatch.setattr(registry, "_WITHIN", 3.0)
        yield server
        server.answering.set()
        server.shutdown()
        serving.join()


def membership() -> registry.RetriedRoute53:
    return registry.RetriedRoute53(SERVICE_JOIN, lambda: "AKIAIOSFODNN7EXAMPLE secret", lambda _: None)


def test_an_outage_costs_one_request_for_each_try_after_the_first(api: Api) -> None:
    made = membership()
    with pytest.raises(TransientError, match="api-failing"):
        made.join(OWNER, ADDRESS)
    assert api.counted() >= 3
    for _ in range(2):
        with pytest.raises(TransientError, match="api-failing"):
            made.leave(OWNER)
        assert api.counted() == 1
    api.code = 200
    assert made.leave(OWNER) is False
    api.code = 503
    api.counted()
    with pytest.raises(TransientError, match="api-failing"):
        made.leave(OWNER)
    assert api.counted() >= 3


def test_what_does_not_go_away_is_asked_once(api: Api) -> None:
    api.code = 403
    made = membership()
    with pytest.raises(FatalError):
        made.leave(OWNER)
    assert api.counted() == 1


def test_a_call_that_takes_too_long_is_given_up_and_asks_nothing_more(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly a reply drips: no timeout of a socket ends that."""
    monkeypatch.setattr(registry, "_BOUND", 0.5)
    api.answering.clear()
    began = time.monotonic()
    with pytest.raises(TransientError, match="reason=too-slow api=route53"):
        membership().join(OWNER, ADDRESS)
    assert time.monotonic() - began < 5
    api.answering.set()
    time.sleep(0.3)
    assert api.counted() == 1


def test_a_call_that_is_interrupted_ends_at_once_and_the_next_one_is_made(api: Api) -> None:
    made = membership()
    api.answering.clear()

    def interrupt() -> None:
        api.reached.wait(10)
        made.interrupt()

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(TransientError, match="reason=interrupted api=route53"):
        made.join(OWNER, ADDRESS)
    assert time.monotonic() - began < 5
    made.interrupt()
    api.answering.set()
    api.code = 200
    assert made.leave(OWNER) is False
