"""Write the part of nginx's configuration that concerns Cloudflare's edge.

It says from which addresses nginx may believe `CF-Connecting-IP`: only from Cloudflare's published ranges. It also has the certificate with
which nginx answers the edge over TLS.

https://api.cloudflare.com/client/v4/ips; a reply that is not a list of networks is refused.
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
    """Return Cloudflare's ranges, sorted. Raises ValueError for an answer that would make nginx believe too many addresses."""
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
        # With the checksum the text changes when the key changes.
        lines += f"""listen 443 ssl default_server;
listen [::]:443 ssl default_server;
ssl_certificate {PEM};
ssl_certificate_key {PEM};
ssl_protocols TLSv1.2 TLSv1.3;
#{hashlib.sha256(pem.encode()).hexdigest()}
"""
    return lines


def refresh(origin: Callable[[], str] = str) -> bool:
    """Make nginx believe the ranges that Cloudflare publishes now, and serve TLS with what `origin` returns. Return whether it does.

    `origin` returns private key and certificate in PEM. After a failure the present configuration stays.
    """
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
                # So the next refresh reloads nginx again.
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
