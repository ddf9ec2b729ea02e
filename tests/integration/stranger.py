"""A stranger at the address of a machine that is gone, on the network of its cloud."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from localcloud.network.namespace import NETWORKS, Cloud, Namespace, hardware_address
from rollcall import probe


@dataclass
class Stranger:
    """Accepts every connection, and sends each signed question on to `member` and its answer back."""

    namespace: Namespace
    member: str
    ports: tuple[int, ...]
    passed: list[bytes] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)
    accepted: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def serve(self, home: Namespace, address: str) -> None:
        listeners = [self.namespace.listen(address, port) for port in self.ports]
        relayed = self.namespace.listen(address, probe.PORT, socket.SOCK_DGRAM)
        relay = self.namespace.listen(address, 0, socket.SOCK_DGRAM)
        relay.settimeout(0.5)
        try:
            while not self._stop.is_set():
                let_in(home, address)
                for ready in select.select([*listeners, relayed], [], [], 1.0)[0]:
                    self._one(ready, relayed, relay)
        finally:
            for each in (*listeners, relayed, relay):
                each.close()

    def _one(self, ready: socket.socket, relayed: socket.socket, relay: socket.socket) -> None:
        if ready is not relayed:
            ready.accept()[0].close()
            self.accepted += 1
            return
        question, who = relayed.recvfrom(2000)
        self.passed.append(question)
        relay.sendto(question, (self.member, probe.PORT))
        with contextlib.suppress(TimeoutError):
            self.replies.append(relay.recv(2000))
            relayed.sendto(self.replies[-1], who)


@contextlib.contextmanager
def at(address: str, cloud: Cloud, home: Namespace, member: str, ports: tuple[int, ...]) -> Iterator[Stranger]:
    """Be a stranger with this address on the cloud's network, as long as the block runs."""
    other, network = Namespace(f"{home.name}-s"), NETWORKS[cloud]
    ip("netns", "add", other.name)
    try:
        ip("-n", home.name, "link", "add", "stranger", "type", "veth", "peer", "name", "eth0", "netns", other.name)
        ip("-n", home.name, "link", "set", "stranger", "master", network.bridge, "up")
        ip("-n", other.name, "link", "set", "eth0", "address", hardware_address(address), "up")
        ip("-n", other.name, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", other.name, "route", "add", "default", "via", network.gateway)
        made = Stranger(other, member, ports)
        thread = threading.Thread(target=made.serve, args=(home, address), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made._stop.set()
            thread.join(10)
    finally:
        ip("netns", "del", other.name)


def let_in(home: Namespace, address: str) -> None:
    """Let everything pass to the stranger, as the security group of an instance of his own does. The clouds' rules are written
    again whenever a machine changes, so this is done again and again."""
    rule = f"insert rule inet rollcall_gates passing ip daddr {address} accept"
    subprocess.run(["ip", "netns", "exec", home.name, "nft", rule], check=True, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
