"""Check what a machine's description needs only at its creation, and CloudAPI would refuse: placement, addresses, disks, volumes.

The rules are those of CloudAPI's lib/machines.js and lib/validation, and VMAPI's lib/common/validation.js
(validLocality).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from components.joyent.catalogue import Catalogue, is_uuid
from components.joyent.errors import AmbiguousError, NotFoundError
from components.joyent.machine_fields import Inputs
from components.joyent.provider import unknown

Fault = tuple[str, str]
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
    if len(disks) > _MOST_DISKS:
        yield "disks", f"are {len(disks)}, and CloudAPI takes {_MOST_DISKS}. Leave some out"
    if list(disks).count("remaining") > 1:
        yield "disks", "only one of them can be the text remaining. Give the others a size"
    wanted = inputs.get("package")
    package = next((each for each in catalogue.packages() if wanted in (each.id, each.name)), None)
    if package is None:
        return
    if not package.flexible_disk:
        flexible = ", ".join(each.name for each in catalogue.packages() if each.flexible_disk) or "none"
        yield "disks", f"{package} has no flexible disk. Choose a package that has one: {flexible}"
    elif sum(each for each in disks if _whole(each)) > package.disk:
        yield "disks", f"are larger than the {package.disk} MiB of {package}. Make them smaller"


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
