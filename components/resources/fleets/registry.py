"""Find the component that makes a fleet, by the cloud that `rollcall:fleets` names.

Another cloud is another line: docs/another-cloud.md.
"""

from __future__ import annotations

from components.resources.fleets.base import Fleet
from components.resources.fleets.ec2 import Ec2Fleet
from components.resources.fleets.triton import JoyentFleet

FLEETS: dict[str, type[Fleet]] = {
    "aws": Ec2Fleet,
    "joyent": JoyentFleet,
}
