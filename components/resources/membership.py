"""Describe one thing that a fleet joins, for its machines, its firewall and its RollCall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.resources.firewall import IngressRule


@dataclass(frozen=True, kw_only=True)
class Membership:
    """One thing that a fleet joins.

    `places` are the record sets of its DNS records, as inputs of RollCall. `words` is the setting that machine `index`
    gets. `ingress` is the port that visitors or clients use, and `more` are further ones. `secrets` are what clouds that
    keep secrets with the machine give it, by name.
    """

    places: Sequence[pulumi.Output[dict[str, Any]]]
    workload: str
    ingress: IngressRule
    words: Callable[[int], pulumi.Output[str]]
    more: Sequence[IngressRule] = ()
    secrets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
