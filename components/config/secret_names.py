"""Name the secrets of a machine: their short names, behind which EC2 has an SSM parameter and Triton a metadata key.

A short name has no dot, except the name of a workload's secret (components/resources/workload_secrets.py).
"""

from __future__ import annotations

# The key of an IAM user, the key of probes between agents, and the key for zones that take dynamic updates.
KEY, PROBE_KEY, TSIG = "route53-key", "probe-key", "tsig-key"


def token(zone: str) -> str:
    """Return the name of the Cloudflare token for a zone. All sites of the zone share it."""
    return f"token-{zone.replace('.', '_')}"


def mirror(name: str) -> str:
    """Return the name of the access key with which machines read a mirror."""
    return f"mirror-{name}"


def tls(site: str) -> str:
    """Return the name of the keys and the certificate of a site with `tls` (components/dns/acme_account.py)."""
    return f"tls-{site}"


def origin(site: str) -> str:
    """Return the name of the key and certificate of a closed site."""
    return f"origin-{site}"
