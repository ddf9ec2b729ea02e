"""Say what machines of a fleet consist of: one table of what replaces a machine, and what does not.

The table gives the trigger that replaces a machine's Deregistration and with it the machine. It gives the inputs of an
EC2 instance that must not replace it by themselves, the tag by which a preview knows which machines will be replaced,
and the words of the review. docs/architecture.md explains the rows. What identifies a machine (stack, fleet, number,
networks) is an input of its Deregistration.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from components.config.models import FleetSettings
from components.resources import userdata

VERSION = "rollcall-version"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a machine that cannot change in place.

    - `key` is its name in the revision. It never changes.
    - `name` is what people call it.
    - `values` are its values for a fleet. Other values replace the machines; None: the part never replaces one.
    - `tagged`: the machines' revision contains it.
    - `shown`: a preview shows another value as a change of an input of the machine.
    - `ignored` are inputs of an EC2 instance for this part: the AWS provider would replace the
      instance when one changes, although the part is the same.
    """

    key: str
    name: str
    values: Callable[[FleetSettings], Sequence[str]] | None
    tagged: bool = True
    shown: bool = False
    ignored: tuple[str, ...] = ()


def image_words(fleet: FleetSettings) -> str:
    """Return the image of a fleet in the configuration's words, with the word that asks for a newer one."""
    return f"{fleet.image} {fleet.image_refresh}".strip()


def network_words(fleet: FleetSettings) -> list[str]:
    """Return what a fleet chooses of its network that cannot change in place; empty if it chooses nothing."""
    chosen = {"vpc": fleet.vpc, "subnets": fleet.subnets, "public": fleet.public_address}
    found = [f"{key} {json.dumps(value, sort_keys=True)}" for key, value in chosen.items() if value is not None]
    return [*found, "stable"] if fleet.stable_addresses else found


IMAGE = Part(
    key="image", name="its image's name", values=lambda fleet: [image_words(fleet)], tagged=False, ignored=("ami",)
)
PARTS = (
    # Compressed bytes differ between versions of zlib, so the value is the hash of the sources.
    Part(
        key="release",
        name="its release or boot script",
        values=lambda _: [userdata.sources_hash()],
        ignored=("userDataBase64",),
    ),
    # The revision has the image in plain words, so that an AMI's id can be compared with them.
    IMAGE,
    Part(key="size", name="its size", values=lambda fleet: [fleet.size], shown=True),
    # EC2 gives a machine its key pair when it is created, and never again.
    Part(
        key="key-pair",
        name="its key pair",
        values=lambda fleet: [fleet.ssh.key_name] if fleet.ssh and fleet.ssh.key_name else [],
        shown=True,
    ),
    # The stack's region has no value here, so to name it replaces nothing. A machine in another region is not found by its tag.
    Part(key="region", name="its region", values=lambda fleet: [fleet.region] if fleet.region else [], tagged=False),
    # A machine that was created without IPv6 may be in a subnet that has none.
    Part(key="ipv6", name="IPv6", values=lambda fleet: ["ipv6"] if fleet.ipv6 else [], shown=True),
    # CloudAPI takes all three at creation only.
    Part(key="brand", name="its brand", values=lambda fleet: [fleet.brand] if fleet.brand else [], shown=True),
    Part(key="affinity", name="its affinity", values=lambda fleet: fleet.affinity, shown=True),
    Part(key="disks", name="its disks", values=lambda fleet: fleet.disks, shown=True),
    # The words of the configuration, so that a subnet that is added to a VPC replaces nothing.
    Part(key="network", name="its network", values=lambda fleet: network_words(fleet)),
    # The provider changes type, IOPS and throughput in place. The system would not use more space before its next boot, and no volume
    # becomes smaller, so another size replaces the machine.
    Part(
        key="disk",
        name="the size or encryption of its disk",
        values=lambda fleet: [
            *([f"size={fleet.disk.size}"] if fleet.disk.size else []),
            *([] if fleet.disk.encrypted else ["plain"]),
            *([fleet.disk.kms_key] if fleet.disk.kms_key else []),
        ],
        shown=True,
    ),
    Part(
        key="volumes",
        name="its volumes",
        values=lambda fleet: [
            f"{device} {each.size} {each.type} {each.performance} {each.encrypted} {each.kms_key} {each.mount}"
            for device, each in fleet.volume_devices
        ],
        shown=True,
    ),
    # A Triton machine carries the modules for its system only if it has such settings.
    Part(
        key="system",
        name="the first setting of its system",
        values=lambda fleet: ["system"] if fleet.cloud != "aws" and fleet.system_settings else [],
        shown=True,
    ),
    # Without it, a machine in a closed network does not get its release.
    Part(key="proxy", name="its proxy", values=lambda fleet: [fleet.proxy] if fleet.proxy else [], shown=True),
    Part(
        key="workloads",
        name="its workloads",
        # Machines that change in place are replaced for other workloads, and not for another release of one.
        values=lambda fleet: [name if fleet.in_place else f"{name} {digest}" for name, digest in fleet.digests.items()],
    ),
    # A Triton machine has the modules for certificates in its user-script only if it needs them.
    Part(
        key="certificates",
        name="its certificates",
        values=lambda fleet: ["certificates"] if fleet.secured and fleet.cloud == "joyent" else [],
        shown=True,
    ),
    # The same for the module for dynamic updates.
    Part(
        key="dynamic",
        name="its zones with dynamic updates",
        values=lambda fleet: ["dynamic"] if fleet.dynamic and fleet.cloud == "joyent" else [],
        shown=True,
    ),
    # EC2 puts a machine into a placement group when it launches it. A stopped one could be moved, and would not serve meanwhile.
    Part(
        key="placement",
        name="its placement",
        values=lambda fleet: [fleet.placement] if fleet.placement else [],
        shown=True,
    ),
    # The cloud adds and removes zones.
    Part(key="subnet", name="its subnet", values=None, tagged=False, ignored=("subnetId",)),
    # A stopped instance has no public address, which the provider reads as an input.
    Part(key="address", name="its public address", values=None, tagged=False, ignored=("associatePublicIpAddress",)),
)
EC2_IGNORED = [name for part in PARTS for name in part.ignored]


def replacement_trigger(fleet: FleetSettings, image: Any) -> list[Any]:
    """Return the trigger of a Deregistration. `image` is the fleet's image in the program: text, or an output."""
    return [
        value
        for part in PARTS
        if part.values is not None
        for value in ([image] if part is IMAGE else part.values(fleet))
    ]


def version(fleet: FleetSettings) -> str:
    """Return the revision that each machine of a fleet is tagged with: a hash of its parts, then the image in the configuration's words.

    A machine with another revision will be replaced. A part without a value is not in the hash, so that a release with
    another part replaces nothing by itself.
    """
    found = ((part.key, part.values(fleet)) for part in PARTS if part.tagged and part.values)
    parts = [value for key, values in found if values for value in (key, *values)]
    return f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]} {image_words(fleet)}"


def is_of(tagged: str, fleet: FleetSettings, image: str = "") -> bool:
    """Return whether a machine with this revision, created from the cloud's `image`, is what the fleet wants."""
    (hashed, *words), (wanted, *other) = tagged.split(" "), version(fleet).split(" ")
    return hashed == wanted and (words == other or fleet.image == image)


def unseen_parts() -> str:
    """Name the parts that replace a machine although none of its inputs changes in the preview."""
    *first, last = [part.name for part in PARTS if part.values and not part.shown]
    return f"{', '.join(first)} or {last}"
