"""The guest's side of metadata: what mdata-get, mdata-put, mdata-list and mdata-delete see (SmartOS's metadata agent)."""

from __future__ import annotations

import json
from typing import Any

from localcloud.triton.model import Machine
from localcloud.triton.netdata import Network

_VIEWS = "sdc:"


def get(machine: Machine, key: str, datacenter: str) -> str | None:
    """None where there is no such key. Keys in `sdc:` are views of the machine; those in `_pw` are internal metadata."""
    if key.startswith(_VIEWS):
        found = _view(machine, key.removeprefix(_VIEWS), datacenter)
    elif key.endswith("_pw"):
        found = machine.internal.get(key)
    else:
        found = machine.metadata.get(key)
    return None if found is None else _text(found)


def put(machine: Machine, key: str, value: str) -> None:
    """Raises ValueError for what a guest may not set."""
    _holder(machine, key)[key] = value


def delete(machine: Machine, key: str) -> None:
    """Raises ValueError for what a guest may not delete."""
    _holder(machine, key).pop(key, None)


def keys(machine: Machine) -> list[str]:
    return sorted(machine.metadata)


def _holder(machine: Machine, key: str) -> dict[str, Any]:
    if key.startswith(_VIEWS):
        raise ValueError(f"{key} is read-only")
    if not key:
        raise ValueError("a key must not be empty")
    return machine.internal if key.endswith("_pw") else machine.metadata


def _view(machine: Machine, key: str, datacenter: str) -> Any:
    if key.startswith("tags."):
        return machine.tags.get(key.removeprefix("tags."))
    views: dict[str, Any] = {
        "uuid": machine.id, "server_uuid": machine.server, "datacenter_name": datacenter, "alias": machine.name,
        "hostname": machine.hostname or machine.id, "dns_domain": machine.dns_domain, "state": machine.state,
        "nics": [_nic(at, machine) for at in range(len(machine.nics))], "resolvers": _resolvers(machine), "routes": [],
        "tags": machine.tags, "brand": machine.brand, "image_uuid": machine.image.id,
        "max_physical_memory": machine.package.memory, "volumes": [],
    }  # fmt: skip
    return views.get(key)


def _nic(at: int, machine: Machine) -> dict[str, Any]:
    nic = machine.nics[at]
    prefix = nic.network.addresses.subnet.prefixlen
    return {
        "interface": f"net{at}", "mac": nic.mac, "ip": nic.ip, "ips": [f"{nic.ip}/{prefix}"],
        "netmask": str(nic.network.addresses.subnet.netmask), "gateway": nic.network.addresses.gateway,
        "gateways": [nic.network.addresses.gateway], "primary": nic.primary, "network_uuid": nic.network.id,
        "nic_tag": _nic_tag(nic.network), "vlan_id": nic.network.vlan_id or 0, "mtu": 1500,
    }  # fmt: skip


def _nic_tag(network: Network) -> str:
    """Fabrics are overlays, each with its own tag."""
    return "sdc_overlay/1" if network.fabric else "external" if network.public else "internal"


def _resolvers(machine: Machine) -> list[str]:
    found = [resolver for nic in machine.nics for resolver in nic.network.resolvers]
    return list(dict.fromkeys(found))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
