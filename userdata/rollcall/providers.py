"""The DNS providers: what makes the registry of a membership, by the first word of its settings.

Another provider is a class of settings in `rollcall.settings.KINDS`, a file with its registry, and a line here
(docs/another-dns-provider.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rollcall.host_label import HostLabels
from rollcall.registry import CloudflareRegistry, Registry, RetriedRoute53
from rollcall.settings import CloudflareJoin, Join, Route53Join

# `secret` gives the value of a secret by its name, and `labels` are those of this machine's hosts.
Secret = Callable[[str], str]


def _cloudflare(told: CloudflareJoin, secret: Secret, labels: HostLabels) -> Registry:
    return CloudflareRegistry(told, lambda: secret(told.token))


def _route53(told: Route53Join, secret: Secret, labels: HostLabels) -> Registry:
    return RetriedRoute53(told, lambda: secret(told.key) if told.key else "", labels=labels)


REGISTRIES: dict[str, Callable[[Any, Secret, HostLabels], Registry]] = {
    CloudflareJoin.KIND: _cloudflare,
    Route53Join.KIND: _route53,
}


def make_registry(told: Join, secret: Secret, labels: HostLabels) -> Registry:
    """Return the registry of a membership."""
    return REGISTRIES[told.KIND](told, secret, labels)
