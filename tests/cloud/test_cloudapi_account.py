"""The rest of the account: catalogue, networks, NICs, fabrics, firewall rules, snapshots, images, keys, users."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from localcloud.triton import Names
from tests.cloud.cloudapi_server import RSA_KEY, Front, Lab, ManualHypervisor, public_text, wait

pytestmark = pytest.mark.clouds
UNKNOWN_ID = str(uuid.uuid4())
VLANS = "/fabrics/default/vlans"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def names(found: list[dict[str, Any]]) -> list[str]:
    return [each["name"] for each in found]


def test_images_filter_and_show_active_ones_only(lab: Lab) -> None:
    assert "debian-11" not in names(lab.get("/images"))
    assert "debian-11" in names(lab.get("/images", state="all"))
    assert names(lab.get("/images", state="disabled")) == ["debian-11"]
    versions = [image["version"] for image in lab.get("/images", name="debian-12")]
    assert versions == ["20250801", "20261101"]
    assert names(lab.get("/images", os="windows")) == ["windows-2022"]
    assert len(lab.get("/images", name="debian-12", version="20261101", public="true", type="lx-dataset")) == 1
    assert lab.get("/images", public="false") == []
    stand_in = lab.get(f"/images/{lab.image('ubuntu-24.04')}")
    assert "Debian 12 stands in" in stand_in["description"]
    assert stand_in["requirements"]["min_memory"] == stand_in["requirements"]["min_ram"]
    lab.refused("GET", f"/images/{UNKNOWN_ID}", None, 404, "ResourceNotFound")
    lab.refused("GET", "/images/debian-12", None, 404, "ResourceNotFound")


def test_image_types_have_other_names_before_api_8(lab: Lab) -> None:
    old = lab.raw("GET", "/images", headers={"Accept-Version": "~7"}).json()
    assert {image["type"] for image in old} == {"smartmachine", "virtualmachine"}


def test_packages_filter_with_wildcards(lab: Lab) -> None:
    assert "g1.retired" not in names(lab.get("/packages"))
    assert names(lab.get("/packages", name="g1.*")) == ["g1.nano", "g1.micro", "g1.small", "g1.medium"]
    assert names(lab.get("/packages", memory=2048, group="g1")) == ["g1.small"]
    assert names(lab.get("/packages", brand="kvm")) == ["k1.medium"]
    by_name = lab.get("/packages/g1.nano")
    assert lab.get(f"/packages/{by_name['id']}") == by_name
    assert (by_name["memory"], by_name["default"]) == (512, False)
    lab.refused("GET", "/packages/g1.retired", None, 404, "ResourceNotFound")
    lab.refused("GET", f"/packages/{UNKNOWN_ID}", None, 404, "ResourceNotFound")


def test_networks_are_listed(lab: Lab) -> None:
    found = {each["name"]: each for each in lab.get("/networks")}
    assert {name: each["public"] for name, each in found.items()} == {
        "Joyent-SDC-Public": True,
        "Joyent-SDC-Private": False,
    }
    assert "suffixes" not in found["Joyent-SDC-Public"]
    assert lab.get("/networks", fabric="true") == []
    assert lab.get(f"/networks/{found['Joyent-SDC-Public']['id']}")["name"] == "Joyent-SDC-Public"
    lab.refused("GET", f"/networks/{UNKNOWN_ID}", None, 404, "ResourceNotFound")


def test_an_operator_calls_networks_as_it_likes_and_may_have_several_public_ones_and_fabrics(front: Front) -> None:
    """The fields are those of docs/index.md of sdc-cloudapi, ListNetworks: `public` of each, the rest of fabrics only."""
    lab = Lab(
        front,
        {
            "networks": Names(
                public=("MNX-Triton-Public", "Other"), private=(), fabrics={"My-Fabric": "192.168.128.0/22"}
            )
        },
    )
    first, second, fabric = lab.get("/networks")
    assert first == {"id": first["id"], "name": "MNX-Triton-Public", "public": True}
    assert (second["name"], second["public"]) == ("Other", True)
    assert {**fabric, "id": ""} == {
        "id": "", "name": "My-Fabric", "public": False, "fabric": True, "vlan_id": 2, "subnet": "192.168.128.0/22",
        "gateway": "192.168.128.1", "provision_start_ip": "192.168.128.10", "provision_end_ip": "192.168.131.250",
        "resolvers": ["8.8.8.8", "8.8.4.4"], "routes": {}, "internet_nat": True,
    }  # fmt: skip
    assert lab.get("/networks", fabric="true") == [fabric] == lab.get("/fabrics/default/vlans/2/networks")
    assert lab.get("/fabrics/default/vlans") == [{"vlan_id": 2, "name": "default"}]
    body = {"image": lab.image("debian-12"), "package": "g1.nano", "networks": [first["id"], second["id"]]}
    message = lab.refused("POST", "/machines", body, 409, "InvalidArgument")
    assert message["message"] == "Can specify a maximum of 1 public networks"
    ips = {lab.running(networks=[each["id"]])["primaryIp"] for each in (first, second)}
    assert ips == {"203.0.113.10", "203.0.113.138"}


def test_a_fabric_may_be_for_some_packages_only(front: Front) -> None:
    lab = Lab(front, {"networks": Names(fabrics={"My-Fabric": "10.5.0.0/24"}), "fabric_packages": ("g1.",)})
    both = [lab.network("My-Fabric"), lab.network("Joyent-SDC-Public")]
    assert lab.running(package="g1.nano", networks=both)["ips"] == ["10.5.0.10", "203.0.113.10"]
    body = {"image": lab.image("debian-12"), "package": "s1.small"}
    message = lab.refused("POST", "/machines", {**body, "networks": both}, 409, "InvalidFabricPackage")
    assert message["message"].endswith("can be used with a fabric network: g1.")
    assert lab.running(package="s1.small", networks=both[1:])["ips"] == ["203.0.113.11"]


def test_addresses_are_listed_and_reserved(lab: Lab) -> None:
    found = lab.running()
    private, public = lab.network("Joyent-SDC-Private"), lab.network("Joyent-SDC-Public")
    listed = lab.get(f"/networks/{public}/ips")
    assert [(each["ip"], each["belongs_to_uuid"]) for each in listed] == [("203.0.113.10", found["id"])]
    reserved = lab.raw("PUT", f"/networks/{private}/ips/10.88.0.11", {"reserved": True}).json()
    assert (reserved["reserved"], reserved["managed"]) == (True, False)
    assert lab.running()["ips"][1] == "10.88.0.12"
    lab.refused("PUT", f"/networks/{public}/ips/203.0.113.20", {"reserved": True}, 409, "InvalidArgument")
    lab.refused("PUT", f"/networks/{private}/ips/10.88.0.1", {"reserved": True}, 409, "InvalidArgument")
    lab.refused("PUT", f"/networks/{private}/ips/10.88.0.20", {}, 409, "MissingParameter")
    lab.refused("GET", f"/networks/{private}/ips/192.0.2.1", None, 404, "ResourceNotFound")
    page = lab.raw("GET", f"/networks/{private}/ips", query={"limit": 1})
    assert (page.headers["x-query-limit"], page.headers["x-resource-count"]) == ("1", "1")


def test_a_nic_is_added_and_removed_with_a_restart(front: Front) -> None:
    hypervisor = ManualHypervisor()
    lab = Lab(front, {"hypervisor": hypervisor, "job_delay": 0.1})
    private, public = lab.network("Joyent-SDC-Private"), lab.network("Joyent-SDC-Public")
    found = lab.running(networks=[public])
    nics = f"/machines/{found['id']}/nics"
    response = lab.raw("POST", nics, {"network": private})
    made = response.json()
    assert (response.status_code, made["state"], made["primary"]) == (201, "provisioning", False)
    where = f"{nics}/{made['mac'].replace(':', '')}"
    assert response.headers["Location"] == f"/rollcall{where}"
    assert lab.get(where)["state"] == "provisioning"
    wait(lambda: lab.get(where)["state"] == "running")
    lab.until(found["id"], "running")
    assert hypervisor.calls == ["boot", "shut down", "boot"]
    assert [each["network"] for each in lab.get(nics)] == [public, private]
    again = lab.raw("POST", nics, {"network": private})
    assert (again.status_code, again.headers["Location"]) == (302, f"/rollcall{where}")
    assert lab.raw("DELETE", where).status_code == 204
    wait(lambda: lab.raw("GET", where).status_code == 404)
    lab.until(found["id"], "running")
    assert hypervisor.calls[3:] == ["shut down", "boot"]
    lab.refused("POST", nics, {}, 409, "MissingParameter")
    lab.refused("POST", nics, {"network": "x"}, 409, "InvalidArgument")
    lab.refused("POST", nics, {"network": UNKNOWN_ID}, 409, "InvalidArgument")


def fabric(lab: Lab, **fields: Any) -> dict[str, Any]:
    usual = {
        "name": "inside", "subnet": "10.50.0.0/24", "provision_start_ip": "10.50.0.10", "provision_end_ip": "10.50.0.20",
        "gateway": "10.50.0.1", "resolvers": ["10.50.0.2"],
    }  # fmt: skip
    made: dict[str, Any] = lab.post(f"{VLANS}/7/networks", {**usual, **fields}, 201)
    return made


def test_vlans_and_fabric_networks(lab: Lab) -> None:
    assert lab.post(VLANS, {"vlan_id": 7, "name": "seven"}, 201) == {"vlan_id": 7, "name": "seven"}
    for vlan in ({"vlan_id": 7, "name": "x"}, {"vlan_id": 4096, "name": "x"}, {"vlan_id": 8}, {"name": "x"}):
        lab.refused("POST", VLANS, vlan, 409, "InvalidArgument")
    changed = lab.raw("PUT", f"{VLANS}/7", {"description": "d"})
    assert (changed.status_code, changed.json()["description"]) == (202, "d")
    made = fabric(lab)
    assert (made["fabric"], made["vlan_id"], made["internet_nat"], made["public"]) == (True, 7, True, False)
    assert names(lab.get("/networks", fabric="yes")) == ["inside"]
    where = f"{VLANS}/7/networks/{made['id']}"
    assert lab.raw("PUT", where, {"resolvers": ["10.50.0.3"]}).json()["resolvers"] == ["10.50.0.3"]
    lab.refused("PUT", where, {"subnet": "10.60.0.0/24"}, 409, "InvalidArgument")
    lab.refused("DELETE", f"{VLANS}/7", None, 409, "InvalidArgument")
    found = lab.running(networks=[{"ipv4_uuid": made["id"], "ipv4_ips": ["10.50.0.15"]}])
    assert found["ips"] == ["10.50.0.15"]
    lab.refused("DELETE", where, None, 409, "InvalidArgument")
    lab.raw("DELETE", f"/machines/{found['id']}")
    lab.until(found["id"], "deleted")
    assert lab.raw("DELETE", where).status_code == 204
    assert lab.raw("DELETE", f"{VLANS}/7").status_code == 204
    lab.refused("GET", f"{VLANS}/7", None, 404, "ResourceNotFound")


@pytest.mark.parametrize(
    "wrong",
    [
        {"subnet": "10.50.0.1/24"}, {"provision_start_ip": "10.51.0.1"}, {"provision_end_ip": "10.50.0.5"},
        {"gateway": "10.51.0.1"}, {"gateway": "x"}, {"resolvers": ["1.1.1.1"] * 5}, {"resolvers": ["x"]}, {"extra": 1},
        {"internet_nat": "true"}, {"internet_nat": True}, {"name": 1},
    ],
)  # fmt: skip
def test_a_wrong_fabric_network_is_refused(lab: Lab, wrong: dict[str, Any]) -> None:
    lab.post(VLANS, {"vlan_id": 7, "name": "seven"}, 201)
    usual = {
        "name": "n",
        "subnet": "10.50.0.0/24",
        "provision_start_ip": "10.50.0.10",
        "provision_end_ip": "10.50.0.20",
    }
    lab.refused("POST", f"{VLANS}/7/networks", {**usual, **wrong}, 409, "InvalidArgument")
    assert lab.get(f"{VLANS}/7/networks") == []


RULES = (
    ("from any to tag role=web allow TCP port 80", 'FROM any TO tag "role" = "web" ALLOW tcp PORT 80'),
    ('FROM ip 10.0.0.1 TO (tag www OR tag "a b") ALLOW tcp (PORT 443 AND PORT 80)',
     'FROM ip 10.0.0.1 TO (tag "a b" OR tag "www") ALLOW tcp (PORT 80 AND PORT 443)'),
    ("FROM subnet 10.0.0.0/8 TO all vms BLOCK udp PORTS 8000 - 8999, 53",
     "FROM subnet 10.0.0.0/8 TO all vms BLOCK udp PORTS 53, 8000 - 8999"),
    ("FROM any TO all vms ALLOW icmp TYPE 8 CODE 0 PRIORITY 3", "FROM any TO all vms ALLOW icmp TYPE 8 CODE 0 PRIORITY 3"),
    ("FROM all vms TO any BLOCK tcp PORT all", "FROM all vms TO any BLOCK tcp PORT all"),
)  # fmt: skip


@pytest.mark.parametrize(("written", "stored"), RULES)
def test_rules_are_stored_the_one_way(lab: Lab, written: str, stored: str) -> None:
    made = lab.post("/fwrules", {"rule": written}, 201)
    assert made == {"id": made["id"], "rule": stored, "enabled": False, "log": False}
    assert lab.post("/fwrules", {"rule": stored}, 201)["rule"] == stored


@pytest.mark.parametrize(
    "wrong",
    ["", "hello", "FROM any TO any ALLOW tcp PORT 80", "FROM any TO all vms ALLOW tcp PORT 70000", "FROM any TO all vms ALLOW tcp",
     "FROM any TO vm x ALLOW tcp PORT 1", "FROM any TO all vms PERMIT tcp PORT 1", "FROM any TO all vms ALLOW tcp PORT 1 PRIORITY 101",
     "FROM any TO all vms ALLOW tcp PORT 1 more", "FROM (tag a OR tag b TO any ALLOW tcp PORT 1"],
)  # fmt: skip
def test_an_invalid_rule_is_refused(lab: Lab, wrong: str) -> None:
    lab.refused("POST", "/fwrules", {"rule": wrong}, 409, "InvalidArgument" if wrong else "MissingParameter")


def test_rules_change_and_apply_to_machines(lab: Lab) -> None:
    found, other = lab.running(name="a", **{"tag.role": "web"}), lab.running(name="b", **{"tag.role": "db"})
    made = lab.post("/fwrules", {"rule": "FROM any TO tag role=web ALLOW tcp PORT 80", "description": "d"}, 201)
    where = f"/fwrules/{made['id']}"
    assert names(lab.get(f"{where}/machines")) == ["a"]
    assert lab.get(f"/machines/{found['id']}/fwrules") == [made]
    assert lab.get(f"/machines/{other['id']}/fwrules") == []
    assert lab.post(where, {"enabled": True, "log": "true"})["log"] is True
    assert lab.post(f"{where}/disable", {})["enabled"] is False
    assert lab.post(f"{where}/enable", {})["enabled"] is True
    assert lab.get(where)["description"] == "d"
    assert lab.raw("DELETE", where).status_code == 204
    lab.refused("GET", where, None, 404, "ResourceNotFound")


def test_snapshots(front: Front) -> None:
    lab = Lab(front, {"job_delay": 0.1})
    found = lab.running()
    where = f"/machines/{found['id']}/snapshots"
    assert lab.post(where, {"name": "before"}, 201) == {"name": "before", "state": "queued"}
    assert lab.get(where) == []
    wait(lambda: lab.get(f"{where}/before")["state"] == "created")
    lab.refused("POST", where, {"name": "before"}, 409, "ValidationFailed")
    assert lab.raw("POST", f"{where}/before").status_code == 202
    wait(lambda: lab.get(f"/machines/{found['id']}/audit")[0]["action"] == "rollback_snapshot")
    assert lab.get(f"/machines/{found['id']}")["state"] == "running"
    assert lab.raw("DELETE", f"{where}/before").status_code == 204
    wait(lambda: lab.get(f"{where}/before")["state"] == "deleted")
    assert lab.get(where) == []
    for method in ("GET", "DELETE", "POST"):
        lab.refused(method, f"{where}/none", None, 404, "ResourceNotFound")


def test_an_image_is_made_from_a_stopped_machine(front: Front) -> None:
    lab = Lab(front, {"job_delay": 0.1})
    found = lab.running(name="a")
    body = {"machine": found["id"], "name": "mine", "version": "1.0.0"}
    lab.refused("POST", "/images", body, 409, "InvalidArgument")
    lab.act(found["id"], "stop")
    lab.until(found["id"], "stopped")
    lab.refused("POST", "/images", {"machine": found["id"], "name": "mine"}, 409, "MissingParameter")
    made = lab.post("/images", body, 201)
    assert made["state"] == "creating"
    assert "mine" not in names(lab.get("/images"))
    wait(lambda: lab.get(f"/images/{made['id']}")["state"] == "active")
    assert lab.running(image=made["id"], name="b")["image"] == made["id"]
    changed = lab.raw("POST", f"/images/{made['id']}", {"description": "d"}, query={"action": "update"})
    assert changed.json()["description"] == "d"
    lab.faults.add("cloudapi failed-image")
    failed = lab.post("/images", {**body, "version": "2.0.0"}, 201)
    wait(lambda: lab.get(f"/images/{failed['id']}")["state"] == "failed")
    assert lab.get(f"/images/{failed['id']}")["error"]["code"]
    assert lab.raw("DELETE", f"/images/{made['id']}").status_code == 204
    lab.refused("GET", f"/images/{made['id']}", None, 404, "ResourceNotFound")
    lab.refused("DELETE", f"/images/{lab.image('debian-12')}", None, 403, "NotAuthorized")


def test_a_shared_image_is_cloned(lab: Lab) -> None:
    image = lab.cloud.share_image("theirs", "1.0.0")
    own = lab.raw("POST", f"/images/{image}", query={"action": "clone"}).json()
    assert (own["owner"], own["public"]) == (lab.cloud.account_id, False)
    lab.refused("POST", f"/images/{lab.image('debian-12')}", None, 403, "NotAuthorized", query={"action": "clone"})


def test_keys_are_addressed_by_fingerprint_or_first_name(lab: Lab) -> None:
    text = public_text(ed25519.Ed25519PrivateKey.generate())
    response = lab.raw("POST", "/keys", {"name": "same", "key": text})
    made = response.json()
    assert response.headers["Location"] == f"/rollcall/keys/{quote(made['fingerprint'], safe='')}"
    other = lab.post("/keys", {"name": "same", "key": public_text(ed25519.Ed25519PrivateKey.generate())}, 201)
    nameless = lab.post("/keys", {"key": public_text(ed25519.Ed25519PrivateKey.generate())}, 201)
    assert nameless["name"] == nameless["fingerprint"]
    assert lab.get("/keys/same") == made
    assert lab.get(f"/keys/{quote(other['fingerprint'], safe='')}") == other
    for key in (text, "ssh-rsa", "ssh-rsa AAAA x", 1):
        lab.refused("POST", "/keys", {"key": key}, 409, "InvalidArgument")
    lab.refused("POST", "/keys", {}, 409, "MissingParameter")
    assert lab.raw("DELETE", f"/keys/{quote(made['fingerprint'], safe='')}").status_code == 204
    assert lab.get("/keys/same") == other
    lab.refused("DELETE", "/keys/none", None, 404, "ResourceNotFound")


def test_users_and_their_keys(lab: Lab) -> None:
    body = {"login": "eve", "email": "eve@example.test", "password": "secret123"}
    made = lab.post("/users", body, 201)
    assert "password" not in made
    lab.refused("POST", "/users", body, 409, "InvalidArgument")
    lab.refused("POST", "/users", {"login": "x"}, 409, "MissingParameter")
    lab.post("/users/eve/keys", {"name": "k", "key": public_text(RSA_KEY)}, 201)
    assert names(lab.get(f"/users/{made['id']}/keys")) == ["k"]
    assert lab.post("/users/eve", {"firstName": "Eve"})["firstName"] == "Eve"
    assert lab.raw("DELETE", "/users/eve").status_code == 204
    lab.refused("GET", "/users/eve", None, 404, "ResourceNotFound")


def test_the_account_and_its_data_centre(lab: Lab) -> None:
    account = lab.get("")
    assert (account["login"], account["id"], account["triton_cns_enabled"]) == ("rollcall", lab.cloud.account_id, False)
    assert lab.post("", {"triton_cns_enabled": "true", "companyName": "C"})["companyName"] == "C"
    assert lab.get("")["triton_cns_enabled"] is True
    lab.refused("POST", "", {"triton_cns_enabled": "yes"}, 409, "InvalidArgument")
    listed = lab.raw("GET", "/datacenters")
    assert (listed.json(), listed.headers["Triton-Datacenter-Name"]) == ({"local-1": lab.url}, "local-1")
    moved = lab.raw("GET", "/datacenters/local-1")
    assert (moved.status_code, moved.headers["Location"]) == (302, lab.url)
    lab.refused("GET", "/datacenters/x", None, 404, "ResourceNotFound")
    assert lab.get("/services") == {"cloudapi": lab.url}
    network = lab.network("Joyent-SDC-Private")
    assert lab.raw("PUT", "/config", {"default_network": network}).json() == {"default_network": network}
    lab.refused("PUT", "/config", {"default_network": UNKNOWN_ID}, 409, "InvalidArgument")


def test_what_this_data_centre_does_not_have(lab: Lab) -> None:
    lab.refused("GET", "/volumes", None, 404, "ResourceNotFound")
    found = lab.running()
    lab.refused("POST", f"/machines/{found['id']}/migrate", {}, 501, "NotImplemented")
