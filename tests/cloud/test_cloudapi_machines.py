"""Machines: what creating checks, in which order, what they become, and how lists, actions and deletion answer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cloud.cloudapi_server import RSA_KEY, Front, Lab, ManualHypervisor, public_text, wait

pytestmark = pytest.mark.clouds
UNKNOWN_ID = str(uuid.uuid4())


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture
def lab(front: Front) -> Lab:
    return Lab(front)


def test_a_new_machine_is_provisioning_without_addresses(lab: Lab) -> None:
    response = lab.raw("POST", "/machines", {"package": "g1.nano", "image": lab.image("debian-12"), "name": "web-1"})
    made = response.json()
    assert (response.status_code, response.headers["Location"]) == (201, f"/rollcall/machines/{made['id']}")
    assert (made["state"], made["ips"], made["networks"], made["compute_node"]) == ("provisioning", [], [], None)
    assert "nics" not in made
    assert "primaryIp" not in made


def test_it_becomes_running_with_the_external_address_first_and_primary(lab: Lab) -> None:
    private, public = lab.network("Joyent-SDC-Private"), lab.network("Joyent-SDC-Public")
    found = lab.running(networks=[private, public, private], name="web-1")
    assert found["networks"] == [private, public]
    assert found["primaryIp"] == "203.0.113.10"
    assert [nic["primary"] for nic in found["nics"]] == [False, True]
    assert set(found["nics"][1]) == {"mac", "ip", "primary", "gateway", "netmask", "state", "network"}
    assert (found["package"], found["memory"], found["type"], found["brand"]) == ("g1.nano", 512, "smartmachine", "lx")
    assert found["compute_node"]
    assert "dns_names" not in found


def test_without_networks_it_gets_one_external_and_one_internal(lab: Lab) -> None:
    assert len(lab.running()["networks"]) == 2
    assert lab.running(default_networks=["internal"])["primaryIp"].startswith("10.88.")


def test_public_addresses_come_back_only_after_all_others(front: Front) -> None:
    lab = Lab(front, {"public_range": "198.18.0.0/27"})
    first = lab.running(networks=[lab.network("Joyent-SDC-Public")])
    lab.raw("DELETE", f"/machines/{first['id']}")
    wait(lambda: lab.raw("GET", f"/machines/{first['id']}").status_code == 410)
    others = [lab.running(networks=[lab.network("Joyent-SDC-Public")])["primaryIp"] for _ in range(17)]
    assert len(set(others)) == 17
    assert others.index(first["primaryIp"]) == 16
    lab.refused("POST", "/machines", {"package": "g1.nano", "image": lab.image("debian-12")}, 507, "SubnetFull")


def refusals(lab: Lab) -> list[tuple[dict[str, Any], int, str, str]]:
    public, private = lab.network("Joyent-SDC-Public"), lab.network("Joyent-SDC-Private")
    ok: dict[str, Any] = {"package": "g1.nano", "image": lab.image("debian-12")}
    return [
        ({"package": "g1.nano"}, 409, "MissingParameter", "image must be specified"),
        ({"image": ok["image"]}, 409, "MissingParameter", "package must be specified"),
        ({**ok, "image": UNKNOWN_ID}, 404, "ResourceNotFound", ""),
        ({**ok, "image": "debian-12"}, 409, "InvalidArgument", "not a valid image"),
        ({**ok, "image": lab.image("debian-11")}, 409, "InvalidArgument", "not active"),
        ({**ok, "dataset": ok["image"]}, 409, "InvalidArgument", "mutually exclusive"),
        ({**ok, "package": UNKNOWN_ID}, 404, "ResourceNotFound", ""),
        ({**ok, "package": "g9"}, 409, "InvalidArgument", "not a valid package"),
        ({**ok, "package": "g1.retired"}, 409, "InvalidArgument", "not a valid package"),
        ({**ok, "image": lab.image("large-only")}, 409, "InvalidArgument", "at least 2048 MiB"),
        ({**ok, "image": lab.image("windows-2022")}, 409, "MissingParameter", "requires a password"),
        ({**ok, "package": "k1.medium"}, 409, "InvalidArgument", 'brand "kvm"'),
        ({**ok, "brand": "lx"}, 409, "InvalidArgument", 'Unknown brand "lx"'),
        ({**ok, "brand": "bhyve"}, 409, "InvalidArgument", "brand"),
        ({**ok, "networks": [UNKNOWN_ID]}, 409, "InvalidArgument", "Invalid Networks"),
        ({**ok, "networks": [7]}, 409, "InvalidArgument", 'property "networks[0]"'),
        ({**ok, "networks": [private, {"ipv4_uuid": public}]}, 409, "InvalidArgument", "Invalid Networks"),
        ({**ok, "networks": [{"ipv4_ips": ["10.88.0.9"]}]}, 409, "MissingParameter", "ipv4_uuid"),
        ({**ok, "networks": [{"ipv4_uuid": public, "ipv4_ips": ["203.0.113.9"]}]}, 409, "InvalidArgument", "public"),
        ({**ok, "networks": [{"ipv4_uuid": private, "ipv4_count": 2}]}, 409, "InvalidArgument", "only be set to 1"),
        ({**ok, "affinity": ["a"]}, 409, "InvalidArgument", "affinity"),
        ({**ok, "affinity": ["role!=web"], "locality": {"near": []}}, 409, "InvalidArgument", "locality"),
        ({**ok, "name": "a b"}, 409, "ValidationFailed", "Invalid machine name"),
        ({**ok, "name": "x" * 190}, 409, "ValidationFailed", "Invalid machine name"),
        ({**ok, "tag.triton.unknown": "x"}, 409, "ValidationFailed", "Invalid tags"),
        ({**ok, "tag.a": {"b": 1}}, 409, "ValidationFailed", "Invalid tags"),
        ({**ok, "volumes": [{"name": "v"}]}, 409, "InvalidArgument", "volumes"),
    ]  # fmt: skip


def test_what_cannot_be_made_is_refused_at_once_with_the_reason(lab: Lab) -> None:
    for fields, status, code, message in refusals(lab):
        answer = lab.refused("POST", "/machines", fields, status, code)
        assert message in answer["message"], (fields, answer)
    assert lab.get("/machines", tombstone="1") == []


def test_checks_come_in_the_order_of_the_real_ones(lab: Lab) -> None:
    wrong = {"package": "g9", "image": lab.image("debian-11"), "networks": [UNKNOWN_ID], "name": "a b"}
    assert "not active" in lab.refused("POST", "/machines", wrong, 409, "InvalidArgument")["message"]
    wrong["image"] = lab.image("large-only")
    assert "not a valid package" in lab.refused("POST", "/machines", wrong, 409, "InvalidArgument")["message"]
    wrong["package"] = "g1.nano"
    assert "MiB of RAM" in lab.refused("POST", "/machines", wrong, 409, "InvalidArgument")["message"]
    wrong["package"] = "g1.small"
    assert "Invalid Networks" in lab.refused("POST", "/machines", wrong, 409, "InvalidArgument")["message"]
    # A package that is not there, by its id, comes before all that.
    lab.refused(
        "POST", "/machines", {**wrong, "package": UNKNOWN_ID, "image": lab.image("debian-11")}, 404, "ResourceNotFound"
    )


def test_a_name_is_taken_until_its_machine_is_deleted_or_failed(lab: Lab) -> None:
    made = lab.running(name="web-1")
    body = {"package": "g1.nano", "image": made["image"], "name": "web-1"}
    message = lab.refused("POST", "/machines", body, 409, "ValidationFailed")
    assert [(each["field"], each["code"]) for each in message["errors"]] == [("alias", "Duplicate")]
    lab.raw("DELETE", f"/machines/{made['id']}")
    lab.until(made["id"], "deleted")
    lab.faults.add("cloudapi failed-provisioning times=1")
    failed = lab.create(name="web-1")
    lab.until(failed["id"], "failed")
    assert lab.running(name="web-1")["name"] == "web-1"


def test_names_expand_the_short_id_and_default_to_it(lab: Lab) -> None:
    short = lab.create()
    assert short["name"] == short["id"].partition("-")[0]
    named = lab.create(name="web-{{shortId}}")
    assert named["name"] == f"web-{named['id'].partition('-')[0]}"


def test_with_cns_names_are_short_and_only_get_shows_dns_names(front: Front) -> None:
    lab = Lab(front, {"cns": True})
    body = {"package": "g1.nano", "image": lab.image("debian-12"), "name": "x" * 64}
    assert "63 characters" in lab.refused("POST", "/machines", body, 409, "InvalidArgument")["message"]
    found = lab.running(name="Web_1", **{"tag.triton.cns.services": "web,_api:80:priority=1"})
    account = lab.cloud.account_id
    assert f"web-1.inst.{account}.cns.rollcall.test" in lab.get(f"/machines/{found['id']}")["dns_names"]
    assert f"web.svc.{account}.cns.rollcall.test" in lab.get(f"/machines/{found['id']}")["dns_names"]
    lab.cloud.metadata_put(found["id"], "triton.cns.status", "down")
    assert f"web.svc.{account}.cns.rollcall.test" not in lab.get(f"/machines/{found['id']}")["dns_names"]
    assert "dns_names" not in lab.get("/machines")[0]
    assert lab.get("/networks")[0]["suffixes"]


def test_switches_need_json_true(lab: Lab) -> None:
    text = lab.create(deletion_protection="true", delegate_dataset="true", encrypted="true")
    assert (text["deletion_protection"], "delegate_dataset" in text, "encrypted" in text) == (False, False, False)
    real = lab.create(deletion_protection=True, delegate_dataset=True, encrypted=True, firewall_enabled=True)
    assert (real["deletion_protection"], real["delegate_dataset"], real["encrypted"]) == (True, True, True)
    assert real["firewall_enabled"] is True


def test_shared_images_must_be_asked_for_in_api_9(lab: Lab) -> None:
    image = lab.cloud.share_image("theirs", "1.0.0")
    body = {"package": "g1.nano", "image": image}
    assert "shared image" in lab.refused("POST", "/machines", body, 409, "InvalidArgument")["message"]
    assert lab.raw("POST", "/machines", body, headers={"Accept-Version": "~8"}).status_code == 201
    assert lab.raw("POST", "/machines", {**body, "allow_shared_images": True}).status_code == 201


def test_root_may_log_in_with_the_keys_of_the_account_and_of_administrators(lab: Lab) -> None:
    boss = ec.generate_private_key(ec.SECP256R1())
    lab.cloud.add_user("boss", administrator=True)
    lab.cloud.add_key("boss", public_text(boss), user="boss")
    given = {
        "metadata.root_authorized_keys": "mine",
        "metadata.root_pw": "secret",
        "metadata.credentials": {"root": "x"},
    }
    metadata = lab.running(**given)["metadata"]
    assert metadata["root_authorized_keys"] == f"{public_text(RSA_KEY)}\n{public_text(boss)}\n"
    assert set(metadata) == {"root_authorized_keys"}


def test_quota_and_capacity_are_refused_at_once(front: Front) -> None:
    lab = Lab(front, {"quota": 1})
    lab.running()
    body = {"package": "g1.nano", "image": lab.image("debian-12")}
    message = lab.refused("POST", "/machines", body, 409, "ValidationFailed")
    assert [(each["field"], each["code"]) for each in message["errors"]] == [("quota", "InsufficientCapacity")]
    assert "Insufficient capacity" in message["message"]
    other = Lab(front)
    other.faults.add("cloudapi capacity")
    message = other.refused("POST", "/machines", body, 409, "ValidationFailed")
    assert [(each["field"], each["code"]) for each in message["errors"]] == [("ram", "InsufficientCapacity")]


def test_a_fixed_address_on_an_owned_network(lab: Lab) -> None:
    private = lab.network("Joyent-SDC-Private")
    requested = [{"ipv4_uuid": private, "ipv4_ips": ["10.88.1.7"]}]
    assert lab.running(networks=requested)["ips"] == ["10.88.1.7"]
    body = {"package": "g1.nano", "image": lab.image("debian-12"), "networks": requested}
    lab.refused("POST", "/machines", body, 409, "ValidationFailed")


def test_a_machine_on_a_pool_shows_the_member_that_no_list_shows(front: Front) -> None:
    lab = Lab(front, {"pool": True})
    pool = lab.network("Joyent-SDC-Public")
    found = lab.running(networks=[pool])
    assert found["networks"] != [pool]
    assert found["networks"][0] not in [each["id"] for each in lab.get("/networks")]
    assert found["primaryIp"].startswith("203.0.113.")
    lab.refused("GET", f"/networks/{pool}/ips", None, 409, "InvalidArgument")


def test_failed_provisioning_stays_and_is_hidden_until_it_is_deleted(lab: Lab) -> None:
    lab.faults.add("cloudapi failed-provisioning=out-of-disk times=1")
    made = lab.create(name="web-1")
    assert lab.until(made["id"], "failed")["ips"] == []
    assert lab.get("/machines") == []
    assert [each["id"] for each in lab.get("/machines", tombstone="false")] == [made["id"]]
    audit = lab.get(f"/machines/{made['id']}/audit")
    assert [(each["action"], each["success"]) for each in audit] == [("provision", "no")]
    assert lab.raw("DELETE", f"/machines/{made['id']}").status_code == 204
    lab.until(made["id"], "deleted")


def test_a_machine_that_the_hypervisor_cannot_start_has_failed(front: Front) -> None:
    hypervisor = ManualHypervisor(obedient=False)
    lab = Lab(front, {"hypervisor": hypervisor})
    made = lab.create()
    wait(lambda: hypervisor.calls)
    lab.cloud.failed(made["id"], "no disk")
    lab.until(made["id"], "failed")


def test_provisioning_takes_its_time_and_allows_no_action(front: Front) -> None:
    lab = Lab(front, {"provisioning": 1.0})
    made = lab.create()
    path = f"/machines/{made['id']}"
    lab.refused("DELETE", path, None, 409, "Conflict")
    for action in ("start", "stop", "reboot"):
        lab.refused("POST", path, {"action": action}, 409, "UnallocatedVM")
    lab.refused("POST", path, {"action": "rename", "name": "x1"}, 409, "UnallocatedVM")
    wait(lambda: lab.get(path)["compute_node"])
    assert lab.get(path)["state"] == "provisioning"
    # With a server it can be deleted, but only when it is provisioned.
    assert lab.raw("DELETE", path).status_code == 204
    lab.until(made["id"], "deleted")


def test_stop_is_graceful_start_boots_and_delete_is_a_power_cut(front: Front) -> None:
    hypervisor = ManualHypervisor()
    lab = Lab(front, {"hypervisor": hypervisor})
    found = lab.running(name="web-1")
    guest = hypervisor.guests[found["id"]]
    assert (guest.cloud, guest.name, guest.address, guest.image, guest.memory_mib) == (
        "joyent", "web-1", "203.0.113.10", "debian-12", 512,
    )  # fmt: skip
    assert guest.ssh_keys[0].startswith("ssh-rsa ")
    lab.act(found["id"], "stop")
    lab.until(found["id"], "stopped")
    lab.act(found["id"], "start")
    lab.until(found["id"], "running")
    lab.act(found["id"], "reboot")
    wait(lambda: "reboot" in hypervisor.calls)
    lab.until(found["id"], "running")
    assert lab.raw("DELETE", f"/machines/{found['id']}").status_code == 204
    lab.until(found["id"], "deleted")
    assert hypervisor.calls == ["boot", "shut down", "boot", "reboot", "cut power", "remove"]


def test_stopping_shows_until_the_guest_is_off(front: Front) -> None:
    hypervisor = ManualHypervisor(obedient=False)
    lab = Lab(front, {"hypervisor": hypervisor})
    made = lab.create()
    wait(lambda: hypervisor.calls == ["boot"])
    assert lab.get(f"/machines/{made['id']}")["state"] == "provisioning"
    lab.cloud.running(made["id"])
    lab.until(made["id"], "running")
    lab.act(made["id"], "stop")
    lab.until(made["id"], "stopping")
    # A deletion waits for the job before it.
    assert lab.raw("DELETE", f"/machines/{made['id']}").status_code == 204
    assert lab.raw("DELETE", f"/machines/{made['id']}").status_code == 204
    assert lab.get(f"/machines/{made['id']}")["state"] == "stopping"
    lab.cloud.stopped(made["id"])
    lab.until(made["id"], "deleted")
    assert hypervisor.calls.count("remove") == 1
    assert [each["action"] for each in lab.get(f"/machines/{made['id']}/audit")] == ["destroy", "stop", "provision"]


def test_a_machine_that_turns_itself_off_is_stopped(lab: Lab) -> None:
    found = lab.running()
    lab.cloud.stopped(found["id"])
    assert lab.get(f"/machines/{found['id']}")["state"] == "stopped"
    lab.act(found["id"], "start")
    lab.until(found["id"], "running")


def test_actions_on_what_is_already_so_are_accepted_and_fail_in_the_audit(lab: Lab) -> None:
    found = lab.running()
    lab.act(found["id"], "start")
    audit = wait(lambda: [each for each in lab.get(f"/machines/{found['id']}/audit") if each["action"] == "start"])
    assert audit[0]["success"] == "no"
    assert audit[0]["caller"]["keyId"] == lab.signer.key_id
    before = len(lab.get(f"/machines/{found['id']}/audit"))
    lab.act(found["id"], "disable_firewall")
    lab.act(found["id"], "disable_deletion_protection")
    assert len(lab.get(f"/machines/{found['id']}/audit")) == before
    lab.refused("POST", f"/machines/{found['id']}", {"action": "explode"}, 409, "InvalidArgument")
    lab.refused("POST", f"/machines/{found['id']}", {}, 409, "MissingParameter")


def test_actions_may_be_in_the_query(lab: Lab) -> None:
    found = lab.running()
    assert lab.raw("POST", f"/machines/{found['id']}", query={"action": "stop"}).status_code == 202
    lab.until(found["id"], "stopped")


def test_rename_and_resize_happen_later(front: Front) -> None:
    lab = Lab(front, {"job_delay": 0.2})
    found = lab.running(name="old")
    path = f"/machines/{found['id']}"
    lab.act(found["id"], "rename", name="new")
    assert lab.get(path)["name"] == "old"
    wait(lambda: lab.get(path)["name"] == "new")
    lab.act(found["id"], "resize", package="g1.small")
    assert lab.get(path)["memory"] == 512
    wait(lambda: lab.get(path)["memory"] == 2048)
    assert lab.get(path)["package"] == "g1.small"
    for fields, code in (
        ({"action": "rename"}, "MissingParameter"),
        ({"action": "rename", "name": "x" * 190}, "InvalidArgument"),
        ({"action": "rename", "name": "a b"}, "ValidationFailed"),
        ({"action": "resize"}, "MissingParameter"),
        ({"action": "resize", "package": "g9"}, "InvalidArgument"),
        ({"action": "resize", "package": "s1.small"}, "InvalidArgument"),
    ):
        lab.refused("POST", path, fields, 409, code)
    lab.refused("POST", path, {"action": "resize", "package": UNKNOWN_ID}, 404, "ResourceNotFound")


def test_a_kvm_machine_is_not_resized(lab: Lab) -> None:
    body = {"package": "k1.medium", "image": lab.image("windows-2022"), "administrator_pw": "secret"}
    found = lab.running(**body)
    assert (found["type"], found["brand"]) == ("virtualmachine", "kvm")
    assert "secret" not in str(found)
    assert lab.get(f"/machines/{found['id']}", credentials="true")["metadata"]["credentials"] == {
        "administrator": "secret"
    }
    lab.refused("POST", f"/machines/{found['id']}", {"action": "resize", "package": "g1.small"}, 409, "InvalidArgument")


def test_a_protected_machine_is_not_deleted(lab: Lab) -> None:
    found = lab.running(deletion_protection=True)
    lab.refused("DELETE", f"/machines/{found['id']}", None, 409, "CannotDestroyMachineError")
    lab.act(found["id"], "disable_deletion_protection")
    wait(lambda: not lab.get(f"/machines/{found['id']}")["deletion_protection"])
    assert lab.raw("DELETE", f"/machines/{found['id']}").status_code == 204


def test_deleted_is_410_with_the_machine_and_never_there_is_404(lab: Lab) -> None:
    found = lab.running()
    lab.raw("DELETE", f"/machines/{found['id']}")
    lab.until(found["id"], "deleted")
    for method, body in (
        ("GET", None),
        ("DELETE", None),
        ("POST", {"action": "start"}),
        ("POST", {"action": "rename"}),
    ):
        response = lab.raw(method, f"/machines/{found['id']}", body)
        assert (response.status_code, response.json()["state"]) == (410, "deleted")
    for method in ("GET", "DELETE", "POST"):
        lab.refused(method, f"/machines/{UNKNOWN_ID}", None, 404, "ResourceNotFound")


def ids(found: list[dict[str, Any]]) -> set[str]:
    return {each["name"] for each in found}


def test_lists_filter(lab: Lab) -> None:
    lab.running(name="a", **{"tag.role": "web", "tag.n": 1})
    lab.running(name="b", package="g1.small", **{"tag.role": "db", "tag.on": True})
    stopped = lab.running(name="c")
    lab.act(stopped["id"], "stop")
    lab.until(stopped["id"], "stopped")
    cases: list[tuple[dict[str, Any], set[str]]] = [
        ({}, {"a", "b", "c"}),
        ({"name": "a"}, {"a"}),
        ({"name": "A"}, set()),
        ({"memory": 2048}, {"b"}),
        ({"brand": "kvm"}, set()),
        ({"type": "smartmachine"}, {"a", "b", "c"}),
        ({"type": "virtualmachine"}, set()),
        ({"image": stopped["image"], "state": "stopped"}, {"c"}),
        ({"state": "running"}, {"a", "b"}),
        ({"state": "stopping"}, {"a", "b", "c"}),
        ({"tag.role": "web"}, {"a"}),
        ({"tag.role": "*"}, {"a", "b"}),
        ({"tag.n": 1, "tag.role": "web"}, {"a"}),
        ({"tag.on": "true"}, {"b"}),
        ({"tags": "*", "name": "c"}, {"a", "b"}),
        ({"docker": "true"}, set()),
    ]
    for query, names in cases:
        assert ids(lab.get("/machines", **query)) == names, query
    for query in ({"state": "failed"}, {"state": "deleted"}, {"type": "x"}, {"docker": "x"}):
        lab.refused("GET", "/machines", None, 409, "InvalidArgument", query=query)


def test_a_page_tells_its_own_length_only(lab: Lab) -> None:
    for at in range(5):
        lab.running(name=f"web-{at}")
    page = lab.raw("GET", "/machines", query={"limit": 2, "offset": 4})
    assert (page.headers["x-query-limit"], page.headers["x-resource-count"]) == ("2", "1")
    seen = [each["name"] for offset in (0, 2, 4) for each in lab.get("/machines", limit=2, offset=offset)]
    assert sorted(seen) == [f"web-{at}" for at in range(5)]
    assert lab.raw("HEAD", "/machines", query={"limit": 2}).headers["x-resource-count"] == "2"


def test_instances_are_listed_for_the_operator(lab: Lab) -> None:
    found = lab.running(name="web-1")
    assert lab.cloud.list_instances() == [
        {
            "id": found["id"],
            "cloud": "joyent",
            "region": "local-1",
            "name": "web-1",
            "state": "running",
            "addresses": found["ips"],
            "tags": {},
        }
    ]


HVM = {"package": "b1.small"}


def test_flexible_disks_take_what_they_ask_for_and_the_rest(lab: Lab) -> None:
    image = lab.image("debian-12-hvm")
    made = lab.create(
        image=image, **HVM, disks=[{"size": 20480}, {"size": 1024, "block_size": 4096}, {"size": "remaining"}]
    )
    assert (made["brand"], made["flexible"]) == ("bhyve", True)
    assert [(disk["size"], disk["block_size"]) for disk in made["disks"]] == [
        (20480, 8192),
        (1024, 4096),
        (29696, 8192),
    ]
    assert [disk.get("boot", False) for disk in made["disks"]] == [True, False, False]
    assert made["disks"][0]["image"] == image
    usual = lab.create(image=image, **HVM)["disks"]
    assert [disk["size"] for disk in usual] == [10240, 40960]
    rigid = lab.create(image=image, package="b1.rigid")
    assert (rigid["flexible"], [disk["size"] for disk in rigid["disks"]]) == (False, [10240, 51200])


@pytest.mark.parametrize(
    ("disks", "message"),
    [
        ([{"size": 5120}], "Size must be greater than or equal to image size for the boot disk"),
        ([{"size": 51201}], "The size of the disks must not be greater than the package quota"),
        ([{"size": 51200}, {"size": "remaining"}], "The size of the disks must not be greater than the package quota"),
        ([{"size": "remaining"}, {"size": "remaining"}], "Only one disk.size can be set to `remaining`"),
        ([{}] * 9, "A maximum of 8 disks per VM are supported"),
        ([{"block_size": 4096}], "Cannot set block_size and image_uuid."),
        (
            [{}, {"size": 1, "block_size": 1000}],
            "Invalid block_size: 1000 on disk: 1. Must be 512-131072 and a power of 2.",
        ),
    ],
)
def test_disks_that_do_not_fit_are_refused(lab: Lab, disks: list[dict[str, Any]], message: str) -> None:
    wanted = {"image": lab.image("debian-12-hvm"), **HVM, "disks": disks}
    assert lab.refused("POST", "/machines", wanted, 409, "InvalidArgument")["message"] == message


@pytest.mark.parametrize(
    ("locality", "message"),
    [
        ("near", "malformed locality object"),
        ({"near": 7}, "locality entry is neither string nor array"),
        ({"far": ["web-1"]}, "locality contains malformed UUID"),
    ],
)
def test_a_locality_that_cannot_be_read_is_refused(lab: Lab, locality: Any, message: str) -> None:
    wanted = {"image": lab.image("debian-12"), "package": "g1.nano", "locality": locality}
    (detail,) = lab.refused("POST", "/machines", wanted, 409, "ValidationFailed")["errors"]
    assert (detail["field"], detail["message"]) == ("locality", message)


def test_a_locality_by_ids_is_taken(lab: Lab) -> None:
    other = lab.create()["id"]
    assert lab.create(locality={"near": other, "far": [other], "strict": False})["state"] == "provisioning"
