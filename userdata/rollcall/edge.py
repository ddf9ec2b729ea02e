"""Tells nginx from which addresses it may believe `CF-Connecting-IP`: Cloudflare's published ranges, and nothing else; and with
what to answer the edge over TLS.

https://api.cloudflare.com/client/v4/ips; what does not look like a list of networks is not taken.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import requests

from rollcall.cloudflare import URL
from rollcall.errors import RollcallError

CONFIG = Path("/etc/nginx/rollcall-edge.conf")
PEM = CONFIG.with_name("rollcall-origin.pem")
WIDEST = {4: 8, 6: 19}
log = logging.getLogger("rollcall")


def ranges(url: str = "") -> list[str]:
    """The ranges, sorted. Raises ValueError for an answer that would make nginx believe too many."""
    reply = requests.get(f"{url or os.environ.get('CLOUDFLARE_BASE_URL') or URL}/ips", timeout=5)
    reply.raise_for_status()
    result = reply.json()["result"]
    found = [ipaddress.ip_network(each) for each in (*result["ipv4_cidrs"], *result.get("ipv6_cidrs", ()))]
    if not found or any(each.prefixlen < WIDEST[each.version] for each in found):
        raise ValueError(f"{len(found)} ranges, or one that is too wide")
    return sorted(str(each) for each in found)


def nginx_lines(believed: list[str], pem: str = "") -> str:
    lines = "".join(f"set_real_ip_from {each};\n" for each in believed) + "real_ip_header CF-Connecting-IP;\n"
    if pem:
        # The sum makes another key another text.
        lines += f"""listen 443 ssl default_server;
listen [::]:443 ssl default_server;
ssl_certificate {PEM};
ssl_certificate_key {PEM};
ssl_protocols TLSv1.2 TLSv1.3;
#{hashlib.sha256(pem.encode()).hexdigest()}
"""
    return lines


def refresh(origin: Callable[[], str] = str) -> bool:
    """Whether nginx believes what Cloudflare publishes now, and serves TLS with what `origin` gives (private key and certificate
    in PEM); where not, what was stays."""
    try:
        pem = origin()
        text = nginx_lines(ranges(), pem)
        before = CONFIG.read_text() if CONFIG.exists() else ""
        if before != text:
            if pem:
                PEM.touch(0o600)
                PEM.write_text(pem)
            CONFIG.write_text(text)
            try:
                subprocess.run(["systemctl", "reload", "nginx.service"], check=True, timeout=30)
            except subprocess.SubprocessError:
                # So that the next refresh tells nginx again.
                CONFIG.write_text(before)
                raise
    except (
        requests.RequestException,
        subprocess.SubprocessError,
        RollcallError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as failed:
        log.warning("edge: reason=not-set-up error=%s", type(failed).__name__)
        return False
    return True
