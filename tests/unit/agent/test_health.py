"""rollcall.health: what each check takes for healthy, on real sockets and programs, and how many checks it takes."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.network.http import listen
from rollcall import edge, health
from rollcall.errors import FatalError
from rollcall.health import Health, check_of
from tests.unit.agent.fakes import Scripted


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted(lambda method, path, headers: (int(path.strip("/") or 200), {}, b""))
    yield made
    made.stop()


@pytest.fixture
def closed() -> int:
    """A port without a listener."""
    with listen("127.0.0.1") as taken:
        return int(taken.getsockname()[1])


class TestHttp:
    @pytest.mark.parametrize(
        ("status", "good"),
        [(200, True), (204, True), (301, True), (399, True), (400, False), (404, False), (503, False)],
    )
    def test_2xx_and_3xx_are_healthy(self, server: Scripted, status: int, good: bool) -> None:
        check = f"http:{server.port}:/{status}"
        assert check_of(check)() == ("" if good else f"{check} status={status} said=''")

    def test_the_path_is_the_root_by_default(self, server: Scripted) -> None:
        assert check_of(f"http:{server.port}")() == check_of(f"http:{server.port}:")() == ""
        assert server.requests == ["GET /", "GET /"]

    def test_a_closed_port_is_unhealthy(self, closed: int) -> None:
        assert str(check_of(f"http:{closed}:/")()).startswith(f"http:{closed}:/ ConnectionRefusedError")
        assert check_of(f"http:{closed}:/\u00e4")(), "a path that HTTP cannot say is no reason to end"

    def test_what_speaks_no_http_is_unhealthy(self) -> None:
        with listen("127.0.0.1") as listener:
            speaker = threading.Thread(target=_say, args=(listener, b"220 smtp ready\r\n"))
            speaker.start()
            assert "BadStatusLine('220 smtp ready" in str(check_of(f"http:{listener.getsockname()[1]}:/")())
            speaker.join()

    def test_one_that_never_answers_is_unhealthy_after_the_time_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "TIMEOUT", 0.05)
        with listen("127.0.0.1") as listener:
            assert "timed out" in str(check_of(f"http:{listener.getsockname()[1]}:/")())


class TestTcp:
    def test_a_port_that_accepts_is_healthy(self) -> None:
        with listen("127.0.0.1") as listener:
            assert check_of(f"tcp:{listener.getsockname()[1]}")() == ""

    def test_a_closed_port_is_unhealthy(self, closed: int) -> None:
        assert "Connection refused" in str(check_of(f"tcp:{closed}")())


class TestTls:
    """A closed site is healthy when nginx answers for its host with the certificate that the agent has put there."""

    @pytest.fixture
    def port(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """A server that has certificates for two sites, and answers with the first one for any other name."""
        monkeypatch.setattr("rollcall.edge.ORIGINS", tmp_path)
        contexts = {
            host: self._context(tmp_path / f"{host}.pem", host) for host in ("www.example.org", "news.example.net")
        }
        contexts["www.example.org"].sni_callback = lambda connection, name, _: setattr(
            connection, "context", contexts.get(str(name), contexts["www.example.org"])
        )
        with listen("127.0.0.1") as door:
            threading.Thread(target=self._serve, args=(door, contexts["www.example.org"]), daemon=True).start()
            yield int(door.getsockname()[1])

    @staticmethod
    def _context(pem: Path, host: str) -> ssl.SSLContext:
        words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={host}"
        pem_text = subprocess.run([*words.split(), "-keyout", "-"], capture_output=True, text=True, check=True).stdout
        pem.write_text(pem_text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    @staticmethod
    def _serve(door: socket.socket, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            while True:
                called, _ = door.accept()
                with contextlib.suppress(OSError), context.wrap_socket(called, server_side=True) as secured:
                    secured.recv(1)

    def test_each_site_has_its_own_certificate(self, port: int) -> None:
        for host in ("www.example.org", "news.example.net"):
            assert check_of(f"tls:{port}:{host}")() == ""

    def test_the_certificate_of_another_site_is_unhealthy(self, port: int, tmp_path: Path) -> None:
        self._context(tmp_path / "shop.example.org.pem", "shop.example.org")
        check = f"tls:{port}:shop.example.org"
        assert check_of(check)() == f"{check} reason=another-certificate"

    @pytest.mark.parametrize(("seconds", "reason"), [(60, ""), (-1, "reason=certificate-expired")])
    def test_a_certificate_that_visitors_trust_must_not_have_expired(
        self, port: int, seconds: int, reason: str
    ) -> None:
        pem = edge.ORIGINS / "www.example.org.pem"
        pem.write_text(f"until={int(time.time()) + seconds}\n{pem.read_text()}")
        check = f"tls:{port}:www.example.org"
        assert check_of(check)() == (f"{check} {reason}" if reason else "")

    def test_a_site_without_a_certificate_yet_is_unhealthy(self, port: int) -> None:
        assert "FileNotFoundError" in str(check_of(f"tls:{port}:shop.example.org")())

    def test_a_closed_port_and_one_that_speaks_no_tls_are_unhealthy(
        self, closed: int, server: Scripted, port: int
    ) -> None:
        assert "ConnectionRefusedError" in str(check_of(f"tls:{closed}:www.example.org")())
        assert "SSLError" in str(check_of(f"tls:{server.port}:www.example.org")())


class TestCommand:
    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/bin/true", ""),
            ("/bin/false", "command:/bin/false status=1 said=''"),
            ("/no/such", "command:/no/such FileNotFoundError(2, 'No such file or directory')"),
        ],
    )
    def test_the_exit_code_says_it(self, path: str, message: str) -> None:
        assert check_of(f"command:{path}")() == message

    def test_the_first_bytes_of_what_it_prints_are_reported(self, tmp_path: Path) -> None:
        program = tmp_path / "check"
        program.write_text(f"#!/bin/sh\necho 'no database \033[2J' >&2; echo {'x' * 200}; exit 3\n")
        program.chmod(0o755)
        message = str(check_of(f"command:{program}")())
        assert (
            message.startswith(rf"command:{program} status=3 said='no database \x1b[2J\nxx") and message.count("x") < 90
        )

    def test_it_may_print_any_bytes(self, tmp_path: Path) -> None:
        program = tmp_path / "check"
        program.write_text("#!/bin/sh\nprintf 'Datenbank f\\303\\244llt aus \\377'; exit 3\n")
        program.chmod(0o755)
        assert check_of(f"command:{program}")() == f"command:{program} status=3 said='Datenbank fällt aus \ufffd'"

    def test_a_path_may_hold_a_colon_and_is_given_to_no_shell(self, tmp_path: Path) -> None:
        program = tmp_path / "a:b; exit 0"
        program.write_text("#!/bin/sh\nexit 3\n")
        program.chmod(0o755)
        assert "status=3" in str(check_of(f"command:{program}")())
        program.write_text("#!/bin/sh\nexit 0\n")
        assert check_of(f"command:{program}")() == ""

    def test_one_that_hangs_is_unhealthy_and_ended(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(health, "TIMEOUT", 0.03)
        program, pid = tmp_path / "hangs", tmp_path / "pid"
        program.write_text(f"#!/bin/sh\necho $$ >{pid}\nexec sleep 60\n")
        program.chmod(0o755)
        assert "TimeoutExpired" in str(check_of(f"command:{program}")())
        if pid.exists():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http",
        "http:",
        "http:0:/",
        "http:65536:/",
        "http:x:/",
        "http:-1",
        "tcp:",
        "tcp:99999",
        "tls:443",
        "tls:0:www.example.org",
        "command:relative",
        "udp:53",
    ],
)
def test_a_check_that_is_none_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(FatalError, match=r"unknown-check check="):
        check_of(text)


# name, rise, fall, what the check says, what each check answers
PROBES: list[tuple[str, int, int, str, str]] = [
    ("unhealthy at first", 1, 3, "0", "0"),
    ("one good check is enough", 1, 3, "01", "01"),
    ("two good checks are required", 2, 3, "11", "01"),
    ("good checks must be in a row", 2, 3, "1011", "0001"),
    ("two bad checks change nothing", 1, 3, "100", "111"),
    ("three do", 1, 3, "1000", "1110"),
    ("bad checks must be in a row", 1, 3, "10010010", "11111111"),
    ("back at the first good one", 1, 3, "100010", "111011"),
    ("after a fall the count begins again", 2, 2, "110011", "011001"),
]


@pytest.mark.parametrize(("rise", "fall", "says", "expected"), [r[1:] for r in PROBES], ids=[r[0] for r in PROBES])
def test_results_of_probes_make_it_healthy_or_unhealthy(rise: int, fall: int, says: str, expected: str) -> None:
    results = iter(says)
    watched = Health(lambda: "" if next(results) == "1" else "bad", rise, fall)
    assert "".join(str(int(watched.run_checks())) for _ in says) == expected


def _say(listener: socket.socket, text: bytes) -> None:
    client, _ = listener.accept()
    with client:
        client.recv(1000)
        client.sendall(text)
