"""One program in two data centres: a resource's own `datacenter`, by URL and by name, on the real engine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from components.compute.triton import TritonView
from components.config.models import Settings
from components.config.reader import read
from components.joyent import lookups
from components.joyent.client import CloudApi as Client
from components.joyent.credentials import Credentials
from components.joyent.errors import ConfigurationError, NotFoundError
from components.joyent.machine import MachineProvider
from components.joyent.pacing import wait_until
from components.joyent.session import session_of
from components.joyent.transport import Transport
from components.preflight import checks, credentials
from localcloud.machines.compute import InstantHypervisor
from localcloud.network.http import Server
from localcloud.triton import CloudApi
from tests.cloud.joyent_stack import Stack, make_stack
from tests.cloud.test_joyent_table import PROGRAM

pytestmark = [pytest.mark.clouds, pytest.mark.engine]


@dataclass
class Two:
    """The stack on the first data centre, and a client of the second, which the first lists as `there`."""

    stack: Stack
    url: str
    there: Client


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    made = make_stack(tmp_path, program=PROGRAM)
    stack = next(made)
    other = CloudApi(account="rollcall", hypervisor=InstantHypervisor(), public_range="198.51.100.0/24")
    other.add_key("trial", (tmp_path / "key.pub").read_text())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(other.app, [listening])
        server.start()
        url = f"http://127.0.0.1:{server.ports[0]}"
        stack.cloud.add_datacenter("there", url)
        here = stack.client.transport.credentials
        yield Two(stack, url, Client(Transport(replace(here, url=url), environ={})))
        server.stop()
    made.close()


def machine(name: str, **others: Any) -> tuple[str, str, dict[str, Any]]:
    wanted = {"machine_name": name, "package": "g1.nano", "image": "debian-12", **others}
    return "Machine", name, wanted


def ready(name: str, *machines: str, **others: Any) -> tuple[str, str, dict[str, Any]]:
    return "Ready", f"ready-{name}", {"machines": [{"id of": each} for each in machines], **others}


def test_one_program_has_machines_in_two_data_centres(two: Two) -> None:
    stack = two.stack
    things = [
        machine("here"),
        machine("by-name", datacenter="there"),
        machine("by-url", datacenter=two.url),
        ready("here", "here"),
        ready("there", "by-name", "by-url", datacenter="there"),
        ("Vlan", "vlan", {"vlan_id": 7, "vlan_name": "v", "datacenter": "there"}),
    ]
    stack.up(things=things)
    assert [each.name for each in stack.machines()] == ["here"]
    assert {each.name for each in two.there.list_machines()} == {"by-name", "by-url"}
    addresses = stack.resources("Ready")["ready-there"]["outputs"]["addresses"]
    assert {each.rpartition(".")[0] for each in addresses.values()} == {"198.51.100"}
    assert [each["vlan_id"] for each in two.there.get("/fabrics/default/vlans")] == [7]
    assert stack.client.get("/fabrics/default/vlans") == []
    assert stack.preview(things=things) == {}
    # A machine that moves is made there before it goes here, although it keeps its name.
    moved = [machine("here", datacenter="there"), *things[1:3], ready("here", "here", datacenter="there"), *things[4:]]
    step = stack.preview(things=moved)["here"]
    assert (step["op"], step["replaceReasons"]) == ("replace", ["datacenter"])
    stack.up(things=moved)
    stack.settled(lambda: not stack.machines())
    assert {each.name for each in two.there.list_machines()} == {"here", "by-name", "by-url"}
    assert stack.preview(things=moved) == {}
    stack.run("destroy", "--yes", "--skip-preview", things=moved)
    stack.settled(lambda: not two.there.list_machines())
    assert two.there.get("/fabrics/default/vlans") == []


def test_a_data_centre_that_there_is_not_is_refused_at_preview_with_those_there_are(two: Two) -> None:
    vlan = ("Vlan", "vlan", {"vlan_id": 7, "vlan_name": "v", "datacenter": "nowhere"})
    message = f"data centre 'nowhere': does not exist. Name one of local-1 ({two.stack.environ['TRITON_URL']}), there ({two.url})"
    for thing in (machine("here", datacenter="nowhere"), vlan):
        shown = two.stack.run("preview", check=False, things=[thing])
        assert f"resource '{thing[1]}': property datacenter value {{nowhere}} has a problem: {message}" in shown


@pytest.fixture
def settings(two: Two, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in two.stack.environ.items():
        if name.startswith("TRITON_"):
            monkeypatch.setenv(name, value)
    return {}


def test_look_ups_ask_the_data_centre_that_they_name(two: Two, settings: dict[str, str]) -> None:
    assert session_of(settings).api.transport.credentials.url == two.stack.environ["TRITON_URL"]
    by_name, by_url = session_of(settings, "there"), session_of(settings, two.url + "/")
    assert by_name is by_url
    assert by_name.api.transport.credentials.url == two.url
    assert lookups.get_account(datacenter="there", settings=settings).login == "rollcall"
    with pytest.raises(NotFoundError, match=r"data centre 'nowhere': does not exist. Name one of local-1"):
        lookups.get_image("debian-12", datacenter="nowhere", settings=settings)


def test_a_url_in_a_resource_needs_none_in_the_environment() -> None:
    given = {"TRITON_ACCOUNT": "rollcall", "TRITON_KEY_FILE": "/none"}
    assert Credentials.read(given, url="https://dc.example/").url == "https://dc.example"
    with pytest.raises(ConfigurationError, match="Set TRITON_URL"):
        Credentials.read(given)
    with pytest.raises(ConfigurationError, match="'dc' is not the URL of a CloudAPI"):
        Credentials.read({**given, "TRITON_URL": "https://dc.example"}).at("dc")


def test_a_move_is_compared_with_nothing_of_the_old_catalogue() -> None:
    # No session at all: another data centre may have no such package, and need not be asked to know that it is another.
    old = {"machine_name": "m", "package": "g1.nano", "image": "debian-12", "power": "running"}
    result = MachineProvider().diff(
        "id", old, {**old, "package": "only-there", "image": "other", "datacenter": "there"}
    )
    assert (result.replaces, result.delete_before_replace) == (["datacenter"], False)


def fleets(**regions: str | None) -> Settings:
    fleet = {"cloud": "joyent", "size": "g1.nano", "image": "debian-12", "joins": ["site/www"]}
    given = {name: {**fleet, **({"region": region} if region else {})} for name, region in regions.items()}
    return read("prod", {"sites": {"www": {"zone": "scalability.expert"}}, "fleets": given})


def test_a_fleets_data_centre_is_checked_beforehand_and_the_configured_one_needs_no_name(
    two: Two, settings: dict[str, str]
) -> None:
    given = fleets(a=None, b="local-1", c="there", d="nowhere")
    (fault,) = credentials.joyent_faults(given)
    assert fault.startswith("rollcall:fleets.d.region: data centre 'nowhere': does not exist. Name one of local-1 (")
    assert "Name one of local-1 " in fault and fault.endswith(f"there ({two.url}).")
    found = checks.located(given)
    assert [each.region for each in found.fleets] == [None, None, "there", "nowhere"]
    assert credentials.joyent_faults(checks.located(fleets(a="local-1", c="there"))) == []
    assert lookups.get_datacenter(settings=settings).name == "local-1"


def test_a_key_that_one_data_centre_does_not_know_is_a_fault_of_that_one(two: Two, settings: dict[str, str]) -> None:
    two.stack.cloud.disable()
    faults = credentials.joyent_faults(fleets(a=None))
    assert len(faults) == 1 and faults[0].startswith("rollcall:joyent: ")


def test_a_view_shows_only_the_machines_of_its_data_centre(two: Two, settings: dict[str, str]) -> None:
    made = {}
    for name, api in (("here", two.stack.client), ("there", two.there)):
        image = next(each for each in api.list_images() if each.name == "debian-12")
        package = next(each for each in api.list_packages() if each.name == "g1.nano")
        body = {"name": name, "image": image.id, "package": package.id, "tag.rollcall-stack": "prod"}
        made[name] = str(api.post("/machines", body)["id"])
    here, there = TritonView({}), TritonView({}, "there")
    assert [each.instance for each in here.machines("prod")] == [made["here"]]
    assert [each.instance for each in there.machines("prod")] == [made["there"]]
    with pytest.raises(NotFoundError, match="data centre 'nowhere': does not exist"):
        TritonView({}, "nowhere")
    # One that is elsewhere is gone here, and there it is untouched.
    here.end([made["there"]])
    assert [each.instance for each in there.machines("prod")] == [made["there"]]


def test_those_that_leave_begin_to_stop_but_one_that_is_protected_and_those_of_others(
    two: Two, settings: dict[str, str]
) -> None:
    api = two.stack.client
    image = next(each for each in api.list_images() if each.name == "debian-12")
    package = next(each for each in api.list_packages() if each.name == "g1.nano")
    made = {}
    for name in ("leaves", "protected", "stays", "stopped"):
        body = {"name": name, "image": image.id, "package": package.id, "tag.rollcall-stack": "prod"}
        made[name] = str(api.post("/machines", {**body, "deletion_protection": name == "protected"})["id"])
    other = {"name": "other", "image": image.id, "package": package.id, "tag.rollcall-stack": "staging"}
    made["other"] = str(api.post("/machines", other)["id"])

    def all_are(state: str, *names: str) -> bool | None:
        return all(api.get_machine(made[name]).state == state for name in names) or None

    wait_until("all run", lambda: all_are("running", *made), timeout=30)
    api.act(made["stopped"], "stop")
    wait_until("the one is stopped", lambda: all_are("stopped", "stopped"), timeout=30)
    TritonView({}).stop("prod", [made[name] for name in ("leaves", "protected", "stopped", "other")] + ["gone"])
    wait_until("the leaver is stopped", lambda: all_are("stopped", "leaves", "stopped"), timeout=30)
    states = {name: api.get_machine(made[name]).state for name in ("protected", "stays", "other")}
    assert states == dict.fromkeys(("protected", "stays", "other"), "running")
