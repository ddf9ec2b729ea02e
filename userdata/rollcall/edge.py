"""Tells nginx from which addresses it may believe `CF-Connecting-IP`: Cloudflare's published ranges, and nothing else.

https://api.cloudflare.com/client/v4/ips; what does not look like a list of networks is not taken.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import subprocess
from pathlib import Path

import requests

from rollcall.cloudflare import URL

CONFIG = Path("/etc/nginx/rollcall-edge.conf")
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


def nginx_lines(believed: list[str]) -> str:
    return "".join(f"set_real_ip_from {each};\n" for each in believed) + "real_ip_header CF-Connecting-IP;\n"


def refresh() -> bool:
    """Whether nginx believes what Cloudflare publishes now; where not, what it believed stays."""
    try:
        text = nginx_lines(ranges())
        before = CONFIG.read_text() if CONFIG.exists() else ""
        if before != text:
            CONFIG.write_text(text)
            try:
                subprocess.run(["systemctl", "reload", "nginx.service"], check=True, timeout=30)
            except subprocess.SubprocessError:
                # So that the next refresh tells nginx again.
                CONFIG.write_text(before)
                raise
    except (requests.RequestException, subprocess.SubprocessError, OSError, ValueError, KeyError, TypeError) as failed:
        log.warning("edge: reason=no-ranges error=%s", type(failed).__name__)
        return False
    return True
