"""Refuse what a test would send anywhere but to this machine or into a network namespace of our own.

CPython tells an audit hook of each connection, each datagram and each name to be resolved (https://docs.python.org/3/library/audit_events.html).
A refusal may be swallowed by the code that is tested, so the test fails in any case. Processes that a test starts are not seen.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Any

NAMESPACE = Path("/proc/thread-self/ns/net")
_LOCAL = ("", "localhost", "localhost.localdomain")
_RESOLVING = ("socket.getaddrinfo", "socket.gethostbyname")
_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", *_RESOLVING)
# The namespace of the host, and what was refused since somebody looked.
_ours = NAMESPACE.readlink()
tried: list[str] = []


class OutsideError(OSError):
    """A test would have left this machine."""


def watch() -> None:
    """Refuse it from now on, for as long as the process lives."""
    sys.addaudithook(_look)


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS:
        return
    if event in _RESOLVING:
        host = arguments[0]
        if _address(host):
            return
    else:
        connection, address = arguments[0], arguments[1]
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or not address:
            return
        host = address[0]
    # In a namespace of ours nothing leads outside.
    if _is_here(host) or NAMESPACE.readlink() != _ours:
        return
    tried.append(f"{event} {host!r}")
    raise OutsideError(f"{event}: {host!r} is outside of this machine. Point the test at a local cloud.")


def _is_here(host: Any) -> bool:
    address = _address(host)
    if address is None:
        return _text(host) in (*_LOCAL, socket.gethostname())
    return address.is_loopback or address.is_unspecified


def _address(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_text(host).partition("%")[0])
    except ValueError:
        return None


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
