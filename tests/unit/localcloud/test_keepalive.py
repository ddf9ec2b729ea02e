"""localcloud.network.keepalive: several requests on one connection, whatever an app does with the one before."""

from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.network.ca import Authority
from localcloud.network.http import Server, listen
from tests.patience import Deadline, came_true

pytestmark = pytest.mark.clouds


def echo(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def ignore(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answers without reading the body."""
    start_response("200 OK", [("Content-Length", "2"), ("Connection", "close"), ("Server", "mine")])
    return [b"ok"]


def pieces(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"one "
    yield b""
    yield b"two"


def nothing(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return [b"never sent"]


def broken(environ: Any, start_response: Any) -> Iterable[bytes]:
    raise KeyError("a fault of the app")


def short(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "10")])
    return [b"four"]


APPS = {f"/{each.__name__}": each for each in (echo, ignore, pieces, nothing, broken, short)}


def choose(environ: Any, start_response: Any) -> Iterable[bytes]:
    return APPS[environ["PATH_INFO"]](environ, start_response)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Server(choose, [listen("127.0.0.1")])
    server.start()
    yield server.ports[0]
    server.stop()


@pytest.fixture
def client(port: int) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    made.connect()
    yield made
    made.close()


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: Any = None, **named: Any
) -> tuple[int, bytes]:
    client.request(method, path, body=body, **named)
    reply = client.getresponse()
    return reply.status, reply.read()


def stays_open(client: http.client.HTTPConnection) -> bool:
    """Whether the next request is answered on the same connection."""
    before = client.sock
    return ask(client, "POST", "/echo", b"again") == (200, b"again") and client.sock is before


def test_requests_follow_each_other_on_one_connection(client: http.client.HTTPConnection) -> None:
    assert ask(client, "POST", "/echo", b"first") == (200, b"first")
    assert stays_open(client)


def test_a_body_that_the_app_does_not_read_is_not_the_next_request(client: http.client.HTTPConnection) -> None:
    assert ask(client, "POST", "/ignore", b"GET /echo HTTP/1.1\r\n\r\n") == (200, b"ok")
    assert stays_open(client)


def test_a_chunked_body_that_the_app_does_not_read_is_not_the_next_request(client: http.client.HTTPConnection) -> None:
    assert ask(client, "POST", "/ignore", iter([b"GET /e", b"cho"]), encode_chunked=True) == (200, b"ok")
    assert ask(client, "POST", "/echo", iter([b"in ", b"chunks"]), encode_chunked=True) == (200, b"in chunks")
    assert stays_open(client)


def test_a_rest_that_does_not_come_ends_the_connection_after_the_reply(client: http.client.HTTPConnection) -> None:
    client.putrequest("POST", "/ignore")
    client.putheader("Content-Length", str(2**40))
    client.endheaders(b"x" * 2**22)
    assert client.sock is not None
    assert client.getresponse().read() == b"ok"
    assert client.sock.recv(1) == b""


def test_a_reply_of_unknown_length_comes_in_chunks(client: http.client.HTTPConnection) -> None:
    assert ask(client, "GET", "/pieces") == (200, b"one two")
    assert stays_open(client)


def test_a_reply_of_unknown_length_to_an_old_client_ends_with_the_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /pieces HTTP/1.0\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(4096), b""))
    assert received.endswith(b"\r\n\r\none two") and b"chunked" not in received


@pytest.mark.parametrize(("method", "path", "length"), [("HEAD", "/ignore", "2"), ("GET", "/nothing", None)])
def test_a_reply_without_a_body_has_none(
    client: http.client.HTTPConnection, method: str, path: str, length: str | None
) -> None:
    client.request(method, path)
    reply = client.getresponse()
    assert (reply.read(), reply.getheader("Content-Length")) == (b"", length)
    assert stays_open(client)


def test_the_apps_own_server_header_is_alone_and_its_connection_header_is_not_its_business(
    client: http.client.HTTPConnection,
) -> None:
    client.request("GET", "/ignore")
    reply = client.getresponse()
    reply.read()
    assert reply.headers.get_all("Server") == ["mine"]
    assert len(reply.headers.get_all("Date") or ()) == 1
    assert reply.getheader("Connection") is None


def test_a_client_that_wants_to_close_is_let_go(client: http.client.HTTPConnection) -> None:
    assert ask(client, "POST", "/echo", b"bye", headers={"Connection": "close"}) == (200, b"bye")
    assert client.sock is None


def test_an_app_that_breaks_is_a_500_and_is_logged(
    client: http.client.HTTPConnection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "localcloud.network.http"):
        assert ask(client, "GET", "/broken?token=hidden") == (500, b"")
    assert "a fault of the app" in caplog.text and "hidden" not in caplog.text


def test_less_than_was_announced_is_seen_as_broken_off(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/short")
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()


def test_a_client_that_waits_for_a_go_on_gets_it(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(4096).endswith(b"\r\n\r\nbody")


def test_the_access_log_has_the_path_and_no_secret(
    client: http.client.HTTPConnection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "localcloud.access"):
        ask(client, "PUT", "/echo?key=hidden1", b"hidden2", headers={"Authorization": "hidden3"})
        # A line is written after its answer has gone, so an earlier test's may come late: only the PUT is this test's.
        until(lambda: any("PUT" in each for each in caplog.messages))
    (line,) = (each for each in caplog.messages if "PUT" in each)
    assert "PUT /echo 200" in line and "hidden" not in caplog.text


def test_a_stop_ends_connections_that_wait_for_their_next_request() -> None:
    server = Server(choose, [listen("127.0.0.1")])
    server.start()
    waiting = http.client.HTTPConnection("127.0.0.1", server.ports[0], timeout=5)
    assert ask(waiting, "POST", "/echo", b"x") == (200, b"x")
    server.stop()
    assert waiting.sock is not None
    assert waiting.sock.recv(1) == b""
    waiting.close()


def test_requests_follow_each_other_over_tls_too(tmp_path: Path) -> None:
    import ssl

    authority = Authority(tmp_path / "keys")
    server = Server(choose, [listen("127.0.0.1")], authority.context())
    server.start()
    context = ssl.create_default_context(cadata=authority.pem)
    client = http.client.HTTPSConnection("localhost", server.ports[0], timeout=5, context=context)
    try:
        assert ask(client, "POST", "/ignore", b"left") == (200, b"ok")
        assert stays_open(client)
    finally:
        client.close()
        server.stop()


def test_many_requests_wait_for_no_acknowledgement(client: http.client.HTTPConnection) -> None:
    """With Nagle's algorithm on, or a reply in two packets, each would take the client's 40 ms (tcp(7), delayed ACK)."""
    began = time.monotonic()
    for _ in range(50):
        assert ask(client, "GET", "/pieces") == (200, b"one two")
    assert time.monotonic() - began < 1.5


def until(probe: Callable[[], object]) -> None:
    assert came_true(probe, 5, every=0.01), "waited in vain"


def test_a_server_stops_at_once() -> None:
    """A test that has one of its own must not wait for the moment at which it would have looked."""
    servers = [Server(echo, [listen("127.0.0.1")]) for _ in range(20)]
    for server in servers:
        server.start()
    deadline = Deadline(1)
    for server in servers:
        server.stop()
    assert not deadline.passed
    for server in servers:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.ports[0]), timeout=5)
