"""Sample changes, each previewed by the real engine: what it logged, as `components.commands.review` reads it.

Nothing boots: the test is the agents of the machines that the clouds say are running, as in `test_in_step_engine.py`.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from components.commands.review.events import UNKNOWNS
from components.joyent.session import session_of
from rollcall.agent import Agent
from rollcall.ownership import Owner
from rollcall.settings import STACK
from tests.integration.deployed import HOST, Deployed

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "review"
SITE = "rollcall:sites: { www: { zone: scalability.expert, host: www, ttl: 60 } }"
DIRECTORY = (
    "rollcall:serviceDiscovery: { zone: unilans.net, services: { theService: { port: 4218, ttl: 10, incarnations: "
    "{ v1: { txt: { path: / } } } } } }"
)
API = "api: { cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [theService/v1] }"
STRANGER = "203.0.113.250"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A stack's configuration as a pull request might leave it."""

    aws: int = 3
    joyent: int = 2
    size: str = "t3.micro"
    cloud: str = "aws"
    ttl: int = 60
    api: bool = True

    def write(self, target: Path) -> None:
        salt = [line for line in target.read_text().splitlines() if line.startswith("encryptionsalt")]
        lines = [
            "config:",
            "  aws:region: us-west-2",
            "  rollcall:drainDelay: 1",
            f"  {SITE}".replace("ttl: 60", f"ttl: {self.ttl}"),
            *([f"  {DIRECTORY}"] if self.api else []),
            "  rollcall:fleets:",
            f"    web-aws: {{ cloud: {self.cloud}, count: {self.aws}, size: {self.size}, image: debian-12, joins: [site/www] }}",
            f"    web-joyent: {{ cloud: joyent, count: {self.joyent}, size: g1.micro, image: debian-12, joins: [site/www] }}",
            *([f"    {API}"] if self.api else []),
        ]
        target.write_text("\n".join([*lines, *salt]) + "\n")


DEPLOYED = Change()
CHANGES = {
    "config-mistake": Change(cloud="gcp", ttl=5),
    "scale": Change(aws=5, joyent=1),
    "replacement": Change(size="t3.small"),
    "deletion": Change(api=False),
}


def previewed(deployed: Deployed, change: Change) -> str:
    """The engine's event log of `pulumi preview` with this change."""
    sandbox = deployed.sandbox
    change.write(sandbox.work / "Pulumi.local.yaml")
    log = sandbox.state / "events.json"
    log.unlink(missing_ok=True)
    given = {"PULUMI_DEBUG_COMMANDS": "true"}
    words = ("preview", "--stack", "local", "--event-log", str(log))
    done = sandbox.pulumi(*words, capture=True, check=False, extra=given)
    assert log.exists(), done.stdout + done.stderr
    return log.read_text()


class Machine:
    """What an agent asks of its cloud, asked by the operator."""

    name = "operator"

    def __init__(self, instance: str, addresses: Iterable[str], keys: dict[str, str], token: str) -> None:
        self._instance, self._addresses, self._keys, self._token = instance, tuple(addresses), keys, token

    def seen_again(self, keys: dict[str, str]) -> None:
        self._keys = keys

    def instance(self) -> str:
        return self._instance

    def addresses(self) -> tuple[str, ...]:
        return self._addresses

    def private_addresses(self) -> tuple[str, ...]:
        return ()

    def keys(self) -> dict[str, str]:
        return self._keys

    def secret(self, name: str) -> str:
        return self._token

    def region(self) -> str:
        return "us-west-2"

    def tell(self, status: str) -> None:
        pass

    def report(self, text: str) -> None:
        pass

    def report_view(self, text: str) -> None:
        pass


class Agents(threading.Thread):
    """Each machine that runs, on either cloud, has an agent."""

    def __init__(self, deployed: Deployed) -> None:
        super().__init__(daemon=True)
        self._deployed = deployed
        self._token = deployed.env["CLOUDFLARE_API_TOKEN"]
        self._agents: dict[str, Agent] = {}
        self._machines: dict[str, Machine] = {}
        self._over = threading.Event()
        self.broken: list[BaseException] = []

    def run(self) -> None:
        try:
            while not self._over.wait(0.3):
                self._tick()
        except BaseException as broken:  # noqa: BLE001 - the test raises it
            self.broken.append(broken)

    def stop(self) -> None:
        self._over.set()
        self.join(30)
        assert not self.broken, self.broken

    def _tick(self) -> None:
        for instance, addresses, keys in [*self._of_ec2(), *self._of_triton()]:
            if instance not in self._agents:
                machine = Machine(instance, addresses, keys, self._token)
                self._machines[instance] = machine
                self._agents[instance] = Agent(
                    machine,
                    status_file=Path("/dev/null/status"),
                    look_up=lambda name: None,
                    reach=lambda *_: True,
                )
            self._machines[instance].seen_again(keys)
            self._agents[instance].tick()

    def _of_ec2(self) -> Iterable[tuple[str, list[str], dict[str, str]]]:
        pages = self._deployed.ec2.describe_instances(Filters=[{"Name": f"tag:{STACK}", "Values": ["local"]}])
        for each in (one for reservation in pages["Reservations"] for one in reservation["Instances"]):
            if each["State"]["Name"] == "running" and each.get("PublicIpAddress"):
                keys = {tag["Key"]: tag["Value"] for tag in each.get("Tags", ())}
                yield each["InstanceId"], [each["PublicIpAddress"]], keys

    def _of_triton(self) -> Iterable[tuple[str, list[str], dict[str, str]]]:
        for each in session_of({}).api.list_machines(tags={STACK: "local"}):
            if each.state == "running" and each.ips:
                yield each.id, list(each.ips), dict(each.metadata)


def drift(deployed: Deployed) -> None:
    """What people and accidents do to a stack: each kind of difference once."""
    zone = f"{deployed.env['CLOUDFLARE_BASE_URL']}/zones/{deployed.zone()}/dns_records"
    token = {"Authorization": f"Bearer {deployed.env['CLOUDFLARE_API_TOKEN']}"}

    def ask(method: str, path: str = "", **sent: Any) -> None:
        answered = requests.request(method, zone + path, json=sent or None, headers=token, timeout=10).json()
        assert answered["success"], answered

    ours = {
        f"{owner.fleet}-{owner.machine}": each for each in deployed.records() if (owner := Owner.parse(each["comment"]))
    }
    ask("DELETE", f"/{ours['web-aws-1']['id']}")
    ask("PATCH", f"/{ours['web-aws-2']['id']}", content="198.51.100.251")
    gone = Owner("local", "web-joyent", "7", "0ddba1", "5f2c1c9e-0000-4000-8000-00000000dead")
    ask("POST", name=HOST, type="A", content="203.0.113.240", ttl=60, comment=str(gone))
    ask("POST", name=HOST, type="A", content=STRANGER, ttl=60, comment="the old load balancer")
    twin = deployed.ec2.describe_instances(InstanceIds=[Owner.parse(ours["web-aws-0"]["comment"]).instance])  # type: ignore[union-attr]
    given = twin["Reservations"][0]["Instances"][0]
    tags = {
        "rollcall-stack": "local",
        "rollcall-fleet": "web-aws",
        "rollcall-machine": "9",
        "rollcall-generation": "0ff5e7",
    }
    deployed.ec2.run_instances(
        ImageId=given["ImageId"], InstanceType="t3.micro", MinCount=1, MaxCount=1, SubnetId=given["SubnetId"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}],
    )  # fmt: skip
    groups = deployed.ec2.describe_security_groups()["SecurityGroups"]
    group = next(each["GroupId"] for each in groups if each["Description"] == "Rollcall local web-aws")
    everybody = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    deployed.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=everybody)
    route53 = deployed.aws("route53")
    hosted = route53.list_hosted_zones()["HostedZones"][0]["Id"]
    text = {
        "Name": "v1._theService._tcp.unilans.net.",
        "Type": "TXT",
        "TTL": 10,
        "ResourceRecords": [{"Value": '"path=/old"'}],
    }
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": text}]}
    route53.change_resource_record_sets(HostedZoneId=hosted, ChangeBatch=batch)
    api = deployed.ec2.describe_instances(Filters=[{"Name": "tag:Name", "Values": ["api-1"]}])
    deployed.ec2.terminate_instances(InstanceIds=[api["Reservations"][0]["Instances"][0]["InstanceId"]])


_ID = re.compile(r"\bi-[0-9a-f]{17}\b")
_FORMS: tuple[tuple[re.Pattern[str], Callable[[int], str]], ...] = (
    (_ID, lambda at: f"i-{at:017x}"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), lambda at: f"{at:08x}-0000-4000-8000-{at:012x}"),
    (re.compile(r"\b198\.51\.100\.\d+\b"), lambda at: f"198.51.100.{at}"),
    (re.compile(r"\b203\.0\.113\.\d+\b"), lambda at: f"203.0.113.{at}"),
    (re.compile(r"\b(?:sg|subnet|vpc|sgr|ami)-[0-9a-f]{8,17}\b"), lambda at: f"sg-{at:017x}"),
    (re.compile(r"(?<=\b)[0-9a-f]{6}(?=\.rc\.)"), lambda at: f"{at:06x}"),
)  # fmt: skip


def normalised(text: str) -> str:
    """Ids and addresses that differ from run to run, numbered in the order in which they stand."""
    for form, name in _FORMS:
        # The engine's placeholders of unknown values have the form of ids and mean the same in every run.
        found = [each for each in dict.fromkeys(each[0] for each in form.finditer(text)) if each not in UNKNOWNS]
        numbers = {each: name(at) for at, each in enumerate(found, 1)}
        text = form.sub(lambda each, numbers=numbers: numbers.get(each[0], each[0]), text)  # type: ignore[misc]
    return text


_LONG = 400
_DROPPED = ("timestamp", "sequence", "preludeEvent", "cancelEvent", "policyLoadEvent")


def slimmed(log: str) -> str:
    """A log as it is kept beside the tests: no times, and no userdata (16 kB each)."""
    lines = []
    for line in log.splitlines():
        event = {key: value for key, value in json.loads(line).items() if key not in _DROPPED}
        if event and not event.get("diagnosticEvent", {}).get("ephemeral"):
            lines.append(json.dumps(_shortened(event), sort_keys=True))
    return normalised("\n".join(lines) + "\n")


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: 0 if key == "durationSeconds" else _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and len(value) > _LONG and "\n" not in value:
        return f"{value[:20]}…"
    return value
