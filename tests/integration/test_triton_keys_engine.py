"""Every key of a Triton fleet with the real engine: changed, shown by a preview, brought up, read back through npm's `triton`.

Nothing boots; the test is the agents of the machines that CloudAPI says are running.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.models import FleetSettings
from components.joyent.credentials import Credentials
from components.joyent.session import Session, session_of
from localcloud.runtime.sandbox import Sandbox
from rollcall import agent as agents
from rollcall.agent import Agent
from rollcall.clouds import Joyent
from rollcall.health import Health
from tests.integration.conftest import sandboxed
from tests.integration.deployed import Deployed
from tests.integration.ticking import Ticking
from tests.unit.config.test_models import camel

pytestmark = [
    pytest.mark.clouds,
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on the PATH"),
]
Body = Mapping[str, Any]
FIRST: dict[str, Any] = {"cloud": "joyent", "count": 1, "size": "g1.nano", "image": "debian-12", "joins": ["site/www"]}
VM = {"image": "debian-12-hvm", "size": "b1.small"}


def session(deployed: Deployed) -> Session:
    there = Credentials.read(deployed.env)
    return session_of({"url": there.url, "account": there.account, "keyId": there.key_id, "keyFile": there.key_file})


class Guest(Joyent):
    """What a machine asks of its metadata, asked of CloudAPI by the operator."""

    def __init__(self, session: Session, machine: str) -> None:
        super().__init__()
        self._api, self._machine = session.api, machine

    def _get(self, key: str) -> str:
        if key == "sdc:uuid":
            return self._machine
        if key == "sdc:nics":
            return json.dumps(
                [{**each, "network_uuid": each["network"]} for each in self._api.list_nics(self._machine)]
            )
        return self._api.get_metadata(self._machine)[key]

    def keys(self) -> dict[str, str]:
        found = self._api.get_metadata(self._machine).items()
        return {key: value for key, value in found if key.startswith("rollcall-") and key != "rollcall-status"}

    def tell(self, status: str) -> None:
        pass

    def report(self, text: str) -> None:
        pass

    def report_view(self, text: str) -> None:
        pass


class Agents(Ticking):
    """Each machine that runs has an agent."""

    every = 0.5

    def __init__(self, deployed: Deployed) -> None:
        super().__init__()
        self._deployed, self._session = deployed, session(deployed)
        self._agents: dict[str, Agent] = {}

    def tick(self) -> None:
        running = [each.id for each in self._session.api.list_machines() if each.state == "running"]
        self._agents = {each: self._agents.get(each) or self._made(each) for each in running}
        for each in self._agents.values():
            each.tick()

    def _made(self, machine: str) -> Agent:
        return Agent(
            Guest(self._session, machine),
            status_file=Path("/dev/null/status"),
            look_up=lambda name: frozenset() if ".c.rc." in name else frozenset(self._deployed.answers()),
            reach=lambda *_: True,
        )


Read = Callable[[Body], Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A change of some keys of a fleet; None removes one. Each key is read back in what `triton` shows of a machine.

    One `up` takes longer than everything else, so a row changes several keys. Which of them replace a machine by itself is in
    tests/unit/resources/test_revision.py.
    """

    change: dict[str, Any]
    shown: Sequence[tuple[Read, Any]]
    replaces: bool = False
    machines: int = 1

    @property
    def name(self) -> str:
        return ",".join(self.change)


def of(*path: str) -> Read:
    def read(body: Body) -> Any:
        found: Any = body
        for each in path:
            found = found[each]
        return found

    return read


def on_public(body: Body) -> list[bool]:
    """Which of the interfaces are public: the public networks of these clouds are in 198.19.0.0/16 (localcloud.runtime.daemon.MANY)."""
    return [each["ip"].startswith("198.19.") for each in body["nics"]]


def sizes(body: Body) -> list[int]:
    return [each["size"] for each in body["disks"]]


def version(body: Body) -> str:
    """The image in the words of the configuration, as the machine's revision has it."""
    return str(body["tags"]["rollcall-version"].split(" ", 1)[1])


def settings(*names: str) -> Read:
    """Settings of the machine's system, wherever Triton keeps them."""
    return lambda body: [{**body["tags"], **body["metadata"]}.get(f"rollcall-{name}") for name in names]


RUNS = (of("state"), "running")
ROWS = (
    Row(
        change={"count": 2, "timeout": 100, "deletionProtection": True},
        shown=[RUNS, (of("package"), "g1.nano"), (of("deletion_protection"), True)],
        machines=2,
    ),
    Row(
        change={
            "tags": {"team": "web"},
            "timezone": "Europe/Berlin",
            "aptMirror": "https://mirror.example.net/debian/",
            "logs": {"syslog": "logs.example.net:514"},
        },
        shown=[
            (of("tags", "team"), "web"),
            (
                settings("timezone", "apt-mirror", "logs"),
                ["Europe/Berlin", "https://mirror.example.net/debian", "syslog=logs.example.net:514"],
            ),
        ],
        # The first setting of the system makes the user-script longer (docs/machines.md).
        replaces=True,
        machines=2,
    ),
    # Protected machines are replaced.
    Row(
        change={
            "proxy": "http://proxy.example.net:3128",
            "size": "g1.small",
            "image": "debian-13",
            "imageRefresh": "2026-12",
            "networks": ["MNX-Triton-Public", "My-Fabric-Network"],
            "affinity": ["rollcall-fleet!=~web"],
        },
        shown=[
            (settings("proxy"), ["http://proxy.example.net:3128"]),
            (of("memory"), 2048),
            (version, "debian-13 2026-12"),
            (on_public, [True, False]),
            RUNS,
        ],
        replaces=True,
        machines=2,
    ),
    # One of them is one too many.
    Row(change={"count": 1}, shown=[(of("deletion_protection"), True)]),
    Row(
        change={**VM, "brand": "bhyve", "disks": [20480, "remaining"], "networks": None, "affinity": None},
        shown=[(of("brand"), "bhyve"), (sizes, [20480, 30720]), (on_public, [True]), (of("deletion_protection"), True)],
        replaces=True,
    ),
    Row(
        change={"brand": "kvm", "disks": None, "size": "g1.small", "deletionProtection": False},
        shown=[(of("brand"), "kvm"), (of("type"), "virtualmachine"), (of("deletion_protection"), False)],
        replaces=True,
    ),
)
# Keys that other tests change with machines that boot or by the configuration alone, and those of EC2 only.
ELSEWHERE = {
    "adopt": "tests/integration/test_adopting_machines.py",
    "cloud": "another fleet",
    "joins": "tests/integration/test_changes.py",
    "runs": "tests/integration/test_changes.py",
    "ssh": "tests/integration/test_changes.py",
    "region": "tests/integration/test_regions.py",
    **dict.fromkeys(("ipv6", "zones", "placement", "vpc", "subnets", "securityGroups", "publicAddress"), "EC2 only"),
    **dict.fromkeys(("stableAddresses", "disk", "volumes", "monitoring", "policies"), "EC2 only"),
    "priority": "tests/integration/test_changes.py",
    "weight": "tests/integration/test_changes.py",
    "release": "tests/integration/test_roll_out.py",
    "batch": "tests/integration/test_roll_out.py",
    "minHealthyTime": "tests/integration/test_roll_out.py",
    "deadline": "tests/integration/test_roll_out.py",
    "canary": "tests/integration/test_roll_out.py",
}


class Trial:
    """One stack with one fleet, `web`, the keys of which a test changes."""

    def __init__(self, clouds: Sandbox) -> None:
        self.clouds = clouds
        self.deployed = Deployed(clouds, "")
        self.keys = dict(FIRST)
        self.done = 0

    def write(self, change: Mapping[str, Any]) -> None:
        self.keys = {key: value for key, value in {**self.keys, **change}.items() if value is not None}
        target = self.clouds.work / "Pulumi.local.yaml"
        salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
        config = {
            "aws:region": "us-west-2",
            "rollcall:drainDelay": 0,
            "rollcall:sites": {"www": {"zone": "scalability.expert", "ttl": 60}},
            "rollcall:fleets": {"web": self.keys},
        }
        target.write_text(yaml.safe_dump({"config": config}) + "\n".join(salt) + "\n")

    def steps(self) -> dict[str, set[str]]:
        """What a preview would do, by the kind of resource."""
        done = self.clouds.pulumi("preview", "--json", "--stack", "local", capture=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, set[str]] = {}
        for step in json.loads(done.stdout[done.stdout.index("{") :])["steps"]:
            kind = step["urn"].split("::")[2].rpartition(":")[2]
            if step["op"] not in ("same", "refresh", "read"):
                found.setdefault(kind, set()).add(step["op"])
        return found

    def up(self) -> None:
        done = self.clouds.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def reach(self, row: int) -> None:
        """Bring up what the rows before this one change, if they did not run."""
        skipped = {key: value for each in ROWS[self.done : row] for key, value in each.change.items()}
        if skipped:
            self.write(skipped)
            self.up()
        self.done = row + 1

    def machines(self) -> list[dict[str, Any]]:
        """The fleet's machines as `triton` shows each of them."""
        listed = [json.loads(line) for line in self.deployed.triton("instance", "list", "-j").splitlines()]
        ours = [each["id"] for each in listed if each.get("tags", {}).get("rollcall-fleet") == "web"]
        return [json.loads(self.deployed.triton("instance", "get", "-j", each)) for each in ours]


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    with sandboxed("triton-keys", machines=False) as clouds, pytest.MonkeyPatch.context() as patch:
        made = Trial(clouds)
        patch.setenv("CLOUDFLARE_BASE_URL", made.deployed.env["CLOUDFLARE_BASE_URL"])
        patch.setattr(agents, "health_of", lambda _: Health(str))
        patch.setattr(agents, "REREAD", 1.0)
        patch.setattr(agents, "WATCH", 1.0)
        hands = Agents(made.deployed)
        hands.start()
        try:
            made.write({})
            made.up()
            yield made
            clouds.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
            assert made.machines() == []
        finally:
            hands.stop()


@pytest.mark.parametrize(
    ("at", "row"),
    # The first row is in the ordinary suite. The others take minutes.
    [
        pytest.param(at, row, id=f"{at} {row.name}", marks=[pytest.mark.prove] if at else [])
        for at, row in enumerate(ROWS)
    ],
)
def test_a_key_is_changed_shown_brought_up_and_read_back(trial: Trial, at: int, row: Row) -> None:
    trial.reach(at)
    before = {each["id"] for each in trial.machines()}
    trial.write(row.change)
    steps = trial.steps()
    assert ("replace" in steps.get("Machine", ())) is row.replaces, steps
    trial.up()
    machines = trial.machines()
    assert len(machines) == row.machines
    assert (not before & {each["id"] for each in machines}) is row.replaces
    for read, expected in row.shown:
        assert [read(each) for each in machines] == [expected] * row.machines
    assert trial.steps() == {}


def test_every_key_of_a_fleet_is_in_the_table_or_has_its_own_test() -> None:
    changed = {key for row in ROWS for key in row.change}
    keys = {camel(each.name) for each in fields(FleetSettings)} - {
        "name",
        "digests",
        "architecture",
        "secured",
        "dynamic",
    }
    assert changed | set(ELSEWHERE) == keys and not changed & set(ELSEWHERE)
