"""What the local data centre offers: images, packages, networks. Identifiers are the same in every run."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

DATACENTER = "local-1"
# Of a zvol, in MiB.
IMAGE_SIZE = 10240
_NAMES = uuid.UUID("6a8f3f0e-7c0e-4f2b-9a55-1d9a2f1c7b11")


def fixed_id(name: str) -> str:
    return str(uuid.uuid5(_NAMES, name))


OPERATOR_ID = fixed_id("account admin")
NEIGHBOUR_ID = fixed_id("account neighbour")
SERVERS = tuple(fixed_id(f"server {number}") for number in range(3))


@dataclass
class Image:
    """`boots` is the name of the machine image that the hypervisor starts for it."""

    name: str
    version: str
    boots: str
    id: str = ""
    os: str = "linux"
    type: str = "lx-dataset"
    description: str = ""
    published: str = "2026-11-01T00:00:00.000Z"
    owner: str = OPERATOR_ID
    public: bool = True
    state: str = "active"
    requirements: dict[str, Any] = field(default_factory=lambda: {"min_ram": 256, "brand": "lx"})
    size: int = 178_257_920
    acl: list[str] = field(default_factory=list)
    tags: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    homepage: str = ""
    eula: str = ""
    error: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.id = self.id or fixed_id(f"image {self.name}@{self.version}")

    def visible_to(self, account: str) -> bool:
        return self.public or self.owner == account or account in self.acl

    def body(self, modern: bool) -> dict[str, Any]:
        """`modern`: API version 8 or newer, which names types differently."""
        old_type = "virtualmachine" if self.type == "zvol" else "smartmachine"
        body: dict[str, Any] = {
            "id": self.id, "name": self.name, "version": self.version, "os": self.os,
            "requirements": self._requirements(), "type": self.type if modern else old_type,
        }  # fmt: skip
        if self.type == "zvol":
            body["image_size"] = IMAGE_SIZE
        optional = {
            "description": self.description, "acl": self.acl, "tags": self.tags, "origin": self.origin,
            "homepage": self.homepage, "eula": self.eula, "error": self.error,
        }  # fmt: skip
        body.update({key: value for key, value in optional.items() if value})
        if self.state in ("active", "disabled"):
            body["files"] = [{"compression": "gzip", "sha1": f"{uuid.UUID(self.id).hex}00000000", "size": self.size}]
            body["published_at"] = self.published
        return {**body, "owner": self.owner, "public": self.public, "state": self.state}

    def _requirements(self) -> dict[str, Any]:
        """Password is not shown (lib/datasets.js, translate)."""
        shown = {key: value for key, value in self.requirements.items() if key != "password"}
        for limit in ("min", "max"):
            if f"{limit}_ram" in shown:
                shown[f"{limit}_memory"] = shown[f"{limit}_ram"]
        return shown


def images() -> list[Image]:
    note = "Debian 12 stands in for Ubuntu 24.04 on this machine"
    large = {"min_ram": 2048, "max_ram": 65536, "brand": "lx"}
    windows = {"min_ram": 4096, "brand": "kvm", "password": True}
    august, june, january = (f"{day}T00:00:00.000Z" for day in ("2025-08-01", "2024-06-01", "2026-01-05"))
    return [
        Image("debian-12", "20261101", "debian-12", description="Debian 12 with nginx and the guest tools"),
        Image("debian-12", "20250801", "debian-12", description="An older Debian 12", published=august),
        Image("debian-12-bare", "20261101", "debian-12-bare", description="Debian 12 without nginx"),
        Image("debian-13", "20261101", "debian-13", description="Debian 13 with nginx and the guest tools"),
        Image("debian-13-bare", "20261101", "debian-13-bare", description="Debian 13 without nginx"),
        Image("ubuntu-24.04", "20261101", "debian-12", description=note),
        Image("debian-11", "20240601", "debian-12", description="No longer offered", published=june, state="disabled"),
        Image("large-only", "1.0.0", "debian-12", description="Needs 2 GiB", published=january, requirements=large),
        Image(
            "debian-12-hvm", "20261101", "debian-12", type="zvol", description="For bhyve", published=january,
            requirements={"min_ram": 256},
        ),
        Image(
            "windows-2022", "1.0.0", "debian-12", os="windows", type="zvol", description="Needs a password",
            published=january, requirements=windows,
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Package:
    """Memory, disk and swap in MiB."""

    name: str
    memory: int
    version: str = "1.0.0"
    disk: int = 25600
    lwps: int = 4000
    vcpus: int = 1
    group: str = "g1"
    brand: str | None = None
    active: bool = True
    os: str | None = None
    flexible_disk: bool | None = None
    traits: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return fixed_id(f"package {self.name} {self.version}")

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": self.id, "name": self.name, "memory": self.memory, "disk": self.disk, "swap": self.memory * 2,
            "lwps": self.lwps, "vcpus": self.vcpus, "version": self.version, "group": self.group, "default": False,
            "description": f"{self.memory} MiB RAM, {self.disk / 1024:g} GiB disk",
        }  # fmt: skip
        if self.brand is not None:
            body["brand"] = self.brand
        if self.brand == "bhyve" and self.flexible_disk is not None:
            body["flexible_disk"] = self.flexible_disk
        return body


def packages() -> list[Package]:
    return [
        Package("g1.nano", 512, disk=12800),
        Package("g1.micro", 1024),
        Package("g1.small", 2048, disk=51200),
        Package("g1.medium", 4096, disk=102400, vcpus=2),
        # A package that can no longer be bought, one of another brand, and one on other servers.
        Package("g1.retired", 1024, active=False),
        Package("k1.medium", 4096, group="k1", brand="kvm", disk=102400, vcpus=2),
        Package("b1.small", 2048, group="b1", brand="bhyve", disk=51200, flexible_disk=True),
        Package("b1.medium", 4096, group="b1", brand="bhyve", disk=102400, flexible_disk=True),
        Package("b1.rigid", 2048, group="b1", brand="bhyve", disk=51200),
        Package("s1.small", 2048, group="s1", traits=("ssd",)),
    ]
