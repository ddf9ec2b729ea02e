"""Name and tag the stack's resources, so that two Rollcall stacks in one account never take each other's resources.

Machines and DNS records name their stack by one word, which is `deployment()` everywhere. Every AWS resource that takes
tags has those of `stack_tags()`. So a person can find what belongs together, and a bill can be split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from components.config.models import stack_id
from rollcall.settings import STACK

PROJECT = "rollcall-project"
MANAGED_BY = "managed-by"
# An object takes only ten tags. Its bucket has our tags.
_UNMARKED = "aws:s3/bucketObjectv2:BucketObjectv2"


def deployment() -> str:
    """Return the stack as tags and ownership marks name it: its name, with the project's before it where that is not `rollcall`."""
    return named(pulumi.get_project(), pulumi.get_stack())


def named(project: str, stack: str) -> str:
    return stack_id(project, stack)


def stack_tags() -> dict[str, str]:
    """Return the tags of everything that the stack creates."""
    return {STACK: deployment(), PROJECT: pulumi.get_project(), MANAGED_BY: "pulumi"}


def tag_everything() -> None:
    """Give `stack_tags()` to every AWS resource created from now on that takes tags, beside its other tags.

    Call it before the first is created.
    """
    pulumi.runtime.register_stack_transformation(tagging())


def tagging() -> pulumi.ResourceTransformation:
    """Return the transformation that gives `stack_tags()` to the AWS resources to which it applies."""
    added = stack_tags()

    def tag(made: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        # The SDK's classes pass every input, also those that the program does not give.
        if not made.type_.startswith("aws:") or "tags" not in made.props or made.type_ == _UNMARKED:
            return None
        return pulumi.ResourceTransformationResult(
            {**made.props, "tags": _joined(added, made.props["tags"])}, made.opts
        )

    return tag


def _joined(added: Mapping[str, str], own: Any) -> Any:
    return (
        pulumi.Output.from_input(own or {}).apply(lambda tags: {**added, **tags})
        if _is_late(own)
        else {**added, **(own or {})}
    )


def _is_late(own: Any) -> bool:
    return own is not None and not isinstance(own, Mapping)
