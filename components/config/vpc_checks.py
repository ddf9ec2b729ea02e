"""Check the keys for the network of an EC2 fleet, as far as the configuration itself shows it."""

from __future__ import annotations

from collections.abc import Callable

from components.config.errors import at
from components.config.models import FleetSettings, Settings

# Each key with the field that has its value.
_KEYS = {
    "vpc": "vpc",
    "subnets": "subnets",
    "securityGroups": "security_groups",
    "publicAddress": "public_address",
    "stableAddresses": "stable_addresses",
}


def check(settings: Settings, fleet: FleetSettings, add: Callable[[str, str, str], None]) -> None:
    """Add what is wrong with the network keys of a fleet."""
    key = at("rollcall:fleets", fleet.name)
    if fleet.cloud != "aws":
        for name, attribute in _KEYS.items():
            value = getattr(fleet, attribute)
            if value not in (None, ()) and (value is not False or name == "publicAddress"):
                add(f"{key}.{name}", "is for EC2 machines", "Leave it out: Triton machines have networks")
        return
    if fleet.public_address is False and (public := settings.public_joins(fleet)):
        problem = f"is false, and the machines register public addresses for {', '.join(public)}"
        add(f"{key}.publicAddress", problem, "Leave it out, or join what has address: private")
    if fleet.stable_addresses and not settings.has_public_address(fleet):
        problem = "is on, and the machines have no public addresses"
        add(f"{key}.stableAddresses", problem, "Leave it out, or set publicAddress: true")
