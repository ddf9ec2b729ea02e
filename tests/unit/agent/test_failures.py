"""What the client does when machines and resolvers fail: targets that come last for a while, and answers that are stale."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import dns.rcode
import pytest

import rollcall.resolve
from rollcall.errors import FatalError, TransientError
from rollcall.resolve import Client, Incarnation
from tests.unit.agent.nameserver import SERVICE, ZONE, Clock, Served, Zone, serving
from tests.unit.agent.test_resolve import answered, listening, refusing, rrset
from tests.unit.agent.test_resolvers import Network, found, hosts

V1 = f"v1.{SERVICE}"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    rollcall.resolve._failures.known.clear()
    yield
    rollcall.resolve._failures.known.clear()


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as made:
        made.zone.service("v1")
        yield made


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets so many seconds go by for what the process remembers of targets."""
    monotonic, passed = time.monotonic, [0.0]
    monkeypatch.setattr("rollcall.resolve.time.monotonic", lambda: monotonic() + passed[0])

    def let(seconds: float) -> None:
        passed[0] += seconds

    return let


class Hole:
    """A port that takes no connection and refuses none, as a machine that has crashed does; until `opens`."""

    def __init__(self) -> None:
        self.made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.made.bind(("127.0.0.1", 0))
        self.made.listen(0)
        self.port: int = self.made.getsockname()[1]
        self.fill = []
        for _ in range(8):
            each = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", self.port))
            self.fill.append(each)
        self.ended = threading.Event()
        self.accepts = threading.Thread(target=self._accept, daemon=True)

    def opens(self) -> None:
        self.made.settimeout(0.1)
        self.made.listen(500)
        self.accepts.start()

    def _accept(self) -> None:
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                self.made.accept()[0].close()

    def close(self) -> None:
        self.ended.set()
        if self.accepts.is_alive():
            self.accepts.join(5)
        for each in (self.made, *self.fill):
            each.close()


@pytest.fixture
def hole() -> Iterator[Hole]:
    made = Hole()
    yield made
    made.close()


def seconds(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def first(client: Client) -> int:
    with found(client).connect(5) as connection:
        return int(connection.getpeername()[1])


class TestTargetsThatFailed:
    def test_one_that_did_not_accept_comes_last_behind_a_lower_priority(self, server: Served, hole: Hole) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            client = Client(server.address)
            assert [each.port for each in found(client).order()] == [hole.port, port]
            found(client).connect(0.5).close()
            assert [each.port for each in found(client).order()] == [port, hole.port]
            assert seconds(lambda: found(client).connect(5).close()) < 0.5

    def test_all_clients_of_the_process_share_that(self, server: Served, hole: Hole) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            found(Client(server.address)).connect(0.5).close()
            assert seconds(lambda: found(Client(server.address)).connect(5).close()) < 0.5

    def test_one_that_refuses_is_remembered_too(self, server: Served) -> None:
        with listening() as port, refusing() as closed:
            server.zone.live("v1", f"1 9 {closed} a1", f"2 1 {port} a2")
            client = Client(server.address)
            found(client).connect(5).close()
            assert [each.port for each in found(client).order()] == [port, closed]

    def test_one_without_an_address_is_remembered_by_the_client(self, server: Served) -> None:
        with listening() as port:
            server.zone.live("v1", "1 9 4218 a1", f"2 1 {port} a2")
            server.zone.drop(f"a1.rc.{ZONE}", "A")
            client = Client(server.address)
            found(client).connect(5).close()
            assert [each.port for each in found(client).order()] == [port, 4218]
            other = Client(server.address)
            assert [each.port for each in found(other).order()] == [4218, port], "it may have other resolvers"

    def test_those_that_did_accept_keep_their_weights(self, server: Served, hole: Hole) -> None:
        with listening() as one, listening() as two:
            server.zone.live("v1", f"1 100 {hole.port} a1", f"1 30 {one} a2", f"1 10 {two} a3")
            client = Client(server.address, dice=random.Random(3))  # noqa: S311
            failed = next(each for each in found(client).targets if each.port == hole.port)
            rollcall.resolve._failures.add(failed, was_brief=False)
            drawn = Counter(first(client) for _ in range(400))
        # 30.5 of 41 numbers; four standard deviations are 35.
        assert set(drawn) == {one, two} and 262 <= drawn[one] <= 333

    def test_after_a_while_one_call_tries_it_for_a_moment_and_the_others_do_not(
        self, server: Served, hole: Hole, later: Callable[[float], None]
    ) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            client = Client(server.address)
            found(client).connect(0.5).close()
            later(10.1)
            assert 0.4 < seconds(lambda: found(client).connect(5).close()) < 1
            assert seconds(lambda: found(client).connect(5).close()) < 0.4

    def test_one_that_accepts_again_is_as_before(
        self, server: Served, hole: Hole, later: Callable[[float], None]
    ) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            client = Client(server.address)
            found(client).connect(0.5).close()
            hole.opens()
            assert first(client) == port
            later(10.1)
            assert first(client) == hole.port
            assert first(client) == hole.port
            assert rollcall.resolve._failures.known == {}

    def test_where_all_have_failed_each_is_tried_and_the_call_is_short(self, server: Served) -> None:
        with contextlib.ExitStack() as kept:
            holes = [kept.enter_context(contextlib.closing(Hole())) for _ in range(4)]
            server.zone.live("v1", *(f"1 1 {each.port} a{at}" for at, each in enumerate(holes)))
            client = Client(server.address)
            with pytest.raises(TransientError, match="no-machine-accepts"):
                found(client).connect(0.3)

            def again() -> None:
                with pytest.raises(TransientError) as raised:
                    found(client).connect(5)
                assert all(f":{each.port}" in str(raised.value) for each in holes)

            assert seconds(again) < 1
            holes[2].opens()
            for _ in range(3):
                with contextlib.suppress(TransientError):
                    assert first(client) == holes[2].port
                    return
            pytest.fail("those that were not tried for longest are tried first")

    def test_a_slow_one_is_given_all_the_time_from_time_to_time(
        self, server: Served, hole: Hole, later: Callable[[float], None]
    ) -> None:
        """It takes longer to accept than a moment; it must not be lost for ever by that."""
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            client = Client(server.address)
            found(client).connect(0.3).close()
            for _ in range(28):
                later(10.1)
                rollcall.resolve._failures.add(found(client).targets[0], was_brief=True)
            later(20)
            assert seconds(lambda: found(client).connect(1.5).close()) > 1.4

    def test_a_waiting_call_skips_a_target_that_another_call_found_dead(self, server: Served, hole: Hole) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 9 {hole.port} a1", f"2 1 {port} a2")
            client = Client(server.address)
            took: list[float] = []
            patient = threading.Thread(target=lambda: took.append(seconds(lambda: found(client).connect(20).close())))
            patient.start()
            time.sleep(0.3)
            found(client).connect(0.5).close()
            patient.join(6)
            assert took and took[0] < 1.8

    def test_the_last_that_is_left_is_waited_for_whatever_others_found(self, server: Served, hole: Hole) -> None:
        server.zone.live("v1", f"1 9 {hole.port} a1")
        client = Client(server.address)
        opened = threading.Timer(0.8, hole.opens)
        opened.start()
        took: list[int] = []
        patient = threading.Thread(target=lambda: took.append(first(client)))
        patient.start()
        time.sleep(0.1)
        with pytest.raises(TransientError):
            found(client).connect(0.2)
        patient.join(6)
        assert took == [hole.port]

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL])
    def test_what_is_our_own_fault_is_not_put_on_the_target(
        self, server: Served, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def opened(*_: object) -> socket.socket:
            raise OSError(code, os.strerror(code))

        server.zone.live("v1", "1 1 4218 a1")
        monkeypatch.setattr("rollcall.resolve._opened", opened)
        with pytest.raises(TransientError, match=os.strerror(code)):
            found(Client(server.address)).connect(1)
        assert rollcall.resolve._failures.known == {}

    def test_the_connection_has_the_callers_timeout(self, server: Served) -> None:
        with listening() as port:
            server.zone.live("v1", f"1 1 {port} a1")
            for _ in range(2):
                with found(Client(server.address)).connect(3.5) as connection:
                    assert connection.gettimeout() == 3.5
                failed = found(Client(server.address)).targets[0]
                rollcall.resolve._failures.add(failed, was_brief=False)

    def test_it_does_not_grow_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("rollcall.resolve._LARGEST", 20)
        for at in range(100):
            rollcall.resolve._failures.add(rollcall.resolve.Target(1, 1, at, "a"), was_brief=False)
            assert len(rollcall.resolve._failures.known) <= 20

    def test_no_call_takes_a_second_once_the_failure_is_known(
        self, server: Served, hole: Hole, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Eight threads; a machine crashes, is found to have, and comes back."""
        monkeypatch.setattr("rollcall.resolve._AVOIDED_S", 1.0)
        with contextlib.closing(Hole()) as one, contextlib.closing(Hole()) as two:
            one.opens()
            two.opens()
            server.zone.live("v1", f"1 1 {hole.port} a1", f"1 1 {one.port} a2", f"1 1 {two.port} a3")
            ended, calls = threading.Event(), list[tuple[float, float, int]]()

            def work() -> None:
                client = Client(server.address)
                while not ended.wait(0.01):
                    began = time.monotonic()
                    with found(client).connect(2) as connection:
                        calls.append((began, time.monotonic(), int(connection.getpeername()[1])))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for each in threads:
                each.start()
            time.sleep(5)
            hole.opens()
            time.sleep(2.5)
            ended.set()
            for each in threads:
                each.join(10)
        known = min(end for began, end, _ in calls if end - began > 1.9)
        late = [end - max(began, known) for began, end, _ in calls if end > known]
        assert len(late) > 800 and max(late) < 1, max(late)
        assert Counter(port for _, _, port in calls)[hole.port] > 20, "it is used again"


class TestStale:
    def test_where_no_resolver_answers_what_was_known_is_served_and_reported(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        client = Client("192.0.2.1", exchange=network, clock=clock)
        assert not found(client).stale
        network.alive.clear()
        clock.now += 42
        with caplog.at_level(logging.WARNING, "rollcall.resolve"):
            incarnation = found(client)
            assert hosts(incarnation) == ["a1"] and incarnation.stale
        (message,) = caplog.messages
        assert message.startswith(
            f'serving a stale answer name={V1.lower()} type=SRV expired_s=12 limit_s=3600 error="reason=no-resolver-answers'
        )

    def test_it_ends(self) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        client = Client("192.0.2.1", exchange=network, clock=clock, stale=60)
        found(client)
        network.alive.clear()
        for _ in range(8):
            clock.now += 11
            assert hosts(found(client)) == ["a1"]
        clock.now += 3
        with pytest.raises(TransientError, match="no-resolver-answers"):
            found(client)

    def test_it_can_be_switched_off(self) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        client = Client("192.0.2.1", exchange=network, clock=clock, stale=0)
        found(client)
        network.alive.clear()
        clock.now += 31
        with pytest.raises(TransientError, match="no-resolver-answers"):
            found(client)

    @pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
    def test_a_resolver_that_fails_is_one_that_does_not_answer(self, rcode: dns.rcode.Rcode) -> None:
        network, clock, failing = Network("192.0.2.1"), Clock(), list[bool]()

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            wire = network(server, query, timeout, over_tcp)
            return wire if not failing else query[:2] + bytes((0x80, rcode)) + bytes(8)

        client = Client("192.0.2.1", exchange=exchange, clock=clock)
        found(client)
        failing.append(True)
        clock.now += 31
        assert found(client).stale

    def test_one_that_says_that_it_is_gone_is_believed(self, server: Served) -> None:
        clock = Clock()
        server.zone.live("v1", "1 1 4218 a1")
        client = Client(server.address, timeout=30, clock=clock)
        found(client)
        server.zone.drop(V1, "SRV")
        clock.now += 31
        with pytest.raises(TransientError, match="no-live-machine"):
            found(client)

    def test_what_was_not_there_is_not_served_stale(self) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        client = Client("192.0.2.1", exchange=network, clock=clock)
        with pytest.raises(FatalError, match="no-such-service"):
            client.discover("other", ZONE, "v1")
        network.alive.clear()
        clock.now += 31
        with pytest.raises(TransientError, match="no-resolver-answers"):
            client.discover("other", ZONE, "v1")

    def test_what_is_there_again_is_fresh_within_seconds(self) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        client = Client("192.0.2.1", exchange=network, clock=clock)
        found(client)
        network.alive.clear()
        clock.now += 31
        assert found(client).stale
        network.alive.add("192.0.2.1")
        clock.now += 5.1
        assert not found(client).stale

    def test_while_none_says_anything_they_are_asked_once_in_five_seconds_and_for_a_moment(self) -> None:
        network, clock = Network("192.0.2.1", "192.0.2.2"), Clock()
        waits: list[float] = []

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            waits.append(timeout)
            return network(server, query, timeout, over_tcp)

        client = Client(["192.0.2.1", "192.0.2.2"], exchange=exchange, clock=clock, timeout=3)
        found(client)
        client.addresses(f"a1.rc.{ZONE}")
        network.alive.clear()
        clock.now += 31
        waits.clear()
        found(client)
        assert waits == [1, 1, 3, 3]
        assert [each.address for each in client.ask(f"a1.rc.{ZONE}", "A")] == ["127.0.0.1"]
        found(client)
        assert len(waits) == 4, "and not for another name either"
        clock.now += 5.1
        found(client)
        assert waits[4:] == [0.5, 0.5]
        client.ask(f"a1.rc.{ZONE}", "A")
        assert len(waits) == 6

    def test_while_one_call_asks_the_others_are_served(self) -> None:
        network, clock = Network("192.0.2.1"), Clock()
        asking, go = threading.Event(), threading.Event()

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            if threading.current_thread().name == "asking":
                asking.set()
                go.wait(20)
            return network(server, query, timeout, over_tcp)

        client = Client("192.0.2.1", exchange=exchange, clock=clock)
        found(client)
        network.alive.clear()
        clock.now += 31
        found(client)
        clock.now += 5.1
        thread = threading.Thread(target=found, args=(client,), name="asking")
        thread.start()
        assert asking.wait(10)
        before = len(network.queries)
        assert found(client).stale and len(network.queries) == before
        go.set()
        thread.join(10)

    def test_a_shard_alone_makes_it_stale(self) -> None:
        zone, network, clock = Zone(), Network("192.0.2.1"), Clock()
        zone.service("v1-1", "v1-2", ttl=3000)
        zone.live("v1-1", "10 10 4218 a1", ttl=3000)
        zone.live("v1-2", "10 10 4218 a2")
        network.authority._sources = (zone,)
        client = Client("192.0.2.1", exchange=network, clock=clock)
        assert hosts(found(client)) == ["a1", "a2"]
        network.alive.clear()
        clock.now += 31
        with pytest.raises(TransientError):
            found(client)
        incarnation = client.discover("theService", ZONE)
        assert hosts(incarnation) == ["a1", "a2"] and incarnation.stale

    def test_a_connection_is_made_with_stale_addresses(self) -> None:
        with listening() as port:
            reply = answered(V1, "SRV", f"{V1}. 30 IN SRV 1 1 {port} a1.rc.{ZONE}.")
            reply.additional.append(rrset(f"a1.rc.{ZONE}. 30 IN A 127.0.0.1"))
            wire, clock, silent = reply.to_wire(), Clock(), list[bool]()

            def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
                if silent:
                    raise TimeoutError
                return query[:2] + wire[2:]

            client = Client("192.0.2.1", exchange=exchange, clock=clock)
            found(client)
            silent.append(True)
            clock.now += 31
            incarnation: Incarnation = found(client)
            assert incarnation.stale
            incarnation.connect(5).close()
