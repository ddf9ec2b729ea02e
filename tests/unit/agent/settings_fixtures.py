"""Write machine settings as a machine's cloud carries them, so that the agent can read them back."""

from __future__ import annotations

from rollcall.settings import (
    DRAIN,
    FLEET,
    GENERATION,
    JOIN,
    MACHINE,
    PROBE,
    SECRETS,
    STACK,
    WORKLOADS,
    MachineSettings,
    format_join,
)


def as_keys(settings: MachineSettings) -> dict[str, str]:
    """The keys and values, as EC2 tags or Joyent metadata."""
    keys = {STACK: settings.stack, FLEET: settings.fleet, MACHINE: settings.machine, GENERATION: settings.generation}
    keys[WORKLOADS] = " ".join(settings.workloads)
    keys.update({f"{JOIN}{index}": format_join(join) for index, join in enumerate(settings.joins)})
    keys.update({PROBE: settings.probe} if settings.probe else {})
    keys.update({f"{SECRETS}{each.workload}": each.words for each in settings.secrets})
    return {**keys, DRAIN: "true"} if settings.drain else keys
