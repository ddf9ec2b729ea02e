"""What the stack's resources are called and tagged, so that two of Rollcall's stacks in one account never take each other's.

Machines and DNS entries name their stack by one word, which is `deployment()` everywhere. Whatever AWS resource takes tags has
those of `marks()`: a person finds what belongs together, and a bill can be split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pulumi

from components.config.models import FleetSettings, stack_id
from components.resources import userdata
from rollcall.settings import STACK

PROJECT = "rollcall-project"
VERSION = "rollcall-version"
MANAGED_BY = "managed-by"
# An object takes ten tags only. It is in a bucket that has ours.
_UNMARKED = "aws:s3/bucketObjectv2:BucketObjectv2"


def deployment() -> str:
    """The stack as tags and ownership marks name it: its name, behind the project's where that is not `rollcall`."""
    return named(pulumi.get_project(), pulumi.get_stack())


def named(project: str, stack: str) -> str:
    return stack_id(project, stack)


def marks() -> dict[str, str]:
    """The tags of everything that the stack makes."""
    return {STACK: deployment(), PROJECT: pulumi.get_project(), MANAGED_BY: "pulumi"}


def version(told: FleetSettings) -> str:
    """What machines of this fleet are made of, as each is tagged with it: a hash of the release and the boot script, the size,
    the key pair and IPv6, then the image in the configuration's words. One that is tagged otherwise is about to be replaced."""
    made_of = (
        f"{userdata.sources_hash()} {told.size} {told.ssh.key_name if told.ssh else None}{' ipv6' if told.ipv6 else ''}"
    )
    return f"{hashlib.sha256(made_of.encode()).hexdigest()[:8]} {told.image} {told.renew}".rstrip()


def is_of(tagged: str, told: FleetSettings, image: str = "") -> bool:
    """Whether a machine with this version, made from the cloud's `image`, is what the fleet wants."""
    (hashed, *words), (wanted, *other) = tagged.split(" "), version(told).split(" ")
    return hashed == wanted and (words == other or told.image == image)


def mark_everything() -> None:
    """From now on every AWS resource that takes tags gets `marks()` beside its own. Call it before the first is made."""
    kept = marks()

    def mark(made: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        # The SDK's classes give every input, also those that the program does not.
        if not made.type_.startswith("aws:") or "tags" not in made.props or made.type_ == _UNMARKED:
            return None
        return pulumi.ResourceTransformationResult({**made.props, "tags": _joined(kept, made.props["tags"])}, made.opts)

    pulumi.runtime.register_stack_transformation(mark)


def _joined(kept: Mapping[str, str], own: Any) -> Any:
    return (
        pulumi.Output.from_input(own or {}).apply(lambda tags: {**kept, **tags})
        if _is_late(own)
        else {**kept, **(own or {})}
    )


def _is_late(own: Any) -> bool:
    return own is not None and not isinstance(own, Mapping)
