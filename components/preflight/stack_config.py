"""Read the configuration of the stack, as the engine gives it to the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi

if TYPE_CHECKING:
    pass


def config(key: str) -> str | None:
    """Return the value of a key of the stack's configuration, secrets too."""
    value: str | None = pulumi.runtime.get_config(key)
    return value


def is_secret(key: str) -> bool:
    """Return whether a key's value is a Pulumi secret."""
    return bool(pulumi.runtime.is_config_secret(key))


def config_keys() -> list[str]:
    """Return every key of the stack's configuration, `NAMESPACE:NAME`, as the engine gives it."""
    return sorted({*pulumi.runtime.config.CONFIG.get(), *pulumi.runtime.config.get_config_env()})
