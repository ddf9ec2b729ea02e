"""Which component makes a fleet, by the cloud that `rollcall:fleets` names. Another cloud is another line: docs/another-cloud.md."""

from __future__ import annotations

from components.resources.fleets.base import Ec2Fleet, Fleet, JoyentFleet

FLEETS: dict[str, type[Fleet]] = {
    "aws": Ec2Fleet,
    "joyent": JoyentFleet,
}
