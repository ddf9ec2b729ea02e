"""The provider's resources against the local CloudAPI over HTTP, without an engine: what it does must be what that API takes."""

from __future__ import annotations

import base64
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from components.joyent.client import CloudApi as Client
from components.joyent.credentials import Credentials
from components.joyent.errors import AuthenticationError, FatalError, NotFoundError
from components.joyent.fabric import FabricNetworkProvider, VlanProvider
from components.joyent.firewall import FirewallRuleProvider
from components.joyent.image import ImageProvider
from components.joyent.key import KeyProvider
from components.joyent.machine import MachineProvider
from components.joyent.pacing import RateLimiter
from components.joyent.provider import JoyentProvider
from components.joyent.ready import ReadyProvider
from components.joyent.session import Session
from components.joyent.snapshot import SnapshotProvider
from components.joyent.transport import Transport
from localcloud.machines.compute import InstantHypervisor
from localcloud.network.http import Server
from localcloud.triton import CloudApi
from tests.hurried import Hurried

pytestmark = pytest.mark.clouds

KEYS: dict[str, Any] = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def pem(key: Any) -> str:
    plain = serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, plain), "ascii")


def public(key: Any) -> str:
    form = serialization.PublicFormat.OpenSSH
    return str(key.public_key().public_bytes(serialization.Encoding.OpenSSH, form), "ascii")


@pytest.fixture
def url() -> Iterator[str]:
    cloud = CloudApi(account="rollcall", hypervisor=InstantHypervisor(), throttle=None, job_delay=0.05)
    for name, key in KEYS.items():
        cloud.add_key(name, public(key))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(cloud.app, [listening])
        server.start()
        yield f"http://127.0.0.1:{server.ports[0]}"
        server.stop()


def client(url: str, key: Any = KEYS["ed25519"], **others: Any) -> Client:
    given = Credentials(url=url, account="rollcall", key_material=pem(key), **others)
    return Client(Transport(given, limiter=RateLimiter(burst=10_000), environ={}))


@pytest.fixture
def session(url: str) -> Session:
    return Hurried(client(url))


@pytest.mark.parametrize("kind", KEYS)
def test_each_kind_of_key_is_let_in(url: str, kind: str) -> None:
    assert client(url, KEYS[kind]).get_account()["login"] == "rollcall"


def test_a_key_that_the_account_does_not_have_is_reported_with_the_fix(url: str) -> None:
    with pytest.raises(AuthenticationError, match="public key of TRITON_KEY_ID"):
        client(url, ed25519.Ed25519PrivateKey.generate()).get_account()


class Thing:
    """One resource, as the engine drives it; each refresh in its own run."""

    def __init__(self, session: Session, provider: JoyentProvider) -> None:
        self.session, self.provider = session, provider
        self.provider.fixed_session = session
        self.id = ""
        self.state: dict[str, Any] = {}

    def checked(self, declared: dict[str, Any]) -> dict[str, Any]:
        result = self.provider.check({}, declared)
        assert not [f"{each.property}: {each.reason}" for each in result.failures]
        inputs: dict[str, Any] = result.inputs
        return inputs

    def create(self, declared: dict[str, Any]) -> Thing:
        made = self.provider.create(self.checked(declared))
        self.id, self.state = made.id, made.outs
        return self

    def update(self, declared: dict[str, Any]) -> None:
        checked = self.checked(declared)
        assert self.provider.diff(self.id, self.state, checked).changes is True
        self.state = self.provider.update(self.id, self.state, checked).outs

    def same(self, declared: dict[str, Any]) -> bool:
        self.provider.fixed_session = Hurried(self.session.api)
        read = self.provider.read(self.id, self.state)
        assert read.id == self.id
        self.state = read.outs
        return self.provider.diff(self.id, self.state, self.checked(declared)).changes is False

    def delete(self) -> None:
        self.provider.fixed_session = Hurried(self.session.api)
        self.provider.delete(self.id, self.state)


MACHINE: dict[str, Any] = {
    "machine_name": "web-0", "package": "g1.nano", "image": "debian-12", "networks": ["Joyent-SDC-Public"],
    "tags": {"role": "web", "weight": 10, "spare": False}, "metadata": {"round": "1"}, "secret_metadata": {"token": "secret"},
    "userdata": "#!/bin/sh\n", "firewall_enabled": False, "deletion_protection": False, "power": "running",
    "mark": "p/s/web-0", "update_timeout": 30, "delete_timeout": 30,
}  # fmt: skip


@pytest.fixture
def machine(session: Session) -> Thing:
    made = Thing(session, MachineProvider()).create(MACHINE)
    ready(session, made.id)
    return made


def ready(session: Session, *machines: str) -> dict[str, Any]:
    outs: dict[str, Any] = Thing(session, ReadyProvider()).create({"machines": list(machines), "timeout": 30}).state
    return outs


CHANGES: tuple[tuple[dict[str, Any], Callable[[Any], Any], Any], ...] = (
    ({"machine_name": "renamed"}, lambda each: each.name, "renamed"),
    ({"package": "g1.small"}, lambda each: each.memory, 2048),
    ({"tags": {"weight": 11, "new": True}}, lambda each: {**each.tags, "pulumi-resource": ""},
     {"weight": 11, "new": True, "pulumi-resource": ""}),
    ({"metadata": {"other": "x"}}, lambda each: (each.metadata.get("other"), "round" in each.metadata), ("x", False)),
    ({"secret_metadata": {"token": "new"}}, lambda each: each.metadata["token"], "new"),
    ({"userdata": "#!/bin/sh\nnew\n"}, lambda each: each.metadata["user-script"], "#!/bin/sh\nnew\n"),
    ({"firewall_enabled": True}, lambda each: each.firewall_enabled, True),
    ({"deletion_protection": True}, lambda each: each.deletion_protection, True),
    ({"power": "stopped"}, lambda each: each.state, "stopped"),
    ({"networks": ["Joyent-SDC-Public", "Joyent-SDC-Private"]}, lambda each: len(each.networks), 2),
    ({"networks": ["Joyent-SDC-Private", "Joyent-SDC-Public"]}, lambda each: len(each.networks), 2),
)  # fmt: skip


@pytest.mark.parametrize(("change", "shown", "expected"), CHANGES, ids=[",".join(each[0]) for each in CHANGES])
def test_each_change_in_place_arrives_and_leaves_no_difference(
    machine: Thing, change: dict[str, Any], shown: Callable[[Any], Any], expected: Any
) -> None:
    assert machine.same(MACHINE)
    machine.update({**MACHINE, **change})
    assert shown(machine.session.api.get_machine(machine.id)) == expected
    assert machine.same({**MACHINE, **change})
    assert not machine.same(MACHINE)


def test_an_adopted_machine_shows_no_difference(machine: Thing, session: Session) -> None:
    session.api.delete_tag(machine.id, "pulumi-resource")
    taken = Thing(Hurried(session.api), MachineProvider()).create({**MACHINE, "adopt": "web-0"})
    assert taken.id == machine.id
    assert taken.same({**MACHINE, "adopt": "web-0"})


def test_a_machine_is_stopped_and_gone(machine: Thing, session: Session) -> None:
    machine.delete()
    end = time.monotonic() + 10
    while session.machines.find(machine.id, 0.0) and time.monotonic() < end:
        time.sleep(0.05)
    assert session.machines.find(machine.id, 0.0) is None
    with pytest.raises(NotFoundError):
        session.api.get_machine(machine.id)


def test_a_protected_machine_is_kept(machine: Thing) -> None:
    machine.update({**MACHINE, "deletion_protection": True})
    with pytest.raises(FatalError, match="is protected"):
        machine.delete()


def test_a_name_that_is_taken_is_reported_with_its_holder(machine: Thing, session: Session) -> None:
    with pytest.raises(FatalError, match=f"taken by machine {machine.id}"):
        Thing(Hurried(session.api), MachineProvider()).create({**MACHINE, "mark": "p/s/other"})


def test_addresses_are_public_ones(machine: Thing, session: Session) -> None:
    assert ready(session, machine.id)["addresses"][machine.id].startswith("203.0.113.")


def public_key(seed: int) -> str:
    blob = b"".join(struct.pack(">I", len(word)) + word for word in (b"ssh-ed25519", bytes([seed]) * 32))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


NETWORK = {
    "vlan_id": 100, "network_name": "net", "subnet": "10.1.2.0/24", "provision_start_ip": "10.1.2.10",
    "provision_end_ip": "10.1.2.250", "gateway": "10.1.2.1", "internet_nat": False, "resolvers": ["10.1.2.2"], "delete_timeout": 5,
}  # fmt: skip
THINGS: tuple[tuple[JoyentProvider, dict[str, Any], dict[str, Any]], ...] = (
    (KeyProvider(), {"key_name": "laptop", "key": public_key(1) + " me@home"}, {}),
    (FirewallRuleProvider(),
     {"rule": 'from any to tag "role" = "web" allow tcp port 80', "enabled": True, "description": "[p/s/n]", "mark": "[p/s/n]"},
     {"rule": 'FROM any TO tag "role" = "web" ALLOW tcp PORT 443', "enabled": False}),
    (VlanProvider(), {"vlan_id": 7, "vlan_name": "v", "description": "d"}, {"vlan_name": "w"}),
    (FabricNetworkProvider(), NETWORK, {"resolvers": ["10.1.2.3"], "network_name": "other"}),
)  # fmt: skip


@pytest.mark.parametrize(("provider", "declared", "change"), THINGS, ids=[type(each[0]).__name__ for each in THINGS])
def test_it_is_made_found_again_changed_and_deleted(
    session: Session, provider: JoyentProvider, declared: dict[str, Any], change: dict[str, Any]
) -> None:
    if isinstance(provider, FabricNetworkProvider):
        Thing(session, VlanProvider()).create({"vlan_id": 100, "vlan_name": "v"})
    thing = Thing(session, provider).create(declared)
    assert thing.same(declared)
    assert Thing(Hurried(session.api), type(provider)()).create(declared).id == thing.id
    if change:
        thing.update({**declared, **change})
        assert thing.same({**declared, **change})
    thing.delete()
    assert thing.provider.read(thing.id, thing.state).id == ""
    thing.delete()


def test_a_snapshot_is_taken_and_removed(machine: Thing, session: Session) -> None:
    declared = {"machine": machine.id, "snapshot_name": "before", "wanted": "created", "timeout": 30}
    thing = Thing(session, SnapshotProvider()).create(declared)
    assert thing.state["state"] == "created"
    assert thing.same(declared)
    thing.delete()
    assert thing.provider.read(thing.id, thing.state).id == ""


def test_a_snapshot_of_a_killed_run_is_taken_up_and_another_owners_is_not(machine: Thing, session: Session) -> None:
    declared = {
        "machine": machine.id,
        "snapshot_name": "before",
        "wanted": "created",
        "timeout": 30,
        "mark": "p/s/before",
    }
    first = Thing(session, SnapshotProvider()).create(declared)
    again = Thing(Hurried(session.api), SnapshotProvider()).create(declared)
    assert again.id == first.id
    with pytest.raises(FatalError, match=r"has a snapshot 'before' already. Set adopt=True"):
        Thing(session, SnapshotProvider()).create({**declared, "mark": "p/s/other"})
    # The mark is on the machine, but it is no foreign tag there.
    assert machine.same(MACHINE)
    assert machine.state["foreign_tags"] == []
    again.delete()
    tags = session.api.get_tags
    ends = time.monotonic() + 10
    while "pulumi-resource:before" in tags(machine.id) and time.monotonic() < ends:
        time.sleep(0.05)
    assert set(tags(machine.id)) == {*MACHINE["tags"], "pulumi-resource"}


def test_an_image_is_made_from_a_stopped_machine_and_used(machine: Thing, session: Session) -> None:
    machine.update({**MACHINE, "power": "stopped"})
    declared = {
        "machine": machine.id, "image_name": "mine", "version": "1", "wanted": "active", "mark": "p/s/i", "timeout": 30,
        "tags": {"a": "b"},
    }  # fmt: skip
    thing = Thing(session, ImageProvider()).create(declared)
    assert thing.state["state"] == "active"
    assert thing.same(declared)
    thing.update({**declared, "tags": {"a": "c"}, "version": "2"})
    assert thing.same({**declared, "tags": {"a": "c"}, "version": "2"})
    assert Hurried(session.api).catalogue.image("mine@2").id == thing.id


def test_keys_are_read_from_a_file_that_the_environment_names(url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(pem(KEYS["rsa"]))
    given = {"TRITON_URL": url, "SDC_ACCOUNT": "rollcall", "TRITON_KEY_FILE": str(tmp_path / "key")}
    assert Client.from_environment(given).get_account()["login"] == "rollcall"


def test_three_hundred_unchanged_machines_are_read_with_five_calls_at_most() -> None:
    """Each `read` and each comparison of a refresh and a preview, four at a time as the engine does, in a run of their own."""
    cloud = CloudApi(account="rollcall", hypervisor=InstantHypervisor(), throttle=None, public_range="198.18.0.0/15")
    cloud.add_key("ed25519", public(KEYS["ed25519"]))
    requests: list[str] = []

    def counted(environ: Any, start_response: Any) -> Any:
        requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        return cloud.app(environ, start_response)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(counted, [listening])
        server.start()
        first = Hurried(client(f"http://127.0.0.1:{server.ports[0]}"))
        declared = [{**MACHINE, "machine_name": f"web-{at}", "mark": f"p/s/web-{at}"} for at in range(300)]
        things = [Thing(first, MachineProvider()) for _ in declared]
        with ThreadPoolExecutor(4) as four:
            list(four.map(Thing.create, things, declared))
            ready(first, *(thing.id for thing in things))
            requests.clear()
            later = Session(client(f"http://127.0.0.1:{server.ports[0]}"))

            def unchanged(thing: Thing, inputs: dict[str, Any]) -> bool:
                thing.provider.fixed_session = later
                read = thing.provider.read(thing.id, thing.state)
                return (
                    read.id == thing.id and not thing.provider.diff(thing.id, read.outs, thing.checked(inputs)).changes
                )

            assert all(four.map(unchanged, things, declared))
        server.stop()
    print(f"300 machines refreshed and compared with {len(requests)} calls")
    assert len(requests) <= 5, requests
