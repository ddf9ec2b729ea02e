"""Make what a roll-out sees of one machine from its settings and its report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from components.rollout.values import FleetMachine
from rollcall.in_place import HOLD, WANTED, ReleaseReport, WantedRelease, parse_wanted
from rollcall.setting_values import SettingsError


def machine_of(
    name: str,
    number: int,
    instance: str,
    *,
    live: Mapping[str, str],
    report: ReleaseReport | None,
    answered: bool,
    state: str = "",
    step: str = "",
) -> FleetMachine:
    """Return the machine as a roll-out sees it."""
    return FleetMachine(
        name=name,
        number=number,
        instance=instance,
        live=live,
        wanted=wanted_in(live),
        report=report,
        answered=answered,
        on_hold=HOLD in live,
        state=state,
        step=step,
    )


def wanted_in(live: Mapping[str, str]) -> dict[str, WantedRelease]:
    """Return the wanted releases in live settings, by workload. A text that someone wrote by hand and that is none counts as absent."""
    found = {}
    for key, text in sorted(live.items()):
        if key.startswith(WANTED):
            with contextlib.suppress(SettingsError):
                found[key[len(WANTED) :]] = parse_wanted(key, text)
    return found
