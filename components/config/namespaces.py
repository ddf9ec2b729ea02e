"""Check the names of a stack's keys: a misspelt namespace, a missing region, a secret in plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches

SPACE = "rollcall"
_REGION = "aws:region"
# The first words of the error for a missing region.
REGION_MISSING = f"{_REGION}: is not set"


def ours(keys: Iterable[str]) -> list[str]:
    """Return Rollcall's keys, without the namespace."""
    return [key.removeprefix(f"{SPACE}:") for key in keys if key.startswith(f"{SPACE}:")]


def misspelt(keys: Iterable[str]) -> list[str]:
    """Return an error for each key in a namespace that is similar to Rollcall's."""
    found = []
    for key in keys:
        space, _, name = key.partition(":")
        if space != SPACE and get_close_matches(space, [SPACE], cutoff=0.8):
            found.append(
                f"{key}: is in the namespace {space}, which nothing reads (did you mean {SPACE}:{name}?). Correct or remove it."
            )
    return found


def region_missing(keys: Iterable[str], around: str = "") -> str:
    """Return the error that `aws:region` is not set. `around` is the region in the user's environment."""
    names = [each for each in keys if each.startswith("aws:")]
    near = get_close_matches("aws:region", names, n=1, cutoff=0.7)
    meant = f" ({near[0]} is set; did you mean that?)" if near else ""
    environment_note = f", and AWS_REGION, which says {around} here, is not the stack's" if around else ""
    fix = f"Run `pulumi config set aws:region {around or 'us-west-2'}`"
    return f"{REGION_MISSING}{meant}{environment_note}. {fix}: another region, or none, replaces every AWS resource."


def in_plain_text(keys: Iterable[str], is_plain: Callable[[str], bool]) -> list[str]:
    """Return an error for each of these keys that is not a Pulumi secret.

    The engine keeps the configuration in the state, for the dynamic resources. So the state would have the secrets in
    plain text, whatever cloud the fleets are on.
    """
    return [
        f"{key}: is in plain text. Run `pulumi config set --secret {key}`, and revoke this one."
        for key in dict.fromkeys(keys)
        if is_plain(key)
    ]
