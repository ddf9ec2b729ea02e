"""Check what a machine's description needs only at its creation, and CloudAPI would refuse: placement, addresses, disks, volumes.

The rules are those of CloudAPI's lib/machines.js and lib/validation, and VMAPI's lib/common/validation.js
(validLocality).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from components.joyent.catalogue import Catalogue, is_uuid
from components.joyent.errors import AmbiguousError, NotFoundError, RefusedError
from components.joyent.machine_fields import Inputs
from components.joyent.provider import unknown
from components.joyent.records import ImageRecord, PackageRecord

Fault = tuple[str, str]
T = TypeVar("T")
_MOST_DISKS = 8
_HVM = ("kvm", "bhyve")


def wishes(inputs: Inputs, catalogue: Catalogue) -> list[Fault]:
    """Return all faults: (input, what is wrong and how to fix it). Values that are not known yet pass."""
    return [
        *_locality(inputs),
        *_fixed_ips(inputs, catalogue),
        *_disks(inputs, catalogue),
        *_volumes(inputs, catalogue),
    ]


def _locality(inputs: Inputs) -> Iterator[Fault]:
    locality = inputs.get("locality")
    if locality is None:
        return
    if inputs.get("affinity"):
        yield "locality", "cannot be used with affinity, which replaces it. Keep one of the two"
    if not isinstance(locality, Mapping) or set(locality) - {"near", "far", "strict"}:
        yield (
            "locality",
            f"{locality!r} is not a locality. Write it as {{near: [ids of machines], far: [ids], strict: true}}",
        )
        return
    for name in ("near", "far"):
        value = locality.get(name, [])
        for each in value if isinstance(value, list) else [value]:
            if not unknown(each) and not is_uuid(str(each)):
                yield "locality", f"{each!r} in {name} is not the id of a machine. Give its UUID"
    if not isinstance(locality.get("strict", False), bool) and not unknown(locality["strict"]):
        yield "locality", f"strict must be true or false, not {locality['strict']!r}. Correct it"


def _fixed_ips(inputs: Inputs, catalogue: Catalogue) -> Iterator[Fault]:
    declared = [text for text in inputs.get("networks") or () if not unknown(text)]
    for text, ip in (inputs.get("fixed_ips") or {}).items():
        try:
            network = catalogue.network(text)
        except (AmbiguousError, NotFoundError) as fault:
            yield "fixed_ips", str(fault)
            continue
        if text not in declared and len(declared) == len(inputs.get("networks") or ()):
            yield "fixed_ips", f"{text} is not among the machine's networks. Add it there, in the same words"
        if network.public:
            yield "fixed_ips", f"{network} is public, where CloudAPI chooses the address. Leave {text} out"
        # CloudAPI shows the subnet of fabric networks only. A pool, which gives no fixed address, is shown like the others.
        elif network.subnet and not unknown(ip) and not _within(str(ip), network.subnet):
            yield "fixed_ips", f"{ip} is not an address in {network.subnet}, which {network} has. Choose one that is"


def _within(ip: str, subnet: str) -> bool:
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(subnet)
    except ValueError:
        return False


def _disks(inputs: Inputs, catalogue: Catalogue) -> Iterator[Fault]:
    disks = inputs.get("disks")
    if not disks:
        return
    wrong = [
        each for each in disks if not unknown(each) and each != "remaining" and not (_whole(each) and int(each) > 0)
    ]
    if wrong:
        yield "disks", f"{wrong[0]!r} is not a size. Give MiB as a whole number, or the text remaining"
        return
    yield from disk_faults(
        disks,
        _offer(catalogue.package, inputs.get("package")),
        _offer(catalogue.image, inputs.get("image")),
        "" if unknown(inputs.get("brand")) else str(inputs.get("brand") or ""),
        [each.name for each in catalogue.packages() if each.flexible_disk],
    )


def disk_faults(
    disks: Sequence[Any],
    package: PackageRecord | None,
    image: ImageRecord | None,
    brand: str,
    flexible: Sequence[str],
) -> Iterator[Fault]:
    """Return what is wrong with the sizes of the disks of a machine of this brand ("": not declared).

    CloudAPI drops the disks of a container without a message, and takes no disks for kvm (getCreateOptions of lib/machines.js).
    `flexible` are the names of packages with flexible disk space.
    """
    if len(disks) > _MOST_DISKS:
        yield "disks", f"are {len(disks)}, and CloudAPI takes {_MOST_DISKS}. Leave some out"
    if list(disks).count("remaining") > 1:
        yield "disks", "only one of them can be the text remaining. Give the others a size"
    if package is None:
        return
    brand = brand or (image.brand if image else "") or package.brand
    if not package.flexible_disk:
        yield (
            "disks",
            f"{package} has no flexible disk. Choose a package that has one: {', '.join(flexible) or 'none'}",
        )
    elif brand not in ("", "bhyve"):
        yield "disks", f"are for bhyve machines, and this one is {brand}. Leave them out, or choose another image"
    elif image and not brand and image.type != "zvol":
        yield "disks", f"are for bhyve machines, and {image} is for containers. Leave them out, or choose another image"
    else:
        yield from _size_faults(disks, package, image.image_size if image else 0)


def _size_faults(disks: Sequence[Any], package: PackageRecord, image_size: int) -> Iterator[Fault]:
    given = sum(each for each in disks if _whole(each))
    left = package.disk - given
    if left < 0:
        yield "disks", f"are larger than the {package.disk} MiB of {package}. Make them smaller"
    elif left == 0 and "remaining" in disks:
        yield "disks", f"leave nothing of the {package.disk} MiB of {package} as remaining. Make them smaller"
    boot = left if disks[0] == "remaining" else disks[0]
    if _whole(boot) and 0 < boot < image_size:
        yield "disks", f"begin with {boot} MiB for the boot disk, and the image takes {image_size}. Make it larger"


def brand_faults(brand: Any, image: ImageRecord, package: PackageRecord) -> Iterator[Fault]:
    """Return why this image, this package and the declared brand (None: none) do not fit, by getBrand of lib/machines.js."""
    if unknown(brand) or brand not in (None, *_HVM):
        return
    chosen, input_ = brand or image.brand or package.brand, "brand" if brand else "package"
    if package.brand and package.brand != chosen:
        yield input_, f"{package} is for machines of brand {package.brand}, not {chosen}. Choose another package"
    elif image.brand and image.brand != chosen:
        yield input_, f"{image} needs the brand {image.brand}, not {chosen}. Choose another image"
    elif chosen in _HVM and image.type != "zvol":
        yield (
            input_,
            f"{chosen} needs the image of a virtual machine, and {image} is for containers. Choose another image",
        )
    elif chosen and chosen not in _HVM and image.type == "zvol":
        yield input_, f"{chosen} is for containers, and {image} is for virtual machines. Choose another package"


def _offer(find: Callable[[str], T], text: Any) -> T | None:
    """Return what the data centre has under this name, or None. Another check reports what it does not have."""
    if not text or unknown(text):
        return None
    try:
        return find(str(text))
    except (AmbiguousError, NotFoundError, RefusedError):
        return None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _volumes(inputs: Inputs, catalogue: Catalogue) -> Iterator[Fault]:
    volumes = inputs.get("volumes")
    if not volumes:
        return
    if inputs.get("brand") in _HVM:
        yield "volumes", f"are not for machines of brand {inputs['brand']}. Leave them out"
    known = catalogue.volumes()
    if known is None:
        yield "volumes", "are not offered by this data centre. Leave them out"
        return
    for each in volumes:
        if unknown(each):
            continue
        if not isinstance(each, Mapping) or "name" not in each:
            yield "volumes", f"{each!r} is not a volume. Write it as {{name: …, mountpoint: /…}}"
        elif each["name"] not in known:
            yield (
                "volumes",
                f"{each['name']!r} does not exist. Name one of {', '.join(sorted(known)) or 'none'}",
            )
        elif not str(each.get("mountpoint", "")).startswith("/") or not str(each["mountpoint"]).strip("/"):
            yield "volumes", f"{each.get('mountpoint')!r} of {each['name']} is not a mount point. Give a path below /"
        elif each.get("mode", "rw") not in ("ro", "rw"):
            yield "volumes", f"{each['name']} has the mode {each['mode']!r}, which is not ro or rw. Set one of these"
