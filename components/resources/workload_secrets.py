"""Give machines the secrets of workloads: their names in the machines' clouds, and the machine setting that names them."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulumi

from components.config.models import FleetSettings, Settings, WorkloadSettings
from rollcall.containers import PASSWORD
from rollcall.settings import Secrets

# The length in a machine setting with other words. It is long enough that two revisions are never the same.
_REVISION_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class WorkloadSecrets:
    """The setting of a fleet's machines for the secrets of a workload.

    The fleets that run it take their turns one after the other: this one is number `position` of `fleets`.
    """

    workload: str
    revision: pulumi.Output[str]
    prefix: pulumi.Output[str]
    position: int
    fleets: int

    def words(self, index: int) -> pulumi.Output[str]:
        """Return the machine setting of machine `index`."""
        turn = index * self.fleets + self.position
        return pulumi.Output.all(self.revision, self.prefix).apply(
            lambda both: Secrets(workload=self.workload, revision=both[0], turn=turn, prefix=both[1]).words
        )


def name_of(workload: str, secret: str) -> str:
    """Return the short name of a secret (components/resources/dns_credentials.py).

    It has a dot. A workload's name has no dot, and no other short name has one.
    """
    return f"{workload}.{secret}"


def secrets_of(workload: WorkloadSettings) -> dict[str, str]:
    """Return the values of all secrets that machines need for a workload: its own, and the password for its registry."""
    found = {name: value.get_secret_value() for name, value in workload.secrets.items()}
    return {**found, PASSWORD: workload.registry.password.get_secret_value()} if workload.registry else found


def names_of(workloads: Iterable[WorkloadSettings]) -> list[str]:
    """Return the short names of all secrets of these workloads."""
    return [name_of(each.name, secret) for each in workloads for secret in sorted(secrets_of(each))]


def values_of(workloads: Iterable[WorkloadSettings]) -> dict[str, pulumi.Output[str]]:
    """Return the secrets of these workloads by their short names."""
    return {
        name_of(each.name, secret): pulumi.Output.secret(value)
        for each in workloads
        for secret, value in sorted(secrets_of(each).items())
    }


def settings_of(
    settings: Settings,
    fleet: FleetSettings,
    key: pulumi.Output[str],
    parameters: Mapping[str, pulumi.Output[str]] | None,
) -> list[WorkloadSecrets]:
    """Return the machine settings of a fleet for the secrets of its workloads.

    `key` is the stack's probe key. `parameters` are the names of the secrets in SSM by their short names; None where
    the secrets are in the machines' metadata.
    """
    found = []
    for each in settings.workloads_of(fleet):
        if not secrets_of(each):
            continue
        users = [one.name for one in settings.fleets if each.name in one.runs]
        found.append(
            WorkloadSecrets(
                workload=each.name,
                revision=revision(each, key),
                prefix=_prefix(each, parameters),
                position=users.index(fleet.name),
                fleets=len(users),
            )
        )
    return found


def revision(workload: WorkloadSettings, key: pulumi.Output[str]) -> pulumi.Output[str]:
    """Return a word for the present values of a workload's secrets.

    It is in a tag, so it is an HMAC: without the key, it does not help to guess a value. A rotation makes another key
    (components/resources/probe_key.py), and so another word.
    """
    text = json.dumps(secrets_of(workload), sort_keys=True)
    signed = key.apply(lambda known: digest(known, workload.name, text))
    return pulumi.Output.unsecret(signed)


def digest(key: str, workload: str, text: str) -> str:
    """Return the revision of these values for a key."""
    signed = hmac.new(key.encode(), f"rollcall secrets of {workload}: {text}".encode(), hashlib.sha256)
    return signed.hexdigest()[:_REVISION_DIGITS]


def _prefix(workload: WorkloadSettings, parameters: Mapping[str, pulumi.Output[str]] | None) -> pulumi.Output[str]:
    """Return the text before the names of a workload's secrets in its machines' cloud."""
    if parameters is None:
        return pulumi.Output.from_input(name_of(workload.name, ""))
    secret = min(secrets_of(workload))
    return parameters[name_of(workload.name, secret)].apply(lambda name: name.removesuffix(secret))
