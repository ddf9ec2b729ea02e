"""Zones of a name server on this machine: the local clouds' name servers are its secondaries, and machines reach it.

It runs outside of the namespace that machines are in, so a relay inside takes their connections to it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

from localcloud.dns.data import RecordSet

if TYPE_CHECKING:
    from rollcall.rfc2136 import Rfc2136Zone

# The primary notifies a secondary of a change immediately (RFC 1996), so the refresh is fast.
_REFRESH_S = 0.3
# Their own NS records lead to addresses that machines cannot reach.
_LEFT_OUT = "NS"
_PIECE = 2**16


class Secondaries:
    """A source of zones for the local name servers: each zone as its primary had it at most a moment ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._primaries: dict[str, Rfc2136Zone] = {}
        self._known: dict[str, tuple[float, dict[str, tuple[RecordSet, ...]]]] = {}

    def add(self, zone: str, server: str, key: str) -> None:
        """Follow `zone` at its primary, `ADDRESS@PORT`, with a TSIG key in the form of nsupdate's `-y`."""
        from rollcall.rfc2136 import Rfc2136Zone, TsigKey

        primary = Rfc2136Zone(zone, server, TsigKey.parse(key))
        primary.sets()
        with self._lock:
            self._primaries[zone] = primary

    def zones(self) -> tuple[str, ...]:
        return tuple(self._primaries)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        found = self._sets(zone)
        if name in found:
            return tuple(each for each in found[name] if name != zone or each.type != _LEFT_OUT)
        return () if any(each.endswith(f".{name}") for each in found) else None

    def _sets(self, zone: str) -> dict[str, tuple[RecordSet, ...]]:
        """Return the zone's record sets by name. If the primary does not answer, they stay as they were."""
        with self._lock:
            at, known = self._known.get(zone, (0.0, {}))
            if time.monotonic() - at < _REFRESH_S:
                return known
            with contextlib.suppress(Exception):
                fresh: dict[str, tuple[RecordSet, ...]] = {}
                for each in self._primaries[zone].sets():
                    fresh[each.name] = (
                        *fresh.get(each.name, ()),
                        RecordSet(each.name, each.type, each.ttl, each.values),
                    )
                known = fresh
            self._known[zone] = (time.monotonic(), known)
            return known


class Relay:
    """Passes on the TCP connections to `listener` to an address outside."""

    def __init__(self, listener: socket.socket, to: tuple[str, int]) -> None:
        self._listener, self._to = listener, to

    def start(self) -> None:
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection(self._to, 5)
            except OSError:
                inside.close()
                continue
            outside.settimeout(None)
            for pair in ((inside, outside), (outside, inside)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until one side closes, then close the other."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
