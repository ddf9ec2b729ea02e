"""Every endpoint, with the bucket that its requests are counted in (lib/app.js and the `mount` of each file)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from localcloud.network.routing import Router
from localcloud.triton import account, creating, fwrules, images, labels, machines, networks, nics, packages, snapshots
from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import not_implemented

Handler = Callable[[Call], Reply]


@dataclass(frozen=True)
class Route:
    """An endpoint. `family` names the bucket that its requests are counted in."""

    handler: Handler
    family: str


def _absent(what: str) -> Handler:
    def handle(_call: Call) -> Reply:
        raise not_implemented(f"{what} not enabled for this datacenter")

    return handle


def _ping(_call: Call) -> Reply:
    return Reply(200)


_MACHINE = "/machines/<machine>"
_VLAN = "/fabrics/default/vlans/<vlan>"
_TABLE: dict[str, tuple[tuple[str, str, Handler], ...]] = {
    "account": (
        ("GET", "", account.get_account),
        ("POST", "", account.update_account),
        ("GET", "/limits", account.limits),
    ),
    "datacenter": (("GET", "/datacenters", account.datacenters), ("GET", "/datacenters/<name>", account.datacenter)),
    "services": (("GET", "/services", account.services),),
    "config": (("GET", "/config", networks.get_config), ("PUT", "/config", networks.update_config)),
    "keys": (
        ("GET", "/keys", account.list_keys),
        ("POST", "/keys", account.create_key),
        ("GET", "/keys/<key>", account.get_key),
        ("DELETE", "/keys/<key>", account.delete_key),
        ("GET", "/users/<user>/keys", account.list_keys),
        ("POST", "/users/<user>/keys", account.create_key),
        ("GET", "/users/<user>/keys/<key>", account.get_key),
        ("DELETE", "/users/<user>/keys/<key>", account.delete_key),
    ),
    "users": (
        ("GET", "/users", account.list_users),
        ("POST", "/users", account.create_user),
        ("GET", "/users/<user>", account.get_user),
        ("POST", "/users/<user>", account.update_user),
        ("DELETE", "/users/<user>", account.delete_user),
    ),
    "datasets": (
        ("GET", "/images", images.list_images),
        ("POST", "/images", images.create),
        ("GET", "/images/<image>", images.get_image),
        ("POST", "/images/<image>", images.update),
        ("DELETE", "/images/<image>", images.delete),
    ),
    "packages": (("GET", "/packages", packages.list_packages), ("GET", "/packages/<package>", packages.get_package)),
    "networks": (
        ("GET", "/networks", networks.list_networks),
        ("GET", "/networks/<network>", networks.get_network),
        ("GET", "/networks/<network>/ips", networks.list_ips),
        ("GET", "/networks/<network>/ips/<ip>", networks.get_ip),
        ("PUT", "/networks/<network>/ips/<ip>", networks.update_ip),
        ("GET", "/fabrics/default/vlans", networks.list_vlans),
        ("POST", "/fabrics/default/vlans", networks.create_vlan),
        ("GET", _VLAN, networks.get_vlan),
        ("PUT", _VLAN, networks.update_vlan),
        ("DELETE", _VLAN, networks.delete_vlan),
        ("GET", f"{_VLAN}/networks", networks.list_fabric_networks),
        ("POST", f"{_VLAN}/networks", networks.create_fabric_network),
        ("GET", f"{_VLAN}/networks/<id>", networks.get_fabric_network),
        ("PUT", f"{_VLAN}/networks/<id>", networks.update_fabric_network),
        ("DELETE", f"{_VLAN}/networks/<id>", networks.delete_fabric_network),
    ),
    "nics": (
        ("GET", f"{_MACHINE}/nics", nics.list_nics),
        ("POST", f"{_MACHINE}/nics", nics.add_nic),
        ("GET", f"{_MACHINE}/nics/<mac>", nics.get_nic),
        ("DELETE", f"{_MACHINE}/nics/<mac>", nics.remove_nic),
    ),
    "machines": (
        ("GET", "/machines", machines.list_machines),
        ("POST", "/machines", creating.create),
        ("GET", _MACHINE, machines.get_machine),
        ("POST", _MACHINE, machines.update_machine),
        ("DELETE", _MACHINE, machines.delete_machine),
        ("GET", f"{_MACHINE}/audit", machines.audit),
        ("GET", f"{_MACHINE}/tags", labels.list_tags),
        ("POST", f"{_MACHINE}/tags", labels.add_tags),
        ("PUT", f"{_MACHINE}/tags", labels.replace_tags),
        ("DELETE", f"{_MACHINE}/tags", labels.delete_tags),
        ("GET", f"{_MACHINE}/tags/<tag>", labels.get_tag),
        ("DELETE", f"{_MACHINE}/tags/<tag>", labels.delete_tag),
        ("GET", f"{_MACHINE}/metadata", labels.list_metadata),
        ("POST", f"{_MACHINE}/metadata", labels.add_metadata),
        ("DELETE", f"{_MACHINE}/metadata", labels.delete_all_metadata),
        ("GET", f"{_MACHINE}/metadata/<key>", labels.get_metadata),
        ("DELETE", f"{_MACHINE}/metadata/<key>", labels.delete_metadata),
        ("GET", f"{_MACHINE}/snapshots", snapshots.list_snapshots),
        ("POST", f"{_MACHINE}/snapshots", snapshots.create),
        ("GET", f"{_MACHINE}/snapshots/<name>", snapshots.get),
        ("POST", f"{_MACHINE}/snapshots/<name>", snapshots.start_from),
        ("DELETE", f"{_MACHINE}/snapshots/<name>", snapshots.delete),
        ("GET", f"{_MACHINE}/fwrules", fwrules.machine_rules),
        ("POST", f"{_MACHINE}/migrate", _absent("migration is")),
        ("GET", "/fwrules", fwrules.list_rules),
        ("POST", "/fwrules", fwrules.create),
        ("GET", "/fwrules/<id>", fwrules.get_rule),
        ("POST", "/fwrules/<id>", fwrules.update),
        ("DELETE", "/fwrules/<id>", fwrules.delete),
        ("POST", "/fwrules/<id>/enable", fwrules.enable),
        ("POST", "/fwrules/<id>/disable", fwrules.disable),
        ("GET", "/fwrules/<id>/machines", fwrules.rule_machines),
    ),
}


def _table() -> Iterator[tuple[str, str, Route]]:
    yield "GET", "/--ping", Route(_ping, "ping")
    for family, routes in _TABLE.items():
        for method, path, handler in routes:
            yield method, f"/<account>{path}", Route(handler, family)


ROUTER: Router[Route] = Router(_table())
