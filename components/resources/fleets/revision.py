"""What machines of a fleet are made of, as each is tagged with it."""

from __future__ import annotations

import hashlib

from components.config.models import FleetSettings
from components.resources import userdata

VERSION = "rollcall-version"


def version(told: FleetSettings) -> str:
    """What machines of this fleet are made of, as each is tagged with it: a hash of the release and the boot script, the size,
    the key pair, IPv6 and the releases of its workloads, then
    the image in the configuration's words. One that is tagged otherwise is about to be replaced."""
    made_of = (
        f"{userdata.sources_hash()} {told.size} {told.ssh.key_name if told.ssh else None}{' ipv6' if told.ipv6 else ''}"
        f"{''.join(f' {name}={digest}' for name, digest in told.digests.items())}"
    )
    return f"{hashlib.sha256(made_of.encode()).hexdigest()[:8]} {told.image} {told.renew}".rstrip()


def is_of(tagged: str, told: FleetSettings, image: str = "") -> bool:
    """Whether a machine with this version, made from the cloud's `image`, is what the fleet wants."""
    (hashed, *words), (wanted, *other) = tagged.split(" "), version(told).split(" ")
    return hashed == wanted and (words == other or told.image == image)
