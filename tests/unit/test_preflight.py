"""components.preflight: what is refused before any cloud is asked."""

from __future__ import annotations

import pytest

from components.preflight import region_faults
from components.settings import read

TABLE = [
    ("aws", None, "us-west-2", ""),
    ("aws", "us-west-2", "us-west-2", ""),
    (
        "aws",
        "eu-west-1",
        "us-west-2",
        "rollcall:fleets.web.region: is eu-west-1, and the stack's machines are all in us-west-2",
    ),
    (
        "aws",
        "eu-west-1",
        "",
        "rollcall:fleets.web.region: is eu-west-1, and the stack's machines are all in the region of",
    ),
    ("joyent", None, "us-west-2", ""),
    ("joyent", "us-west-2", "us-west-2", "rollcall:fleets.web.region: is us-west-2"),
]


@pytest.mark.parametrize(("cloud", "region", "own", "said"), TABLE)
def test_a_fleet_in_a_region_where_no_machine_would_be_made_is_refused(
    cloud: str, region: str | None, own: str, said: str
) -> None:
    fleet = {"cloud": cloud, "size": "t3.micro", "image": "debian-12", "joins": ["site"]}
    told = {
        "site": {"zone": "scalability.expert"},
        "fleets": {"web": {**fleet, **({"region": region} if region else {})}},
    }
    faults = region_faults(read("prod", told), own)
    assert len(faults) == (1 if said else 0)
    assert all(fault.startswith(said) and "stacks of their own" in fault for fault in faults)
