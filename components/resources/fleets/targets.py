"""Refuse an update of some resources only (`--target`, `--exclude`) that would change machines without what keeps DNS in step with them.

The engine does not say which resources it updates. But it gives the program the state of a resource that it leaves out, and the engine
deletes nothing before the program has ended without an error. So the program compares: a machine that this run creates or replaces must be
in the RollCall that this run updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

MEMBER = ("machine", "generation", "instance")


def left_out(wanted: Sequence[Any], counted: Any, *, dry_run: bool) -> list[str]:
    """Return the numbers of the machines that this run creates or replaces, and that `counted` lacks.

    `wanted` are the machines as the program has them after their registration. `counted` are the members of a RollCall or a Release after
    its registration. Values that are not known yet are `pulumi.UNKNOWN`. A preview does not know whether the engine leaves a new machine
    out, so there only a machine with a predecessor counts.
    """
    if not _is_known(counted):
        # A preview of an update; or, without a preview, a resource that is left out and is not in the state.
        return [] if dry_run else [str(each["machine"]) for each in wanted if _is_known(each)]
    before = {str(each["machine"]): [str(each[key]) for key in MEMBER] for each in counted or ()}
    return [
        str(each["machine"])
        for each in wanted
        if (_is_known(each) and before.get(str(each["machine"])) != [str(each[key]) for key in MEMBER])
        or (not _is_known(each) and dry_run and str(each["machine"]) in before)
    ]


def _is_known(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_known, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_known, value))
    # No value of a member is None: it is not known.
    return value is not None and not pulumi.contains_unknowns(value)


def refuse_left_out(
    fleet: str, kind: str, counted: pulumi.Output[Any], members: Sequence[Mapping[str, pulumi.Input[str]]]
) -> pulumi.Output[Any]:
    """Return the `members` of a fleet, after its resource of this `kind` is registered with the members `counted`.

    It fails with a RunError if the engine leaves this resource out, and not the machines.
    """

    def compare(both: Sequence[Any]) -> Any:
        found = left_out(both[1], both[0], dry_run=pulumi.runtime.is_dry_run())
        if found:
            raise pulumi.RunError(_message(fleet, kind, found))
        return both[1]

    listed = [pulumi.Output.all(**{key: _with_unknown(each[key]) for key in MEMBER}) for each in members]
    together: pulumi.Output[Any] = pulumi.Output.all(_with_unknown(counted), pulumi.Output.all(*listed))
    result: pulumi.Output[Any] = together.apply(compare, run_with_unknowns=True)
    return result


def _with_unknown(value: pulumi.Input[Any]) -> pulumi.Output[Any]:
    """Return the value, which is `pulumi.UNKNOWN` where it is not known."""
    result: pulumi.Output[Any] = pulumi.Output.from_input(value).apply(lambda each: each, run_with_unknowns=True)
    return result


def _message(fleet: str, kind: str, found: Sequence[str]) -> str:
    names = ", ".join(f"{fleet}-{each}" for each in found)
    return (
        f"{fleet}: this run creates or replaces {names} and leaves out the {kind} of the fleet, so no machine is deleted. "
        "Run `pulumi up` without --target and --exclude."
    )
