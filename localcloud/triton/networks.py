"""Networks, their addresses, and fabrics (lib/endpoints/networks.js; joyent-schemas' cloudapi)."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping
from typing import Any

from localcloud.triton.call import Call, Reply
from localcloud.triton.errors import invalid_argument, missing_parameter, not_found
from localcloud.triton.netdata import Addresses, Network

_MOST_RESOLVERS = 4
_NETWORK_FIELDS = {
    "name": str, "description": str, "subnet": str, "provision_start_ip": str, "provision_end_ip": str, "gateway": str,
    "resolvers": list, "routes": dict, "internet_nat": bool,
}  # fmt: skip
_REQUIRED = ("name", "subnet", "provision_start_ip", "provision_end_ip")
_UPDATABLE = ("name", "description", "provision_start_ip", "provision_end_ip", "resolvers", "routes")


def list_networks(call: Call) -> Reply:
    """List networks. A pool replaces its members. With `?fabric` (any text) the list has only fabric networks."""
    found = [each for each in call.store.networks if not call.query.get("fabric") or each.fabric]
    return Reply(200, [_body(call, each) for each in found])


def get_network(call: Call) -> Reply:
    return Reply(200, _body(call, _network(call, call.path["network"])))


def _body(call: Call, network: Network) -> dict[str, Any]:
    body = network.body()
    return {**body, "suffixes": call.store.suffixes()} if call.store.cns else body


def _network(call: Call, network_id: str) -> Network:
    found = call.store.network(network_id)
    if found is None:
        raise not_found(f"{network_id} not found")
    return found


# Addresses


def list_ips(call: Call) -> Reply:
    """Those in use by the account, or reserved."""
    network = _with_ips(call)
    limit, offset = call.whole("limit", 1000) or 1000, call.whole("offset", 0)
    addresses = network.addresses
    known = sorted({*addresses.used, *addresses.reserved}, key=ipaddress.IPv4Address)
    shown = [_ip_body(call, network, each) for each in known][offset : offset + limit]
    return Reply(200, shown, {"x-query-limit": str(limit), "x-resource-count": str(len(shown))})


def get_ip(call: Call) -> Reply:
    network, ip = _with_ips(call), call.path["ip"]
    _check_in_subnet(network, ip)
    if network.owner is None and ip not in network.addresses.used:
        raise not_found(f"{ip} not found")
    return Reply(200, _ip_body(call, network, ip))


def update_ip(call: Call) -> Reply:
    network, ip = _with_ips(call), call.path["ip"]
    if "reserved" not in call.params:
        raise missing_parameter("reserved is a required argument")
    reserved = call.params["reserved"]
    if reserved not in (True, False, "true", "false"):
        raise invalid_argument("reserved must be set to true or false")
    if network.owner is None:
        raise invalid_argument(f"cannot update an IP on a public network: {network.id}")
    _check_in_subnet(network, ip)
    if _managed(network, ip):
        raise invalid_argument(f"cannot update managed IP: {ip}")
    if reserved in (True, "true"):
        network.addresses.reserved.add(ip)
    else:
        network.addresses.reserved.discard(ip)
    return Reply(200, _ip_body(call, network, ip))


def _with_ips(call: Call) -> Network:
    network = _network(call, call.path["network"])
    if network.members:
        raise invalid_argument(f"cannot get IPs in a network pool: {network.id}")
    return network


def _check_in_subnet(network: Network, ip: str) -> None:
    try:
        inside = ipaddress.IPv4Address(ip) in network.addresses.subnet
    except ValueError as wrong:
        raise invalid_argument(f'property "ip": {ip} is not an IP address') from wrong
    if not inside:
        raise not_found(f"{ip} not found")


def _managed(network: Network, ip: str) -> bool:
    edges = (network.addresses.subnet.network_address, network.addresses.subnet.broadcast_address)
    return ip in (network.addresses.gateway, network.gateway) or ipaddress.IPv4Address(ip) in edges


def _ip_body(call: Call, network: Network, ip: str) -> dict[str, Any]:
    machine = network.addresses.used.get(ip)
    body: dict[str, Any] = {"ip": ip, "reserved": ip in network.addresses.reserved, "managed": _managed(network, ip)}
    return {**body, "owner_uuid": call.store.id, "belongs_to_uuid": machine} if machine else body


# VLANs of the account's fabric


def list_vlans(call: Call) -> Reply:
    return Reply(200, [dict(each) for each in call.store.vlans.values()])


def get_vlan(call: Call) -> Reply:
    return Reply(200, _vlan(call))


def create_vlan(call: Call) -> Reply:
    number = _vlan_number(call.params.get("vlan_id"))
    if not isinstance(call.params.get("name"), str) or not call.params["name"]:
        raise invalid_argument('property "name": is missing and it is required')
    if number in call.store.vlans:
        raise invalid_argument('property "vlan_id": must be unique')
    vlan = {"vlan_id": number, "name": call.params["name"]}
    if call.params.get("description"):
        vlan["description"] = str(call.params["description"])
    call.store.vlans[number] = vlan
    return Reply(201, dict(vlan))


def update_vlan(call: Call) -> Reply:
    vlan = _vlan(call)
    for name in ("name", "description"):
        if name in call.params:
            if not isinstance(call.params[name], str):
                raise invalid_argument(f'property "{name}": string expected')
            vlan[name] = call.params[name]
    return Reply(202, dict(vlan))


def delete_vlan(call: Call) -> Reply:
    vlan = _vlan(call)
    if any(each.vlan_id == vlan["vlan_id"] for each in call.store.networks):
        raise invalid_argument("VLAN must not have any networks on it")
    del call.store.vlans[vlan["vlan_id"]]
    return Reply(204)


def _vlan_number(value: Any) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not 0 <= int(text) <= 4095:
        raise invalid_argument('property "vlan_id": must be a number from 0 to 4095')
    return int(text)


def _vlan(call: Call) -> dict[str, Any]:
    number = _vlan_number(call.path["vlan"])
    if number not in call.store.vlans:
        raise not_found("vlan not found")
    return call.store.vlans[number]


# Networks of a VLAN


def list_fabric_networks(call: Call) -> Reply:
    vlan = _vlan(call)
    return Reply(200, [_body(call, each) for each in call.store.networks if each.vlan_id == vlan["vlan_id"]])


def get_fabric_network(call: Call) -> Reply:
    return Reply(200, _body(call, _fabric_network(call)))


def create_fabric_network(call: Call) -> Reply:
    vlan, params = _vlan(call), _checked(call.params)
    for name in _REQUIRED:
        if name not in params:
            raise invalid_argument(f'property "{name}": is missing and it is required')
    addresses = _range(params["subnet"], params["provision_start_ip"], params["provision_end_ip"])
    if any(each.vlan_id == vlan["vlan_id"] and each.name == params["name"] for each in call.store.networks):
        raise invalid_argument('property "name": already exists')
    nat, gateway = bool(params.get("internet_nat", True)), params.get("gateway")
    if gateway is None and nat:
        raise invalid_argument('property "gateway": must be set unless internet_nat is false')
    if gateway is not None and _address(gateway, "gateway") not in addresses.subnet:
        raise invalid_argument('property "gateway": cannot be outside subnet')
    for other in call.store.networks:
        if other.vlan_id == vlan["vlan_id"] and other.addresses.subnet.overlaps(addresses.subnet):
            raise invalid_argument('property "subnet": overlaps with another network of this VLAN')
    network = Network(
        params["name"], str(uuid.uuid4()), addresses, False, params.get("description", ""), call.store.id,
        vlan_id=vlan["vlan_id"], gateway=gateway, internet_nat=nat,
        resolvers=params.get("resolvers", []), routes=params.get("routes", {}),
    )  # fmt: skip
    if gateway is not None:
        addresses.gateway = gateway
        addresses.reserved.add(gateway)
    call.store.networks.append(network)
    return Reply(201, _body(call, network))


def update_fabric_network(call: Call) -> Reply:
    network = _fabric_network(call)
    if "id" in call.params:
        raise invalid_argument('property "id": cannot be set')
    params = _checked(call.params)
    for name in params:
        if name not in _UPDATABLE:
            raise invalid_argument(f'property "{name}": unsupported property')
    old = network.addresses
    first = params.get("provision_start_ip", str(old.first))
    last = params.get("provision_end_ip", str(old.last))
    changed = _range(str(old.subnet), first, last)
    old.move(changed.first, changed.last)
    for name in ("name", "description", "resolvers", "routes"):
        setattr(network, name, params.get(name, getattr(network, name)))
    return Reply(200, _body(call, network))


def delete_fabric_network(call: Call) -> Reply:
    """Refused while anything is on it."""
    network = _fabric_network(call)
    if call.store.default_network == network.id:
        raise invalid_argument("cannot delete default network")
    if network.addresses.used:
        raise invalid_argument("network must have no NICs provisioned")
    call.store.networks.remove(network)
    return Reply(204)


def _fabric_network(call: Call) -> Network:
    vlan = _vlan(call)
    for network in call.store.networks:
        if network.id == call.path["id"] and network.vlan_id == vlan["vlan_id"]:
            return network
    raise not_found("network not found")


def _checked(params: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of a network, each of its type. Raises ApiError."""
    for name, value in params.items():
        kind = _NETWORK_FIELDS.get(name)
        if kind is None:
            raise invalid_argument(f'property "{name}": unsupported property')
        if not isinstance(value, kind):
            raise invalid_argument(f'property "{name}": {kind.__name__} expected')
    resolvers = params.get("resolvers", [])
    if len(resolvers) > _MOST_RESOLVERS:
        raise invalid_argument(f'property "resolvers": maximum of {_MOST_RESOLVERS} resolvers')
    for at, resolver in enumerate(resolvers):
        _address(resolver, f"resolvers[{at}]")
    return dict(params)


def _range(subnet: str, first: str, last: str) -> Addresses:
    try:
        net = ipaddress.IPv4Network(subnet)
    except ValueError as wrong:
        raise invalid_argument(f'property "subnet": Subnet must be in CIDR form: {subnet}') from wrong
    start, end = _address(first, "provision_start_ip"), _address(last, "provision_end_ip")
    for name, address in (("provision_start_ip", start), ("provision_end_ip", end)):
        if address not in net:
            raise invalid_argument(f'property "{name}": cannot be outside subnet')
        if address in (net.network_address, net.broadcast_address):
            raise invalid_argument(f'property "{name}": cannot be the network or broadcast address')
    if end < start:
        raise invalid_argument('property "provision_end_ip": must be after provision_start_ip')
    return Addresses(subnet, first, last)


def _address(text: Any, name: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(str(text))
    except ValueError as wrong:
        raise invalid_argument(f'property "{name}": must be an IPv4 address') from wrong


# The account's default network for docker


def get_config(call: Call) -> Reply:
    return Reply(200, {"default_network": call.store.default_network})


def update_config(call: Call) -> Reply:
    wanted = call.params.get("default_network")
    if wanted is None or set(call.params) != {"default_network"}:
        raise invalid_argument('property "default_network": is missing and it is required')
    if call.store.network(str(wanted)) is None:
        raise invalid_argument("unknown network")
    call.store.default_network = str(wanted)
    return Reply(200, {"default_network": wanted})
