"""A machine as the data centre stores it, and as CloudAPI shows it."""

from __future__ import annotations

import datetime
import re
import secrets
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from localcloud.triton.catalogue import Image, Package
from localcloud.triton.netdata import Network
from localcloud.triton.steps import Job

HVM = ("kvm", "bhyve")
# What counts as "active" in lists: everything that is there (VMAPI's search).
GONE_STATES = ("deleted", "failed")
_NOT_DNS = re.compile(r"[^a-z0-9-]+")
TagValue = str | int | float | bool


def iso(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def dnsified(text: str) -> str:
    """As CNS writes an alias; distinct names can become the same."""
    return _NOT_DNS.sub("-", text.lower())


@dataclass
class Nic:
    """`network` is the member where the machine was put on a pool."""

    network: Network
    ip: str
    primary: bool = False
    state: str = "provisioning"
    mac: str = field(default_factory=lambda: "90:b8:d0:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3)))

    def body(self) -> dict[str, Any]:
        return {
            "mac": self.mac, "ip": self.ip, "primary": self.primary, "gateway": self.network.addresses.gateway,
            "netmask": str(self.network.addresses.subnet.netmask), "state": self.state, "network": self.network.id,
        }  # fmt: skip


@dataclass
class Snapshot:
    name: str
    created: float
    state: str = "queued"
    size: int = 0

    def body(self) -> dict[str, Any]:
        if self.state == "queued":
            return {"name": self.name, "state": "queued"}
        shown = iso(self.created)
        return {"name": self.name, "state": self.state, "size": self.size, "created": shown, "updated": shown}


@dataclass
class Machine:
    """`nics` is empty until they exist; `wanted_nics` is what the machine was created with, `pending_nics` what is being
    added. Its account's lock guards it."""

    name: str
    image: Image
    package: Package
    brand: str
    created: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "provisioning"
    server: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    internal: dict[str, Any] = field(default_factory=dict)
    nics: list[Nic] = field(default_factory=list)
    wanted_nics: list[Nic] = field(default_factory=list)
    pending_nics: list[Nic] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    firewall: bool = False
    protected: bool = False
    delegate_dataset: bool | None = None
    disks: list[dict[str, Any]] = field(default_factory=list)
    updated: float = 0.0
    jobs: deque[Job] = field(default_factory=deque)
    audit: list[dict[str, Any]] = field(default_factory=list)
    hostname: str = ""
    dns_domain: str = "local"

    def __post_init__(self) -> None:
        self.updated = self.updated or self.created

    @property
    def exists(self) -> bool:
        return self.state not in GONE_STATES

    def primary(self) -> Nic | None:
        return next((nic for nic in self.nics if nic.primary), self.nics[0] if self.nics else None)

    def body(self, credentials: bool = False) -> dict[str, Any]:
        """What GetMachine and ListMachines share; `dns_names` is only in the former."""
        body: dict[str, Any] = {
            "id": self.id, "name": self.name, "type": "virtualmachine" if self.brand in HVM else "smartmachine",
            "brand": self.brand, "state": self.state, "image": self.image.id, "ips": [nic.ip for nic in self.nics],
            "memory": self.package.memory, "disk": self.package.disk, "deletion_protection": self.protected,
            "metadata": dict(self.metadata), "tags": dict(self.tags), "created": iso(self.created),
            "updated": iso(self.updated), "networks": [nic.network.id for nic in self.nics],
        }  # fmt: skip
        if self.delegate_dataset is not None:
            body["delegate_dataset"] = self.delegate_dataset
        if self.brand == "bhyve":
            body.update(flexible=bool(self.package.flexible_disk), disks=[dict(each) for each in self.disks])
        primary = self.primary()
        if primary is not None:
            body["nics"] = [nic.body() for nic in self.nics]
            body["primaryIp"] = primary.ip
        secret = passwords(self.internal) if credentials else {}
        if secret:
            body["metadata"]["credentials"] = secret
        body.update(firewall_enabled=self.firewall, compute_node=self.server, package=self.package.name)
        return {**body, "encrypted": True} if self.internal.get("encrypted") else body


def passwords(internal: dict[str, Any]) -> dict[str, Any]:
    """The credentials among a machine's internal metadata, without the suffix that marks them."""
    return {key.removesuffix("_pw"): value for key, value in internal.items() if key.endswith("_pw")}
