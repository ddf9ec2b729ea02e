"""Decide in which order a machine tries the availability zones of its fleet. Nothing here asks EC2."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True, order=True)
class Subnet:
    """A subnet with its availability zone: `us-west-2a`, and `usw2-az1` as the id that all accounts share."""

    zone: str
    id: str
    zone_id: str = ""


def in_order(index: int, subnets: Collection[Subnet], short: Collection[str] = ()) -> list[Subnet]:
    """Return the subnets that machine `index` tries, one for each zone, the best first.

    Machines are spread over the zones by their index. If a zone has no capacity, its machines are spread over the
    others. The zones in `short` had none a short while ago, so they come last.
    """
    zones = sorted({each.zone for each in subnets})
    if not zones:
        return []
    turn, home = divmod(index, len(zones))
    others = _rotated([*zones[home + 1 :], *zones[:home]], turn)
    tried = sorted([zones[home], *others], key=lambda zone: zone in short)
    return [_rotated(sorted(each for each in subnets if each.zone == zone), turn)[0] for zone in tried]


def _rotated(items: Sequence[_Item], by: int) -> list[_Item]:
    if not items:
        return []
    first = by % len(items)
    return [*items[first:], *items[:first]]
