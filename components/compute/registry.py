"""List the clouds that Rollcall supports, each by one line in CLOUDS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from components.compute.base import CloudView, Kind
from components.compute.ec2 import Ec2View
from components.compute.triton import TritonView

CLOUDS = {
    "aws": Kind(ids=r"i-.+", view=lambda region, config: Ec2View(region, config)),
    "joyent": Kind(ids=r"[0-9a-f]{8}-.+", view=lambda datacenter, config: TritonView(config, datacenter)),
}


def view_of(cloud: str, region: str, config: Mapping[str, str]) -> CloudView:
    """Return the view of a cloud.

    `region` is the AWS region, or Triton's data centre by name; empty is the configured one.
    """
    return CLOUDS[cloud].view(region, config)


def cloud_of(instance: str) -> str:
    """Return the cloud that gives out ids of this form; an empty text where none does."""
    return next((name for name, kind in CLOUDS.items() if re.fullmatch(kind.ids, instance)), "")
