"""Cloudflare's edge and the visitor: bodies that flow, replies without one, and what the edge says of dead origins."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from localcloud.network import forward
from localcloud.network.ca import Authority
from localcloud.network.http import Server, listen
from tests.cloud.test_edge import FIRST, HOST, SECOND, Lab, ask, ask_over_tls

pytestmark = pytest.mark.clouds


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.stop()


class Served:
    """An origin with an app of the test's own, in the place of the lab's."""

    def __init__(self, app: Callable[[Any, Any], Iterable[bytes]]) -> None:
        self._server = Server(app, [listen("127.0.0.1")])
        self._server.start()
        self.port = self._server.ports[0]

    def close(self) -> None:
        self._server.stop()


@contextlib.contextmanager
def origin(lab: Lab, app: Callable[[Any, Any], Iterable[bytes]]) -> Iterator[str]:
    """The edge's URL, with `app` behind it."""
    with contextlib.closing(Served(app)) as served:
        lab.origins[FIRST, 80] = served  # type: ignore[assignment]
        yield lab.edge()


def connected(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=5)


class TestBodies:
    def test_the_beginning_of_a_reply_arrives_while_the_origin_still_writes(self, lab: Lab) -> None:
        seen = threading.Event()

        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [])
            yield b"first"
            yield b" and last" if seen.wait(5) else b" came too late"

        with origin(lab, app) as url, contextlib.closing(connected(url)) as client:
            client.request("GET", "/", headers={"Host": HOST})
            reply = client.getresponse()
            assert reply.read(5) == b"first"
            seen.set()
            assert reply.read() == b" and last"

    def test_a_reply_that_breaks_off_at_the_origin_breaks_off_at_the_edge(self, lab: Lab) -> None:
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Length", "1000")])
            return [b"too little"]

        with origin(lab, app) as url, contextlib.closing(connected(url)) as client:
            client.request("GET", "/", headers={"Host": HOST})
            with pytest.raises(http.client.IncompleteRead):
                client.getresponse().read()

    def test_a_body_in_chunks_reaches_the_origin(self, lab: Lab) -> None:
        with origin(lab, _echo) as url:
            reply = ask(url, "PUT", data=iter([b"in ", b"x" * 100_000, b" chunks"]))
        assert reply.content == b"in " + b"x" * 100_000 + b" chunks"

    def test_a_body_that_is_too_long_is_refused_and_nothing_is_sent(self, lab: Lab) -> None:
        lab.origin()
        with contextlib.closing(connected(lab.edge())) as client:
            client.putrequest("PUT", "/", skip_host=True)
            client.putheader("Host", HOST)
            client.putheader("Content-Length", str(forward.LONGEST_BODY + 1))
            client.endheaders()
            assert client.getresponse().status == 413
        assert lab.tried == []

    def test_a_body_in_chunks_that_gets_too_long_is_refused(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(forward, "LONGEST_BODY", 1000)
        with origin(lab, _echo) as url:
            assert ask(url, "PUT", data=iter([b"x" * 600, b"x" * 600])).status_code == 413
            assert ask(url, "PUT", data=iter([b"x" * 600, b"x" * 400])).status_code == 200

    def test_a_head_keeps_the_length_that_the_origin_says(self, lab: Lab) -> None:
        def app(environ: Any, start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Length", "12345")])
            return []

        with origin(lab, app) as url:
            reply = ask(url, "HEAD")
        assert (reply.status_code, reply.headers["Content-Length"], reply.content) == (200, "12345", b"")

    def test_visits_follow_each_other_on_one_connection(self, lab: Lab) -> None:
        with origin(lab, _echo) as url, contextlib.closing(connected(url)) as client:
            client.connect()
            first = client.sock
            for sent in (b"one", b"", b"three"):
                client.request("POST", "/", body=sent, headers={"Host": HOST})
                assert client.getresponse().read() == sent
                assert client.sock is first


class TestHeaders:
    def test_the_edge_asks_for_no_encoding_that_the_visitor_did_not(self, lab: Lab) -> None:
        lab.origin()
        with contextlib.closing(connected(lab.edge())) as client:
            client.putrequest("GET", "/", skip_host=True, skip_accept_encoding=True)
            client.putheader("Host", HOST)
            client.endheaders()
            assert b"accept-encoding" not in client.getresponse().read().lower()

    def test_a_path_that_is_not_ascii_arrives_escaped(self, lab: Lab) -> None:
        lab.origin()
        port = int(lab.edge().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            plain.sendall(f"GET /caf\xe9?a=%20 HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode("latin-1"))
            received = b"".join(iter(lambda: plain.recv(65536), b""))
        assert received.startswith(b"HTTP/1.1 203 ")
        assert b"/caf%" in received and b"?a=%20" in received

    def test_other_networks_stay_in_the_loops_list(self, lab: Lab) -> None:
        lab.origin()
        heard = ask(lab.edge(), headers={"CDN-Loop": "other"}).json()["headers"]
        assert heard["cdn-loop"] == "other, cloudflare; loops=1"


class TestDeadOrigins:
    @pytest.mark.parametrize(
        ("failure", "status"),
        [
            (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 521),
            (TimeoutError("timed out"), 522),
            (OSError(errno.EHOSTUNREACH, "No route to host"), 523),
        ],
    )
    def test_the_code_says_how_the_connection_failed(self, lab: Lab, failure: OSError, status: int) -> None:
        def fail(address: str, port: int) -> socket.socket:
            raise failure

        lab.connect = fail  # type: ignore[method-assign]
        reply = ask(lab.edge())
        assert (reply.status_code, reply.text.split(":")[0]) == (status, f"Error {status}")
        assert FIRST in reply.text

    def test_524_when_an_origin_takes_the_request_and_never_answers(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forward, "ANSWER_SECONDS", 0.3)
        silent = listen("127.0.0.1")
        with contextlib.closing(silent):
            lab.connect = lambda address, port: socket.create_connection(silent.getsockname())  # type: ignore[method-assign]
            assert ask(lab.edge()).status_code == 524


class TestOff:
    def test_a_zone_without_tls_sends_https_to_http(self, lab: Lab, tmp_path: Any) -> None:
        authority = Authority(tmp_path / "keys")
        lab.routes[HOST].settings.update(ssl="off", always_use_https="on")
        lab.origin()
        reply = ask_over_tls(lab.edge(tls=authority.context()), authority.pem)
        assert reply.startswith(b"HTTP/1.1 301 ") and f"Location: http://{HOST}/".encode() in reply
        assert ask(lab.edge()).status_code == 203


class TestVisitor:
    @pytest.mark.parametrize("named", ["127.0.0.1:8080", "localhost", "[::1]:80", ""])
    def test_a_browser_on_this_machine_visits_the_site(self, lab: Lab, named: str) -> None:
        lab.names[HOST] = [FIRST]
        lab.origin()
        assert ask(lab.visitor(), host=named).json()["headers"]["host"] == HOST

    def test_the_host_of_a_request_is_the_one_visited(self, lab: Lab) -> None:
        lab.names["scalability.expert"] = [SECOND]
        lab.origin(SECOND)
        reply = ask(lab.visitor(), host="Scalability.Expert:8080")
        assert reply.json()["headers"]["host"] == "scalability.expert"

    def test_the_header_that_names_a_host_is_not_sent_to_it(self, lab: Lab) -> None:
        lab.names["scalability.expert"] = [SECOND]
        lab.origin(SECOND)
        reply = ask(lab.visitor(), headers={"X-Rollcall-Host": "scalability.expert"})
        assert "x-rollcall-host" not in reply.json()["headers"]


def _echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
