"""The DNS providers: the functions that make the registry of a membership, by the first word of its settings.

Another provider is a class of settings in `rollcall.settings.KINDS`, a file with its registry, and a line here
(docs/another-dns-provider.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollcall.host_label import HostLabels
from rollcall.registry import CloudflareRegistry, Registry, RetriedRoute53
from rollcall.settings import CloudflareJoin, Join, Rfc2136Join, Rfc2136SiteJoin, Route53Join

# `secret` returns the value of a secret by its name. `labels` are the labels of this machine's hosts.
Secret = Callable[[str], str]


def _cloudflare(join: CloudflareJoin, secret: Secret, labels: HostLabels) -> Registry:
    return CloudflareRegistry(join, lambda: secret(join.token))


def _route53(join: Route53Join, secret: Secret, labels: HostLabels) -> Registry:
    return RetriedRoute53(join, lambda: secret(join.key) if join.key else "", labels=labels)


# The imports are inside the functions, because a machine that boots reads its identity before dnspython is installed.
def _rfc2136_site(join: Rfc2136SiteJoin, secret: Secret, labels: HostLabels) -> Registry:
    from rollcall.rfc2136 import Rfc2136Site

    return Rfc2136Site(join, lambda: secret(join.key))


def _rfc2136(join: Rfc2136Join, secret: Secret, labels: HostLabels) -> Registry:
    from rollcall.rfc2136 import RetriedRfc2136

    return RetriedRfc2136(join, lambda: secret(join.key), labels=labels)


REGISTRIES: dict[str, Callable[[Any, Secret, HostLabels], Registry]] = {
    CloudflareJoin.KIND: _cloudflare,
    Route53Join.KIND: _route53,
    Rfc2136SiteJoin.KIND: _rfc2136_site,
    Rfc2136Join.KIND: _rfc2136,
}


def make_registry(join: Join, secret: Secret, labels: HostLabels) -> Registry:
    """Return the registry of a membership."""
    return REGISTRIES[join.KIND](join, secret, labels)
