"""Read CloudAPI's answers into values: machines, images, packages, networks. Unknown fields are ignored."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TagValue = str | bool | int | float

# An address is public if it is in none of these. `ipaddress.is_private` would also refuse documentation addresses, which sandboxes use.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(net)
    for net in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """A machine as ListMachines and GetMachine show it.

    `state` is provisioning, running, stopping, stopped, offline, deleted, failed, ready or unknown; `package` is a name,
    or "" where CloudAPI does not know; `networks` are the members where the machine was provisioned on a pool; `tags`
    keep the types they were written with.
    """

    id: str
    name: str
    state: str
    brand: str
    image: str
    package: str
    memory: int
    ips: tuple[str, ...]
    primary_ip: str
    networks: tuple[str, ...]
    tags: Mapping[str, TagValue]
    metadata: Mapping[str, str] = field(repr=False)
    firewall_enabled: bool
    deletion_protection: bool
    compute_node: str
    created: str = ""
    encrypted: bool = False

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> MachineRecord:
        return cls(
            id=str(body["id"]),
            name=str(body.get("name", "")),
            state=str(body.get("state", "unknown")),
            brand=str(body.get("brand", "")),
            image=str(body.get("image", "")),
            package=str(body.get("package") or ""),
            memory=int(body.get("memory") or 0),
            ips=tuple(body.get("ips") or ()),
            primary_ip=str(body.get("primaryIp") or ""),
            networks=tuple(body.get("networks") or ()),
            tags=dict(body.get("tags") or {}),
            metadata=dict(body.get("metadata") or {}),
            firewall_enabled=bool(body.get("firewall_enabled", False)),
            deletion_protection=bool(body.get("deletion_protection", False)),
            compute_node=str(body.get("compute_node") or ""),
            created=str(body.get("created") or ""),
            encrypted=bool(body.get("encrypted", False)),
        )

    @property
    def public_ip(self) -> str:
        """The machine's public IPv4 address, the primary one rather than others; "" when it has none."""
        return next((ip for ip in (self.primary_ip, *self.ips) if ip and is_public(ip)), "")


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """An image. `brand` is the one that it requires, or "". `image_size`, in MiB, is that of a virtual machine's image."""

    id: str
    name: str
    version: str
    os: str
    type: str
    state: str
    public: bool
    published_at: str
    description: str
    owner: str
    min_memory: int
    max_memory: int
    brand: str = ""
    image_size: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ImageRecord:
        needs = body.get("requirements") or {}
        return cls(
            id=str(body["id"]),
            **{
                name: str(body.get(name) or "")
                for name in ("name", "version", "os", "type", "published_at", "description", "owner")
            },
            state=str(body.get("state") or "active"),
            public=bool(body.get("public", False)),
            min_memory=int(needs.get("min_ram") or needs.get("min_memory") or 0),
            max_memory=int(needs.get("max_ram") or needs.get("max_memory") or 0),
            brand=str(needs.get("brand") or ""),
            image_size=int(body.get("image_size") or 0),
        )

    def __str__(self) -> str:
        return f"{self.name}@{self.version} ({self.id})"


@dataclass(frozen=True, kw_only=True)
class PackageRecord:
    """Memory, disk and swap in MiB."""

    id: str
    name: str
    memory: int
    disk: int
    swap: int
    vcpus: int
    lwps: int
    version: str
    group: str
    description: str
    brand: str
    flexible_disk: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> PackageRecord:
        return cls(
            id=str(body["id"]),
            name=str(body.get("name") or ""),
            version=str(body.get("version") or ""),
            group=str(body.get("group") or ""),
            description=str(body.get("description") or ""),
            brand=str(body.get("brand") or ""),
            memory=int(body.get("memory") or 0),
            disk=int(body.get("disk") or 0),
            swap=int(body.get("swap") or 0),
            vcpus=int(body.get("vcpus") or 0),
            lwps=int(body.get("lwps") or 0),
            flexible_disk=bool(body.get("flexible_disk", False)),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.id}, {self.memory} MiB)"


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    id: str
    name: str
    public: bool
    fabric: bool
    description: str
    subnet: str
    gateway: str
    suffixes: tuple[str, ...]
    internet_nat: bool = True

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> NetworkRecord:
        return cls(
            id=str(body["id"]),
            **{name: str(body.get(name) or "") for name in ("name", "description", "subnet", "gateway")},
            public=bool(body.get("public", False)),
            fabric=bool(body.get("fabric", False)),
            suffixes=tuple(body.get("suffixes") or ()),
            internet_nat=bool(body.get("internet_nat", True)),
        )

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


def is_public(ip: str) -> bool:
    """Return whether an address is none of RFC 1918, RFC 6598, loopback, link-local or unique local."""
    return not any(ipaddress.ip_address(ip) in net for net in _NOT_PUBLIC)
