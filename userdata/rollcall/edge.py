"""Write the part of nginx's configuration that concerns Cloudflare's edge, and TLS.

It says from which addresses nginx may believe `CF-Connecting-IP`: only from Cloudflare's published ranges. It also has a server for each
site with TLS: a closed site has a certificate that only the edge trusts, and another site may have one that visitors trust.

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
    """A site with TLS: the names that clients ask for, and private key and certificate in PEM.

    `redirects`: who asks for these names in plain HTTP is sent to https.
    """

    names: tuple[str, ...]
    pem: str
    redirects: bool = False


def nginx_lines(believed: list[str]) -> str:
    return "".join(f"set_real_ip_from {each};\n" for each in believed) + "real_ip_header CF-Connecting-IP;\n"


def nginx_server(origin: Origin, *, first: bool) -> str:
    """Return the server of a site with TLS. The `first` one also answers an edge that names no host."""
    pem, default = ORIGINS / f"{origin.names[0]}.pem", " default_server" if first else ""
    # The health check asks for no such name, so it gets the site itself.
    redirect = f"""server {{
listen 80;
listen [::]:80;
server_name {" ".join(origin.names)};
return 301 https://$host$request_uri;
}}
"""
    # With the checksum the text changes when the key changes.
    return f"""{redirect if origin.redirects else ""}server {{
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

    After a failure the present configuration stays. If the ranges cannot be read, the present ones stay.
    """
    try:
        closed = list(origins())
        before = {path: path.read_text() for path in (CONFIG, *ORIGINS.glob("*.conf")) if path.exists()}
        before.setdefault(CONFIG, "")
        believed = _lines()
        wanted = {CONFIG: before[CONFIG] if believed is None else believed}
        for number, each in enumerate(closed):
            wanted[ORIGINS / f"{each.names[0]}.conf"] = nginx_server(each, first=not number)
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
    return believed is not None


def _lines() -> str | None:
    """Return nginx's lines for the published ranges; None if they cannot be read."""
    try:
        return nginx_lines(ranges())
    except (requests.RequestException, ValueError, KeyError, TypeError) as failed:
        log.warning("edge: reason=not-set-up error=%s", type(failed).__name__)
        return None


def _write(files: dict[Path, str], others: dict[Path, str]) -> None:
    """Write these files, and remove the others that are not among them. The ranges stay."""
    for path, text in files.items():
        path.write_text(text)
    for path in {*others} - {*files, CONFIG}:
        path.unlink()
