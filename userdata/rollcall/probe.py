"""Ask whether the member that a record names runs at the record's address: a signed datagram to UDP 4217.

All machines of a stack know one key. A question's MAC (HMAC-SHA256, RFC 2104) covers the record set, the address that was asked and
the generation of the member. A machine answers only for its own public addresses and its own generation, so a stranger at an old
address gets no answer for its record by relaying the question to a member elsewhere. The answer's MAC covers the same and the
question's nonce, so no answer fits another question.

    question  TIME (8) NONCE (16) MAC (32)
    answer    GENERATION (6) MAC (32)

What is not signed, or not sent within `FRESH_S`, gets no reply. An answer is shorter than its question, so nothing is amplified.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

PORT = 4217
# SigV4 refuses a clock that is five minutes wrong too:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
FRESH_S = 300
_TIME_BYTES, _NONCE_BYTES, _GENERATION_BYTES = 8, 16, 6
_QUESTION_BYTES = _TIME_BYTES + _NONCE_BYTES + hashlib.sha256().digest_size
# A question is sent twice, since a datagram may be lost.
_SENDINGS = 2
# ip(7) and ipv6(7): in_pktinfo is ifindex, the local address, the header's address; in6_pktinfo the address and ifindex. Python has
# no name for the first.
_IP_PKTINFO = 8
_CONTROL_BYTES = 128


@dataclass(frozen=True, order=True, kw_only=True)
class Subject:
    """The question of a probe: does the member `generation` of `record_set` run at `address`?

    `record_set` is the host of a site or the name of an SRV set. Without a generation the question is whether any joined member runs there.
    """

    record_set: str
    address: str
    generation: str = ""

    def __bytes__(self) -> bytes:
        address = ipaddress.ip_address(self.address).compressed
        return "\0".join((self.record_set.lower().rstrip("."), address, self.generation)).encode()


def ask(subjects: Sequence[Subject], key: str, port: int = PORT, within: float = 2.0) -> bool:
    """Return whether one of `subjects` answers. Subjects with the same address are asked at the same time."""
    by_address: dict[str, list[Subject]] = {}
    for each in subjects:
        by_address.setdefault(each.address, []).append(each)
    return any(_ask_at(address, those, key, port, within) for address, those in by_address.items())


def _ask_at(address: str, subjects: Sequence[Subject], key: str, port: int, within: float) -> bool:
    queries = {each: question(each, key) for each in subjects}
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as line:
            # The socket is connected, so the kernel accepts replies from this address only.
            line.connect((address, port))
            for _ in range(_SENDINGS):
                for sent in queries.values():
                    line.send(sent)
                end = time.monotonic() + within / _SENDINGS
                while (left := end - time.monotonic()) > 0 and select.select([line], [], [], left)[0]:
                    reply = line.recv(_QUESTION_BYTES)
                    if any(is_answer(reply, each, sent, key) for each, sent in queries.items()):
                        return True
    except OSError:
        pass
    return False


def question(subject: Subject, key: str) -> bytes:
    head = struct.pack("!Q", int(time.time())) + os.urandom(_NONCE_BYTES)
    return head + _mac(key, b"?", head, subject)


def answer(query: bytes, key: str, mine: Iterable[Subject], generation: str) -> bytes:
    """Return the reply of the machine `generation`, for which the subjects `mine` are true; empty if it must not reply."""
    head, mac = query[: _TIME_BYTES + _NONCE_BYTES], query[_TIME_BYTES + _NONCE_BYTES :]
    if not key or len(query) != _QUESTION_BYTES or not _is_fresh(head):
        return b""
    found = next((each for each in mine if hmac.compare_digest(mac, _mac(key, b"?", head, each))), None)
    return b"" if found is None else _answer(head, key, replace(found, generation=generation))


def is_answer(reply: bytes, subject: Subject, query: bytes, key: str) -> bool:
    """Return whether `reply` says yes to the question `query` about `subject`."""
    with contextlib.suppress(ValueError):
        generation = reply[:_GENERATION_BYTES].decode("ascii")
        wanted = _answer(query[: _TIME_BYTES + _NONCE_BYTES], key, replace(subject, generation=generation))
        return subject.generation in ("", generation) and hmac.compare_digest(reply, wanted)
    return False


def serve(
    key: Callable[[], str],
    mine: Callable[[], Collection[Subject]],
    generation: Callable[[], str],
    listening: socket.socket,
) -> None:
    """Answer questions for as long as `listening` is open. The functions are called for each datagram, since their results change."""
    for level, option in ((socket.IPPROTO_IP, _IP_PKTINFO), (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO)):
        # A socket of one family accepts one of these options.
        with contextlib.suppress(OSError):
            listening.setsockopt(level, option, 1)
    while listening.fileno() >= 0:
        try:
            query, control, _, asker = listening.recvmsg(_QUESTION_BYTES + 1, _CONTROL_BYTES)
            if reply := answer(query, key(), mine(), generation()):
                # Reply from the address that was asked: a machine may have several, and the asker accepts no reply from another one.
                listening.sendmsg([reply], _same_address(control), 0, asker)
        except OSError:
            continue


def listen(ipv6: bool) -> socket.socket:
    """Return a socket that listens on the port of probes; with `ipv6` for both families (RFC 3493 section 3.7)."""
    made = socket.socket(family_of("::" if ipv6 else ""), socket.SOCK_DGRAM)
    made.bind(("", PORT))
    return made


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _same_address(control: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Return the ancillary data with which the kernel replies from the address that a datagram was sent to, by any interface."""
    found = []
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            found.append((level, kind, bytes(4) + data[4:12]))
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            found.append((level, kind, data[:16] + bytes(4)))
    return found


def _is_fresh(head: bytes) -> bool:
    sent: int = struct.unpack("!Q", head[:_TIME_BYTES])[0]
    return abs(time.time() - sent) <= FRESH_S


def _answer(head: bytes, key: str, subject: Subject) -> bytes:
    return subject.generation.encode() + _mac(key, b"!", head, subject)


def _mac(key: str, kind: bytes, head: bytes, subject: Subject) -> bytes:
    derived = hmac.digest(key.encode(), b"rollcall probe", hashlib.sha256)
    return hmac.digest(derived, kind + head + bytes(subject), hashlib.sha256)
