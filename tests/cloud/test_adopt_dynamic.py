"""`rollcall adopt` in a zone with dynamic updates: a dry run writes nothing, --yes writes the marks and no other record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from components.commands import adopt
from components.commands.adopt import RunningMachine
from components.commands.site_marks import DynamicSiteMarks
from components.dns.rfc2136 import TSIG_KEY
from rollcall.ownership import Owner
from rollcall.rfc2136 import Rfc2136Site
from rollcall.settings import Rfc2136SiteJoin
from tests.dynamic_zone import SERVERS, DynamicServer, running, write

pytestmark = pytest.mark.clouds
ZONE = "example.org"
HOST, MARKS, SET = f"www.{ZONE}", f"rc.www.{ZONE}", f"v1._theservice._tcp.{ZONE}"
ROOT = {"type": "pulumi:pulumi:Stack", "urn": "urn:pulumi:local::rollcall::pulumi:pulumi:Stack::rollcall-local"}
MACHINES = [
    RunningMachine(
        owner=Owner("local", "web", str(index), "ab12cd", f"i-{index:017x}"), addresses=(f"198.51.100.{10 + index}",)
    )
    for index in range(2)
]
FOREIGN = "203.0.113.9"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamicServer]:
    with running(request.param, tmp_path_factory.mktemp(request.param), ZONE) as made:
        yield made


@pytest.fixture(autouse=True)
def emptied(server: DynamicServer) -> Iterator[None]:
    yield
    server.empty()


@pytest.fixture
def config(server: DynamicServer) -> dict[str, str]:
    at = {"zone": ZONE, "provider": "rfc2136", "server": f"{server.address}:{server.port}"}
    services = {"theService": {"port": 4218, "incarnations": {"v1": {}}}}
    fleet = {"cloud": "joyent", "size": "g1", "image": "debian-12", "joins": ["site/www", "theService/v1"]}
    return {
        "rollcall:sites": json.dumps({"www": at}),
        "rollcall:serviceDiscovery": json.dumps({**at, "services": services}),
        "rollcall:fleets": json.dumps({"web": fleet}),
        TSIG_KEY: server.operator,
    }


@pytest.fixture
def run(config: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> Any:
        monkeypatch.setattr(adopt, "exported", lambda stack: ([ROOT], config))
        monkeypatch.setattr(adopt, "running", lambda *_: MACHINES)
        assert adopt.main(["--json", *words]) == code
        output = capsys.readouterr()
        return output.err if code == 2 else json.loads(output.out)

    return run


def sets(server: DynamicServer) -> Sequence[Any]:
    return [each for each in server.client().sets() if each.type != "SOA"]


def test_adopt_writes_marks_and_changes_nothing_else(server: DynamicServer, run: Any) -> None:
    write(server, HOST, "A", "198.51.100.10", "198.51.100.11", FOREIGN, ttl=120)
    write(server, MARKS, "TXT", '"a note of the operator"')
    before = sets(server)
    dry = run()
    assert sets(server) == before and dry["written"] == []
    assert {each["value"]: each["becomes"] for each in dry["records"]} == {
        "198.51.100.10": str(MACHINES[0].owner),
        "198.51.100.11": str(MACHINES[1].owner),
        FOREIGN: "",
    }
    found = run("--yes")
    assert found["written"] == [str(each.owner) for each in MACHINES] and found["left"] == {}
    assert [each for each in sets(server) if each.name != MARKS] == [each for each in before if each.name != MARKS]
    assert {each.strip('"') for each in server.values(MARKS, "TXT")} == {
        "a note of the operator",
        *(f"{each.addresses[0]} {each.owner}" for each in MACHINES),
    }
    again = run("--yes")
    assert again["written"] == [] and [each["value"] for each in again["records"]] == [FOREIGN]


def test_the_machine_keeps_what_it_got(server: DynamicServer, run: Any) -> None:
    write(server, HOST, "A", "198.51.100.10", ttl=120)
    run("--yes")
    site = Rfc2136Site(Rfc2136SiteJoin(server=server.where, host=HOST, key="t"), lambda: server.machines)
    assert site.owner_at("198.51.100.10") == MACHINES[0].owner
    site.join(MACHINES[0].owner, "198.51.100.10")
    assert site.leave_set(MACHINES[0].owner, "198.51.100.10") and not server.values(HOST, "A")


def test_an_address_of_another_stack_stays_foreign(server: DynamicServer, run: Any) -> None:
    other = Owner("other", "web", "0", "ab12cd", "i-0")
    write(server, HOST, "A", "198.51.100.10", ttl=120)
    write(server, MARKS, "TXT", f'"198.51.100.10 {other}"')
    before = sets(server)
    (record,) = run("--yes")["records"]
    assert record["becomes"] == "" and record["reason"] == "it is of stack other" and sets(server) == before


@pytest.mark.parametrize("change", ["address", "mark"])
def test_an_address_that_changed_meanwhile_gets_no_mark(server: DynamicServer, change: str) -> None:
    write(server, HOST, "A", "198.51.100.10", ttl=120)
    marks = DynamicSiteMarks(ZONE, HOST, server.where, server.operator)
    (seen,) = marks.list()
    if change == "address":
        (old,) = server.store().at(HOST)
        server.store().change([old], [])
        write(server, HOST, "A", FOREIGN, ttl=120)
    else:
        write(server, MARKS, "TXT", f'"198.51.100.10 {MACHINES[1].owner}"')
    before = sets(server)
    assert marks.mark(seen, str(MACHINES[0].owner)) and sets(server) == before


def test_what_changed_meanwhile_is_not_reported_as_written(
    server: DynamicServer, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(server, HOST, "A", "198.51.100.10", "198.51.100.11", ttl=120)
    mark = DynamicSiteMarks.mark
    monkeypatch.setattr(
        DynamicSiteMarks,
        "mark",
        lambda site, record, text: "changed" if record.content.endswith("10") else mark(site, record, text),
    )
    found = run("--yes", code=1)
    assert found["written"] == [str(MACHINES[1].owner)] and [*found["left"].values()] == ["changed"]


def test_values_of_a_services_set_stay_foreign(server: DynamicServer, run: Any) -> None:
    write(server, SET, "SRV", f"1 2 4218 by-hand.{ZONE}.")
    before = sets(server)
    (record,) = run("--yes")["records"]
    assert record["value"] == f"1 2 4218 by-hand.{ZONE}." and "below rc" in record["reason"] and sets(server) == before


def test_a_key_that_is_missing_is_named(run: Any, config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROLLCALL_TSIG_KEY", raising=False)
    del config[TSIG_KEY]
    assert run(code=2).startswith(f"rollcall adopt: {TSIG_KEY}: is missing, and {ZONE} is changed with it.")
