"""A Triton machine with a fabric's network card first and a public one second: every side finds the same public address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.compute.base import public
from components.compute.triton import TritonView
from components.config.models import FleetSettings
from components.joyent.client import CloudApi
from components.joyent.machine_checks import faults
from components.joyent.session import Session
from components.preflight.checks import datacenter_of
from components.preflight.quotas import check_triton
from components.resources.fleets.revision import version
from localcloud.triton import Names
from rollcall.clouds import Joyent
from tests.cloud.cloudapi_server import ACCOUNT, RSA_KEY, Front, Lab, private_text

pytestmark = pytest.mark.clouds
NETWORKS = Names(
    public=("MNX-Triton-Public",), private=("MNX-Triton-Private",), fabrics={"My-Fabric-Network": "192.168.128.0/22"}
)
WEB = FleetSettings(name="web", cloud="joyent", count=1, size="g1.nano", image="debian-12", joins=("site/www",))
ORDERS = [
    ("My-Fabric-Network", "MNX-Triton-Public"),
    ("MNX-Triton-Public", "My-Fabric-Network"),
    ("MNX-Triton-Private", "My-Fabric-Network", "MNX-Triton-Public"),
]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


def session(lab: Lab) -> Session:
    key = {"keyId": lab.fingerprint, "keyMaterial": private_text(RSA_KEY).decode()}
    return Session(CloudApi.from_settings({"url": lab.url, "account": ACCOUNT, **key}, environ={}))


class Guest(Joyent):
    """The agent's side, with the metadata that the local cloud gives a machine."""

    def __init__(self, lab: Lab, machine: str) -> None:
        self._lab, self._machine = lab, machine

    def _get(self, key: str) -> str:
        return self._lab.cloud.metadata_get(self._machine, key) or ""


PRIVATE_ORDERS = [
    (("My-Fabric-Network",), 0),
    (("MNX-Triton-Public", "My-Fabric-Network"), 1),
    (("My-Fabric-Network", "MNX-Triton-Public"), 0),
    (("MNX-Triton-Private", "My-Fabric-Network"), 0),
    (("MNX-Triton-Public", "My-Fabric-Network", "MNX-Triton-Private"), 1),
]


@pytest.mark.parametrize("subnet", ["192.168.128.0/22", "203.0.113.224/27"], ids=["private", "not private by itself"])
@pytest.mark.parametrize(("names", "at"), PRIVATE_ORDERS, ids=[" ".join(each) for each, _ in PRIVATE_ORDERS])
def test_the_private_address_is_that_of_the_first_private_network_to_the_roll_call_and_the_agent(
    front: Front, names: tuple[str, ...], at: int, subnet: str
) -> None:
    lab = Lab(front, {"networks": replace(NETWORKS, fabrics={"My-Fabric-Network": subnet})})
    found = lab.running(networks=[lab.network(each) for each in names])
    view = object.__new__(TritonView)
    view._api, view._networks = session(lab).api, session(lab).catalogue.networks
    (machine,) = view.of([found["id"]])
    guest = Guest(lab, found["id"])
    assert machine.private_addresses[0] == guest.private_addresses()[0] == found["ips"][at]
    assert machine.private_addresses == guest.private_addresses()
    assert machine.addresses == guest.addresses()
    assert bool(machine.addresses) is ("MNX-Triton-Public" in names)


@pytest.mark.parametrize("pool", [False, True], ids=["a network", "a pool"])
@pytest.mark.parametrize("names", ORDERS, ids=" ".join)
def test_the_public_address_is_the_same_to_the_state_the_roll_call_and_the_agent(
    front: Front, names: tuple[str, ...], pool: bool
) -> None:
    lab = Lab(front, {"networks": NETWORKS, "pool": pool})
    _, ids = datacenter_of(session(lab)).resolve(replace(WEB, networks=names))
    found = lab.running(networks=list(ids))
    machine = session(lab).api.get_machine(found["id"])
    # CloudAPI keeps the order of the networks in `ips`, and makes the first public one primary, at any position.
    at = names.index("MNX-Triton-Public")
    address = machine.ips[at]
    assert found["primaryIp"] == address and address.startswith("203.0.113.")
    assert [nic["primary"] for nic in found["nics"]] == [each == at for each in range(len(names))]
    assert machine.public_ip == address
    assert public((machine.primary_ip, *machine.ips))[0] == address
    assert Guest(lab, found["id"]).addresses() == (address,)


def test_the_provider_takes_what_the_preflight_takes(front: Front) -> None:
    lab = Lab(front, {"networks": NETWORKS})
    fleet, _ = datacenter_of(session(lab)).resolve(WEB)
    declared = {
        "machine_name": "web-0",
        "package": "g1.nano",
        "image": "debian-12",
        "networks": list(fleet.networks),
        "update_timeout": 60,
        "delete_timeout": 60,
    }
    assert fleet.networks == ("MNX-Triton-Public",) and faults(declared, session(lab).catalogue) == []


def test_machines_on_other_networks_count_as_replaced(front: Front) -> None:
    lab = Lab(front, {"networks": NETWORKS, "pool": True})
    public_id, fabric = lab.network("MNX-Triton-Public"), lab.network("My-Fabric-Network")
    tags = {"stack": "local", "fleet": "web", "machine": "0", "version": version(WEB)}
    lab.running(name="web-0", networks=[public_id], **{f"tag.rollcall-{key}": value for key, value in tags.items()})
    api = session(lab).api

    def notes(*ids: str) -> tuple[str, ...]:
        return check_triton([WEB], "local", api, networks={"web": ids} if ids else None).notes

    assert notes() == notes(public_id) == ()
    assert notes(fabric, public_id) == ("web: 1 of 1 machines are replaced, successors first: 2 run for a while",)
