"""The setting for the further volumes of an EC2 machine, as the program writes it and the machine reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rollcall.machine import VOLUMES
from rollcall.setting_values import LONGEST_VALUE, SettingsError


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A further volume: the name of its device, as `sdf`, and the folder at which the machine mounts it."""

    device: str
    mount: str


def format_volumes(volumes: Iterable[Volume]) -> str:
    """Return the setting for volumes. Raises SettingsError if EC2 would not accept it."""
    text = " ".join(f"{each.device}={each.mount}" for each in volumes)
    if len(text) > LONGEST_VALUE:
        raise SettingsError(f"they are {len(text)} characters long, EC2 takes {LONGEST_VALUE}")
    return text


def parse_volumes(text: str) -> tuple[Volume, ...]:
    """Return the volumes of a setting. Raises SettingsError."""
    found = []
    for word in text.split():
        device, equals, mount = word.partition("=")
        if not equals or not device or not mount.startswith("/"):
            raise SettingsError(f"{VOLUMES}: {word!r} is not DEVICE=FOLDER")
        found.append(Volume(device=device, mount=mount))
    return tuple(found)
