"""Write the part of nginx's configuration that concerns Cloudflare's edge.

It says from which addresses nginx may believe `CF-Connecting-IP`: only from Cloudflare's published ranges. It also has a server for each
closed site, with the certificate with which nginx answers the edge over TLS.

https://api.cloudflare.com/client/v4/ips; a reply that is not a list of networks is refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import requests

from rollcall.cloudflare import URL
from rollcall.errors import RollcallError

CONFIG = Path("/etc/nginx/rollcall-edge.conf")
# For each closed site HOST.conf, which nginx includes, and HOST.pem.
ORIGINS = CONFIG.with_name("rollcall-origins")
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


@dataclass(frozen=True)
class Origin:
    """A closed site: the names that the edge asks for, and private key and certificate in PEM."""

    names: tuple[str, ...]
    pem: str


def nginx_lines(believed: list[str]) -> str:
    return "".join(f"set_real_ip_from {each};\n" for each in believed) + "real_ip_header CF-Connecting-IP;\n"


def nginx_server(origin: Origin, *, first: bool) -> str:
    """Return the server of a closed site. The `first` one also answers an edge that names no host."""
    pem, default = ORIGINS / f"{origin.names[0]}.pem", " default_server" if first else ""
    # With the checksum the text changes when the key changes.
    return f"""server {{
listen 443 ssl{default};
listen [::]:443 ssl{default};
server_name {" ".join(origin.names)};
ssl_certificate {pem};
ssl_certificate_key {pem};
ssl_protocols TLSv1.2 TLSv1.3;
include {CONFIG.with_name("rollcall-site.conf")};
}}
#{hashlib.sha256(origin.pem.encode()).hexdigest()}
"""


def refresh(origins: Callable[[], Iterable[Origin]] = tuple) -> bool:
    """Make nginx believe the ranges that Cloudflare publishes now, and serve TLS for `origins`. Return whether it does.

    After a failure the present configuration stays.
    """
    try:
        closed = list(origins())
        wanted = {CONFIG: nginx_lines(ranges())}
        for number, each in enumerate(closed):
            wanted[ORIGINS / f"{each.names[0]}.conf"] = nginx_server(each, first=not number)
        before = {path: path.read_text() for path in (CONFIG, *ORIGINS.glob("*.conf")) if path.exists()}
        before.setdefault(CONFIG, "")
        if before != wanted:
            if closed:
                ORIGINS.mkdir(0o700, exist_ok=True)
            for each in closed:
                pem = ORIGINS / f"{each.names[0]}.pem"
                pem.touch(0o600)
                pem.write_text(each.pem)
            _write(wanted, before)
            try:
                subprocess.run(["systemctl", "reload", "nginx.service"], check=True, timeout=30)
            except subprocess.SubprocessError:
                # So the next refresh reloads nginx again.
                _write(before, wanted)
                raise
            for path in {*ORIGINS.glob("*.pem")} - {each.with_suffix(".pem") for each in wanted}:
                path.unlink()
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


def _write(files: dict[Path, str], others: dict[Path, str]) -> None:
    """Write these files, and remove the others that are not among them. The ranges stay."""
    for path, text in files.items():
        path.write_text(text)
    for path in {*others} - {*files, CONFIG}:
        path.unlink()
