"""components.joyent.engine: a wait ends with the engine that asked for it, and a line never fails a deployment."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from components.joyent.engine import Engine, EngineGoneError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


class Clock:
    """A clock that only sleeps move."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("components.joyent.engine.time", made)
    return made


def at(listener: socket.socket) -> Engine:
    return Engine(f"127.0.0.1:{listener.getsockname()[1]}")


def test_a_sleep_goes_on_while_the_engine_answers(listener: socket.socket, clock: Clock) -> None:
    at(listener).sleep(10)
    assert clock.now == 10


def test_a_sleep_ends_within_five_seconds_of_the_engine(listener: socket.socket, clock: Clock) -> None:
    engine = at(listener)
    listener.close()
    with pytest.raises(EngineGoneError, match="is gone, so the provider stopped waiting"):
        engine.sleep(3600)
    assert clock.now <= 5


def test_a_line_that_the_engine_does_not_take_is_not_an_error(listener: socket.socket) -> None:
    engine = at(listener)
    listener.close()
    engine.say("web: waiting")


@pytest.mark.parametrize("argument", ["", "--version", "example.org:1234", "127.0.0.1"])
def test_outside_of_a_provider_host_lines_go_to_stderr_and_waits_are_plain(
    argument: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    Engine(argument).say("web: waiting", warning=True)
    Engine(argument).sleep(7)
    assert capsys.readouterr().err == "web: waiting\n" and clock.now == 7
