"""components.preflight.triton_networks: which networks a Triton fleet's machines are on, and what is refused before any is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.config.models import FleetSettings
from components.config.reader import read
from components.joyent.records import NetworkRecord
from components.preflight.triton_networks import Datacenter, Joined, NetworksError, is_on


def network(number: int, name: str, *, public: bool = False, subnet: str = "") -> NetworkRecord:
    """A fabric where it has a subnet, which CloudAPI shows of fabrics only."""
    return NetworkRecord.of(
        {
            "id": f"00000000-0000-0000-0000-00000000000{number}",
            "name": name,
            "public": public,
            **({"fabric": True, "subnet": subnet} if subnet else {}),
        }
    )


PUBLIC, OTHER = network(1, "MNX-Triton-Public", public=True), network(2, "Other-Public", public=True)
PRIVATE, FABRIC = network(3, "MNX-Triton-Private"), network(4, "My-Fabric-Network", subnet="192.168.128.0/22")
TWIN = network(5, "My-Fabric-Network", subnet="10.1.0.0/24")
# lib/endpoints/networks.js shows a flag of NAPI's as it is, if a network has one.
OPEN_FABRIC = network(6, "Open-Fabric", public=True, subnet="10.2.0.0/24")


def web(*names: str) -> FleetSettings:
    return FleetSettings(
        name="web", cloud="joyent", count=2, size="g1.micro", image="debian-12", joins=("site/www",), networks=names
    )


def resolved(there: Sequence[NetworkRecord], *names: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words and the ids."""
    fleet, ids = Datacenter(name=lambda: "us-central-1", networks=there).resolve(web(*names))
    return fleet.networks, ids


def refused(there: Sequence[NetworkRecord], *names: str) -> str:
    with pytest.raises(NetworksError) as fault:
        resolved(there, *names)
    return str(fault.value)


@pytest.mark.parametrize(
    "there",
    [
        [PUBLIC],
        [FABRIC, PRIVATE, PUBLIC],
        [OPEN_FABRIC, PUBLIC],
    ],
    ids=["alone", "after others", "beside a fabric that says it is public"],
)
def test_by_default_it_is_the_only_network_that_is_public_and_no_fabric(there: list[NetworkRecord]) -> None:
    assert resolved(there) == (("MNX-Triton-Public",), (PUBLIC.id,))


def test_a_default_network_with_a_shared_name_is_named_by_its_id() -> None:
    double = network(7, PUBLIC.name)
    assert resolved([PUBLIC, double]) == ((PUBLIC.id,), (PUBLIC.id,))


def test_named_networks_keep_their_words_and_their_order() -> None:
    words = ("My-Fabric-Network", PUBLIC.id)
    assert resolved([PUBLIC, PRIVATE, FABRIC], *words) == (words, (FABRIC.id, PUBLIC.id))


def test_with_several_public_networks_one_must_be_named() -> None:
    assert refused([PUBLIC, OTHER, FABRIC]) == (
        "rollcall:fleets.web.networks: is not set, and the data centre us-central-1 has 2 public networks; it has "
        "MNX-Triton-Public (public), Other-Public (public), My-Fabric-Network (fabric 192.168.128.0/22). "
        "Name one of the public ones, as networks: [MNX-Triton-Public]."
    )
    assert resolved([PUBLIC, OTHER, FABRIC], "Other-Public")[1] == (OTHER.id,)


def test_without_a_public_network_there_is_no_default() -> None:
    message = refused([PRIVATE, FABRIC])
    assert message.startswith(
        "rollcall:fleets.web.networks: is not set, and the data centre us-central-1 has no public network; it has "
        "MNX-Triton-Private (private), My-Fabric-Network (fabric 192.168.128.0/22). Ask its operator for one"
    )
    assert "it has none at all" in refused([])


def test_an_unknown_name_or_id_names_the_data_centre_and_what_there_is() -> None:
    assert refused([PUBLIC, FABRIC], "MNX-Triton-Pubilc") == (
        "rollcall:fleets.web.networks: the data centre us-central-1 has no network 'MNX-Triton-Pubilc'; it has "
        "MNX-Triton-Public (public), My-Fabric-Network (fabric 192.168.128.0/22). "
        "Correct the name (did you mean MNX-Triton-Public?)."
    )
    message = refused([PUBLIC], OTHER.id)
    assert f"us-central-1 has no network '{OTHER.id}'; it has MNX-Triton-Public (public). Correct the name." in message


def test_a_name_of_several_networks_is_ambiguous_and_an_id_is_not() -> None:
    message = refused([PUBLIC, FABRIC, TWIN], PUBLIC.name, "My-Fabric-Network")
    assert "'My-Fabric-Network' is the name of 2 networks of the data centre us-central-1" in message
    assert f"{FABRIC.id} (fabric 192.168.128.0/22), {TWIN.id} (fabric 10.1.0.0/24). Write the id of one." in message
    assert resolved([PUBLIC, FABRIC, TWIN], PUBLIC.name, TWIN.id)[1] == (PUBLIC.id, TWIN.id)


def test_one_network_by_its_name_and_by_its_id_is_one_twice() -> None:
    assert f"names {PUBLIC.name} ({PUBLIC.id}) twice. Name each" in refused([PUBLIC], PUBLIC.name, PUBLIC.id)


def test_two_public_networks_are_one_too_many() -> None:
    message = refused([PUBLIC, OTHER], PUBLIC.name, OTHER.name)
    assert "names 2 public networks, MNX-Triton-Public (public), Other-Public (public)" in message
    assert "CloudAPI puts a machine on one at most. Keep one of them." in message


@pytest.mark.parametrize("name", [FABRIC.name, PRIVATE.name])
def test_machines_without_a_public_network_could_register_nothing(name: str) -> None:
    message = refused([PUBLIC, OTHER, PRIVATE, FABRIC], name)
    assert message.startswith(f"rollcall:fleets.web.networks: names no public network ({name}")
    assert "machines register public addresses for site/www." in message
    assert message.endswith("the data centre us-central-1 has MNX-Triton-Public (public), Other-Public (public).")


PRIVATELY = Joined(private=("theService/v1",))
BOTH = Joined(public=("site/www",), private=("theService/v1",))


def joined(there: Sequence[NetworkRecord], how: Joined, *names: str) -> tuple[str, ...]:
    """The words for the networks of a fleet that joins `how`."""
    fleet, _ = Datacenter(name=lambda: "us-central-1", networks=there).resolve(web(*names), how)
    return fleet.networks


def not_joined(there: Sequence[NetworkRecord], how: Joined, *names: str) -> str:
    with pytest.raises(NetworksError) as fault:
        joined(there, how, *names)
    return str(fault.value)


def test_what_a_fleet_joins_has_the_kind_of_address_that_its_site_or_service_says() -> None:
    incarnations: dict[str, Any] = {"incarnations": {"v1": {}}}
    config: dict[str, Any] = {
        "sites": {"www": {"zone": "scalability.expert"}, "intra": {"zone": "a.example", "address": "private"}},
        "serviceDiscovery": {
            "zone": "unilans.net",
            "services": {"theService": {"port": 4218, "address": "private", **incarnations}},
        },
        "fleets": {
            "web": {
                "cloud": "joyent",
                "size": "g1.micro",
                "image": "debian-12",
                "joins": ["site/www", "site/intra", "theService/v1"],
            }
        },
    }
    settings = read("local", config)
    expected = Joined(public=("site/www",), private=("site/intra", "theService/v1"))
    assert Joined.of(settings, settings.fleets[0]) == expected
    del config["serviceDiscovery"]["services"]["theService"]["address"]
    assert Joined.of(read("local", config), settings.fleets[0]).public == ("site/www", "theService/v1")


def test_by_default_private_addresses_are_on_the_only_fabric_network() -> None:
    assert joined([PUBLIC, PRIVATE, FABRIC], PRIVATELY) == ("My-Fabric-Network",)
    assert joined([PRIVATE, FABRIC], PRIVATELY) == ("My-Fabric-Network",), "no public network is needed"
    assert joined([FABRIC, PRIVATE, PUBLIC], BOTH) == ("MNX-Triton-Public", "My-Fabric-Network")


def test_with_several_fabric_networks_or_none_one_must_be_named() -> None:
    assert not_joined([PUBLIC, FABRIC, TWIN], BOTH) == (
        "rollcall:fleets.web.networks: is not set, theService/v1 takes private addresses, and the data centre us-central-1 has 2 fabric "
        f"networks; it has MNX-Triton-Public (public), {FABRIC.id} (fabric 192.168.128.0/22), {TWIN.id} (fabric 10.1.0.0/24). "
        f"Name one of them, as networks: [MNX-Triton-Public, {FABRIC.id}]."
    )
    message = not_joined([PUBLIC, PRIVATE], PRIVATELY)
    assert "has no fabric network; it has MNX-Triton-Public (public), MNX-Triton-Private (private). Make one" in message


def test_private_addresses_need_a_private_network_and_no_public_one() -> None:
    for names in (("My-Fabric-Network",), ("MNX-Triton-Private", "My-Fabric-Network"), ("MNX-Triton-Private",)):
        assert joined([PUBLIC, PRIVATE, FABRIC], PRIVATELY, *names) == names
    assert not_joined([PUBLIC, PRIVATE, FABRIC], PRIVATELY, "MNX-Triton-Public") == (
        "rollcall:fleets.web.networks: names no private network (MNX-Triton-Public (public)), and machines register private addresses for "
        "theService/v1. Add a private network; the data centre us-central-1 has MNX-Triton-Private (private), "
        "My-Fabric-Network (fabric 192.168.128.0/22)."
    )


def test_a_fleet_on_a_fabric_alone_cannot_join_a_public_record_set() -> None:
    message = not_joined([PUBLIC, FABRIC], BOTH, "My-Fabric-Network")
    assert "names no public network (My-Fabric-Network (fabric" in message
    assert "machines register public addresses for site/www. Add a public network" in message
    for names in (("My-Fabric-Network", "MNX-Triton-Public"), ("MNX-Triton-Public", "My-Fabric-Network")):
        assert joined([PUBLIC, FABRIC], BOTH, *names) == names


def test_a_fabric_that_says_it_is_public_gives_private_addresses_all_the_same() -> None:
    assert "names no public network" in not_joined([PUBLIC, OPEN_FABRIC], BOTH, "Open-Fabric")
    assert joined([PUBLIC, OPEN_FABRIC], PRIVATELY, "Open-Fabric") == ("Open-Fabric",)


def test_a_fleet_on_fabrics_without_nat_is_noted() -> None:
    alone = replace(FABRIC, internet_nat=False)
    datacenter = Datacenter(name=lambda: "us-central-1", networks=[PUBLIC, PRIVATE, alone, TWIN])
    (note,) = datacenter.notes(web(), [alone.id])
    assert note.startswith("web: its machines are only on")
    assert "which has no NAT to the internet (internet_nat: false)" in note
    for others in ([PUBLIC.id], [TWIN.id], [PRIVATE.id]):
        assert datacenter.notes(web(), [alone.id, *others]) == ()
    assert datacenter.notes(web(), []) == ()


@pytest.mark.parametrize(
    ("machine", "wanted", "is_there"),
    [
        ([PUBLIC.id], [PUBLIC.id], True),
        ([OTHER.id], [PUBLIC.id], False),
        ([FABRIC.id, PUBLIC.id], [PUBLIC.id], True),
        ([PUBLIC.id], [FABRIC.id, PUBLIC.id], False),
        ([], [PUBLIC.id], True),
        ([PUBLIC.id], [], True),
        # A pool's member is in no list.
        (["a-member"], [PUBLIC.id], True),
        ([FABRIC.id, "a-member"], [FABRIC.id, PUBLIC.id], True),
        (["a-member"], [FABRIC.id, PUBLIC.id], False),
    ],
)
def test_a_machine_is_on_the_networks_that_its_fleet_wants(
    machine: list[str], wanted: list[str], is_there: bool
) -> None:
    listed = [each.id for each in (PUBLIC, OTHER, FABRIC, PRIVATE)]
    assert is_on(machine, wanted, listed) is is_there
