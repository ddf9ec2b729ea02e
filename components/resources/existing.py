"""Describe what exists of the stack before the program runs, as far as resources depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class InZone:
    """Where the state has an EC2 machine. Each is empty if the state does not say it.

    - `subnet` and `zone` are those of its instance. `zone_id` is known if a choice of a zone is in the state.
    - `chosen`: the state has a choice of a zone for it.
    """

    subnet: str = ""
    zone: str = ""
    zone_id: str = ""
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class ExistingResources:
    """What exists of the stack before the program runs.

    - `taken`: the id with which each resource is imported.
    - `by_hand`: instances in the state that Rollcall did not boot.
    - `fleets`: the fleets that have machines in the state.
    - `by_ssh`: machines that the state drains over SSH.
    - `uncounted`: machines of the state that no roll call has counted, as RollCall's inputs.
    - `renamed`: machines, by name, that were created under another stack id.
    - `in_zones`: where the EC2 machines of the state are, by name.
    - `token_account`: the account that owns the operator's Cloudflare token, if no user owns it.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    by_hand: frozenset[str] = frozenset()
    fleets: frozenset[str] = frozenset()
    by_ssh: frozenset[str] = frozenset()
    uncounted: tuple[Mapping[str, str], ...] = ()
    renamed: frozenset[str] = frozenset()
    in_zones: Mapping[str, InZone] = field(default_factory=dict)
    token_account: str = ""
