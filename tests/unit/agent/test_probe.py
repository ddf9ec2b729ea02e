"""rollcall.probe: who knows the site's token answers, nobody else learns anything, and no reply is longer than its question."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rollcall import probe
from rollcall.agent import Agent, health_of
from rollcall.clouds import File
from rollcall.settings import CloudflareJoin

TOKEN = "t" * 40


class Machine:
    """One that answers on a port of loopback, and what came to it and went from it."""

    def __init__(self) -> None:
        self.token = TOKEN
        self.door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.door.bind(("127.0.0.1", 0))
        self.port: int = self.door.getsockname()[1]
        self._thread = threading.Thread(target=probe.serve, args=(lambda: self.token, self.door), daemon=True)
        self._thread.start()

    def answers(self, token: str = TOKEN) -> bool:
        return probe.answers("127.0.0.1", token, self.port, within=0.3)

    def says(self, datagram: bytes) -> bytes:
        """What it replies to these bytes; nothing at all is b""."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(0.3)
            line.sendto(datagram, ("127.0.0.1", self.port))
            try:
                return line.recv(1000)
            except TimeoutError:
                return b""

    def stop(self) -> None:
        self.door.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.sendto(b"", ("127.0.0.1", self.port))


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.stop()


def question(token: str = TOKEN, nonce: bytes = bytes(16)) -> bytes:
    return nonce + probe._mac(token, b"?", nonce)


def test_one_that_knows_the_token_answers_every_time(machine: Machine) -> None:
    assert [machine.answers() for _ in range(3)] == [True] * 3


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_door_for_both_families_answers_by_either(host: str) -> None:
    """As `run` opens it with IPv6."""
    with socket.socket(probe.family_of("::"), socket.SOCK_DGRAM) as door:
        door.bind(("", 0))
        threading.Thread(target=probe.serve, args=(lambda: TOKEN, door), daemon=True).start()
        assert probe.answers(host, TOKEN, door.getsockname()[1])
        assert not probe.answers(host, "another token", door.getsockname()[1], within=0.3)


def test_a_reply_is_shorter_than_its_question_and_another_for_each_nonce(machine: Machine) -> None:
    first, second = machine.says(question()), machine.says(question(nonce=b"n" * 16))
    assert 0 < len(first) == len(second) < len(question()) and first != second
    assert TOKEN.encode() not in first + question()


def test_what_was_recorded_gives_nothing_but_its_own_reply_again(machine: Machine) -> None:
    assert machine.says(question()) == machine.says(question())
    # A reply sent back as a question, and a question with another nonce under its signature.
    reply = machine.says(question())
    assert machine.says(bytes(16) + reply) == b""
    assert machine.says(b"n" * 16 + question()[16:]) == b""


@pytest.mark.parametrize(
    "datagram",
    [b"", b"?", bytes(16), question()[:-1], question() + b"x", question("o" * 40), bytes(48), bytes(1000)],
    ids=["empty", "a byte", "no signature", "short", "long", "another token", "zeros", "large"],
)
def test_nothing_is_said_to(machine: Machine, datagram: bytes) -> None:
    assert machine.says(datagram) == b""
    assert machine.answers(), "and it goes on"


def test_a_machine_without_a_token_yet_says_nothing(machine: Machine) -> None:
    machine.token = ""
    assert machine.says(question("")) == b"" and not machine.answers("")


def test_a_token_that_was_rotated_counts_at_once(machine: Machine) -> None:
    machine.token = "n" * 40
    assert not machine.answers() and machine.answers("n" * 40)


def test_nobody_there_is_silence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
        assert not probe.answers("127.0.0.1", TOKEN, port, within=0.1), "bound, and says nothing"
    assert not probe.answers("127.0.0.1", TOKEN, port, within=0.1), "refused"


def test_a_reply_that_is_forged_counts_for_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))

        def forge() -> None:
            asked, who = door.recvfrom(100)
            door.sendto(asked[16:], who)

        thread = threading.Thread(target=forge)
        thread.start()
        assert not probe.answers("127.0.0.1", TOKEN, door.getsockname()[1], within=0.5)
        thread.join()


@pytest.mark.parametrize("closed", [True, False])
def test_a_watcher_asks_by_datagram_where_the_ports_take_the_edge_only(
    closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(probe, "answers", lambda *given: asked.append(("datagram", *given)))
    monkeypatch.setattr("rollcall.agent.reachable", lambda key, _: asked.append(("connection", key)))
    agent = Agent(File(Path("/nowhere")))
    monkeypatch.setattr(agent.cloud, "secret", lambda name: {"site-token": TOKEN}[name])
    told = CloudflareJoin(zone="z", host="www.a.b", token="site-token", closed=closed)
    agent._reach("198.51.100.7", told)
    assert asked == ([("datagram", "198.51.100.7", TOKEN)] if closed else [("connection", "198.51.100.7")])


def test_with_tls_to_the_edge_a_machine_is_healthy_when_it_answers_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    up = {"http:80:/"}
    monkeypatch.setattr("rollcall.agent.check_of", lambda text: lambda: "" if text in up else f"{text} is down")
    told = CloudflareJoin(zone="z", host="www.a.b", token="t", origin="pem")
    plain = CloudflareJoin(zone="z", host="www.a.b", token="t")
    assert health_of(plain).look() and not health_of(told).look()
    up.add("tcp:443")
    assert health_of(told).look()
    up.remove("http:80:/")
    watched = health_of(told)
    assert not watched.look() and watched.why == "http:80:/ is down"
