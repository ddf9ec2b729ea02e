"""Whom the client asks, and how: a resolv.conf that changes, servers without EDNS, threads and forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from localcloud.dns.server import Authority, Listener, bound_pair
from rollcall.errors import FatalError, TransientError
from rollcall.resolve import Client, Incarnation
from tests.unit.agent.nameserver import SERVICE, ZONE, Clock, Served, Zone, serving

ROOT = Path(__file__).resolve().parents[3]
V1 = f"v1.{SERVICE}"


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as found:
        found.zone.service("v1")
        found.zone.live("v1", "10 10 4218 a1")
        yield found


def found(client: Client) -> Incarnation:
    return client.discover("theService", ZONE, "v1")


def hosts(incarnation: Incarnation) -> list[str]:
    return [each.host.partition(".")[0] for each in incarnation.targets]


class Network:
    """A network with a resolver at each address of `alive`; every query that was sent, by address."""

    def __init__(self, *alive: str) -> None:
        zone = Zone()
        zone.service("v1")
        zone.live("v1", "10 10 4218 a1")
        self.authority = Authority([zone], {"ns.example": "127.0.0.1"})
        self.alive, self.queries = {*alive}, list[str]()

    def __call__(self, server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
        self.queries.append(server[0])
        if server[0] not in self.alive:
            raise TimeoutError
        return self.authority.answer(query, over_tcp=over_tcp) or b""


class TestResolvConf:
    @pytest.fixture
    def conf(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "resolv.conf"
        path.write_text("nameserver 192.0.2.1\n")
        monkeypatch.setattr("rollcall.resolve._RESOLV_CONF", str(path))
        return path

    def test_a_newer_file_is_read_before_the_next_question(self, conf: Path) -> None:
        network, clock = Network("192.0.2.1", "192.0.2.2"), Clock()
        client = Client(exchange=network, clock=clock)
        found(client)
        conf.write_text("nameserver 192.0.2.2\n")
        clock.now += 31
        found(client)
        assert network.queries == ["192.0.2.1", "192.0.2.2"]

    def test_a_file_that_another_one_takes_the_place_of_is_newer(self, conf: Path, tmp_path: Path) -> None:
        """As resolvconf, NetworkManager and systemd-resolved write it: beside it and renamed, perhaps with an older time."""
        network, clock = Network("192.0.2.1", "192.0.2.2"), Clock()
        client = Client(exchange=network, clock=clock)
        found(client)
        made = tmp_path / "made"
        made.write_text("nameserver 192.0.2.2\n")
        os.utime(made, (1, 1))
        made.rename(conf)
        clock.now += 31
        found(client)
        assert network.queries[-1] == "192.0.2.2"

    def test_where_no_resolver_answers_it_is_read_again_whatever_its_time(
        self, conf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network = Network("192.0.2.2")
        client = Client(exchange=network)
        before = conf.stat()
        with conf.open("r+") as open_file:
            open_file.write("nameserver 192.0.2.2\n")
        os.utime(conf, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert hosts(found(client)) == ["a1"]
        assert network.queries == ["192.0.2.1", "192.0.2.1", "192.0.2.2"]

    def test_where_it_says_the_same_each_is_asked_twice_as_before(self, conf: Path) -> None:
        network = Network()
        with pytest.raises(TransientError, match="no-resolver-answers"):
            found(Client(exchange=network))
        assert network.queries == ["192.0.2.1", "192.0.2.1"]

    @pytest.mark.parametrize("text", ["", "# being written\n", None])
    def test_while_it_says_nothing_the_known_ones_are_asked(self, conf: Path, text: str | None) -> None:
        network, clock = Network("192.0.2.1", "192.0.2.2"), Clock()
        client = Client(exchange=network, clock=clock)
        if text is None:
            conf.unlink()
        else:
            conf.write_text(text)
        assert hosts(found(client)) == ["a1"]
        conf.write_text("nameserver 192.0.2.2\n")
        clock.now += 31
        found(client)
        assert network.queries == ["192.0.2.1", "192.0.2.2"]

    def test_without_one_from_the_start_there_is_no_resolver(self, conf: Path) -> None:
        conf.unlink()
        with pytest.raises(FatalError, match="reason=no-resolver file="):
            Client()

    def test_resolvers_that_were_named_stay(self, conf: Path) -> None:
        network = Network("192.0.2.1")
        client = Client("192.0.2.9", exchange=network)
        conf.write_text("nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
        with pytest.raises(TransientError, match="no-resolver-answers"):
            found(client)
        assert {*network.queries} == {"192.0.2.9"}


class Old(Authority):
    """A server from before EDNS. `says` is what it answers to an OPT record: a code, with the question or the header alone, or nothing."""

    says: int | None = dns.rcode.FORMERR
    keeps = 12

    def answer(self, wire: bytes, *, over_tcp: bool = False, client: str = "") -> bytes | None:
        if not wire[11]:
            self.plain += 1
            return super().answer(wire, over_tcp=over_tcp)
        self.with_edns += 1
        if self.says is None:
            return None
        # Old BIND sends the header's counts back as they came, whatever follows.
        counts = wire[4:12] if self.keeps > 12 else bytes(8)
        return wire[:2] + bytes((0x80, self.says)) + counts + wire[12 : self.keeps]

    plain = with_edns = 0


class TestWithoutEdns:
    @pytest.fixture
    def old(self) -> Iterator[tuple[Old, Zone, str]]:
        zone = Zone()
        zone.service("v1")
        zone.live("v1", "10 10 4218 a1")
        authority = Old([zone], {"ns.example": "127.0.0.1"})
        udp, tcp = bound_pair("127.0.0.1")
        listener = Listener(authority, [udp], [tcp])
        listener.start()
        yield authority, zone, f"127.0.0.1:{udp.getsockname()[1]}"
        listener.stop()

    @pytest.mark.parametrize("says", [dns.rcode.FORMERR, dns.rcode.NOTIMP])
    @pytest.mark.parametrize("keeps", [12, 100])
    def test_one_that_refuses_it_is_asked_without(self, old: tuple[Old, Zone, str], says: int, keeps: int) -> None:
        authority, _, address = old
        authority.says, authority.keeps = says, keeps
        client = Client(address, timeout=30)
        assert hosts(found(client)) == ["a1"]
        assert client.addresses(f"a1.rc.{ZONE}") == ("127.0.0.1",)
        assert authority.with_edns == 1, "asked with it once"

    def test_one_that_says_nothing_to_it_is_asked_without(self, old: tuple[Old, Zone, str]) -> None:
        authority, _, address = old
        authority.says = None
        clock = Clock()
        client = Client(address, timeout=1.5, clock=clock)
        assert hosts(found(client)) == ["a1"]
        assert client.addresses(f"a1.rc.{ZONE}") == ("127.0.0.1",)
        assert (authority.with_edns, authority.plain) == (1, 3)
        clock.now += 301
        found(client)
        assert authority.with_edns == 2, "it may have been a lost datagram"

    def test_all_of_a_large_set_comes_over_tcp(self, old: tuple[Old, Zone, str]) -> None:
        _, zone, address = old
        zone.live("v1", *(f"10 10 4218 {at:06x}" for at in range(60)))
        assert len(found(Client(address, timeout=30)).targets) == 60

    def test_a_lost_datagram_does_not_cost_what_only_edns_brings(self) -> None:
        """TCP is closed on the way. The first datagram is lost, so it is asked without EDNS, which is too short."""
        network = Network("192.0.2.1")
        network.authority = Authority([_many()], {"ns.example": "127.0.0.1"})
        queries: list[bytes] = []

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            queries.append(query)
            if over_tcp or len(queries) == 1:
                raise TimeoutError
            return network(server, query, timeout, over_tcp)

        client = Client("192.0.2.1", exchange=exchange)
        with pytest.raises(TransientError):
            found(client)
        assert len(found(client).targets) == 15

    def test_one_that_refuses_every_query_is_asked_no_more_than_needed(self) -> None:
        queries: list[bytes] = []

        def exchange(server: tuple[str, int], query: bytes, timeout: float, over_tcp: bool) -> bytes:
            queries.append(query)
            return query[:2] + b"\x80\x01" + bytes(8)

        with pytest.raises(TransientError, match="FORMERR"):
            found(Client("192.0.2.1", exchange=exchange))
        assert [each[11] for each in queries] == [1, 0, 1, 0]


def _many() -> Zone:
    zone = Zone()
    zone.service("v1")
    zone.live("v1", *(f"10 10 4218 {at:x}" for at in range(15)))
    return zone


# A thread keeps the cache's lock at the moment of the fork; in the child no thread would release it.
FORK = """
import os, sys, threading
sys.path[:0] = ["userdata"]
import rollcall.resolve as resolve
resolve._LARGEST = 0
started, go = threading.Event(), threading.Event()
def clock():
    if threading.current_thread().name == "holder" and clock.calls:
        started.set()
        go.wait(30)
    clock.calls += 1
    return 1.0
clock.calls = 0
client = resolve.Client(sys.argv[1], clock=clock, timeout=5)
thread = threading.Thread(target=lambda: client.ask("a1.rc.unilans.net", "A"), name="holder")
thread.start()
assert started.wait(20)
child = os.fork()
if child == 0:
    import signal
    signal.alarm(10)
    found = client.discover("theService", "unilans.net", "v1")
    print("child:", *(each.host for each in found.targets), flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
go.set()
thread.join(20)
print("parent:", *(each.host for each in client.discover("theService", "unilans.net", "v1").targets))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def test_a_forked_process_finds_whatever_other_threads_were_doing(server: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, server.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [f"child: a1.rc.{ZONE}", f"parent: a1.rc.{ZONE}"], done.stderr


def test_threads_share_a_client_while_its_resolvers_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    monkeypatch.setattr("rollcall.resolve._RESOLV_CONF", str(path))
    network = Network("192.0.2.1", "192.0.2.2", "192.0.2.3")
    network.authority = Authority([_always_queried()], {"ns.example": "127.0.0.1"})
    client, failed = Client(exchange=network), []

    def work() -> None:
        for _ in range(100):
            try:
                assert hosts(found(client)) == ["a1"]
            except Exception as wrong:  # noqa: BLE001 - a thread's would be lost
                failed.append(wrong)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for at in range(20):
        made = tmp_path / "made"
        made.write_text(f"nameserver 192.0.2.{at % 3 + 1}\nnameserver 192.0.2.{(at + 1) % 3 + 1}\n")
        made.rename(path)
    for each in threads:
        each.join(60)
    assert failed == []
    # Of two that ask in the same instant one may take the other's answer, with a TTL of 0.
    assert 750 < len(network.queries) <= 800


def _always_queried() -> Zone:
    zone = Zone()
    zone.service("v1")
    zone.live("v1", "10 10 4218 a1", ttl=0)
    return zone
