"""Measure what the client costs: find a service's machines and choose one, beside dnspython's bare query for the same SRV set.

    make bench-client           # ROUNDS, MACHINES

The name server is another process on loopback and answers both sides from the same records. "first" is a client that
has asked nothing yet, "cached" the same question again within the TTL. The answer for 30 machines does not fit a
datagram: both ask again over TCP.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "userdata")]

import dns.resolver  # noqa: E402

from bench.rows import Row, in_turn, median_ratio, report  # noqa: E402
from localcloud.dns.server import Authority, Listener, bound_pair  # noqa: E402
from localcloud.network.faults import Faults  # noqa: E402
from rollcall.resolve import Client  # noqa: E402
from tests.unit.agent.nameserver import SERVICE, ZONE, Zone  # noqa: E402

ROUNDS = int(os.environ.get("ROUNDS", "40"))
MACHINES = tuple(int(each) for each in os.environ.get("MACHINES", "3,30").split(","))
CALLS = 25


class Recalling(Authority):
    """Repeats an answer that it gave before without a change.

    Otherwise the time that the server takes to make it would count on both sides and hide the difference.
    """

    known: dict[tuple[bytes, bool], bytes]

    def answer(self, wire: bytes, *, over_tcp: bool = False) -> bytes | None:
        query = (wire[2:], over_tcp)
        if query not in self.known:
            self.known[query] = (super().answer(wire, over_tcp=over_tcp) or b"")[2:]
        return wire[:2] + self.known[query]


def serve(machines: int, connection: Connection) -> None:
    """Run the name server, until it is ended."""
    zone = Zone()
    zone.service("v1")
    zone.live("v1", *(f"10 10 4218 {index:06x}" for index in range(machines)), address="198.51.100.10")
    authority = Recalling([zone], {"ns.example": "127.0.0.1"}, Faults())
    authority.known = {}
    udp, tcp = bound_pair("127.0.0.1")
    Listener(authority, [udp], [tcp]).start()
    connection.send(udp.getsockname()[1])
    threading.Event().wait()


def each(action: Callable[[], object]) -> float:
    """Return the microseconds of a call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        action()
    return (time.perf_counter() - began) / CALLS * 1e6


def measured(machines: int) -> list[Row]:
    ours_end, theirs_end = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(machines, theirs_end), daemon=True)
    server.start()
    theirs_end.close()
    try:
        port: int = ours_end.recv()
        bare = dns.resolver.Resolver(configure=False)
        bare.nameservers, bare.port = ["127.0.0.1"], port
        with_cache = Client(f"127.0.0.1:{port}")

        def first() -> object:
            client = Client(f"127.0.0.1:{port}")
            return next(client.discover("theService", ZONE, "v1").order())

        def cached() -> object:
            return next(with_cache.discover("theService", ZONE, "v1").order())

        def peer() -> object:
            return bare.resolve(f"v1.{SERVICE}", "SRV")

        for action in (first, cached, peer):
            each(action)
        assert len(list(with_cache.discover("theService", ZONE, "v1").order())) == machines
        found = in_turn(
            {"first": lambda: each(first), "cached": lambda: each(cached), "peer": lambda: each(peer)}, ROUNDS
        )
    finally:
        server.terminate()
        server.join(5)
    theirs = found["peer"]
    rows = []
    for side, goal in (("first", 1.1), ("cached", 0.05)):
        ratio = median_ratio(found[side], theirs)
        rows.append(
            Row(
                question=f"resolve and choose of {machines} machines, {side}",
                ours=f"{statistics.median(found[side]):.0f} µs",
                other=f"dnspython's bare SRV query: {statistics.median(theirs):.0f} µs",
                ratio=ratio,
                n=f"{ROUNDS} rounds of {CALLS}",
                goal=f"≤ {goal} ×",
                met=ratio <= goal,
            )
        )
    return rows


def main() -> int:
    return report("client", [row for machines in MACHINES for row in measured(machines)])


if __name__ == "__main__":
    sys.exit(main())
