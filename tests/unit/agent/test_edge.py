"""rollcall.edge: which addresses nginx believes. Too many would let anybody write a visitor's address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from rollcall import edge
from rollcall.edge import Origin
from rollcall.errors import TransientError
from tests.unit.agent.fakes import Scripted

V4, V6 = ["173.245.48.0/20", "103.21.244.0/22"], ["2400:cb00::/32"]
GOOD: Any = {"result": {"ipv4_cidrs": V4, "ipv6_cidrs": V6}, "success": True}
LINES = (
    "set_real_ip_from 103.21.244.0/22;\nset_real_ip_from 173.245.48.0/20;\nset_real_ip_from 2400:cb00::/32;\n"
    "real_ip_header CF-Connecting-IP;\n"
)


class Edge:
    """The API that publishes the ranges, nginx's file, and a systemctl that keeps what it was asked."""

    def __init__(self, home: Path, server: Scripted) -> None:
        self.config, self._server = home / "rollcall-edge.conf", server
        self._calls_file, self._exit = home / "asked", home / "exit"
        self.bin = home / "bin"
        self.bin.mkdir()
        (self.bin / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{self._calls_file}\n[ ! -e {self._exit} ]\n')
        (self.bin / "systemctl").chmod(0o755)
        self.publishes(GOOD)

    def publishes(self, body: Any, status: int = 200) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._server.answer = lambda method, path, headers: (status, {}, text) if path == "/ips" else (404, {}, b"{}")

    def reload_works(self, works: bool) -> None:
        self._exit.unlink(missing_ok=True) if works else self._exit.touch()

    @property
    def reloads(self) -> int:
        requested = self._calls_file.read_text().splitlines() if self._calls_file.exists() else []
        assert set(requested) <= {"reload nginx.service"}
        return len(requested)


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    made = Scripted(lambda method, path, headers: (500, {}, b""))
    yield made
    made.stop()


@pytest.fixture
def place(tmp_path: Path, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> Edge:
    made = Edge(tmp_path, server)
    monkeypatch.setattr(edge, "CONFIG", made.config)
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", server.url)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    return made


def test_nginx_believes_what_is_published_and_is_reported_once(place: Edge) -> None:
    assert edge.refresh() is True
    assert place.config.read_text() == LINES and place.reloads == 1
    assert edge.refresh() is True
    assert place.reloads == 1


def test_ranges_that_change_are_believed(place: Edge) -> None:
    edge.refresh()
    place.publishes({"result": {"ipv4_cidrs": ["192.0.2.0/24"]}})
    assert edge.refresh() is True
    assert place.config.read_text() == "set_real_ip_from 192.0.2.0/24;\nreal_ip_header CF-Connecting-IP;\n"
    assert place.reloads == 2


# name, body, status
WRONG: list[tuple[str, Any, int]] = [
    ("everybody", {"result": {"ipv4_cidrs": ["0.0.0.0/0"], "ipv6_cidrs": []}}, 200),
    ("everybody in two halves", {"result": {"ipv4_cidrs": ["0.0.0.0/1", "128.0.0.0/1"]}}, 200),
    ("one that is too wide among good ones", {"result": {"ipv4_cidrs": [*V4, "128.0.0.0/7"], "ipv6_cidrs": V6}}, 200),
    ("IPv6 that is too wide", {"result": {"ipv4_cidrs": V4, "ipv6_cidrs": ["2000::/18"]}}, 200),
    ("nobody", {"result": {"ipv4_cidrs": [], "ipv6_cidrs": []}}, 200),
    ("no IPv4 list", {"result": {"ipv6_cidrs": V6}}, 200),
    ("no result", {"success": False}, 200),
    ("a null result", {"result": None}, 200),
    ("a list", [1], 200),
    ("what is no network", {"result": {"ipv4_cidrs": ["1.2.3.4/8; include /etc/passwd"]}}, 200),
    ("host bits that are set", {"result": {"ipv4_cidrs": ["173.245.48.1/20"]}}, 200),
    ("no JSON", b"<html>", 200),
    ("an error with ranges", GOOD, 500),
    ("throttled", GOOD, 429),
]


@pytest.mark.parametrize(("body", "status"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_was_believed_stays_when_the_answer_is(
    place: Edge, body: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    edge.refresh()
    place.publishes(body, status)
    assert edge.refresh() is False
    assert place.config.read_text() == LINES and place.reloads == 1
    ours = [each for each in caplog.records if each.name == edge.log.name]
    assert [each.getMessage().partition(" error=")[0] for each in ours] == ["edge: reason=not-set-up"]


PEM = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"
NEXT = PEM.replace("abc", "def")


def closed(pem: str = PEM, host: str = "www.example.org", *more: str) -> Origin:
    return Origin((host, *more), pem)


@pytest.fixture
def origins(place: Edge, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = place.config.with_name("rollcall-origins")
    monkeypatch.setattr(edge, "ORIGINS", path)
    return path


def names(origins: Path) -> list[str]:
    return sorted(each.name for each in origins.iterdir())


def test_tls_to_the_edge_is_served_with_what_the_cloud_keeps(place: Edge, origins: Path) -> None:
    assert edge.refresh(lambda: [closed(PEM, "www.example.org", "example.org")]) is True and place.reloads == 1
    pem = origins / "www.example.org.pem"
    assert pem.read_text() == PEM and pem.stat().st_mode & 0o777 == 0o600 and origins.stat().st_mode & 0o777 == 0o700
    text = (origins / "www.example.org.conf").read_text()
    assert "listen 443 ssl default_server;" in text and f"ssl_certificate {pem};" in text
    assert "server_name www.example.org example.org;" in text
    assert "PRIVATE KEY" not in text and place.config.read_text() == LINES
    assert edge.refresh(lambda: [closed(PEM, "www.example.org", "example.org")]) is True and place.reloads == 1


def test_each_closed_site_has_its_own_certificate_and_one_answers_an_edge_that_names_none(
    place: Edge, origins: Path
) -> None:
    assert edge.refresh(lambda: [closed(), closed(NEXT, "shop.example.net")]) is True and place.reloads == 1
    assert (origins / "shop.example.net.pem").read_text() == NEXT
    first, second = ((origins / f"{each}.conf").read_text() for each in ("www.example.org", "shop.example.net"))
    assert first.count("default_server") == 2 and "default_server" not in second
    assert (
        f"ssl_certificate {origins / 'shop.example.net.pem'};" in second and "server_name shop.example.net;" in second
    )


def test_a_site_that_is_left_takes_its_key_along_and_the_other_one_stays(place: Edge, origins: Path) -> None:
    edge.refresh(lambda: [closed(), closed(NEXT, "shop.example.net")])
    assert edge.refresh(lambda: [closed(NEXT, "shop.example.net")]) is True and place.reloads == 2
    assert names(origins) == ["shop.example.net.conf", "shop.example.net.pem"]
    assert "default_server" in (origins / "shop.example.net.conf").read_text()
    assert edge.refresh() is True and names(origins) == [] and place.config.read_text() == LINES


def test_a_renewed_certificate_is_taken_up(place: Edge, origins: Path) -> None:
    edge.refresh(lambda: [closed()])
    assert edge.refresh(lambda: [closed(NEXT)]) is True and place.reloads == 2
    assert "def" in (origins / "www.example.org.pem").read_text()


def test_what_nginx_did_not_take_is_tried_again(place: Edge, origins: Path) -> None:
    place.reload_works(False)
    assert edge.refresh(lambda: [closed()]) is False and not list(origins.glob("*.conf"))
    place.reload_works(True)
    assert edge.refresh(lambda: [closed()]) is True and place.reloads == 2
    place.reload_works(False)
    assert edge.refresh(lambda: [closed(NEXT), closed(PEM, "shop.example.net")]) is False
    assert [each.name for each in origins.glob("*.conf")] == ["www.example.org.conf"]
    place.reload_works(True)
    assert edge.refresh(lambda: [closed(NEXT), closed(PEM, "shop.example.net")]) is True and place.reloads == 4
    assert len(names(origins)) == 4


def test_a_secret_that_cannot_be_read_leaves_what_was(
    place: Edge, origins: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edge.refresh(lambda: [closed()])
    before = place.config.read_text()

    def refused() -> list[Origin]:
        raise TransientError("reason=no-secret")

    assert edge.refresh(refused) is False
    assert (place.config.read_text(), (origins / "www.example.org.pem").read_text(), place.reloads) == (before, PEM, 1)
    assert "abc" not in caplog.text


def test_the_widest_ranges_that_are_believed(place: Edge) -> None:
    place.publishes({"result": {"ipv4_cidrs": ["104.0.0.0/8"], "ipv6_cidrs": ["2400::/19"]}})
    assert edge.ranges() == ["104.0.0.0/8", "2400::/19"]


def test_what_was_believed_stays_when_the_api_is_out_of_reach(place: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    edge.refresh()
    with pytest.raises(requests.ConnectionError):
        edge.ranges("http://127.0.0.1:1")
    assert place.config.read_text() == LINES


def test_a_reload_that_failed_is_tried_again_and_nginx_keeps_a_file_that_it_took(place: Edge) -> None:
    edge.refresh()
    place.publishes({"result": {"ipv4_cidrs": ["192.0.2.0/24"]}})
    place.reload_works(False)
    assert edge.refresh() is False
    assert place.config.read_text() == LINES, "a start of nginx reads it"
    place.reload_works(True)
    assert edge.refresh() is True
    assert "192.0.2.0/24" in place.config.read_text() and place.reloads == 3


def test_a_machine_without_nginx_says_so_and_goes_on(place: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "CONFIG", place.config / "no" / "such" / "place")
    assert edge.refresh() is False and place.reloads == 0


def test_a_site_with_a_certificate_redirects_its_own_name_and_not_the_health_check(place: Edge, origins: Path) -> None:
    assert edge.refresh(lambda: [Origin(("www.example.org",), f"until=1\n{PEM}", redirects=True)]) is True
    text = (origins / "www.example.org.conf").read_text()
    plain, secured = text.split("server {")[1:]
    assert (
        "listen 80;" in plain
        and "server_name www.example.org;" in plain
        and "return 301 https://$host$request_uri;" in plain
    )
    assert "listen 443 ssl default_server;" in secured and "return" not in secured
    assert "default_server" not in plain, "a request for an address gets the site"


def test_ranges_that_cannot_be_read_do_not_keep_a_certificate_away(place: Edge, origins: Path) -> None:
    place.publishes(b"<html>", 503)
    assert edge.refresh(lambda: [closed()]) is False, "so it is tried again soon"
    assert (origins / "www.example.org.pem").read_text() == PEM and place.reloads == 1
