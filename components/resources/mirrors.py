"""Give machines the mirrors of releases: where each is, and the access key of those that need one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pulumi

from components.config import mirror_checks, secret_names
from components.config.models import MirrorSettings


def keys_of(mirrors: Iterable[MirrorSettings]) -> dict[str, pulumi.Output[str]]:
    """Return the access keys with which machines read these mirrors, by their short names: `ACCESS_KEY_ID SECRET`."""
    return {
        secret_names.mirror(each.name): pulumi.Output.secret(
            f"{each.access_key.get_secret_value()} {each.secret_key.get_secret_value()}"
        )
        for each in mirrors
        if each.endpoint is not None
    }


def settings_of(
    mirrors: Iterable[MirrorSettings], parameters: Mapping[str, pulumi.Output[str]] | None
) -> dict[str, pulumi.Input[str]]:
    """Return the machine settings for these mirrors, by their names.

    `parameters` are the names of the secrets in SSM by their short names; None where the secrets are in the machines'
    metadata.
    """
    found: dict[str, pulumi.Input[str]] = {}
    for each in mirrors:
        short = secret_names.mirror(each.name)
        if each.endpoint is None or parameters is None:
            found[each.name] = mirror_checks.words(each, short)
        else:
            found[each.name] = parameters[short].apply(lambda name, each=each: mirror_checks.words(each, name))
    return found
