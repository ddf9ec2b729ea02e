"""Create Vlan and FabricNetwork: the account's private networks on the fabric."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.joyent.account_resources import Body, Fault, ThingField, ThingProvider, chosen
from components.joyent.errors import FatalError, NotFoundError, RefusedError, WaitTimeoutError
from components.joyent.pacing import wait_until
from components.joyent.session import Session

_VLANS = "/fabrics/default/vlans"


@dataclass(frozen=True, kw_only=True)
class VlanArgs:
    """The inputs of a Vlan. `vlan_id`: 0 to 4095."""

    vlan_id: pulumi.Input[int]
    vlan_name: pulumi.Input[str]
    description: pulumi.Input[str] | None = None
    datacenter: pulumi.Input[str] | None = None


class Vlan(Resource, module="joyent", name="Vlan"):  # type: ignore[misc, call-arg]
    """A VLAN. `vlan_id` replaces it, the rest changes in place. The resource's id is the number as text."""

    vlan_id: pulumi.Output[int]

    def __init__(self, name: str, args: VlanArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(VlanProvider(), name, dict(vars(args)), opts)


@dataclass(frozen=True, kw_only=True)
class FabricNetworkArgs:
    """The inputs of a FabricNetwork.

    `subnet` is in CIDR form. Machines get addresses from `provision_start_ip` to `provision_end_ip`. `routes` maps a
    subnet to a gateway. `internet_nat` (CloudAPI's default: true) needs `gateway`. `delete_timeout` is for how many
    seconds a NIC may still be on it, also the NAT zone's.
    """

    vlan_id: pulumi.Input[int]
    network_name: pulumi.Input[str]
    subnet: pulumi.Input[str]
    provision_start_ip: pulumi.Input[str]
    provision_end_ip: pulumi.Input[str]
    gateway: pulumi.Input[str] | None = None
    resolvers: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    routes: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    internet_nat: pulumi.Input[bool] | None = None
    description: pulumi.Input[str] | None = None
    delete_timeout: pulumi.Input[float] = 120
    datacenter: pulumi.Input[str] | None = None


class FabricNetwork(Resource, module="joyent", name="FabricNetwork"):  # type: ignore[misc, call-arg]
    """A fabric network.

    Name, description, range, resolvers and routes change in place; VLAN, subnet, gateway and NAT replace it.
    """

    def __init__(self, name: str, args: FabricNetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(FabricNetworkProvider(), name, dict(vars(args)), opts)


class _Vlans:
    fields = (
        ThingField("vlan_id", "replace", needed=True),
        ThingField("vlan_name", needed=True),
        ThingField("description"),
    )

    def faults(self, inputs: Body) -> Iterable[Fault]:
        number = inputs["vlan_id"]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 4095:
            yield "vlan_id", f"must be a whole number from 0 to 4095, not {number!r}. Correct it"

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        try:
            body = self.fetch(session, str(inputs["vlan_id"]), inputs)
        except NotFoundError:
            return None
        if body["name"] != inputs["vlan_name"]:
            raise FatalError(
                f"VLAN {inputs['vlan_id']}: is taken by {body['name']!r}. Choose another vlan_id, or that vlan_name."
            )
        return str(body["vlan_id"]), body

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        body = session.api.post(_VLANS, {"vlan_id": inputs["vlan_id"], **_vlan(inputs)})
        return str(body["vlan_id"]), body

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(f"{_VLANS}/{id_}")
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        return {"vlan_id": body["vlan_id"], "vlan_name": body["name"], "description": body.get("description", "")}

    def outputs(self, body: Body) -> Body:
        return {}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        body: Body = session.api.put(f"{_VLANS}/{id_}", _vlan(inputs))
        return body

    def remove(self, session: Session, id_: str, props: Body) -> None:
        session.api.delete(f"{_VLANS}/{id_}")


class _Networks:
    _CHANGEABLE = ("description", "provision_start_ip", "provision_end_ip", "resolvers", "routes")
    _FIXED = ("subnet", "gateway", "internet_nat")
    fields = (
        ThingField("vlan_id", "replace", needed=True, hidden=True),
        ThingField("network_name", needed=True),
        ThingField("subnet", "replace", needed=True),
        ThingField("provision_start_ip", needed=True),
        ThingField("provision_end_ip", needed=True),
        ThingField("gateway", "replace"),
        ThingField("internet_nat", "replace"),
        ThingField("resolvers"),
        ThingField("routes"),
        ThingField("description"),
        ThingField("delete_timeout", hidden=True),
    )

    def faults(self, inputs: Body) -> Iterable[Fault]:
        try:
            subnet = ipaddress.ip_network(inputs["subnet"])
        except ValueError as wrong:
            yield "subnet", f"{wrong}. Write it as 10.1.2.0/24"
            return
        for name in ("provision_start_ip", "provision_end_ip", "gateway"):
            try:
                if name in inputs and ipaddress.ip_address(inputs[name]) not in subnet:
                    yield name, f"{inputs[name]} is not in {subnet}. Choose an address of it"
            except ValueError as wrong:
                yield name, str(wrong)

    def find(self, session: Session, inputs: Body) -> tuple[str, Body] | None:
        for body in session.api.get(_path(inputs)):
            if body["name"] == inputs["network_name"]:
                wrong = [name for name in self._FIXED if name in inputs and body.get(name) != inputs[name]]
                if wrong:
                    raise FatalError(
                        f"network {body['name']!r} ({body['id']}): exists with another {', '.join(wrong)}. Choose another network_name."
                    )
                return str(body["id"]), self.change(session, body["id"], inputs, ())
        return None

    def make(self, session: Session, inputs: Body) -> tuple[str, Body]:
        body = session.api.post(
            _path(inputs), {"name": inputs["network_name"], **chosen(inputs, self._CHANGEABLE + self._FIXED)}
        )
        return str(body["id"]), body

    def fetch(self, session: Session, id_: str, props: Body) -> Body:
        body: Body = session.api.get(f"{_path(props)}/{id_}")
        return body

    def live(self, inputs: Body, body: Body) -> Body:
        return {
            "network_name": body["name"],
            **{name: body.get(name) for name in self._CHANGEABLE + self._FIXED if name in body},
        }

    def outputs(self, body: Body) -> Body:
        return {}

    def change(self, session: Session, id_: str, inputs: Body, changed: Iterable[str]) -> Body:
        wanted = {"name": inputs["network_name"], **chosen(inputs, self._CHANGEABLE)}
        body: Body = session.api.put(f"{_path(inputs)}/{id_}", wanted)
        return body

    def remove(self, session: Session, id_: str, props: Body) -> None:
        """Delete the network, and repeat while a NIC is on it.

        CloudAPI refuses because of any NIC, even the NAT zone's. Machines that were just deleted keep theirs for a
        while.
        """
        refusal = ""

        def gone() -> bool | None:
            nonlocal refusal
            try:
                session.api.delete(f"{_path(props)}/{id_}")
            except RefusedError as refused:
                refusal = str(refused)
                return None
            return True

        try:
            wait_until(f"network {id_}", gone, timeout=float(props["delete_timeout"]), sleep=session.sleep)
        except WaitTimeoutError as late:
            raise WaitTimeoutError(
                f"network {id_}: was not deleted within {float(props['delete_timeout']):g} s ({refusal}). "
                "Delete what is on it, or raise delete_timeout."
            ) from late


class VlanProvider(ThingProvider):
    kind = _Vlans()


class FabricNetworkProvider(ThingProvider):
    kind = _Networks()


def _vlan(inputs: Body) -> dict[str, Any]:
    return {"name": inputs["vlan_name"], **chosen(inputs, ("description",))}


def _path(inputs: Body) -> str:
    # The engine gives numbers as floats.
    return f"{_VLANS}/{int(inputs['vlan_id'])}/networks"
