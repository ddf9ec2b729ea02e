"""Does a machine live whose ports take Cloudflare's edge only? A datagram to UDP 4217, signed by what all machines of a site know.

Asked with a nonce and its HMAC-SHA256 (RFC 2104), 48 bytes; a machine that knows the key answers with another HMAC of the nonce,
32 bytes, and says nothing to anybody else: whoever knows no key learns nothing, and no reply is longer than what asked for it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from collections.abc import Callable

PORT = 4217
_NONCE, _ASKED = 16, 48


def answers(host: str, token: str, port: int = PORT, within: float = 2.0) -> bool:
    """Whether a machine at `host` answers that knows the site's API token."""
    nonce = os.urandom(_NONCE)
    try:
        with socket.socket(family_of(host), socket.SOCK_DGRAM) as line:
            line.settimeout(within)
            # Connected, so that the kernel takes replies of this host only.
            line.connect((host, port))
            line.send(nonce + _mac(token, b"?", nonce))
            return hmac.compare_digest(line.recv(_ASKED), _mac(token, b"!", nonce))
    except OSError:
        return False


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(token: Callable[[], str], door: socket.socket) -> None:
    """Answer for as long as `door` is open. `token` is asked for at each datagram, since it may be rotated."""
    while door.fileno() >= 0:
        try:
            asked, who = door.recvfrom(_ASKED + 1)
            known, nonce = token(), asked[:_NONCE]
            if known and hmac.compare_digest(asked[_NONCE:], _mac(known, b"?", nonce)):
                door.sendto(_mac(known, b"!", nonce), who)
        except OSError:
            continue


def _mac(token: str, kind: bytes, nonce: bytes) -> bytes:
    """Of a key of its own, so that nothing signed with the token itself is ever given away."""
    key = hmac.digest(token.encode(), b"rollcall watch", hashlib.sha256)
    return hmac.digest(key, kind + nonce, hashlib.sha256)
