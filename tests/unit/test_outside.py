"""tests.outside: a test cannot reach anything but this machine, and fails if it tries."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests import outside

ELSEWHERE = ("192.0.2.1", 9)


def datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x", ELSEWHERE)


def over_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
        made.connect(("2001:db8::1", 9))


WAYS: dict[str, Callable[[], object]] = {
    "a connection": lambda: socket.create_connection(ELSEWHERE, timeout=0.1),
    "a connection over IPv6": over_ipv6,
    "a datagram": datagram,
    "a name": lambda: socket.getaddrinfo("sts.amazonaws.com", 443),
    "instance metadata": lambda: socket.create_connection(("169.254.169.254", 80), timeout=0.1),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_refused_and_remembered(way: str) -> None:
    with pytest.raises(outside.OutsideError, match="Point the test at a local cloud"):
        WAYS[way]()
    assert outside.tried
    outside.tried.clear()


def test_this_machine_is_not_outside() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
        for host in ("localhost", "127.0.0.1", "::1", None, socket.gethostname()):
            with suppress(socket.gaierror):
                socket.getaddrinfo(host, 80)
    assert outside.tried == []


def test_a_test_fails_when_its_code_swallows_the_refusal(pytester: pytest.Pytester) -> None:
    root = str(Path(outside.__file__).parents[1])
    hook = f"import sys; sys.path.insert(0, {root!r})\nfrom tests.conftest import pytest_runtest_teardown"
    pytester.makeconftest(hook)
    pytester.makepyfile(
        """
        import socket
        def test_retries():
            try:
                socket.create_connection(("192.0.2.1", 9), timeout=0.1)
            except OSError:
                pass
        """
    )
    outcome = pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=1, errors=1)
    outcome.stdout.fnmatch_lines(["*tried to leave this machine: socket.connect '192.0.2.1'*"])
