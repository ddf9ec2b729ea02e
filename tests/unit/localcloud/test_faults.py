"""localcloud.network.faults: the grammar of a fault, what it does to a request over HTTP, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import requests

from localcloud.network.faults import Fault, FaultError, Faults
from localcloud.network.http import Server, listen


class Clock:
    """A clock that does not move by itself."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Backend:
    """A service named `ec2` that counts what it did, behind its faults and a real server."""

    def __init__(self, throttled: Callable[[Any, Any], Iterable[bytes]] | None = None) -> None:
        self.clock = Clock()
        self.faults = Faults(clock=self.clock, seed=1)
        self.acted: list[str] = []
        self._server = Server(self.faults.middleware("ec2", self._act, throttled), [listen("127.0.0.1")])
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.ports[0]}"

    def _act(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.acted.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    def ask(self, method: str = "GET", path: str = "/") -> requests.Response:
        """One request on its own connection."""
        return requests.request(method, self.url + path, timeout=5, headers={"Connection": "close"})

    def status(self, method: str = "GET", path: str = "/") -> int:
        return self.ask(method, path).status_code

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.stop()


class TestGrammar:
    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("ec2 drop", Fault(service="ec2", action="drop")),
            ("cloudflare:POST lose", Fault(service="cloudflare", method="POST", action="lose")),
            ("edge:/a.* throttle", Fault(service="edge", path="/a.*", action="throttle")),
            ("cloudapi:DELETE:^/x:y$ drop", Fault(service="cloudapi", method="DELETE", path="^/x:y$", action="drop")),
            ("dns slow=0.25 times=3", Fault(service="dns", action="slow", value="0.25", times=3)),
            (
                "ssm status=503 for=1.5 p=0.1",
                Fault(service="ssm", action="status", value="503", seconds=1.5, chance=0.1),
            ),
            ("route53 propagation=30", Fault(service="route53", action="propagation", value="30")),
            ("cloudapi readonly", Fault(service="cloudapi", action="readonly")),
            ("iam why=a=b", Fault(service="iam", action="why", value="a=b")),
            ("sts drop for=1234567", Fault(service="sts", action="drop", seconds=1234567.0)),
            ("sts drop p=0.12345678", Fault(service="sts", action="drop", chance=0.12345678)),
        ],
    )
    def test_a_fault_is_read_and_written_alike(self, spec: str, expected: Fault) -> None:
        assert Fault.parse(spec) == expected
        assert str(expected) == spec

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("", "Write SERVICE[:METHOD][:PATH-REGEX] ACTION[=VALUE]"),
            ("ec2", "Write SERVICE[:METHOD][:PATH-REGEX] ACTION[=VALUE]"),
            ("EC2 drop", "Write SERVICE[:METHOD][:PATH-REGEX] ACTION[=VALUE]"),
            ("azure drop", "'azure': is not a service. Choose one of cloudflare, route53, ec2"),
            ("ec2 =5", "names no action. Choose one of slow, status"),
            ("ec2 slow", "not slow=SECONDS. Write a number from 0"),
            ("ec2 slow=-1", "not slow=SECONDS. Write a number from 0"),
            ("ec2 slow=nan", "not slow=SECONDS. Write a number from 0"),
            ("ec2 status", "not status=CODE. Write a whole number from 100 to 999"),
            ("ec2 status=50", "not status=CODE. Write a whole number from 100 to 999"),
            ("ec2 status=5e2", "not status=CODE. Write a whole number from 100 to 999"),
            ("ec2 drop times=0", "not times=N. Write a whole number from 1"),
            ("ec2 drop times", "not times=N. Write a whole number from 1"),
            ("ec2 drop for=soon", "not for=SECONDS. Write a number from 0"),
            ("ec2 drop for=inf", "not for=SECONDS. Write a number from 0"),
            ("ec2 drop p=1.5", "not p=P. Write a number from 0 to 1"),
            ("ec2 drop often=2", "often is not one of times, for, p"),
            ("ec2:/( drop", "'/(' is not a regular expression"),
        ],
    )
    def test_an_invalid_fault_is_refused_with_the_fix(self, spec: str, message: str) -> None:
        faults = Faults()
        with pytest.raises(FaultError) as refusal:
            faults.add(spec)
        assert message in str(refusal.value)
        assert faults.active() == []


class TestOverHttp:
    pytestmark = [pytest.mark.clouds]

    def test_without_a_fault_the_service_acts(self, backend: Backend) -> None:
        assert backend.ask("GET", "/x").content == b"done"
        assert backend.acted == ["GET /x"]

    def test_slow_answers_late_and_still_acts(self, backend: Backend) -> None:
        backend.faults.add("ec2 slow=0.4 times=1")
        began = time.monotonic()
        assert backend.status() == 200
        assert time.monotonic() - began >= 0.4
        assert backend.acted == ["GET /"]

    def test_status_answers_without_acting(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=503")
        assert backend.status() == 503
        assert backend.acted == []

    def test_throttle_is_a_bare_429_where_a_service_has_no_throttling_error(self, backend: Backend) -> None:
        backend.faults.add("ec2 throttle")
        assert backend.status() == 429
        assert backend.acted == []

    def test_throttle_is_reported_in_the_services_own_way(self) -> None:
        def slow_down(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("400 ThrottlingException", [("Content-Length", "3"), ("Retry-After", "7")])
            return [b"no!"]

        backend = Backend(throttled=slow_down)
        try:
            backend.faults.add("ec2 throttle")
            reply = backend.ask()
        finally:
            backend.stop()
        assert (reply.status_code, reply.headers["Retry-After"], reply.content) == (400, "7", b"no!")

    def test_drop_cuts_the_connection_before_the_service_acts(self, backend: Backend) -> None:
        backend.faults.add("ec2 drop times=1")
        with pytest.raises(requests.ConnectionError):
            backend.ask()
        assert backend.acted == []
        assert backend.status() == 200

    def test_lose_lets_the_service_act_and_says_nothing(self, backend: Backend) -> None:
        backend.faults.add("ec2 lose times=1")
        with pytest.raises(requests.ConnectionError):
            backend.ask("POST", "/made")
        assert backend.acted == ["POST /made"]

    def test_times_counts_only_the_requests_that_it_hits(self, backend: Backend) -> None:
        backend.faults.add("ec2:POST:^/a status=500 times=2")
        requested = [("GET", "/a"), ("POST", "/b/a"), ("POST", "/a"), ("POST", "/a/b"), ("POST", "/a")]
        assert [backend.status(*each) for each in requested] == [200, 200, 500, 500, 200]
        assert backend.faults.active() == []

    def test_for_ends_a_fault_by_the_clock(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=500 for=10")
        backend.clock.now += 9.9
        assert backend.status() == 500
        backend.clock.now += 0.2
        assert backend.status() == 200
        assert backend.faults.active() == []

    def test_p_hits_some_requests_only(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=500 p=0.5")
        found = [backend.status() for _ in range(40)]
        assert 8 <= found.count(500) <= 32
        assert set(found) == {200, 500}

    def test_a_chance_of_zero_hits_none(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=500 p=0")
        assert {backend.status() for _ in range(10)} == {200}

    def test_a_fault_of_another_service_does_not_hit(self, backend: Backend) -> None:
        backend.faults.add("ssm status=500")
        assert backend.status() == 200
        assert backend.faults.active() == ["ssm status=500"]

    def test_the_first_fault_hits_until_it_is_used_up(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=501 times=1")
        backend.faults.add("ec2 status=502")
        assert [backend.status() for _ in range(3)] == [501, 502, 502]

    def test_clear_of_a_service_leaves_the_others(self, backend: Backend) -> None:
        backend.faults.add("ec2 status=500")
        backend.faults.add("ssm drop")
        backend.faults.clear("ec2")
        assert (backend.status(), backend.faults.active()) == (200, ["ssm drop"])
        backend.faults.clear()
        assert backend.faults.active() == []

    def test_a_switch_stops_no_request(self, backend: Backend) -> None:
        backend.faults.add("ec2 readonly times=1")
        assert backend.status() == 200
        assert backend.faults.active() == ["ec2 readonly times=1"]


class TestSwitch:
    def test_a_switch_has_its_value_and_is_none_when_off(self) -> None:
        faults = Faults()
        assert faults.switch("route53", "propagation") is None
        faults.add("route53 propagation=30")
        faults.add("cloudapi readonly")
        assert faults.switch("route53", "propagation") == "30"
        assert faults.switch("cloudapi", "readonly") == ""
        assert faults.switch("route53", "readonly") is None

    def test_asking_uses_up_one_of_its_times(self) -> None:
        faults = Faults()
        faults.add("ec2 shortage times=2")
        assert [faults.switch("ec2", "shortage") for _ in range(3)] == ["", "", None]

    def test_a_seed_makes_a_chance_repeatable(self) -> None:
        def drawn(seed: int) -> list[str | None]:
            faults = Faults(seed=seed)
            faults.add("ec2 shortage p=0.5")
            return [faults.switch("ec2", "shortage") for _ in range(30)]

        assert drawn(7) == drawn(7)
        assert drawn(7) != drawn(8)


class TestServer:
    pytestmark = [pytest.mark.clouds]

    def test_after_a_stop_the_port_takes_no_connection(self) -> None:
        backend = Backend()
        assert backend.status() == 200
        backend.stop()
        with pytest.raises(requests.ConnectionError):
            backend.ask()

    def test_a_server_that_was_never_started_stops_at_once(self) -> None:
        listening = listen("127.0.0.1")
        began = time.monotonic()
        Server(lambda environ, start_response: [], [listening]).stop()
        assert time.monotonic() - began < 2
        assert listening.fileno() == -1

    def test_one_server_answers_on_each_of_its_sockets(self, backend: Backend) -> None:
        server = Server(backend.faults.middleware("ec2", backend._act), [listen("127.0.0.1"), listen("127.0.0.1")])
        server.start()
        try:
            first, second = server.ports
            assert first != second
            for port in server.ports:
                assert requests.get(f"http://127.0.0.1:{port}/{port}", timeout=5).status_code == 200
        finally:
            server.stop()
        assert backend.acted == [f"GET /{first}", f"GET /{second}"]
