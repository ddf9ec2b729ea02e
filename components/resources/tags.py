"""What the stack's resources are called and tagged, so that two of Rollcall's stacks in one account never take each other's.

Machines and DNS entries name their stack by one word, which is `deployment()` everywhere. Whatever AWS resource takes tags has
those of `marks()`: a person finds what belongs together, and a bill can be split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components.config.models import stack_id
from rollcall.settings import STACK

PROJECT = "rollcall-project"
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
