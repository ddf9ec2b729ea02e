"""Cloudflare's edge and the visitor, over real connections: what they tell an origin, and what when there is none."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.network.ca import Authority
from localcloud.network.edge import Edge
from localcloud.network.http import Server, listen
from localcloud.network.visitor import Visitor

pytestmark = pytest.mark.clouds

HOST = "www.scalability.expert"
FIRST, SECOND = "198.51.100.10", "203.0.113.10"


@dataclass
class Route:
    origins: list[str] = field(default_factory=list)
    target: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Origin:
    """A web server on `address` that tells what it was asked, in JSON."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self.address, self.requests = address, 0
        self._server = Server(self._serve, [listen("127.0.0.1")], tls)
        self._server.start()
        self.port = self._server.ports[0]

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.requests += 1
        length = int(environ.get("CONTENT_LENGTH") or 0)
        given = {
            "method": environ["REQUEST_METHOD"],
            "uri": environ["REQUEST_URI"],
            "body": environ["wsgi.input"].read(length).decode(),
            "headers": {
                key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key[:5] == "HTTP_"
            },
        }
        body = json.dumps(given).encode()
        headers = [("Content-Length", str(len(body))), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        headers += [("Server", "origin"), ("Proxy-Authenticate", "Basic"), ("X-Served-By", self.address)]
        start_response("203 Found", headers)
        return [body]

    def stop(self) -> None:
        self._server.stop()


class Redirector(Origin):
    """One that sends everybody on."""

    def __init__(self, location: str) -> None:
        self._location = location
        super().__init__(FIRST)

    def _serve(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("301 Moved Permanently", [("Location", self._location), ("Content-Length", "0")])
        return [b""]


class Lab:
    """One zone's routes, origins that can be reached by their address, and an edge or a visitor in front."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {HOST: Route([FIRST])}
        self.names: dict[str, list[str]] = {}
        self.origins: dict[tuple[str, int], Origin] = {}
        self.tried: list[tuple[str, int]] = []
        self.ends = contextlib.ExitStack()

    def origin(self, address: str = FIRST, port: int = 80, tls: ssl.SSLContext | None = None) -> Origin:
        made = self.origins[address, port] = Origin(address, tls)
        self.ends.callback(made.stop)
        return made

    def connect(self, address: str, port: int) -> socket.socket:
        self.tried.append((address, port))
        found = self.origins.get((address, port))
        if found is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.create_connection(("127.0.0.1", found.port), timeout=5)

    def resolve(self, name: str) -> list[str]:
        return self.names.get(name, [])

    def edge(
        self,
        origin_ca: str = "",
        tls: ssl.SSLContext | None = None,
        revoked: Callable[[int], bool] = lambda _: False,
    ) -> str:
        return self._front(Edge(self.routes.get, self.resolve, self.connect, origin_ca, revoked).app, tls)

    def visitor(self, ca: str = "") -> str:
        return self._front(Visitor(lambda: HOST, self.resolve, self.connect, ca).app)

    def _front(self, app: Any, tls: ssl.SSLContext | None = None) -> str:
        server = Server(app, [listen("127.0.0.1")], tls)
        server.start()
        self.ends.callback(server.stop)
        return f"http{'s' if tls else ''}://127.0.0.1:{server.ports[0]}"

    def stop(self) -> None:
        self.ends.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "Origin CA")


def ask(url: str, method: str = "GET", host: str = HOST, **options: Any) -> requests.Response:
    headers = {"Host": host, "Connection": "close", **options.pop("headers", {})}
    return requests.request(method, url, headers=headers, timeout=10, allow_redirects=False, **options)


def ask_over_tls(url: str, trusted: str, host: str = HOST) -> bytes:
    """The whole reply to a GET at a TLS server. Its certificate for `host` must be signed by `trusted`."""
    port = int(url.rpartition(":")[2])
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while chunk := secured.recv(65536):
            found += chunk
        return found


class TestForwarding:
    def test_a_request_reaches_the_origin_as_it_was_sent(self, lab: Lab) -> None:
        lab.origin()
        reply = ask(f"{lab.edge()}/a%20b/c?d=e%26f", "POST", data="the body", headers={"X-Mine": "1"})
        given = reply.json()
        assert reply.status_code == 203
        assert (given["method"], given["uri"], given["body"]) == ("POST", "/a%20b/c?d=e%26f", "the body")
        assert (given["headers"]["host"], given["headers"]["x-mine"]) == (HOST, "1")

    def test_the_origin_gets_the_visitors_address(self, lab: Lab) -> None:
        lab.origin()
        heard = ask(lab.edge()).json()["headers"]
        assert heard["cf-connecting-ip"] == "127.0.0.1"
        assert heard["x-forwarded-for"] == "127.0.0.1"
        assert heard["x-forwarded-proto"] == "http"
        assert json.loads(heard["cf-visitor"]) == {"scheme": "http"}

    @pytest.mark.parametrize("name", ["CF-Connecting-IP", "cf-connecting-ip", "CF_Connecting_IP"])
    def test_a_forged_visitor_is_dropped(self, lab: Lab, name: str) -> None:
        lab.origin()
        heard = ask(lab.edge(), headers={name: "192.0.2.66", "CF-IPCountry": "XX"}).json()["headers"]
        assert heard["cf-connecting-ip"] == "127.0.0.1"
        assert "192.0.2.66" not in str(heard)
        assert "cf-ipcountry" not in heard

    def test_proxies_before_the_edge_stay_in_the_list(self, lab: Lab) -> None:
        lab.origin()
        heard = ask(lab.edge(), headers={"X-Forwarded-For": "192.0.2.7"}).json()["headers"]
        assert heard["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"

    def test_hop_by_hop_headers_end_at_the_edge(self, lab: Lab) -> None:
        lab.origin()
        hops = {"TE": "trailers", "Upgrade": "h2c", "Proxy-Authorization": "Basic eA==", "Keep-Alive": "timeout=5"}
        reply = ask(lab.edge(), headers={**hops, "Proxy-Connection": "close", "X-Mine": "1"})
        heard = reply.json()["headers"]
        assert not {"te", "upgrade", "proxy-authorization", "keep-alive", "proxy-connection", "connection"} & set(heard)
        assert heard["x-mine"] == "1"
        assert "Proxy-Authenticate" not in reply.headers

    def test_headers_that_connection_names_end_at_the_edge(self, lab: Lab) -> None:
        lab.origin()
        heard = ask(lab.edge(), headers={"Connection": "close, X-Hop", "X-Hop": "1", "X-Mine": "1"}).json()["headers"]
        assert "x-hop" not in heard
        assert heard["x-mine"] == "1"

    def test_the_reply_keeps_the_origins_headers_and_says_cloudflare(self, lab: Lab) -> None:
        lab.origin()
        reply = ask(lab.edge())
        assert reply.raw.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
        assert reply.raw.headers.getlist("Server") == ["cloudflare"]
        assert len(reply.raw.headers.getlist("Date")) == 1
        assert reply.headers["CF-RAY"].endswith("-LOC")
        assert reply.headers["X-Served-By"] == FIRST

    def test_origins_take_turns(self, lab: Lab) -> None:
        lab.routes[HOST].origins = [SECOND, FIRST]
        lab.origin(FIRST)
        lab.origin(SECOND)
        edge = lab.edge()
        assert [ask(edge).headers["X-Served-By"] for _ in range(4)] == [FIRST, SECOND, FIRST, SECOND]

    @pytest.mark.parametrize("origins", [[FIRST, "2001:db8:1::10"], ["2001:db8:1::10"]])
    def test_an_origin_with_both_families_is_asked_by_ipv4(self, lab: Lab, origins: list[str]) -> None:
        lab.routes[HOST].origins = origins
        for each in (FIRST, "2001:db8:1::10"):
            lab.origin(each)
        edge = lab.edge()
        assert {ask(edge).headers["X-Served-By"] for _ in range(3)} == {origins[0]}

    def test_the_name_of_an_origin_outside_the_zone_is_resolved(self, lab: Lab) -> None:
        lab.routes[HOST] = Route(target="origin.example.com")
        lab.names["origin.example.com"] = [SECOND]
        lab.origin(SECOND)
        reply = ask(lab.edge())
        assert reply.headers["X-Served-By"] == SECOND
        assert reply.json()["headers"]["host"] == HOST


class TestNoOrigin:
    def test_the_next_origin_is_tried_where_one_takes_no_connection(self, lab: Lab) -> None:
        lab.routes[HOST].origins = [FIRST, SECOND]
        lab.origin(SECOND)
        edge = lab.edge()
        assert [ask(edge).headers["X-Served-By"] for _ in range(2)] == [SECOND, SECOND]
        assert (FIRST, 80) in lab.tried

    def test_521_names_each_origin_when_none_takes_a_connection(self, lab: Lab) -> None:
        lab.routes[HOST].origins = [FIRST, SECOND]
        reply = ask(lab.edge())
        assert reply.status_code == 521
        assert f"{FIRST}: Connection refused; {SECOND}: Connection refused" in reply.text
        assert reply.text.startswith("Error 521: Web server is down")

    def test_a_request_that_was_sent_is_not_sent_to_another_origin(self, lab: Lab) -> None:
        lab.routes[HOST].origins = [FIRST, SECOND]
        second = lab.origin(SECOND)
        with contextlib.closing(_Cutter()) as cutter:
            lab.origins[FIRST, 80] = cutter  # type: ignore[assignment]
            reply = ask(lab.edge(), "POST", data="once")
        assert reply.status_code == 520
        assert second.requests == 0

    def test_409_for_a_host_that_is_not_proxied(self, lab: Lab) -> None:
        lab.origin()
        reply = ask(lab.edge(), host="blog.scalability.expert")
        assert (reply.status_code, lab.tried) == (409, [])
        assert "blog.scalability.expert is not proxied here" in reply.text

    def test_the_case_and_the_port_of_a_host_do_not_matter(self, lab: Lab) -> None:
        lab.origin()
        assert ask(lab.edge(), host="WWW.Scalability.Expert:80").json()["headers"]["host"] == HOST

    def test_530_when_a_host_has_no_origin(self, lab: Lab) -> None:
        lab.routes[HOST] = Route(target="origin.example.com")
        assert ask(lab.edge()).status_code == 530


class TestTls:
    def test_301_to_https_where_the_zone_always_uses_it(self, lab: Lab) -> None:
        lab.routes[HOST].settings["always_use_https"] = "on"
        lab.origin()
        reply = ask(f"{lab.edge()}/a%20b?c=d")
        assert (reply.status_code, reply.headers["Location"]) == (301, f"https://{HOST}/a%20b?c=d")
        assert lab.tried == []

    def test_no_redirect_where_it_is_off(self, lab: Lab) -> None:
        lab.routes[HOST].settings["always_use_https"] = "off"
        lab.origin()
        assert ask(lab.edge()).status_code == 203

    def test_https_is_not_redirected_again(self, lab: Lab, authority: Authority) -> None:
        lab.routes[HOST].settings.update(always_use_https="on", ssl="flexible")
        lab.origin(port=80)
        reply = ask_over_tls(lab.edge(tls=authority.context()), authority.pem)
        assert reply.startswith(b"HTTP/1.1 203 ")
        assert b'"x-forwarded-proto": "https"' in reply

    @pytest.mark.parametrize(
        ("mode", "signed", "status"),
        [("strict", True, 203), ("strict", False, 526), ("full", True, 203), ("full", False, 203)],
    )
    def test_only_strict_verifies_the_issuer_of_the_origins_certificate(
        self, lab: Lab, authority: Authority, tmp_path: Path, mode: str, signed: bool, status: int
    ) -> None:
        origin = lab.origin(port=443, tls=(authority if signed else Authority(tmp_path / "other")).context())
        lab.routes[HOST].settings["ssl"] = mode
        reply = ask_over_tls(lab.edge(authority.pem, authority.context()), authority.pem)
        assert reply.startswith(f"HTTP/1.1 {status} ".encode())
        assert origin.requests == (1 if status == 203 else 0)
        assert lab.tried == [(FIRST, 443)]

    @pytest.mark.parametrize(("mode", "status"), [("strict", 526), ("full", 203)])
    def test_strict_does_not_take_a_certificate_that_was_revoked(
        self, lab: Lab, authority: Authority, mode: str, status: int
    ) -> None:
        origin = lab.origin(port=443, tls=authority.context())
        lab.routes[HOST].settings["ssl"] = mode
        requested: list[int] = []

        def revoked(serial: int) -> bool:
            requested.append(serial)
            return True

        reply = ask_over_tls(lab.edge(authority.pem, authority.context(), revoked), authority.pem)
        assert reply.startswith(f"HTTP/1.1 {status} ".encode())
        assert origin.requests == (1 if status == 203 else 0)
        assert len(requested) == (mode == "strict")

    def test_strict_does_not_take_a_certificate_for_another_host(self, lab: Lab, authority: Authority) -> None:
        lab.origin(port=443, tls=authority._made("blog.scalability.expert"))
        lab.routes[HOST].settings["ssl"] = "strict"
        reply = ask_over_tls(lab.edge(authority.pem, authority.context()), authority.pem)
        assert reply.startswith(b"HTTP/1.1 526 ")

    def test_525_when_the_origin_speaks_no_tls(self, lab: Lab, authority: Authority) -> None:
        lab.origin(port=443)
        reply = ask_over_tls(lab.edge(authority.pem, authority.context()), authority.pem)
        assert reply.startswith(b"HTTP/1.1 525 ")

    def test_flexible_asks_the_origin_in_the_clear(self, lab: Lab, authority: Authority) -> None:
        lab.routes[HOST].settings["ssl"] = "flexible"
        lab.origin(port=80)
        assert ask_over_tls(lab.edge(tls=authority.context()), authority.pem).startswith(b"HTTP/1.1 203 ")
        assert lab.tried == [(FIRST, 80)]


class TestVisitor:
    def test_a_request_goes_to_where_dns_points_at_that_moment(self, lab: Lab) -> None:
        lab.origin(FIRST)
        lab.origin(SECOND)
        visitor = lab.visitor()
        for address in (FIRST, SECOND, FIRST):
            lab.names[HOST] = [address]
            reply = ask(visitor, host="127.0.0.1")
            assert reply.headers["X-Served-By"] == address
            assert reply.json()["headers"]["host"] == HOST

    def test_another_host_can_be_visited(self, lab: Lab) -> None:
        lab.names["other.scalability.expert"] = [SECOND]
        lab.origin(SECOND)
        reply = ask(lab.visitor(), headers={"X-Rollcall-Host": "other.scalability.expert"})
        assert reply.json()["headers"]["host"] == "other.scalability.expert"

    def test_502_says_that_no_machine_is_registered(self, lab: Lab) -> None:
        reply = ask(lab.visitor())
        assert (reply.status_code, reply.text) == (502, f"{HOST} resolves to nothing: no machine is registered\n")

    def test_502_names_the_addresses_that_take_no_connection(self, lab: Lab) -> None:
        lab.names[HOST] = [SECOND, FIRST]
        reply = ask(lab.visitor())
        assert reply.status_code == 502
        assert f"{FIRST}: Connection refused; {SECOND}: Connection refused" in reply.text

    def test_502_when_the_connection_breaks(self, lab: Lab) -> None:
        lab.names[HOST] = [FIRST]
        with contextlib.closing(_Cutter()) as cutter:
            lab.origins[FIRST, 80] = cutter  # type: ignore[assignment]
            reply = ask(lab.visitor())
        assert reply.status_code == 502
        assert f"{HOST}: the connection broke" in reply.text

    def test_it_follows_to_https_and_verifies_the_server(self, lab: Lab, authority: Authority, tmp_path: Path) -> None:
        lab.names[HOST] = [FIRST]
        sent_on = lab.origins[FIRST, 80] = Redirector(f"https://{HOST}/")
        lab.ends.callback(sent_on.stop)
        lab.origin(port=443, tls=authority.context())
        visitor = lab.visitor(authority.pem)
        reply = ask(f"{visitor}/a?b=c", headers={"X-One": "1"})
        assert (reply.status_code, reply.headers["X-Rollcall-Over"]) == (203, "tls")
        given = reply.json()
        assert (given["uri"], given["headers"]["host"], given["headers"]["x-one"]) == ("/a?b=c", HOST, "1")
        assert ask(visitor, "POST", data="x").status_code == 301
        stranger = ask(lab.visitor(Authority(tmp_path / "other").pem))
        assert stranger.status_code == 502 and "SSLCertVerificationError" in stranger.text

    def test_it_does_not_follow_to_another_host(self, lab: Lab) -> None:
        lab.names[HOST] = [FIRST]
        sent_on = lab.origins[FIRST, 80] = Redirector("https://elsewhere.example/")
        lab.ends.callback(sent_on.stop)
        reply = ask(lab.visitor())
        assert reply.status_code == 301 and "X-Rollcall-Over" not in reply.headers

    def test_the_site_says_its_own_server(self, lab: Lab) -> None:
        lab.names[HOST] = [FIRST]
        lab.origin()
        assert ask(lab.visitor()).raw.headers.getlist("Server") == ["origin"]


class _Cutter:
    """A server that takes a request and hangs up."""

    def __init__(self) -> None:
        import threading

        self._listening = listen("127.0.0.1")
        self._listening.settimeout(10)
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(65536)

    def close(self) -> None:
        self._thread.join(timeout=10)
        self._listening.close()
