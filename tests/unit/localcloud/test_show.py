"""What `make up` ends with: only the stack's machines, every service, the stack's own host; what fails is named."""

from __future__ import annotations

import ast
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from localcloud.network.http import Server, listen
from localcloud.network.visitor import Visitor
from localcloud.runtime import show
from tests.unit.agent.nameserver import ZONE, Served, serving

ROOT = Path(__file__).resolve().parents[3]
HOST = f"shop.{ZONE}"
STATIC = {"zone": ZONE, "services": {"theService": f"_theService._tcp.{ZONE}"}}


def machine(name: str, tag: str | None, **changed: Any) -> dict[str, Any]:
    tags = {} if tag is None else {"rollcall-stack": tag}
    plain = {"cloud": "aws", "name": name, "id": f"i-{name}", "state": "running", "addresses": ["198.51.100.7"]}
    return {**plain, "tags": tags, **changed}


class TestFleet:
    def shown(self, capsys: pytest.CaptureFixture[str], *machines: dict[str, Any]) -> list[str]:
        show.fleet(machines, "local")
        lines = capsys.readouterr().out.strip().splitlines()
        return [line.split()[1] if line.startswith("  ") else line for line in lines]

    def test_machines_of_the_stack_come_first_and_others_apart_by_tag(self, capsys: pytest.CaptureFixture[str]) -> None:
        lines = self.shown(
            capsys,
            machine("b", "local"),
            machine("other", "staging"),
            machine("hand", None),
            machine("a", "local", state="stopped"),
            machine("t", "local", cloud="joyent"),
        )
        assert lines == [
            "Fleet",
            "a",
            "b",
            "t",
            "",
            "Other machines, not this stack's: without a tag rollcall-stack",
            "hand",
            "",
            "Other machines, not this stack's: rollcall-stack=staging",
            "other",
        ]

    def test_where_all_are_the_stacks_nothing_else_is_reported(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert len(self.shown(capsys, machine("a", "local"))) == 2

    @pytest.mark.parametrize("state", ["terminated", "deleted"])
    @pytest.mark.parametrize("tag", ["local", "staging"])
    def test_what_is_gone_is_not_shown(self, capsys: pytest.CaptureFixture[str], state: str, tag: str) -> None:
        assert self.shown(capsys, machine("a", tag, state=state)) == ["Fleet"]


class Called:
    """In the place of the sample client: what it was called with, and what it prints."""

    def __init__(self, stdout: str = "answered: i-1 theService heard: hello\n" * 9, code: int = 0, stderr: str = ""):
        self.calls: list[list[str]] = []
        self._done = subprocess.CompletedProcess([], code, stdout, stderr)

    def __call__(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.calls.append(list(words))
        return self._done


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as found:
        yield found


def publish_service(server: Served, name: str, protocol: str, **incarnations: Sequence[str]) -> str:
    """A service in DNS: for each incarnation its SRV values."""
    base = f"_{name}._{protocol}.{ZONE}"
    server.zone.put(base, "PTR", *(f"{each}.{base}." for each in incarnations))
    for each, values in incarnations.items():
        server.zone.put(f"{each}.{base}", "TXT", '"path=/"')
        if values:
            server.zone.put(f"{each}.{base}", "SRV", *values)
    return base


class TestServices:
    def test_each_service_is_shown_with_its_incarnations_and_called(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = publish_service(
            server, "theService", "tcp", v1=[f"10 10 4218 a.rc.{ZONE}."], v2=[f"10 10 4218 b.rc.{ZONE}."]
        )
        second = publish_service(server, "stage", "tcp", blue=[f"20 5 4218 d.rc.{ZONE}.", f"10 5 4218 c.rc.{ZONE}."])
        sample = Called()
        given = {"zone": ZONE, "services": {"theService": first, "stage": second}}
        assert show.services(given, server.address, sample) == []
        out = capsys.readouterr().out
        assert [line.strip() for line in out.splitlines() if " SRV " in line] == [
            f"blue.{second} SRV 10 5 4218 c.rc.{ZONE}.",
            f"blue.{second} SRV 20 5 4218 d.rc.{ZONE}.",
            f"v1.{first} SRV 10 10 4218 a.rc.{ZONE}.",
            f"v2.{first} SRV 10 10 4218 b.rc.{ZONE}.",
        ]
        assert out.count("    9 × i-1") == 3
        assert [(each[1], each[5]) for each in sample.calls] == [
            ("stage", "blue"),
            ("theService", "v1"),
            ("theService", "v2"),
        ]

    def test_shards_are_shown_and_called_each(self, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
        base = publish_service(server, "big", "tcp", **{f"v1-{at}": [f"10 10 4218 {at}.rc.{ZONE}."] for at in (1, 2)})
        sample = Called()
        assert show.services({"zone": ZONE, "services": {"big": base}}, server.address, sample) == []
        assert [each[5] for each in sample.calls] == ["v1-1", "v1-2"]

    @pytest.mark.parametrize(("protocol", "port"), [("udp", 4218), ("tcp", 8080)])
    def test_what_the_sample_client_does_not_speak_is_shown_and_not_called(
        self, server: Served, capsys: pytest.CaptureFixture[str], protocol: str, port: int
    ) -> None:
        base = publish_service(server, "log", protocol, v1=[f"10 10 {port} a.rc.{ZONE}."])
        sample = Called()
        assert show.services({"zone": ZONE, "services": {"log": base}}, server.address, sample) == []
        out = capsys.readouterr().out
        assert f"v1.{base} SRV 10 10 {port} a.rc.{ZONE}." in out and "not called" in out
        assert sample.calls == []

    def test_an_incarnation_without_machines_is_not_a_fault(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        base = publish_service(server, "theService", "tcp", v1=[])
        assert show.services({"zone": ZONE, "services": {"theService": base}}, server.address, Called()) == []
        assert f"v1.{base} has no machine" in capsys.readouterr().out

    def test_calls_that_fail_are_counted_with_their_reason(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        base = publish_service(server, "theService", "tcp", v1=[f"10 10 4218 a.rc.{ZONE}."])
        sample = Called("answered: i-1 theService heard: hello\n" * 2, 1, "theService: timed out\n")
        faults = show.services({"zone": ZONE, "services": {"theService": base}}, server.address, sample)
        assert faults == [f"v1.{base}: 7 of 9 calls failed (theService: timed out)"]

    def test_a_service_that_dns_does_not_have_is_a_fault(self, server: Served) -> None:
        assert show.services(STATIC, server.address, Called()) == [f"_theService._tcp.{ZONE}: DNS has no incarnation"]

    def test_a_name_server_that_does_not_answer_is_a_fault(self) -> None:
        (fault,) = show.services(STATIC, "127.0.0.1:9", Called())
        assert fault.startswith(f"_theService._tcp.{ZONE}: reason=")

    def test_the_port_is_the_sample_workloads(self) -> None:
        text = (ROOT / "userdata/workloads/the-service/the_service.py").read_text()
        ports = [ast.literal_eval(each.value) for each in ast.parse(text).body
                 if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "PORT"]  # fmt: skip
        assert ports == [show.SAMPLE_PORT]


class Front:
    """The site as its machines answer it, one status after the other; asked for by the visitor of a name server's host."""

    def __init__(self, server: Served, *statuses: int) -> None:
        self._statuses = list(statuses)
        origin = Server(self._answer, [listen("127.0.0.1")])
        origin.start()

        def connect(_address: str, _port: int) -> socket.socket:
            return socket.create_connection(("127.0.0.1", origin.ports[0]), timeout=5)

        def resolve(host: str) -> list[str]:
            return show.addresses(server.address, host)

        front = Server(Visitor(lambda: f"www.{ZONE}", resolve, connect).app, [listen("127.0.0.1")])
        front.start()
        self.url, self._servers = f"http://127.0.0.1:{front.ports[0]}/", (front, origin)

    def _answer(self, environ: Any, start_response: Any) -> list[bytes]:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        start_response(f"{status} X", [("X-Served-By", f"i-{environ['HTTP_HOST']}"), ("Content-Length", "0")])
        return [b""]

    def stop(self) -> None:
        for each in self._servers:
            each.stop()


class TestSite:
    def visited(self, server: Served, *statuses: int) -> list[str]:
        front = Front(server, *statuses)
        try:
            return show.site(HOST, front.url, server.address)
        finally:
            front.stop()

    def test_the_host_that_the_stack_has_is_visited(self, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
        server.zone.put(HOST, "A", "198.51.100.10", "198.51.100.11")
        assert self.visited(server, 200) == []
        out = capsys.readouterr().out
        assert f"  {HOST} A 198.51.100.11\n" in out and f"   20 × i-{HOST}\n" in out

    def test_a_host_without_an_address_is_a_fault_for_each_request(
        self, server: Served, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (fault,) = self.visited(server, 200)
        assert fault == (
            f"{HOST}: 20 of 20 requests failed (HTTP 502: {HOST} resolves to nothing: no machine is registered)"
        )
        assert "20 × HTTP 502" in capsys.readouterr().out

    @pytest.mark.parametrize("status", [404, 500, 503])
    def test_some_requests_that_fail_are_counted_beside_the_machines_that_answered(
        self, server: Served, status: int
    ) -> None:
        server.zone.put(HOST, "A", "198.51.100.10")
        assert self.visited(server, status, status, 200) == [
            f"{HOST}: 2 of 20 requests failed (HTTP {status}: X, from i-{HOST})"
        ]

    @pytest.mark.parametrize("silence", [TimeoutError(), ConnectionRefusedError()])
    def test_a_name_server_that_does_not_answer_is_a_fault(
        self, server: Served, monkeypatch: pytest.MonkeyPatch, silence: Exception
    ) -> None:
        def silent(*_: object) -> list[str]:
            raise silence

        monkeypatch.setattr(show, "addresses", silent)
        first, *_ = show.site(HOST, "http://127.0.0.1:9/", server.address)
        assert first.startswith(f"{HOST} A: the name server {server.address} does not answer")

    def test_a_visitor_that_is_not_there_is_a_fault(self, server: Served) -> None:
        server.zone.put(HOST, "A", "198.51.100.10")
        assert show.site(HOST, "http://127.0.0.1:9/", server.address) == [
            f"{HOST}: 20 of 20 requests failed (ConnectionError)"
        ]
