"""The regions of the local EC2, the machine images in each, and the public parameters by which programs find them."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace

HOME = "us-west-2"
REGIONS = (HOME, "eu-west-1")

_BUILT = "2026-11-01T00:00:00.000Z"
_VERSION = "20261101"


@dataclass(frozen=True, kw_only=True)
class Image:
    """`machine` is the image's name in the hypervisor's catalogue; `owner` the account that publishes it."""

    ami: str
    name: str
    machine: str
    description: str
    owner: str
    parameters: tuple[str, ...] = ()
    root_device: str = "/dev/xvda"
    architecture: str = "x86_64"

    @property
    def built(self) -> str:
        return _BUILT


# The accounts by which Debian and Canonical publish; programs filter by them, and by names (`debian-13-amd64-*`).
# https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie
_DEBIAN = "136693071363"
_CANONICAL = "099720109477"

_X86_IMAGES = (
    Image(
        ami="ami-0deb1a0120a5d6401",
        name=f"debian-12-amd64-{_VERSION}-local",
        machine="debian-12",
        description="Debian 12 (bookworm) of the local catalogue, with nginx and cloud-init",
        owner=_DEBIAN,
        parameters=("/aws/service/debian/release/12/latest/amd64",),
    ),
    Image(
        ami="ami-0b00070420a5d6402",
        name=f"ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-{_VERSION}",
        machine="debian-12",
        description="Debian 12 stands in for Ubuntu 24.04 in the local catalogue",
        owner=_CANONICAL,
        parameters=("/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",),
        root_device="/dev/sda1",
    ),
    Image(
        ami="ami-0deb1a0120ba3e403",
        name=f"debian-12-bare-amd64-{_VERSION}-local",
        machine="debian-12-bare",
        description="Debian 12 (bookworm) of the local catalogue without nginx: userdata has to install it",
        owner=_DEBIAN,
        parameters=("/aws/service/debian/release/12-bare/latest/amd64",),
    ),
    Image(
        ami="ami-0deb1a0130a5d6404",
        name=f"debian-13-amd64-{_VERSION}-local",
        machine="debian-13",
        description="Debian 13 (trixie) of the local catalogue, with nginx and cloud-init",
        owner=_DEBIAN,
        parameters=("/aws/service/debian/release/13/latest/amd64",),
    ),
    Image(
        ami="ami-0deb1a0130ba3e405",
        name=f"debian-13-bare-amd64-{_VERSION}-local",
        machine="debian-13-bare",
        description="Debian 13 (trixie) of the local catalogue without nginx: userdata has to install it",
        owner=_DEBIAN,
        parameters=("/aws/service/debian/release/13-bare/latest/amd64",),
    ),
)


def _arm(image: Image) -> Image:
    """Return the ARM image beside an image. What boots from it is what this machine is."""
    return replace(
        image,
        ami=f"{image.ami[:-5]}a{image.ami[-4:]}",
        name=image.name.replace("amd64", "arm64"),
        description=f"{image.description}; it stands for arm64, and boots as this machine's architecture",
        parameters=tuple(each.replace("amd64", "arm64") for each in image.parameters),
        architecture="arm64",
    )


IMAGES = (*_X86_IMAGES, *map(_arm, _X86_IMAGES))


@functools.cache
def images(region: str) -> tuple[Image, ...]:
    """Return the images of a region. An image has another id in each region, so an id from another region is unknown."""
    return IMAGES if region == HOME else tuple(replace(each, ami=_elsewhere(each.ami, region)) for each in IMAGES)


def image_of(ami: str, region: str = HOME) -> Image | None:
    return next((image for image in images(region) if image.ami == ami), None)


def _elsewhere(ami: str, region: str) -> str:
    return f"ami-{hashlib.sha256(f'{region} {ami}'.encode()).hexdigest()[:17]}"
