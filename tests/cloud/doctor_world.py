"""An operator's environment in which everything is right, on local clouds and name servers: `World`. A test breaks one thing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.commands.doctor.__main__ import diagnose
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Point, Verdict
from components.config.models import Settings
from components.config.reader import read
from components.preflight import aws_permissions, delegation
from localcloud.dns.data import RecordSet
from localcloud.dns.server import Authority, Listener, Resolver, bound_pair
from localcloud.network.faults import Faults
from rollcall import zoneview
from tests.cloud import cloudapi_server, cloudflare_server
from tests.cloud.aws_cloud import Cloud

ROOT = Path(__file__).parents[2]
SITE_ZONE, SERVICE_ZONE = cloudflare_server.ZONE, "unilans.net"
USER = "deploy"
_PARENTS = {"expert": SITE_ZONE, "net": SERVICE_ZONE}
# Variables of whoever runs the tests that the checks would read.
_FOREIGN = ("AWS_", "CLOUDFLARE_", "TRITON_", "SDC_", "PULUMI_", "ROLLCALL_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# The commands of the engine that doctor runs. It reads what it answers from files beside it, so a test may change these.
_ENGINE = """#!/bin/sh
home=$(dirname "$0")/answers
case "$1" in
  version) cat "$home/version" ;;
  whoami) cat "$home/whoami" ;;
  stack) echo prod ;;
  config) [ "$2" = set ] || cat "$home/config" ;;
  *) echo "error: unknown command $1" >&2; exit 1 ;;
esac
"""


def settings_of(values: Mapping[str, Any]) -> Settings:
    return read("prod", {key.partition(":")[2]: value for key, value in values.items() if key.startswith("rollcall:")})


@dataclass
class Zone:
    """A parent zone that delegates one zone, or a zone with no records but its SOA and NS. `hosts` have addresses."""

    name: str
    delegated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)

    def zones(self) -> tuple[str, ...]:
        return (self.name,)

    def lookup(self, zone: str, name: str) -> tuple[RecordSet, ...] | None:
        if name in self.delegated:
            return (RecordSet(name, "NS", 3600, self.delegated[name]),)
        if name in self.hosts:
            return (RecordSet(name, "A", 3600, (self.hosts[name],)),)
        return () if name == zone else None


class Names:
    """A tree of name servers on addresses of this machine: a resolver, the parents' server, and each zone's servers."""

    def __init__(self, ended: contextlib.ExitStack, patch: pytest.MonkeyPatch) -> None:
        self._ended, self._ports = ended, dict[str, int]()
        self.faults = Faults()
        self.delegated: dict[str, dict[str, tuple[str, ...]]] = {parent: {} for parent in _PARENTS}
        self._hosts: dict[str, str] = {"ns.parents.test": "127.0.0.10"}
        patch.setattr(delegation, "_TIMEOUT_S", 0.4)
        patch.setattr(zoneview, "_TIMEOUT_S", 0.4)
        found = zoneview.name_servers
        patch.setattr(delegation, "at", lambda address, name: self._at(zoneview.Server(address=address, name=name)))

        def name_servers(*given: Any) -> Any:
            known = found(*given)
            return replace(known, servers=tuple(self._at(each) for each in known.servers))

        patch.setattr(zoneview, "name_servers", name_servers)

    def _at(self, server: zoneview.Server) -> zoneview.Server:
        """Name servers are at port 53, which needs root; here each has a port of its own."""
        return replace(server, port=self._ports.get(server.address, server.port))

    def serve(self, servers: Mapping[str, tuple[str, ...]]) -> str:
        """Serve each zone on its servers. Return the address of the resolver."""
        for zone, names in servers.items():
            self.delegated[zone.rpartition(".")[2]][zone] = tuple(f"{each}." for each in names)
            for name in names:
                self.add(name, zone)
        parents = [Zone(name, delegated, self._hosts) for name, delegated in self.delegated.items()]
        self._listen(Authority(parents, {"ns.parents.test": "127.0.0.10"}), "127.0.0.10")
        resolver = Resolver(parents, {"ns.parents.test": "127.0.0.10"}, self._hosts)
        return f"127.0.0.9:{self._listen(resolver, '127.0.0.9')}"

    def add(self, name: str, zone: str) -> None:
        """Start a name server of a zone."""
        address = f"127.0.0.{20 + len(self._hosts)}"
        self._hosts[name] = address
        self._listen(Authority([Zone(zone)], {name: address}, self.faults, where=address), address)

    def _listen(self, authority: Authority, address: str) -> int:
        udp, tcp = bound_pair(address)
        listener = Listener(authority, [udp], [tcp])
        listener.start()
        self._ended.callback(listener.stop)
        self._ports[address] = int(tcp.getsockname()[1])
        return self._ports[address]


@dataclass
class World:
    """`values` is the stack's configuration; `answers` the folder with what the engine says."""

    root: Path
    aws: Cloud
    site: cloudflare_server.Lab
    triton: cloudapi_server.Lab
    names: Names
    patch: pytest.MonkeyPatch
    values: dict[str, Any]
    answers: Path
    key: tuple[str, str]
    secrets: tuple[str, ...] = ()

    def write(self) -> None:
        """Write the stack's file, and let the engine answer the same."""
        (self.root / "Pulumi.prod.yaml").write_text(yaml.safe_dump({"config": self.values}))
        texts = {key: each if isinstance(each, str) else json.dumps(each) for key, each in self.values.items()}
        config = {key: {"value": text, "secret": key in self.secrets} for key, text in texts.items()}
        (self.answers / "config").write_text(json.dumps(config))

    def diagnose(self, limit_s: float = 30.0) -> list[Point]:
        self.write()
        points, late = diagnose(Environment(root=self.root, stack="prod"), limit_s=limit_s)
        assert not late or limit_s < 30
        return points

    def policy(self, *without: str) -> dict[str, Any]:
        """What docs/operations.md asks for, as a policy, without some actions."""
        own = {*aws_permissions.needed(settings_of(self.values)), "iam:SimulatePrincipalPolicy", "iam:GetRole"}
        own |= {"servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"}
        allowed = sorted(own - {*without, "iam:PassRole"})
        passing = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
        return {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": allowed, "Resource": "*"},
                {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": passing},
            ],
        }

    def grant(self, policy: Mapping[str, Any]) -> None:
        arn = f"arn:aws:iam::{self.aws.aws.account}:policy/deploy"
        iam = self.aws.client("iam")
        made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(policy), SetAsDefault=True)
        assert made["PolicyVersion"]["IsDefaultVersion"]

    def restore(self) -> None:
        """Take back what a test changed at the user's policy."""
        arn, iam = f"arn:aws:iam::{self.aws.aws.account}:policy/deploy", self.aws.client("iam")
        iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
        for each in iam.list_policy_versions(PolicyArn=arn)["Versions"]:
            if each["VersionId"] != "v1":
                iam.delete_policy_version(PolicyArn=arn, VersionId=each["VersionId"])


def user_of(cloud: Cloud, policy: Mapping[str, Any]) -> tuple[str, str]:
    """Make the operator's user; its key."""
    iam = cloud.client("iam")
    iam.create_user(UserName=USER)
    made = iam.create_policy(PolicyName=USER, PolicyDocument=json.dumps(policy))["Policy"]["Arn"]
    iam.attach_user_policy(UserName=USER, PolicyArn=made)
    key = iam.create_access_key(UserName=USER)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def programs(folder: Path) -> tuple[Path, Path]:
    """Write a folder of programs for the PATH: the engine and its language host. Return it, and the folder of its answers."""
    programs, answers = folder / "bin", folder / "bin" / "answers"
    answers.mkdir(parents=True)
    for name, text in (("pulumi", _ENGINE), ("pulumi-language-python", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (answers / "version").write_text("v3.259.0\n")
    (answers / "whoami").write_text('{"user": "ann", "url": "file:///state"}')
    return programs, answers


def project(folder: Path) -> Path:
    """Make the folder of a project of its own that uses this checkout's program and virtual environment."""
    folder.mkdir()
    runtime = {"name": "python", "options": {"virtualenv": str(ROOT / ".venv")}}
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "rollcall", "runtime": runtime, "main": str(ROOT)}))
    return folder


def own_environment(patch: pytest.MonkeyPatch) -> None:
    """Take the credentials and the proxies of whoever runs the tests out of the environment."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name.upper() in _PROXIES:
            patch.delenv(name)


def verdicts(points: list[Point], *kinds: Verdict) -> list[str]:
    """The texts of the points with one of these verdicts, each once."""
    return list(dict.fromkeys(each.text for each in points if each.verdict in kinds))
