"""Give workloads with `awsCredentials` temporary credentials of AWS, which have the policies of the fleet and no others.

The instance role may change DNS and read every secret of the machine, so no workload gets its credentials, and none reaches the metadata
service. The agent assumes another role, which only this instance role may assume, and writes what it gets into a file in memory that
only the workload sees. AWS's SDKs read it by a `credential_process`, which they run again when the credentials expire:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rollcall.aws import AwsClient, InstanceRole, parsed_xml
from rollcall.containers import AWS, AWS_INSIDE
from rollcall.errors import RollcallError, TransientError
from rollcall.files import write_whole
from rollcall.imds import InstanceMetadata
from rollcall.machine import CREDENTIALS
from rollcall.settings import SAMPLES

# The folders of the workloads, each with its files. Only root can enter the first one.
HOME, INSIDE = Path(AWS), AWS_INSIDE
CONFIG, FILE = "config", "credentials.json"
# A role that is assumed with the credentials of a role has an hour at most:
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
LIFETIME_S, RENEW_AFTER_S, RETRY_S, _WITHIN_S = 3600, 1500.0, 15.0, 30.0
DEFINITIONS = Path("/opt/rollcall/workloads")
log = logging.getLogger("rollcall")


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Temporary credentials of a role. `text` is what an SDK reads from a credential process."""

    text: str


def assume(role: str, session: str, metadata: InstanceMetadata | None = None) -> Assumed:
    """Return credentials of a role. Raises RollcallError."""
    meta = metadata or InstanceMetadata()
    region, domain = meta.get("placement/region"), meta.get("services/domain", missing="amazonaws.com")
    url = os.environ.get("AWS_ENDPOINT_URL") or f"https://sts.{region}.{domain}"
    client = AwsClient("sts", region, InstanceRole(meta), url, _WITHIN_S)
    parameters = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": role, "RoleSessionName": session[:64]}
    form = urlencode({**parameters, "DurationSeconds": str(LIFETIME_S)}).encode()
    try:
        root = parsed_xml(
            client.call("POST", "/", body=form, headers={"Content-Type": "application/x-www-form-urlencoded"})
        )
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        found = {name: root.findtext(f".//Credentials/{name}") for name in names}
    except ValueError as garbled:
        raise TransientError(f"reason=garbled-reply api=sts error={type(garbled).__name__}") from garbled
    finally:
        client.close()
    if not all(found.values()):
        raise TransientError("reason=garbled-reply api=sts error=no-credentials")
    return Assumed(text=json.dumps({"Version": 1, **found}))


class RoleCredentials:
    """The credentials of this machine's workloads. `assume` gets a role and the name of a session."""

    def __init__(
        self,
        assume: Callable[[str, str], Assumed],
        region: Callable[[], str],
        instance: Callable[[], str],
        home: Path = HOME,
        definitions: Path = DEFINITIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._assume, self._region, self._instance = assume, region, instance
        self._home, self._definitions, self._clock = home, definitions, clock
        self._due: dict[tuple[str, str], float] = {}
        self._fault = ""

    def step(self, keys: Mapping[str, str], workloads: Iterable[str]) -> None:
        """Write the credentials of the workloads that need new ones now. Log a failure once."""
        role = keys.get(CREDENTIALS, "")
        wanted = {(role, name) for name in workloads if role and wants_credentials(name, self._definitions)}
        self._due = {key: due for key, due in self._due.items() if key in wanted}
        fault = ""
        for key in sorted(wanted):
            if self._clock() < self._due.get(key, 0.0):
                continue
            try:
                self._write(*key)
                self._due[key] = self._clock() + RENEW_AFTER_S
            except (RollcallError, OSError) as failed:
                self._due[key] = self._clock() + RETRY_S
                fault = f"workload={key[1]} reason=no-aws-credentials said={str(failed)[:200]!r}"
        if fault and fault != self._fault:
            log.error("%s", fault)
        self._fault = fault

    def _write(self, role: str, workload: str) -> None:
        found = self._assume(role, f"{self._instance()}-{workload}")
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._home / workload
        config = f"[default]\nregion = {self._region()}\ncredential_process = /bin/cat {INSIDE}/{FILE}\n"
        # The workload has a user without a fixed number, or runs in a container. Only root can enter the folder above.
        write_whole(folder / CONFIG, config, 0o444)
        write_whole(folder / FILE, found.text, 0o444)
        folder.chmod(0o755)


def wants_credentials(workload: str, definitions: Path = DEFINITIONS) -> bool:
    """Return whether the definition of the release that a workload runs has `awsCredentials`."""
    if workload in SAMPLES:
        return False
    try:
        found: Any = json.loads((definitions / workload / "current/workload.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and bool(found.get("awsCredentials"))


def keep(workloads: Callable[[], Iterable[str]], pause_s: float = 2.0) -> None:
    """Keep the credentials of the workloads valid for as long as the agent runs. For a thread."""
    from rollcall.clouds import detect

    try:
        cloud = detect()
        kept = RoleCredentials(assume, cloud.region, cloud.instance)
        while True:
            # The setting does not change while the machine lives, and a workload may come with a release in place.
            kept.step(cloud.keys(), workloads())
            time.sleep(pause_s)
    except Exception as fault:  # noqa: BLE001 - the next turn tries again
        log.error("step=role_credentials error=%s said=%r", type(fault).__name__, str(fault)[:200])
        time.sleep(RETRY_S)
