"""Rollcall on a machine: the agent that registers it in DNS, and the client that finds services there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollcall.resolve import discover

__all__ = ["discover"]


def __getattr__(name: str) -> Any:
    """Load the client on `from rollcall import discover`. The agent does not need it."""
    if name != "discover":
        raise AttributeError(f"module 'rollcall' has no attribute {name!r}")
    from rollcall import resolve

    return resolve.discover
