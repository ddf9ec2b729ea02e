"""Decide which workloads a Triton machine carries in its user-script, and which ones it fetches from a store.

CloudAPI takes 100,000 bytes for the whole request that makes a machine. A machine carries all of its workloads if they
fit: then it needs no store. Otherwise it carries the smallest ones, and fetches the others from the stack's bucket by
the key of the fleet's IAM user, and from the mirrors.

Machines that change in place carry none, because their user-script must not change with a workload. The roll-out writes
each release into their metadata by a request of its own (CloudView.deliver), if it fits. If the fleet has a store, its
machines know the store whatever the sizes are. So a larger file changes no machine setting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.config import mirror_checks, secret_names
from components.config.models import FleetSettings, MirrorSettings, Settings, WorkloadSettings
from components.joyent.machine_checks import LARGEST_BODY
from components.resources import userdata, workload_secrets
from components.workloads.definitions import releases_of
from components.workloads.release import Release
from rollcall.settings import LONGEST_VALUE, MIRROR, STORE

# An access key of AWS with its name, quotes and commas.
_KEY_BYTES = 80
# A request that writes metadata has the same limit as one that makes a machine. The rest is for names and braces.
DELIVERED_BYTES = LARGEST_BODY - 1_000


@dataclass(frozen=True, kw_only=True)
class Cargo:
    """The releases of the workloads of a Triton fleet: those that its machines carry, and those that they fetch.

    `delivered` are those that a roll-out writes into the metadata of machines that change in place. `size` is how many
    bytes all that is carried takes with the secrets of the workloads, and `left` is how many there are. `fits` is false
    if the machines can neither carry nor fetch them.
    """

    carried: tuple[Release, ...] = ()
    fetched: tuple[Release, ...] = ()
    delivered: tuple[Release, ...] = ()
    size: int = 0
    left: int = 0
    fits: bool = True


def room(fleet: FleetSettings) -> int:
    """Return how many bytes remain after the boot script, the agent, and the settings of a machine."""
    used = userdata.settings_room() - userdata.unused_room(len(fleet.joins))
    return userdata.workload_room(LARGEST_BODY, used, fleet.in_place, bool(fleet.system_settings), fleet.dynamic)


def cargo(settings: Settings, fleet: FleetSettings, root: Path, left: int | None = None) -> Cargo:
    """Return what the machines of a Triton fleet carry. `root` is the project's folder, and `left` what remains (`room`)."""
    if fleet.cloud == "aws":
        return Cargo()
    left = max(0, (room(fleet) if left is None else left) - origins_size(settings, fleet))
    secrets = sum(map(secrets_size, settings.workloads_of(fleet)))
    releases = releases_of(settings, fleet.digests, root)
    if fleet.in_place:
        return _in_place(settings, fleet, releases, secrets, left)
    size = sum(map(userdata.carried_size, releases)) + secrets
    if size <= left or not has_store(settings, fleet):
        return Cargo(carried=tuple(releases), size=size, left=left, fits=size <= left)
    free = left - secrets - stores_size(settings.mirrors)
    carried: list[Release] = []
    for each in sorted(releases, key=lambda one: (userdata.carried_size(one), one.digest)):
        if sum(map(userdata.carried_size, [*carried, each])) <= free:
            carried.append(each)
    return Cargo(
        carried=tuple(each for each in releases if each in carried),
        fetched=tuple(each for each in releases if each not in carried),
        size=size,
        left=left,
        fits=free >= 0,
    )


def _in_place(settings: Settings, fleet: FleetSettings, releases: Sequence[Release], secrets: int, left: int) -> Cargo:
    """Return what machines that change in place get."""
    stored = has_store(settings, fleet)
    delivered = tuple(each for each in releases if is_deliverable(each))
    free = left - secrets - (stores_size(settings.mirrors) if stored else 0)
    return Cargo(
        fetched=tuple(releases) if stored else (),
        delivered=delivered,
        size=secrets,
        left=left,
        fits=free >= 0 and (stored or len(delivered) == len(releases)),
    )


def is_deliverable(release: Release) -> bool:
    """Return whether a request to CloudAPI that writes metadata can contain a release."""
    return userdata.carried_size(release) <= DELIVERED_BYTES


def has_store(settings: Settings, fleet: FleetSettings) -> bool:
    """Return whether the machines of a Triton fleet can fetch a release: from a mirror, or from the stack's bucket."""
    return bool(settings.mirrors) or settings.has_iam_user(fleet)


def origins_size(settings: Settings, fleet: FleetSettings) -> int:
    """Return how many bytes of a request to CloudAPI the keys and certificates of a fleet's sites take."""
    sites = settings.sites_of(fleet)
    closed = (each for each in sites if each.proxied)
    origins = userdata.settings_room(each.fqdn + each.zone * each.apex for each in closed) - userdata.settings_room()
    return origins + userdata.certificates_size(sum(each.tls is not None for each in sites))


def secrets_size(workload: WorkloadSettings) -> int:
    """Return how many bytes a workload's secrets take in the request that creates a Triton machine."""
    values = workload_secrets.secrets_of(workload)
    return len(json.dumps(values)) if values else 0


def stores_size(mirrors: Sequence[MirrorSettings]) -> int:
    """Return how many bytes the settings and access keys of the stack's bucket and of the mirrors take in it."""
    found = len(STORE) + LONGEST_VALUE + _KEY_BYTES
    for each in mirrors:
        key = secret_names.mirror(each.name)
        keys = each.access_key.get_secret_value(), each.secret_key.get_secret_value()
        found += len(json.dumps({f"metadata.{MIRROR}{each.name}": mirror_checks.words(each, key)}))
        found += len(json.dumps({f"metadata.{key}": " ".join(keys)}))
    return found
