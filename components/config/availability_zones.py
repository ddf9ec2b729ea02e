"""The names and ids of EC2's availability zones, and whether a machine is in one of its fleet's zones.

Each account has the same ids, `usw2-az1`, and its own names for them, `us-west-2a`:
https://docs.aws.amazon.com/ram/latest/userguide/working-with-az-ids.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ALL_ZONES = "all"
# A Local Zone is us-west-2-lax-1a by name, and usw2-lax1-az1 by id.
_NAME = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d(?:-[a-z]+-\d)?[a-z]")
_ID = re.compile(r"[a-z]{2,5}\d(?:-[a-z]+\d)?-az\d{1,2}")


def is_zone(text: str) -> bool:
    """Return whether the text has the form of a zone's name or id."""
    return _NAME.fullmatch(text) is not None or is_zone_id(text)


def is_zone_id(zone: str) -> bool:
    """Return whether this is the id of a zone and not its name."""
    return _ID.fullmatch(zone) is not None


def is_outside(zones: Sequence[str], zone: str, zone_id: str = "") -> bool:
    """Return whether a machine in this zone is not where its fleet may be. An unknown zone is not such a reason."""
    if not zones or ALL_ZONES in zones:
        return False
    here = zone_id if is_zone_id(zones[0]) else zone
    return bool(here) and here not in zones
