"""The kernel's events of programs that start, by its process connector, as root.

https://www.kernel.org/doc/html/latest/driver-api/connector.html, include/uapi/linux/cn_proc.h, include/uapi/linux/connector.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

_CONNECTOR = 11
_NLMSG_DONE, _CN_IDX_PROC, _CN_VAL_PROC, _LISTEN, _EXEC = 3, 1, 1, 1, 2
_HEADER, _CN_MSG = struct.Struct("=IHHII"), struct.Struct("=IIIIHH")
# The event's kind, the processor, the time, the thread, the process.
_EVENT = struct.Struct("=IIQII")
_KIND_AT = _HEADER.size + _CN_MSG.size
_BUFFER_BYTES = 4 * 2**20
_WORKS_WITHIN_S = 1.0


def subscribed() -> socket.socket | None:
    """Return a socket that receives an event for each program that starts; None where the kernel or our rights have none."""
    with contextlib.ExitStack() as made:
        try:
            events = made.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _CONNECTOR))
            events.bind((0, _CN_IDX_PROC))
            events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            _only_programs(events)
            listen = struct.pack("=I", _LISTEN)
            request = _CN_MSG.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, len(listen), 0) + listen
            events.send(_HEADER.pack(_HEADER.size + len(request), _NLMSG_DONE, 0, 0, os.getpid()) + request)
        except OSError:
            return None
        events.settimeout(0.05)
        if not _works(events):
            return None
        made.pop_all()
        return events


def received(events: socket.socket) -> Iterator[int]:
    """Yield the processes of the next events; none after the socket's time-out. Raises OSError when events were lost."""
    with contextlib.suppress(TimeoutError):
        message = events.recv(4096)
        kind, _, _, _, process = _EVENT.unpack_from(message, _KIND_AT)
        if kind == _EXEC:
            yield process


def _only_programs(events: socket.socket) -> None:
    """Let the kernel drop all other events: threads alone begin and end thousands of times in a second.

    https://www.kernel.org/doc/html/latest/networking/filter.html; a filter loads numbers in the network's order.
    """
    (wanted,) = struct.unpack(">I", struct.pack("=I", _EXEC))
    load, compare, end = 0x20, 0x15, 0x06
    steps = [(load, 0, 0, _KIND_AT), (compare, 0, 1, wanted), (end, 0, 0, 0xFFFFFFFF), (end, 0, 0, 0)]
    program = b"".join(struct.pack("HBBI", *each) for each in steps)
    filters = ctypes.create_string_buffer(program, len(program))
    # SO_ATTACH_FILTER; `socket` has no name for it before Python 3.14.
    events.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(steps), ctypes.addressof(filters)))


def _works(events: socket.socket) -> bool:
    """Return whether there is an event for a program that is started. A container may get none, and no error."""
    with subprocess.Popen(["true"]) as started:
        end = time.monotonic() + _WORKS_WITHIN_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if started.pid in received(events):
                    return True
    return False
