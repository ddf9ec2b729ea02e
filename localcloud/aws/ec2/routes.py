"""Where packets that leave a subnet go: to an internet gateway, to a NAT gateway, or nowhere.

"A public subnet has a direct route to an internet gateway":
https://docs.aws.amazon.com/vpc/latest/userguide/configure-subnets.html#subnet-types

"If a subnet has no explicit association, it uses the main route table": https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Route_Tables.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from localcloud.network.namespace import is_on_the_wire
from localcloud.network.translation import Translation

EVERYWHERE = "0.0.0.0/0"


def table_of(store: Any, subnet: Any) -> Any | None:
    """Return the route table of a subnet: the one associated with it, otherwise the main one of its VPC."""
    tables = [each for each in store.route_tables.values() if each.vpc_id == subnet.vpc_id]
    own = (each for each in tables if subnet.id in each._associations.values())
    return next(own, None) or next((each for each in tables if each.main_association_id), None)


def gateway_of(store: Any, subnet: Any) -> Any | None:
    """Return moto's gateway of the subnet's default route: an internet gateway or a NAT gateway that works; None without one."""
    table = table_of(store, subnet)
    route = next((each for each in table.routes if each.destination_cidr_block == EVERYWHERE), None) if table else None
    if route is None:
        return None
    if route.nat_gateway is not None:
        return route.nat_gateway if route.nat_gateway.state == "available" else None
    attached = getattr(route.gateway, "vpc", None)
    return route.gateway if attached is not None and attached.id == subnet.vpc_id else None


def is_internet_gateway(gateway: Any | None) -> bool:
    return gateway is not None and str(gateway.id).startswith("igw-")


def has_internet_gateway(store: Any, vpc_id: str) -> bool:
    """Return whether an internet gateway is attached to the VPC."""
    return any(each.vpc is not None and each.vpc.id == vpc_id for each in store.internet_gateways.values())


def translations(store: Any, machines: Iterable[tuple[Any, str]]) -> Iterator[Translation]:
    """Yield the addresses of each of moto's instances, with the one that its machine has on its interface."""
    for instance, wire in machines:
        nic = instance.nics[0]
        gateway = gateway_of(store, nic.subnet)
        public = str(nic.public_ip or "") if is_internet_gateway(gateway) else ""
        behind = "" if gateway is None or is_internet_gateway(gateway) else str(gateway._eni.public_ip or "")
        near = str(store.get_vpc(nic.subnet.vpc_id).cidr_block) if is_on_the_wire(wire) else ""
        yield Translation(wire=wire, public=public, out=public or behind, near=near)


def give_default_gateway(store: Any) -> None:
    """Give the default VPC what moto's lacks: an internet gateway, and a route to it in the main route table.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
    """
    vpc = next((each for each in store.vpcs.values() if each.is_default), None)
    if vpc is None or has_internet_gateway(store, vpc.id):
        return
    made = store.create_internet_gateway()
    store.attach_internet_gateway(made.id, vpc.id)
    main = next(each for each in store.route_tables.values() if each.vpc_id == vpc.id and each.main_association_id)
    store.create_route(main.id, EVERYWHERE, gateway_id=made.id)
