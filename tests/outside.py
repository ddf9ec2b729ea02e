"""Refuse what a test would send anywhere but to this machine or into a network namespace of our own.

CPython tells an audit hook of each connection, each datagram and each name to be resolved (https://docs.python.org/3/library/audit_events.html).
A refusal may be swallowed by the code that is tested, so the test fails in any case. Processes that a test starts are not seen.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Any

NAMESPACE = Path("/proc/thread-self/ns/net")
_LOCAL = ("", "localhost", "localhost.localdomain")
_RESOLVING = ("socket.getaddrinfo", "socket.gethostbyname")
_EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", *_RESOLVING)
# An ioctl that opens the namespace of a socket, for root (https://man7.org/linux/man-pages/man7/netdevice.7.html has its kind;
# linux/sockios.h the number).
_SIOCGSKNS = 0x894C
# What was refused since the last check.
tried: list[str] = []


class OutsideError(OSError):
    """A test would have left this machine."""


def watch() -> None:
    """Refuse it from now on, for as long as the process lives."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
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
    if _is_here(host) or _namespace_of(None if event in _RESOLVING else arguments[0]) != _ours:
        return
    tried.append(f"{event} {host!r}")
    raise OutsideError(f"{event}: {host!r} is outside of this machine. Point the test at a local cloud.")


def _namespace_of(connection: socket.socket | None) -> int:
    """Return the inode of the network namespace that a socket is in: that of the thread that made it, as a rule that of ours. In
    one that is not the host's nothing leads outside."""
    if connection is None:
        return NAMESPACE.stat().st_ino
    try:
        opened = fcntl.ioctl(connection, _SIOCGSKNS)
    except OSError:
        return _ours
    try:
        return os.fstat(opened).st_ino
    finally:
        os.close(opened)


_ours = _namespace_of(None)


def _is_here(host: Any) -> bool:
    address = _address(host)
    if address is None:
        return _text(host) in (*_LOCAL, socket.gethostname())
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _address(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_text(host).partition("%")[0])
    except ValueError:
        return None


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
