"""The public addresses of machines. They are used in order, so that a released address is not used again soon."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Address


class NoAddressError(Exception):
    """Every address of the range is taken."""


class AddressPool:
    """Addresses of a range. Not thread-safe."""

    def __init__(self, first: str, last: str) -> None:
        start, end = int(IPv4Address(first)), int(IPv4Address(last))
        if end < start:
            raise ValueError(f"{first} to {last} is not a range")
        self._next, self._end = start, end
        self._returned: deque[str] = deque()

    def __len__(self) -> int:
        return self._end - self._next + 1 + len(self._returned)

    def take(self) -> str:
        """Return an unused address, otherwise the one that was released longest ago. Raises NoAddressError."""
        if self._next <= self._end:
            self._next += 1
            return str(IPv4Address(self._next - 1))
        if not self._returned:
            raise NoAddressError
        return self._returned.popleft()

    def give_back(self, addresses: Iterable[str]) -> None:
        self._returned.extend(addresses)
