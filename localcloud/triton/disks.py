"""The disks of a virtual machine with flexible disk space (lib/machines.js, getCreateOptions; lib/validation/disk.js)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from localcloud.triton.catalogue import IMAGE_SIZE, Image, Package
from localcloud.triton.errors import invalid_argument
from localcloud.triton.model import HVM

_MOST = 8
_TOO_LARGE = "The size of the disks must not be greater than the package quota"


def of(params: Mapping[str, Any], image: Image, package: Package, brand: str) -> list[dict[str, Any]]:
    """The disks of a new machine as CloudAPI shows them; none but for bhyve. Raises ApiError."""
    wanted = params.get("disks")
    if brand in HVM and wanted and not package.flexible_disk:
        raise invalid_argument(
            "The use of `disks` is only supported if the package has the flexible_disk attr set to true"
        )
    if brand != "bhyve":
        return []
    if not (package.flexible_disk and wanted):
        left = package.disk - (IMAGE_SIZE if package.flexible_disk else 0)
        return [_shown(IMAGE_SIZE, boot=True, image=image.id), _shown(left)]
    return _flexible(wanted, image, package)


def _flexible(wanted: Any, image: Image, package: Package) -> list[dict[str, Any]]:
    if not isinstance(wanted, list) or not all(isinstance(each, dict) for each in wanted):
        raise invalid_argument("disks must be an array of objects")
    if len(wanted) > _MOST:
        raise invalid_argument(f"A maximum of {_MOST} disks per VM are supported")
    for at, each in enumerate(wanted):
        _check_block_size(each, at)
    sizes = [each.get("size", IMAGE_SIZE if at == 0 else None) for at, each in enumerate(wanted)]
    if sizes.count("remaining") > 1:
        raise invalid_argument("Only one disk.size can be set to `remaining`")
    if not all(each == "remaining" or (isinstance(each, int) and not isinstance(each, bool)) for each in sizes):
        # NaN in the source, which VMAPI refuses.
        raise invalid_argument("disk.size must be set to a number or `remaining`")
    total = sum(each for each in sizes if each != "remaining")
    sizes = [package.disk - total if each == "remaining" else each for each in sizes]
    if sum(sizes) > package.disk or min(sizes) <= 0 or (wanted[0].get("size") == "remaining" and sizes[0] < IMAGE_SIZE):
        raise invalid_argument(_TOO_LARGE)
    if sizes[0] < IMAGE_SIZE:
        raise invalid_argument("Size must be greater than or equal to image size for the boot disk")
    return [
        _shown(size, boot=True, image=image.id) if at == 0 else _shown(size, block=wanted[at].get("block_size", 8192))
        for at, size in enumerate(sizes)
    ]


def _check_block_size(disk: Mapping[str, Any], at: int) -> None:
    block = disk.get("block_size")
    if block is None:
        return
    if at == 0:
        raise invalid_argument("Cannot set block_size and image_uuid.")
    if not isinstance(block, int) or not 512 <= block <= 131072 or block & (block - 1):
        raise invalid_argument(f"Invalid block_size: {block} on disk: {at}. Must be 512-131072 and a power of 2.")


def _shown(size: int, *, boot: bool = False, image: str = "", block: int = 8192) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()), "size": size, "block_size": block, **({"boot": True, "image": image} if boot else {}),
    }  # fmt: skip
