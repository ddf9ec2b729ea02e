"""userdata/get_release.py behind a proxy: apt, systemd and downloads use it, and metadata does not. The proxy is a real one on loopback."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

import get_release
from components.resources import userdata
from rollcall.aws import AwsClient
from rollcall.sigv4 import Credentials

pytestmark = pytest.mark.clouds
PROXY = "http://proxy.example.net:3128"
ENVIRONMENT = (
    f"HTTP_PROXY={PROXY} HTTPS_PROXY={PROXY} http_proxy={PROXY} https_proxy={PROXY} "
    f"NO_PROXY={get_release.DIRECT} no_proxy={get_release.DIRECT}"
)


class Tunnel(BaseHTTPRequestHandler):
    """A proxy that knows CONNECT. Every name leads to the server of the test."""

    requests_seen: list[str]
    target: int

    def do_CONNECT(self) -> None:
        self.requests_seen.append(self.path)
        with socket.create_connection(("127.0.0.1", self.target), timeout=10) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(there, self.connection), daemon=True)
            back.start()
            _copy(self.connection, there)
            back.join(10)

    def log_message(self, *_: object) -> None:
        return


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


class Store(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"packed")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def requests_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that the proxy got. A server with a certificate for store.example.net is behind it."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=store.example.net"
    )
    words += f" -addext subjectAltName=DNS:store.example.net -keyout {key} -out {cert}"
    subprocess.run(words.split(), check=True, capture_output=True, timeout=60)
    store = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    store.socket = context.wrap_socket(store.socket, server_side=True)
    kind = type("Tunnel", (Tunnel,), {"requests_seen": [], "target": store.server_port})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    for each in (store, proxy):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.server_port}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, get_release.DIRECT)
    yield kind.requests_seen  # type: ignore[attr-defined]
    for each in (proxy, store):
        each.shutdown()
        each.server_close()


def test_a_release_comes_through_the_proxy(requests_seen: list[str], tmp_path: Path) -> None:
    with (tmp_path / "packed").open("w+b") as to:
        get_release.fetch("https://store.example.net", "/releases/a", {}, "a" * 64, to)
        to.seek(0)
        assert to.read() == b"packed"
    assert requests_seen == ["store.example.net:443"]


def test_the_agent_asks_apis_through_the_proxy(requests_seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rollcall.aws._trusted", lambda: True)

    class Fixed:
        def current(self) -> Credentials:
            return Credentials("AKIA", "secret")

        def renew(self) -> bool:
            return False

    client = AwsClient("ssm", "us-west-2", Fixed(), "https://store.example.net")
    assert client.call("POST", "/", body=b"{}") == b"packed"
    client.close()
    assert requests_seen == ["store.example.net:443"]


def test_metadata_and_the_machine_itself_are_asked_directly(requests_seen: list[str]) -> None:
    assert [get_release.proxy_of(each) for each in ("169.254.169.254", "localhost", "127.0.0.1", "fd00:ec2::254")] == [
        ""
    ] * 4
    assert get_release.proxy_of("store.example.net") != ""
    assert requests.utils.get_environ_proxies("http://169.254.169.254/latest/meta-data/") == {}


class Machine:
    """A Triton machine with settings, as its boot script finds it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "root"
        self.apt = self.root / "etc/apt"
        (self.apt / "sources.list.d").mkdir(parents=True)
        (self.apt / "sources.list.d/debian.sources").write_text("the image's own\n")
        (self.root / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n')
        (self.root / "var/lib/rollcall").mkdir(parents=True)
        (self.root / "var/lib/rollcall/updated").touch()
        (folder / "bin").mkdir()
        (folder / "settings").mkdir()
        tool = folder / "bin/mdata-get"
        tool.write_text(
            f'#!/bin/sh\ncat "{folder}/settings/$1" 2>/dev/null || {{ echo "No metadata for $1" >&2; exit 1; }}\n'
        )
        tool.chmod(0o755)
        (folder / "script").write_text(userdata.build())

    def boot(self, **settings: str) -> str:
        for each in (self.folder / "settings").iterdir():
            each.unlink()
        for name, value in settings.items():
            (self.folder / f"settings/rollcall-{name.replace('_', '-')}").write_text(f"{value}\n")
        done = subprocess.run(
            [
                sys.executable,
                str(userdata.HOME / "get_release.py"),
                "first",
                str(self.folder / "script"),
                str(self.root),
            ],
            env={"PATH": f"{self.folder}/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.strip()

    def files(self) -> set[str]:
        return {str(each.relative_to(self.root)) for each in self.root.rglob("*") if each.is_file()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_proxy_of_the_settings_is_in_apt_and_in_the_environment_of_all_units(machine: Machine) -> None:
    before = machine.files()
    assert machine.boot(proxy=PROXY) == ENVIRONMENT
    assert (machine.apt / "apt.conf.d/98rollcall-proxy").read_text() == (
        f'Acquire::http::Proxy "{PROXY}";\nAcquire::https::Proxy "{PROXY}";\n'
    )
    conf = machine.root / "etc/systemd/system.conf.d/rollcall-proxy.conf"
    assert conf.read_text() == f"[Manager]\nDefaultEnvironment={ENVIRONMENT}\n"
    assert machine.boot() == ""
    assert machine.files() == before


def test_packages_come_from_the_mirror_and_the_images_sources_come_back_without_it(machine: Machine) -> None:
    before = machine.files()
    assert machine.boot(apt_mirror="https://mirror.example.net/debian") == ""
    text = (machine.apt / "sources.list.d/rollcall.sources").read_text()
    assert "URIs: https://mirror.example.net/debian\nSuites: bookworm bookworm-updates\nComponents: main\n" in text
    assert "URIs: https://mirror.example.net/debian-security\nSuites: bookworm-security\n" in text
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 2
    assert (machine.apt / "sources.list.d/debian.sources.rollcall-off").read_text() == "the image's own\n"
    assert not (machine.root / "var/lib/rollcall/updated").exists(), "its lists are read from there at this boot"
    (machine.root / "var/lib/rollcall/updated").touch()
    machine.boot(apt_mirror="https://mirror.example.net/debian")
    assert (machine.root / "var/lib/rollcall/updated").exists(), "nothing has changed"
    machine.boot()
    assert machine.files() == before


def test_ubuntu_has_one_archive(machine: Machine) -> None:
    (machine.root / "etc/os-release").write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    machine.boot(apt_mirror="https://mirror.example.net/ubuntu")
    text = (machine.apt / "sources.list.d/rollcall.sources").read_text()
    assert text.count("URIs: https://mirror.example.net/ubuntu\n") == 2
    assert "Suites: noble-security\nComponents: main universe\n" in text
