"""Describe what exists of the stack before the program runs, as far as resources depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ExistingResources:
    """What exists of the stack before the program runs.

    - `taken`: the id with which each resource is imported.
    - `by_hand`: instances in the state that Rollcall did not boot.
    - `fleets`: the fleets that have machines in the state.
    - `by_ssh`: machines that the state drains over SSH.
    - `uncounted`: machines of the state that no roll call has counted, as RollCall's inputs.
    - `renamed`: machines, by name, that were created under another stack id.
    - `token_account`: the account that owns the operator's Cloudflare token, if no user owns it.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    by_hand: frozenset[str] = frozenset()
    fleets: frozenset[str] = frozenset()
    by_ssh: frozenset[str] = frozenset()
    uncounted: tuple[Mapping[str, str], ...] = ()
    renamed: frozenset[str] = frozenset()
    token_account: str = ""
