"""30 operations with the real engine: a user edits the zone, machines crash, fleets grow, shrink and are replaced.

Nothing boots; the test is the agents of the machines that EC2 says are running.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from localcloud.runtime.sandbox import Sandbox, addresses
from rollcall import agent as agents
from rollcall.agent import Agent
from rollcall.health import Health
from rollcall.ownership import Owner
from tests.integration.conftest import sandboxed
from tests.integration.deployed import HOST, Deployed
from tests.integration.ticking import Ticking

pytestmark = [pytest.mark.clouds, pytest.mark.engine, pytest.mark.prove]
PULUMIS = "kept by Rollcall's stack local"
CONFIG = """config:
  aws:region: us-west-2
  rollcall:drainDelay: 1
  rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }
  rollcall:fleets:
    web: { cloud: aws, count: COUNT, size: SIZE, image: debian-12, joins: [site/www] }
"""


class Instance:
    """What an agent asks of EC2, asked of the API by the operator."""

    name = "aws"

    def __init__(self, deployed: Deployed, instance: str) -> None:
        self._deployed, self._instance = deployed, instance

    def _described(self) -> Any:
        found = self._deployed.ec2.describe_instances(InstanceIds=[self._instance])
        return found["Reservations"][0]["Instances"][0]

    def instance(self) -> str:
        return self._instance

    def addresses(self) -> tuple[str, ...]:
        return tuple(each for each in [self._described().get("PublicIpAddress")] if each)

    def private_addresses(self) -> tuple[str, ...]:
        return ()

    def keys(self) -> dict[str, str]:
        return {each["Key"]: each["Value"] for each in self._described().get("Tags", ())}

    def secret(self, name: str) -> str:
        return str(self._deployed.env["CLOUDFLARE_API_TOKEN"])

    def region(self) -> str:
        return "us-west-2"

    def tell(self, status: str) -> None:
        pass

    def report(self, text: str) -> None:
        pass

    def report_view(self, text: str) -> None:
        pass


class Agents(Ticking):
    """Each machine that runs has an agent; one that does not has none, without a leave."""

    def __init__(self, deployed: Deployed, stack: str = "local") -> None:
        super().__init__()
        self._deployed, self._stack = deployed, stack
        self._agents: dict[str, Agent] = {}

    def running(self) -> list[str]:
        pages = self._deployed.ec2.describe_instances(Filters=[{"Name": "tag:rollcall-stack", "Values": [self._stack]}])
        found = [each for reservation in pages["Reservations"] for each in reservation["Instances"]]
        return sorted(each["InstanceId"] for each in found if each["State"]["Name"] == "running")

    def tick(self) -> None:
        running = self.running()
        self._agents = {each: self._agents.get(each) or self._made(each) for each in running}
        for each in self._agents.values():
            each.tick()

    def _made(self, instance: str) -> Agent:
        return Agent(
            Instance(self._deployed, instance),
            status_file=Path("/dev/null/status"),
            look_up=lambda name: frozenset() if ".c.rc." in name else frozenset(self._deployed.answers()),
            reach=lambda *_: True,
        )


class Site:
    """The zone, as a user edits it; `kept` is what he has there, to the byte."""

    def __init__(self, deployed: Deployed) -> None:
        self._url = f"{deployed.env['CLOUDFLARE_BASE_URL']}/zones/{deployed.zone()}/dns_records"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {deployed.env['CLOUDFLARE_API_TOKEN']}"
        self.kept = self.foreign()

    def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask("GET", "?per_page=500")["result"]
        return found

    def foreign(self) -> dict[str, dict[str, Any]]:
        """Neither a machine's nor Pulumi's."""
        others = [each for each in self.records() if Owner.parse(each["comment"] or "") is None]
        return {each["id"]: each for each in others if not (each["comment"] or "").endswith(PULUMIS)}

    def ours(self) -> list[dict[str, Any]]:
        return [each for each in self.records() if Owner.parse(each["comment"] or "") is not None]

    def edit(self, dice: random.Random) -> str:
        mine, what = sorted(self.kept), dice.choice(["add", "add", "change", "delete", "delete one of Rollcall's"])
        if what == "add":
            number = dice.randrange(1, 250)
            name = dice.choice([HOST, f"x.{HOST}", f"rc.{HOST}"])
            record: dict[str, Any] = dice.choice(
                [
                    {"type": "A", "content": f"192.0.2.{number}", "comment": "the old load balancer"},
                    {"type": "TXT", "content": f'"text {number}"'},
                    {"type": "AAAA", "content": f"2001:db8::{number}", "ttl": 300},
                ]
            )
            self._ask("POST", "", json={"name": name, "ttl": 60, **record})
        elif what == "delete one of Rollcall's":
            for each in self.ours()[:1]:
                self._ask("DELETE", f"/{each['id']}")
        elif mine and what == "change":
            self._ask("PATCH", f"/{dice.choice(mine)}", json={"ttl": dice.choice([120, 300, 600])})
        elif mine:
            self._ask("DELETE", f"/{dice.choice(mine)}")
        self.kept = self.foreign()
        return what

    def _ask(self, method: str, path: str, **sent: Any) -> Any:
        return self._session.request(method, self._url + path, timeout=10, **sent).json()

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def clouds() -> Iterator[Sandbox]:
    with sandboxed("in-step", machines=False) as sandbox:
        yield sandbox


def test_thirty_operations_with_the_engine_change_no_foreign_byte(
    clouds: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = Deployed(clouds, "")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", deployed.env["CLOUDFLARE_BASE_URL"])
    monkeypatch.setattr(agents, "health_of", lambda _: Health(str))
    monkeypatch.setattr(agents, "REREAD", 1.0)
    monkeypatch.setattr(agents, "WATCH", 1.0)
    site, hands, dice = Site(deployed), Agents(deployed), random.Random(6)  # noqa: S311
    hands.start()
    done: list[str] = []
    try:
        for _ in range(30):
            done.append(_operation(clouds, deployed, site, hands, dice))
            print(f"{len(done)}: {done[-1]}", flush=True)
            assert site.foreign() == site.kept, done
        _up(clouds, 2, "t3.micro")
        _check(clouds, site, hands)
        clouds.pulumi("destroy", "--yes", "--skip-preview", "--stack", "local", capture=True)
        assert site.ours() == [] and site.foreign() == site.kept, done
    finally:
        hands.stop()
        site.close()


def _operation(clouds: Sandbox, deployed: Deployed, site: Site, hands: Agents, dice: random.Random) -> str:
    what = dice.choices(["edit", "up", "preview", "crash", "terminate"], [14, 9, 2, 3, 2])[0]
    if what == "edit":
        return f"user: {site.edit(dice)}"
    running = hands.running()
    if what in ("crash", "terminate") and running:
        victim = dice.choice(running)
        call = deployed.ec2.stop_instances if what == "crash" else deployed.ec2.terminate_instances
        call(InstanceIds=[victim])
        return f"{what} {victim}"
    if what == "preview":
        clouds.pulumi("preview", "--stack", "local", capture=True)
        return what
    count, size = dice.randrange(1, 4), dice.choice(["t3.micro", "t3.micro", "t3.small"])
    _up(clouds, count, size)
    _check(clouds, site, hands)
    return f"up to {count} of {size}"


def _up(clouds: Sandbox, count: int, size: str) -> None:
    target = clouds.work / "Pulumi.local.yaml"
    salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
    target.write_text(CONFIG.replace("COUNT", str(count)).replace("SIZE", size) + "\n".join(salt) + "\n")
    clouds.pulumi("up", "--yes", "--skip-preview", "--stack", "local", capture=True)


def _check(clouds: Sandbox, site: Site, hands: Agents) -> None:
    """Promise 1: a machine that runs is registered, once, and DNS answers with it."""
    registered = sorted(owner.instance for each in site.ours() if (owner := Owner.parse(each["comment"])))
    assert registered == hands.running()
    answered = addresses(clouds.environment()["ROLLCALL_DNS"], HOST)
    assert {each["content"] for each in site.ours()} <= set(answered)
