"""Joyent's official client against the local CloudAPI: every command must end as it does on a real data centre."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.cloud.cloudapi_server import Front, Lab, PrivateKey, Triton, public_text
from tests.cloud.triton_client import HURRY, Resident, installed

pytestmark = [pytest.mark.clouds, pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH")]


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def program() -> Path:
    return installed()


@pytest.fixture
def lab(front: Front) -> Lab:
    # The client looks at its watch after a request and waits for a job that ends later.
    return Lab(front, {"job_delay": 0.3})


@pytest.fixture
def triton(program: Path, tmp_path: Path, lab: Lab) -> Iterator[Triton]:
    made = Triton(program, tmp_path, lab)
    made.resident = Resident(made.environ(), "-r", str(HURRY))
    yield made
    made.resident.stop()


def test_the_catalogue(triton: Triton) -> None:
    images = {f"{each['name']}@{each['version']}" for each in triton.json("images", "-j")}
    assert {"debian-12@20261101", "debian-12-bare@20261101", "ubuntu-24.04@20261101"} <= images
    assert "debian-11@20240601" not in images
    packages = {each["name"]: each["memory"] for each in triton.json("packages", "-j")}
    assert packages.items() >= {"g1.nano": 512, "g1.micro": 1024, "g1.small": 2048, "g1.medium": 4096}.items()
    networks = {each["name"]: each["public"] for each in triton.json("networks", "-j")}
    assert networks == {"Joyent-SDC-Public": True, "Joyent-SDC-Private": False}
    assert triton.json("account", "get", "-j")["login"] == "rollcall"


def test_a_machine_from_its_creation_to_its_end(triton: Triton, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho Grüße\n")
    triton(
        "create", "-w", "--name=web-1", "-t", "role=web", "-t", "weight=7", "-m", "drain=no", f"--script={script}",
        "-N", "Joyent-SDC-Public", "debian-12", "g1.nano",
    )  # fmt: skip
    made = triton.json("instance", "get", "web-1")
    assert (made["state"], made["tags"], made["ips"]) == ("running", {"role": "web", "weight": 7}, ["203.0.113.10"])
    assert made["metadata"]["user-script"] == "#!/bin/sh\necho Grüße\n"
    # By name alone the newest image is meant.
    assert made["image"] == triton.lab.image("debian-12")
    for command, state in (("stop", "stopped"), ("start", "running"), ("reboot", "running")):
        triton(command, "-w", "web-1")
        assert triton.json("instance", "get", "web-1")["state"] == state
    triton("rm", "-f", "-w", "web-1")
    gone = triton("instance", "get", made["id"], check=False)
    assert (gone.returncode, "InstanceDeleted" in gone.stderr) == (3, True)
    assert triton("ls", "-H").stdout == ""


def test_changes_in_place(triton: Triton) -> None:
    found = triton.lab.running(name="web-1")
    triton("instance", "rename", "-w", "web-1", "web-2")
    triton("instance", "resize", "-w", "web-2", "g1.micro")
    triton("instance", "enable-firewall", "-w", "web-2")
    triton("instance", "enable-deletion-protection", "-w", "web-2")
    changed = triton.json("instance", "get", found["id"])
    assert (changed["name"], changed["package"], changed["firewall_enabled"], changed["deletion_protection"]) == (
        "web-2", "g1.micro", True, True,
    )  # fmt: skip
    refused = triton("rm", "-f", "web-2", check=False)
    assert (refused.returncode, "preventing deletion" in refused.stderr) == (1, True)
    triton("instance", "disable-deletion-protection", "-w", "web-2")
    triton("rm", "-f", "-w", "web-2")


def test_tags_and_metadata(triton: Triton) -> None:
    found = triton.lab.running(name="web-1")
    triton("instance", "tag", "set", "-w", "web-1", "a=b", "n=2", "on=true")
    assert triton.json("instance", "tag", "list", "web-1") == {"a": "b", "n": 2, "on": True}
    triton("instance", "tag", "delete", "-w", "web-1", "a")
    triton("instance", "tag", "replace-all", "-w", "web-1", "only=this")
    assert triton.json("instance", "tag", "list", "web-1") == {"only": "this"}
    triton("instance", "metadata", "set", "-w", "web-1", "x=y")
    assert triton.lab.cloud.metadata_get(found["id"], "x") == "y"
    triton("instance", "metadata", "delete", "-f", "-w", "web-1", "x")
    assert triton.lab.cloud.metadata_get(found["id"], "x") is None


def test_nics_snapshots_and_rules(triton: Triton) -> None:
    lab = triton.lab
    found = lab.running(name="web-1", networks=[lab.network("Joyent-SDC-Public")], **{"tag.role": "web"})
    nic = triton.json("instance", "nic", "create", "-j", "-w", "web-1", "Joyent-SDC-Private")
    assert len(triton.json("instance", "nic", "list", "-j", "web-1")) == 2
    triton("instance", "nic", "delete", "-f", "web-1", nic["mac"])
    triton("instance", "snapshot", "create", "-w", "-n", "s1", "web-1")
    triton("instance", "snapshot", "delete", "-f", "-w", "web-1", "s1")
    triton("fwrule", "create", "FROM any TO tag role=web ALLOW tcp PORT 80")
    rules = triton.json("instance", "fwrules", "-j", "web-1")
    listed: list[dict[str, Any]] = rules if isinstance(rules, list) else [rules]
    assert [each["rule"] for each in listed] == ['FROM any TO tag "role" = "web" ALLOW tcp PORT 80']
    assert "provision" in triton("instance", "audit", found["id"]).stdout


def test_an_image_of_a_machine(triton: Triton) -> None:
    found = triton.lab.running(name="web-1")
    triton("stop", "-w", "web-1")
    triton("image", "create", "-w", found["id"], "mine", "1.0.0")
    assert triton.json("image", "get", "mine")["state"] == "active"
    triton("image", "delete", "-f", "mine")


def test_fabrics(triton: Triton) -> None:
    triton("vlan", "create", "-n", "seven", "7")
    triton(
        "network", "create", "-n", "inside", "--subnet=10.50.0.0/24", "--start-ip=10.50.0.10", "--end-ip=10.50.0.20", "-x", "7",
    )  # fmt: skip
    assert triton.json("network", "get", "inside")["subnet"] == "10.50.0.0/24"
    triton("network", "delete", "inside")
    triton("vlan", "delete", "7")


def test_keys(triton: Triton, tmp_path: Path) -> None:
    text = public_text(ed25519.Ed25519PrivateKey.generate())
    (tmp_path / "new.pub").write_text(f"{text}\n")
    triton("key", "add", "-n", "new", str(tmp_path / "new.pub"))
    assert {each["name"] for each in triton.json("keys", "-j")} == {"operator", "new"}
    triton("key", "delete", "-y", "new")


def test_one_process_for_many_commands_says_what_each_says_in_its_own(triton: Triton) -> None:
    """`metadata delete` never calls back: it is over when nothing is left to be done."""
    found = triton.lab.running(name="web-1", **{"metadata.x": "y"})
    alone = [("instance", "get", "nobody"), ("instance", "metadata", "delete", "-f", found["id"], "x"), ("nonsense",)]
    assert triton.resident is not None
    for words in (("--version",), *alone, ("instance", "metadata", "list", "-j", "web-1")):
        once, again = triton.resident.run(*words), triton(*words, check=False)
        if words != alone[1]:
            assert (once.returncode, once.stdout, once.stderr) == (again.returncode, again.stdout, again.stderr)
        else:
            # It is gone by then.
            assert (once.returncode, once.stdout) == (0, f'Deleted metadata x of instance "{found["id"]}"\n')
    assert triton.resident.run(*alone[0]).returncode == 3


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_other_kinds_of_keys(program: Path, tmp_path: Path, lab: Lab, key: PrivateKey) -> None:
    lab.fingerprint = lab.cloud.add_key("other", public_text(key))
    assert Triton(program, tmp_path, lab, key).json("account", "get", "-j")["login"] == "rollcall"


def test_a_failed_machine_and_a_wrong_key_are_reported(triton: Triton) -> None:
    triton.lab.faults.add("cloudapi failed-provisioning times=1")
    failed = triton("create", "-w", "--name=web-1", "debian-12", "g1.nano", check=False)
    assert failed.returncode != 0
    assert "failed" in failed.stderr.lower() + failed.stdout.lower()
    triton.lab.raw("DELETE", f"/keys/{triton.lab.fingerprint}")
    refused = triton("ls", check=False)
    assert (refused.returncode, "InvalidCredentials" in refused.stderr) == (1, True)


def test_a_sub_user(program: Path, tmp_path: Path, lab: Lab) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    lab.cloud.add_user("eve")
    lab.fingerprint = lab.cloud.add_key("eve", public_text(key), user="eve")
    triton = Triton(program, tmp_path, lab, key)
    refused = triton("ls", check=False, TRITON_USER="eve")
    assert "NotAuthorized" in refused.stderr
    lab.cloud._store.user("eve").administrator = True
    assert triton("ls", "-H", TRITON_USER="eve").stdout == ""
