"""One contract, two clients: what CloudAPI does for npm's `triton` it does for our client, and both find the same.

Local by default. `ROLLCALL_CONTRACT=real TRITON_URL=… TRITON_ACCOUNT=… TRITON_KEY_ID=… pytest tests/cloud/test_joyent_contract.py`
runs the same on a real data centre (about 25 minutes, two small machines at a time); what it makes bears its mark and is deleted.
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.triton import Throttle
from tests.cloud.cloudapi_server import ACCOUNT, RSA_KEY, Front, Lab, private_text, public_text
from tests.cloud.contract import MARK, Body, Gone, Hand, Official, Ours, Place, Refused, place, until, wanted
from tests.cloud.triton_client import Resident, installed

pytestmark = [pytest.mark.clouds, pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH")]

REAL = wanted(os.environ)
SCRIPT = "#!/bin/sh\necho Grüße"


def local_environ(home: Path, lab: Lab) -> dict[str, str]:
    """As a user has it: a key in ~/.ssh, and who and where in the environment."""
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "id_rsa").write_bytes(private_text(RSA_KEY))
    (ssh / "id_rsa").chmod(0o600)
    (ssh / "id_rsa.pub").write_text(f"{public_text(RSA_KEY)}\n")
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "TRITON_PROFILE": "env", "TRITON_URL": lab.url, "TRITON_ACCOUNT": ACCOUNT,
        "TRITON_KEY_ID": lab.fingerprint, "TRITON_KEY_FILE": str(ssh / "id_rsa"),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["ours", "triton"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def here(client: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if REAL:
        found = place({**os.environ, "TRITON_PROFILE": "env"}, real=True)
        yield found
        found.clean()
        return
    front = Front()
    # Our client keeps to the rate by itself. `triton` does as long as each command takes a process to start.
    throttle = Throttle() if client == "ours" else None
    lab = Lab(front, {"job_delay": 0.1, "provisioning": 0.2, "throttle": throttle})
    found = place(local_environ(tmp_path_factory.mktemp("home"), lab), real=False)
    yield found
    found.clean()
    front.stop()


@pytest.fixture(scope="module")
def official(here: Place) -> Iterator[Official]:
    """On a real data centre, where replies take longer than a process, each command is run as a user runs it."""
    resident = None if REAL else Resident(here.environ)
    yield Official(here.environ, resident)
    if resident:
        resident.stop()


@pytest.fixture(scope="module")
def hand(client: str, here: Place, official: Official) -> Hand:
    return Ours(here.api) if client == "ours" else official


def made(here: Place, hand: Hand, name: str) -> str:
    return hand.create(
        f"{here.mark}-{name}", here.image, str(here.package["name"]),
        tags={MARK: here.mark, "role": "web", "weight": 7, "spare": False}, metadata={"drain": "no"}, script=SCRIPT,
    )  # fmt: skip


@pytest.fixture(scope="module")
def machine(here: Place, hand: Hand) -> Iterator[str]:
    """A running one that the tests of its hand share; each leaves it as it found it."""
    found = made(here, hand, "shared")
    shows(here, hand, found, lambda body: body["state"] == "running")
    yield found
    hand.delete(found)
    gone(here, hand, found)


def shows(here: Place, hand: Hand, machine: str, fits: Callable[[Body], bool]) -> Body:
    return until(lambda: body if fits(body := hand.machine(machine)) else None, here.patience)


def gone(here: Place, hand: Hand, machine: str) -> None:
    def check() -> bool | None:
        try:
            hand.machine(machine)
        except Gone:
            return True
        return None

    until(check, here.patience)


def public_key(seed: bytes) -> str:
    blob = b"".join(struct.pack(">I", len(word)) + word for word in (b"ssh-ed25519", seed.ljust(32, b"x")[:32]))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def test_the_account_and_the_catalogue_are_shown(here: Place, hand: Hand) -> None:
    assert hand.account()["login"] == here.environ["TRITON_ACCOUNT"]
    assert here.image in {each["id"] for each in hand.images()}
    assert here.package["memory"] in [each["memory"] for each in hand.packages() if each["id"] == here.package["id"]]
    assert any(each["public"] for each in hand.networks())


def test_a_machine_lives_from_its_creation_to_its_end(here: Place, hand: Hand) -> None:
    machine = made(here, hand, "life")
    assert hand.machine(machine)["state"] in ("provisioning", "running")
    body = shows(here, hand, machine, lambda body: body["state"] == "running" and bool(body["ips"]))
    assert body["image"] == here.image
    assert body["package"] == here.package["name"]
    assert body["metadata"]["user-script"] == SCRIPT
    assert [each["id"] for each in hand.named(f"{here.mark}-life")] == [machine]
    for action, state in (("stop", "stopped"), ("start", "running")):
        hand.power(machine, action)
        shows(here, hand, machine, lambda body, state=state: body["state"] == state)  # type: ignore[misc]
    hand.delete(machine)
    gone(here, hand, machine)
    assert hand.named(f"{here.mark}-life") == []


def test_a_name_is_given_once(here: Place, hand: Hand, machine: str) -> None:
    with pytest.raises(Refused, match=r"(?i)name|alias"):
        made(here, hand, "shared")
    assert [each["id"] for each in hand.named(f"{here.mark}-shared")] == [machine]


def test_a_machine_is_renamed_and_named_back(here: Place, hand: Hand, machine: str) -> None:
    for name in (f"{here.mark}-other", f"{here.mark}-shared"):
        hand.rename(machine, name)
        shows(here, hand, machine, lambda body, name=name: body["name"] == name)  # type: ignore[misc]


def test_a_machine_is_resized(here: Place, hand: Hand, machine: str) -> None:
    if here.larger is None:
        pytest.skip("the data centre has one plain package of its group")
    for package in (here.larger, here.package):
        hand.resize(machine, package["name"])
        shows(here, hand, machine, lambda body, package=package: body["memory"] == package["memory"])  # type: ignore[misc]


def test_the_firewall_is_switched(here: Place, hand: Hand, machine: str) -> None:
    for on in (True, False):
        hand.switch(machine, "firewall", on)
        shows(here, hand, machine, lambda body, on=on: body["firewall_enabled"] is on)  # type: ignore[misc]


def test_a_protected_machine_is_not_deleted(here: Place, hand: Hand, machine: str) -> None:
    hand.switch(machine, "deletion_protection", True)
    shows(here, hand, machine, lambda body: body["deletion_protection"] is True)
    with pytest.raises(Refused, match="deletion_protection"):
        hand.delete(machine)
    hand.switch(machine, "deletion_protection", False)
    shows(here, hand, machine, lambda body: body["deletion_protection"] is False)


def test_tags_are_merged_typed_and_removed_one_by_one(here: Place, hand: Hand, machine: str) -> None:
    hand.set_tags(machine, {"weight": 8, "on": True, "text": "a b"})
    expected = {MARK: here.mark, "role": "web", "weight": 8, "spare": False, "on": True, "text": "a b"}
    shows(here, hand, machine, lambda body: same(body["tags"], expected))
    hand.drop_tag(machine, "on")
    shows(here, hand, machine, lambda body: "on" not in body["tags"] and body["tags"]["role"] == "web")
    with pytest.raises(Gone):
        hand.drop_tag(machine, "never-there")


def same(one: Body, other: Body) -> bool:
    return one == other and all(type(one[key]) is type(other[key]) for key in one)


def test_a_special_tag_of_the_wrong_type_is_refused(hand: Hand, machine: str) -> None:
    with pytest.raises(Refused, match=r"triton\.cns\.disable"):
        hand.set_tags(machine, {"triton.cns.disable": "perhaps"})


def test_metadata_are_merged_and_removed_one_by_one(here: Place, hand: Hand, machine: str) -> None:
    hand.set_metadata(machine, {"drain": "yes", "more": "x=y"})
    shows(here, hand, machine, lambda body: (body["metadata"]["drain"], body["metadata"].get("more")) == ("yes", "x=y"))
    hand.drop_metadata(machine, "more")
    body = shows(here, hand, machine, lambda body: "more" not in body["metadata"])
    assert body["metadata"]["user-script"] == SCRIPT


def test_a_nic_comes_and_goes(here: Place, hand: Hand, machine: str) -> None:
    own = {each["network"] for each in hand.nics(machine)}
    listed = {each["id"] for each in hand.networks()}
    networks = [each["id"] for each in hand.networks() if not each["public"] and each["id"] not in own]
    if own <= listed and not networks:
        # On every private network already: one of them is taken away and given back.
        (network,) = [each["id"] for each in hand.networks() if not each["public"]][:1]
        mac = next(each["mac"] for each in hand.nics(machine) if each["network"] == network)
        hand.drop_nic(machine, mac)
        until(lambda: True if mac not in {each["mac"] for each in hand.nics(machine)} else None, here.patience)
        networks = [network]
        shows(here, hand, machine, lambda body: body["state"] == "running")
        hand.add_nic(machine, network)
    else:
        mac = hand.add_nic(machine, networks[0])
        until(lambda: True if mac in running_nics(hand, machine) else None, here.patience)
        hand.drop_nic(machine, mac)
    until(lambda: True if {each["network"] for each in hand.nics(machine)} == own else None, here.patience)
    shows(here, hand, machine, lambda body: body["state"] == "running")


def running_nics(hand: Hand, machine: str) -> set[str]:
    return {each["mac"] for each in hand.nics(machine) if each.get("state") == "running"}


def test_a_snapshot_is_taken_and_removed(here: Place, hand: Hand, machine: str) -> None:
    hand.snap(machine, "before")
    until(lambda: True if ("before", "created") in states(hand, machine) else None, here.patience)
    hand.drop_snapshot(machine, "before")
    until(lambda: True if ("before", "created") not in states(hand, machine) else None, here.patience)


def states(hand: Hand, machine: str) -> list[tuple[str, str]]:
    return [(each["name"], each["state"]) for each in hand.snapshots(machine)]


def test_an_image_is_made_of_a_stopped_machine(here: Place, hand: Hand, machine: str) -> None:
    hand.power(machine, "stop")
    shows(here, hand, machine, lambda body: body["state"] == "stopped")
    image = hand.make_image(machine, f"{here.mark}-image", "1.0.0")
    body = until(lambda: found if (found := hand.image(image))["state"] != "creating" else None, here.patience)
    assert (body["state"], body["name"], body["version"]) == ("active", f"{here.mark}-image", "1.0.0")
    hand.drop_image(image)
    assert image not in {each["id"] for each in hand.images()}
    hand.power(machine, "start")
    shows(here, hand, machine, lambda body: body["state"] == "running")


def test_a_key_comes_once_and_goes(here: Place, hand: Hand) -> None:
    text = public_key(here.mark.encode() + type(hand).__name__.encode())
    hand.add_key(f"{here.mark}-key", text)
    (fingerprint,) = [each["fingerprint"] for each in hand.public_keys() if each["name"] == f"{here.mark}-key"]
    with pytest.raises(Refused, match=r"(?i)key"):
        hand.add_key(f"{here.mark}-again", text)
    hand.drop_key(fingerprint)
    assert fingerprint not in {each["fingerprint"] for each in hand.public_keys()}


def test_a_rule_is_made_switched_and_deleted(here: Place, hand: Hand) -> None:
    rule = hand.add_rule(f'FROM any TO tag "{MARK}" = "nobody" ALLOW tcp PORT 80', here.mark)
    assert hand.rule(rule)["enabled"] is True
    hand.switch_rule(rule, False)
    assert hand.rule(rule)["enabled"] is False
    hand.drop_rule(rule)
    with pytest.raises(Gone):
        hand.rule(rule)


def test_a_rule_that_is_none_is_refused(here: Place, hand: Hand) -> None:
    with pytest.raises(Refused, match=r"(?i)rule"):
        hand.add_rule("FROM nowhere", here.mark)


def test_a_vlan_and_its_network_come_and_go(here: Place, hand: Hand) -> None:
    try:
        taken = {each["vlan_id"] for each in hand.vlans()}
    except (Gone, Refused):
        pytest.skip("the data centre has no fabrics")
    number = next(each for each in range(4000, 1, -1) if each not in taken)
    hand.add_vlan(number, f"{here.mark}-vlan")
    assert f"{here.mark}-vlan" in {each["name"] for each in hand.vlans()}
    network = hand.add_network(number, f"{here.mark}-net", "10.213.97")
    body = hand.network(network)
    assert (body["subnet"], body["vlan_id"], body["public"]) == ("10.213.97.0/24", number, False)
    hand.drop_network(number, network)
    hand.drop_vlan(number)
    assert number not in {each["vlan_id"] for each in hand.vlans()}


UNKNOWN = "0d5ecf6c-5b1c-4c4f-8a76-6f5f3a1f8b10"


def test_what_never_was_is_gone(here: Place, hand: Hand) -> None:
    for verb in (hand.machine, hand.image, hand.rule, hand.network):
        with pytest.raises(Gone):
            verb(UNKNOWN)
    with pytest.raises(Gone):
        hand.create(f"{here.mark}-x", UNKNOWN, str(here.package["name"]), tags={}, metadata={}, script=SCRIPT)


def test_both_hands_see_the_same_machine(here: Place, official: Official, machine: str) -> None:
    ours, theirs = (each.machine(machine) for each in (Ours(here.api), official))
    for body in (ours, theirs):
        body.pop("updated")
    assert {key: theirs[key] for key in ours} == ours


def test_nothing_of_it_is_left(here: Place, hand: Hand) -> None:
    kept = {each["id"] for each in hand.named(f"{here.mark}-shared")}
    until(lambda: True if here.left() == [f"machine {each}" for each in kept] else None, here.patience)


# Where it runs


def test_a_real_data_centre_is_asked_for_by_name_and_never_by_accident() -> None:
    given = {"TRITON_URL": "https://dc.example", "TRITON_ACCOUNT": "a", "TRITON_KEY_ID": "k"}
    assert wanted(given) is False
    assert wanted({**given, "ROLLCALL_CONTRACT": "local"}) is False
    assert wanted({**given, "ROLLCALL_CONTRACT": "real"}) is True
    with pytest.raises(ValueError, match="ROLLCALL_CONTRACT=real needs TRITON_URL, TRITON_KEY_ID"):
        wanted({"TRITON_ACCOUNT": "a", "ROLLCALL_CONTRACT": "real"})
    with pytest.raises(ValueError, match="set it to real, or leave it out"):
        wanted({**given, "ROLLCALL_CONTRACT": "yes"})


@pytest.mark.prove
def test_the_same_suite_runs_on_what_the_environment_points_at_and_leaves_nothing_there(tmp_path: Path) -> None:
    """A local CloudAPI plays the real data centre: another process, which knows it by its environment alone."""
    front = Front()
    try:
        lab = Lab(front, {"job_delay": 0.3, "provisioning": 0.5, "throttle": Throttle()})
        environ = {**local_environ(tmp_path, lab), "ROLLCALL_CONTRACT": "real"}
        root = Path(__file__).resolve().parents[2]
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not prove", str(Path(__file__).resolve())]
        environ |= {"XDG_CACHE_HOME": str(installed().parents[4].parent)}
        done = subprocess.run(
            [sys.executable, *words], cwd=root, env=environ, capture_output=True, text=True, timeout=400, check=False
        )
        print(done.stdout.strip().splitlines()[-1])
        assert done.returncode == 0, done.stdout[-4000:]
        assert lab.cloud.list_instances()
        assert {each["state"] for each in lab.cloud.list_instances()} == {"deleted"}
        assert [each["name"] for each in lab.get("/keys")] == ["operator"]
        assert lab.get("/fwrules") == lab.get("/fabrics/default/vlans") == []
    finally:
        front.stop()
