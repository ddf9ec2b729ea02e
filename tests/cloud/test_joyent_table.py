"""In place or replaced: every property of every resource, changed by the real engine and read back through npm's `triton`.

One stack holds a resource for each row. It is brought up with what each row has before; then one preview must name for each
row what will be done and why, one `up` does it, `triton` reads it back, and a second preview must be empty.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

import components.joyent as joyent
from components.joyent.machine_fields import FIELDS
from tests.cloud.joyent_stack import Stack, make_stack

pytestmark = [
    pytest.mark.clouds,
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH"),
]

PROGRAM = """
import sys
sys.path.insert(0, {root!r})
import json
import os
import pulumi
import components.joyent as joyent

made = {{}}


def filled(value):
    if isinstance(value, dict):
        return made[value["id of"]].id if "id of" in value else {{key: filled(each) for key, each in value.items()}}
    return [filled(each) for each in value] if isinstance(value, list) else value


for kind, name, args in json.loads(os.environ["TRIAL"])["things"]:
    made[name] = getattr(joyent, kind)(name, getattr(joyent, kind + "Args")(**filled(args)))
"""

Things = list[tuple[str, str, dict[str, Any]]]
MACHINE: dict[str, Any] = {"package": "g1.nano", "image": "debian-12", "networks": ["Joyent-SDC-Private"]}
HVM: dict[str, Any] = {"package": "b1.small", "image": "debian-12-hvm", "networks": ["Joyent-SDC-Private"]}
PRIVATE, PUBLIC = "Joyent-SDC-Private", "Joyent-SDC-Public"
_NUMBERS = itertools.count(1)
_ANOTHER_ID = "0d5ecf6c-5b1c-4c4f-8a76-6f5f3a1f8b10"


@dataclass
class Row:
    """A change of `name` from `before` to `after` (and of `also` with it). `shown` finds in what `triton` shows what must
    then be `expected`; without it the thing must merely be the same one still, or another."""

    kind: str
    name: str
    before: Any
    after: Any
    op: Literal["update", "replace"]
    shown: Callable[[Any], Any] | None = None
    expected: Any = None
    base: dict[str, Any] = field(default_factory=dict)
    also: dict[str, Any] = field(default_factory=dict)
    number: int = field(default_factory=lambda: next(_NUMBERS))

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.number}-{self.name}"

    def args(self, value: Any, also: dict[str, Any]) -> dict[str, Any]:
        own = {} if value is None else {self.name: value}
        named = {"machine_name": f"m-{self.number}"} if self.kind == "Machine" else {}
        return {**named, **self.base, **also, **own}


def machine(name: str, before: Any, after: Any, shown: Any = None, expected: Any = None, **others: Any) -> Row:
    op = others.pop("op", "update")
    return Row("Machine", name, before, after, op, shown, expected, others.pop("base", MACHINE), **others)


def each(name: str) -> Callable[[Any], Any]:
    return lambda body: body.get(name)


def public_key(seed: int) -> str:
    blob = b"".join(struct.pack(">I", len(word)) + word for word in (b"ssh-ed25519", bytes([seed]) * 32))
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def network_names(body: Any) -> int:
    return len(body["networks"])


MACHINES = (
    machine("machine_name", "m-old", "m-new", each("name"), "m-new"),
    machine("package", "g1.nano", "g1.small", lambda body: (body["package"], body["memory"]), ("g1.small", 2048)),
    machine("package", "b1.small", "b1.medium", each("package"), "b1.medium", base=HVM),
    machine("package", "b1.small", "b1.rigid", each("package"), "b1.rigid", base=HVM, op="replace"),
    machine("image", "debian-12", "debian-12-bare", op="replace"),
    # Another word for the same image: nothing happens to the machine.
    machine("image", "debian-12", "debian-12@20261101"),
    machine("networks", [PRIVATE], [PUBLIC, PRIVATE], network_names, 2),
    machine("networks", [PUBLIC, PRIVATE], [PRIVATE, PUBLIC], lambda body: [ip[:3] for ip in body["ips"]], ["10.", "203"]),
    machine("networks", [PUBLIC, PRIVATE], [PRIVATE], network_names, 1),
    machine("tags", {"role": "web", "n": 1}, {"role": "db", "on": True},
            lambda body: {key: body["tags"].get(key) for key in ("role", "n", "on")}, {"role": "db", "n": None, "on": True}),
    machine("metadata", {"a": "1", "gone": "x"}, {"a": "2"},
            lambda body: (body["metadata"].get("a"), "gone" in body["metadata"]), ("2", False)),
    machine("secret_metadata", {"token": "old"}, {"token": "new"}, lambda body: body["metadata"]["token"], "new"),
    machine("userdata", "#!/bin/sh\n", "#!/bin/sh\ntrue\n", lambda body: body["metadata"]["user-script"], "#!/bin/sh\ntrue\n"),
    machine("firewall_enabled", False, True, each("firewall_enabled"), True),
    machine("firewall_enabled", True, False, each("firewall_enabled"), False),
    machine("deletion_protection", False, True, each("deletion_protection"), True),
    machine("deletion_protection", True, False, each("deletion_protection"), False),
    machine("power", "running", "stopped", each("state"), "stopped"),
    machine("power", "stopped", "running", each("state"), "running"),
    machine("affinity", ["role!=web"], ["role!=db"], op="replace"),
    machine("locality", {"far": [_ANOTHER_ID]}, {"near": [_ANOTHER_ID]}, op="replace"),
    machine("brand", "kvm", "bhyve", each("brand"), "bhyve", op="replace", base={**HVM, "package": "g1.small"}),
    machine("delegate_dataset", False, True, each("delegate_dataset"), True, op="replace"),
    machine("encrypted", False, True, each("encrypted"), True, op="replace"),
    machine("disks", [20480], [20480, 1024], lambda body: [disk["size"] for disk in body["disks"]], [20480, 1024],
            op="replace", base=HVM),
    machine("fixed_ips", {PRIVATE: "10.88.5.1"}, {PRIVATE: "10.88.5.2"}, each("ips"), ["10.88.5.2"], op="replace"),
    machine("administrator_password", "old", "new", op="replace",
            base={"package": "k1.medium", "image": "windows-2022", "networks": [PRIVATE]}),
    machine("allow_shared_images", False, True),
    machine("adopt", None, "m-adopted", base={**MACHINE, "machine_name": "m-adopted"}),
    machine("update_timeout", 300, 200),
    machine("delete_timeout", 120, 100),
)  # fmt: skip

RULE: dict[str, Any] = {"rule": 'FROM any TO tag "role" = "web" ALLOW tcp PORT 80', "enabled": True}
A, B, OFF, OTHER = ({"id of": name} for name in ("base-a", "base-b", "base-off", "base-other"))


def vlan(name: str, before: Any, after: Any, op: Literal["update", "replace"], shown: str) -> Row:
    row = Row("Vlan", name, before, after, op, each(shown), after)
    row.base = {"vlan_id": 1000 + row.number, "vlan_name": f"v{row.number}", "description": "d"}
    return row


def network(name: str, before: Any, after: Any, op: Literal["update", "replace"] = "update", **also: Any) -> Row:
    row = Row("FabricNetwork", name, before, after, op, each(name), after, also=also)
    net = f"10.{100 + row.number}.0"
    row.base = {
        "vlan_id": 100, "network_name": f"n{row.number}", "subnet": f"{net}.0/24", "provision_start_ip": f"{net}.10",
        "provision_end_ip": f"{net}.200", "gateway": f"{net}.1", "internet_nat": False, "resolvers": ["8.8.8.8"], "description": "d",
        "routes": {},
    }  # fmt: skip
    return row


def address(row: Row, tail: str) -> str:
    return f"10.{100 + row.number}.0.{tail}"


def networks() -> tuple[Row, ...]:
    renamed = network("network_name", "n-old", "n-new")
    renamed.shown = each("name")
    moved = network("vlan_id", 100, 101, "replace")
    rows = [
        renamed,
        moved,
        network("description", "old", "new"),
        network("resolvers", ["8.8.8.8"], ["8.8.4.4", "1.1.1.1"]),
    ]
    rows += [network("internet_nat", False, True, "replace"), network("delete_timeout", 120, 60)]
    rows[-1].shown = None
    for name, before, after, op in (
        ("provision_start_ip", "10", "20", "update"),
        ("provision_end_ip", "200", "210", "update"),
        ("gateway", "1", "2", "replace"),
    ):
        row = network(name, None, None, "replace" if op == "replace" else "update")
        row.before, row.after = address(row, before), address(row, after)
        row.expected = row.after
        rows.append(row)
    routed = network("routes", {}, {})
    routed.after = routed.expected = {"172.16.0.0/16": address(routed, "9")}
    wider = network("subnet", None, None, "replace")
    wider.before, wider.after = address(wider, "0/24"), address(wider, "0/25")
    wider.expected, wider.also = wider.after, {"provision_end_ip": address(wider, "100")}
    return (*rows, routed, wider)


def image(name: str, before: Any, after: Any, op: Literal["update", "replace"] = "update", **others: Any) -> Row:
    row = Row("Image", name, before, after, op, each(name), after, **others)
    row.base = {"machine": OFF, "image_name": f"i{row.number}", "version": "1"}
    return row


def images() -> tuple[Row, ...]:
    renamed = image("image_name", "i-old", "i-new")
    renamed.shown = each("name")
    replaced, timed = image("machine", OFF, OTHER, "replace"), image("timeout", 600, 700)
    tagged = image("tags", {"a": "1"}, {"a": "2"})
    tagged.shown, tagged.expected = lambda body: body["tags"]["a"], "2"
    replaced.shown = timed.shown = None
    rows = (
        image("version", "1", "2"),
        image("description", "old", "new"),
        image("homepage", "http://a.test", "http://b.test"),
    )
    shared = image("acl", [_ANOTHER_ID], [_ANOTHER_ID, _ANOTHER_ID.replace("0d5e", "1d5e")])
    return (*rows, image("eula", "http://a.test", "http://b.test"), shared, tagged, renamed, replaced, timed)


THINGS = (
    Row("Key", "key_name", "old", "new", "replace", each("name"), "new", {"key": public_key(1)}),
    Row("Key", "key", public_key(2), public_key(3), "replace", each("key"), public_key(3), {"key_name": "k"}),
    Row("FirewallRule", "rule", RULE["rule"], RULE["rule"].replace("80", "443"), "update", each("rule"),
        RULE["rule"].replace("80", "443"), RULE),
    Row("FirewallRule", "enabled", True, False, "update", each("enabled"), False, RULE),
    Row("FirewallRule", "log", False, True, "update", each("log"), True, RULE),
    Row("FirewallRule", "description", "old", "new", "update", lambda body: body["description"].partition(" ")[0], "new", RULE),
    vlan("vlan_id", 900, 901, "replace", "vlan_id"),
    vlan("vlan_name", "v-old", "v-new", "update", "name"),
    vlan("description", "old", "new", "update", "description"),
    *networks(),
    *images(),
    Row("Snapshot", "snapshot_name", "old", "new", "replace", each("name"), "new", {"machine": A}),
    Row("Snapshot", "machine", A, B, "replace", each("name"), "moved", {"snapshot_name": "moved"}),
    Row("Snapshot", "adopt", False, True, "update", None, None, {"machine": A, "snapshot_name": "kept"}),
    Row("Snapshot", "timeout", 600, 500, "update", None, None, {"machine": A, "snapshot_name": "timed"}),
    Row("Ready", "machines", [A], [A, B], "update"),
    Row("Ready", "timeout", 100, 90, "update", None, None, {"machines": [A]}),
)  # fmt: skip
ROWS = (*MACHINES, *THINGS)

BASE: Things = [
    ("Vlan", "vlan-100", {"vlan_id": 100, "vlan_name": "lan"}),
    ("Vlan", "vlan-101", {"vlan_id": 101, "vlan_name": "lan-2"}),
    *(
        ("Machine", f"base-{name}", {**MACHINE, "machine_name": f"base-{name}", "power": power})
        for name, power in (("a", "running"), ("b", "running"), ("off", "stopped"), ("other", "stopped"))
    ),
]
BEFORE: Things = [*BASE, *((row.kind, row.id, row.args(row.before, {})) for row in ROWS)]
AFTER: Things = [*BASE, *((row.kind, row.id, row.args(row.after, row.also)) for row in ROWS)]


@dataclass
class Story:
    """What happened: the steps of the preview, each resource's id before and after, and what `triton` showed at the end."""

    steps: dict[str, dict[str, Any]]
    last: dict[str, dict[str, Any]]
    ids: tuple[dict[str, str], dict[str, str]]
    bodies: dict[str, Any]
    stack: Stack


def ids_of(stack: Stack) -> dict[str, str]:
    return {found["urn"].rpartition("::")[2]: found.get("id", "") for found in stack.state()["resources"]}


LISTS = {
    "Machine": ("instance", "list", "-j"),
    "Image": ("image", "list", "-a", "-j"),
    "Key": ("key", "list", "-j"),
    "FirewallRule": ("fwrule", "list", "-j"),
    "Vlan": ("vlan", "list", "-j"),
    "FabricNetwork": ("network", "list", "-j"),
}


def read(stack: Stack, ids: dict[str, str]) -> dict[str, Any]:
    """Each row's thing as `triton` shows it, found by its id in the state; what it does not list is got by itself."""
    words = {"Key": "fingerprint", "Vlan": "vlan_id"}
    listed = {
        kind: {str(body[words.get(kind, "id")]): body for body in stack.triton(*command)}
        for kind, command in LISTS.items()
    }
    snapshots = {id_: id_.partition("/")[::2] for name, id_ in ids.items() if name.startswith("Snapshot-")}
    listed["Snapshot"] = {id_: stack.triton("instance", "snapshot", "get", *parts) for id_, parts in snapshots.items()}
    ready = {row.id: stack.resources("Ready")[row.id]["outputs"] for row in ROWS if row.kind == "Ready"}
    return {**ready, **{row.id: listed[row.kind][ids[row.id]] for row in ROWS if row.kind != "Ready"}}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    made = make_stack(tmp_path_factory.mktemp("table"), program=PROGRAM, throttle=None, job_delay=0.05)
    stack = next(made)
    # Snapshots and images are taken of machines that run or are stopped, and changed is only what runs.
    machines = [found for found in BEFORE if found[0] in ("Machine", "Vlan")]
    stack.up(things=machines)
    stack.settled(lambda: {found.state for found in stack.machines()} <= {"running", "stopped"})
    stack.up(things=BEFORE)
    before = ids_of(stack)
    steps = stack.preview(things=AFTER)
    stack.up(things=AFTER)
    last = stack.preview(things=AFTER)
    after = ids_of(stack)
    bodies = read(stack, after)
    yield Story(steps, last, (before, after), bodies, stack)
    made.close()


def test_what_is_not_changed_is_not_in_the_preview(story: Story) -> None:
    assert set(story.steps) == {row.id for row in ROWS}


def test_after_everything_is_changed_a_preview_is_empty(story: Story) -> None:
    assert story.last == {}


SECRET = {"secret_metadata", "administrator_password"}


def differing(step: dict[str, Any]) -> set[str]:
    """The inputs that the preview shows as changed; a dynamic provider cannot name them itself."""
    old, new = (step[state].get("inputs") or {} for state in ("oldState", "newState"))
    return {name for name in {*old, *new} - {"__provider"} if old.get(name) != new.get(name)}


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_a_change_is_named_done_and_read_back(story: Story, row: Row) -> None:
    step = story.steps[row.id]
    assert step["op"] == row.op
    assert step.get("replaceReasons", []) == ([row.name] if row.op == "replace" else [])
    # What changes in a secret is never shown.
    assert differing(step) == {row.name, *row.also} - SECRET
    before, after = (ids[row.id] for ids in story.ids)
    if row.kind in ("Machine", "Image", "FabricNetwork"):
        assert (before != after) is (row.op == "replace")
    if row.shown is not None:
        assert row.shown(story.bodies[row.id]) == row.expected


def test_the_new_windows_password_arrives(story: Story) -> None:
    row = next(row for row in MACHINES if row.name == "administrator_password")
    assert story.stack.cloud.metadata_get(story.ids[1][row.id], "administrator_pw") == "new"
    assert "administrator_pw" not in json.dumps(story.bodies[row.id])


# `datacenter` needs two data centres (test_joyent_datacenters.py), volumes a data centre that offers them. A machine that is
# protected cannot be deleted by the program alone (test_triton_protection.py).
ELSEWHERE = {"datacenter", "volumes", "delete_protected"}


@pytest.mark.parametrize(
    "kind", ["Machine", "Key", "FirewallRule", "Vlan", "FabricNetwork", "Snapshot", "Image", "Ready"]
)
def test_no_property_is_left_out_of_the_table(kind: str) -> None:
    declared = {found.name for found in dataclasses.fields(getattr(joyent, f"{kind}Args"))}
    assert {row.name for row in ROWS if row.kind == kind} == declared - ELSEWHERE


def test_every_input_of_a_machine_is_in_the_providers_own_table() -> None:
    assert {found.name for found in FIELDS} == {found.name for found in dataclasses.fields(joyent.MachineArgs)} | {
        "mark"
    }
