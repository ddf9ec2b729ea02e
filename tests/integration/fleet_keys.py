"""The keys of a fleet as a table: what changes, what its cloud then has, and whether the machines are replaced.

The rows are in parts, each with a stack of its own. A row builds on the rows of its part before it: its keys stay. Add a row for each
key. tests/integration/test_fleet_keys_engine.py runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.config.models import ec2_parameter
from tests.integration.engine_harness import Trial
from tests.vpcs import make_vpc

FLEET = "web"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A change of keys, and what is read back for each machine of the fleet afterwards.

    `change` are keys of the fleet; None takes a key out, and a function gets the trial and returns the value. `more` are keys of the
    stack beside `fleets`, as `workloads`. `read` gets an instance as DescribeInstances lists it. `before` prepares the cloud, before
    the functions in `change` are called.
    """

    name: str
    change: Mapping[str, Any]
    read: Callable[[Trial, Mapping[str, Any]], Any]
    expected: Any
    replaces: bool
    more: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[Trial], object] = lambda _: None


def ec2(trial: Trial, instance: Mapping[str, Any]) -> Any:
    return trial.aws.client("ec2", region=instance["Placement"]["AvailabilityZone"][:-1])


def tags(found: Mapping[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in found.get("Tags", ())}


def disks(trial: Trial, instance: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The volumes of an instance by their devices; `root` is its root volume."""
    named = {each["Ebs"]["VolumeId"]: each for each in instance["BlockDeviceMappings"]}
    found = ec2(trial, instance).describe_volumes(VolumeIds=[*named])["Volumes"]
    names = {id_: each["DeviceName"] for id_, each in named.items()}
    root = instance["RootDeviceName"]
    return {("root" if names[each["VolumeId"]] == root else names[each["VolumeId"]]): each for each in found}


def disk(*fields: str, device: str = "root") -> Callable[[Trial, Mapping[str, Any]], Any]:
    return lambda trial, instance: tuple(disks(trial, instance)[device].get(each) for each in fields)


def of_instance(*path: str) -> Callable[[Trial, Mapping[str, Any]], Any]:
    def read(_: Trial, instance: Mapping[str, Any]) -> Any:
        found: Any = instance
        for each in path:
            found = found.get(each) if found is not None else None
        return found

    return read


def publish_newer(trial: Trial) -> None:
    """The vendor publishes a newer build: the public parameter leads to another image."""
    parameters = trial.aws.aws._moto.ssm._parameters
    parameters[ec2_parameter("debian-12")][-1].value = parameters[ec2_parameter("debian-13")][-1].value


def rights(trial: Trial, instance: Mapping[str, Any]) -> Any:
    """What workloads of a machine may do: the managed policies and the actions of the role that the machine may assume."""
    iam, role = trial.aws.client("iam"), tags(instance)["rollcall-credentials"].rpartition("/")[2]
    attached = [each["PolicyName"] for each in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]]
    actions = [
        statement["Action"]
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]["Statement"]
    ]
    own = instance["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    (mine,) = iam.get_instance_profile(InstanceProfileName=own)["InstanceProfile"]["Roles"]
    trusted = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["AWS"]
    return attached, actions, trusted == mine["Arn"]


def setting(name: str) -> Callable[[Trial, Mapping[str, Any]], Any]:
    """A setting of the machine, which is a tag."""
    return lambda _, instance: tags(instance).get(name)


def place(trial: Trial, instance: Mapping[str, Any]) -> Any:
    """The names of an instance's VPC and subnet, and whether it has a public address."""
    client = ec2(trial, instance)
    (vpc,) = client.describe_vpcs(VpcIds=[instance["VpcId"]])["Vpcs"]
    (subnet,) = client.describe_subnets(SubnetIds=[instance["SubnetId"]])["Subnets"]
    return tags(vpc).get("Name"), tags(subnet).get("Name"), "PublicIpAddress" in instance


def groups(_: Trial, instance: Mapping[str, Any]) -> Any:
    """Whether an instance has the security group `extra`, and how many groups it has."""
    names = [each["GroupName"] for each in instance["SecurityGroups"]]
    return "extra" in names, len(names)


def extra_group(trial: Trial) -> list[str]:
    found = trial.aws.client("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": ["extra"]}])
    return [each["GroupId"] for each in found["SecurityGroups"]]


def elastic(trial: Trial, instance: Mapping[str, Any]) -> Any:
    """Whether an instance's public address is an elastic one, and how many of these the stack has."""
    found = [each for each in ec2(trial, instance).describe_addresses()["Addresses"] if "rollcall-stack" in tags(each)]
    return instance.get("PublicIpAddress") in {each["PublicIp"] for each in found}, len(found)


KEY = "arn:aws:kms:us-west-2:123456789012:key/11111111-2222-3333-4444-555555555555"
MANAGED = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
_PERFORMANCE = ("VolumeType", "Iops", "Throughput")
_OF_DATA = disk("Size", "VolumeType", "Encrypted", device="/dev/sdf")

_ZONES: Sequence[Row] = (
    Row(
        name="zones",
        change={"zones": ["us-west-2b"]},
        read=of_instance("Placement", "AvailabilityZone"),
        expected="us-west-2b",
        # The machine was in the first zone.
        replaces=True,
    ),
    Row(
        name="zones: more",
        change={"zones": "all"},
        read=of_instance("Placement", "AvailabilityZone"),
        expected="us-west-2b",
        replaces=False,
    ),
    Row(
        name="placement",
        change={"placement": "partition"},
        read=lambda _, instance: bool(instance["Placement"].get("GroupName")),
        expected=True,
        replaces=True,
    ),
    Row(
        name="zones of a vpc",
        change={"zones": ["us-west-2b"], "placement": None, "vpc": {"Name": "company"}, "publicAddress": True},
        read=place,
        expected=("company", "company-public-1", True),
        replaces=True,
        before=lambda trial: make_vpc(trial.aws.client("ec2"), public=2),
    ),
)
_NETWORK: Sequence[Row] = (
    Row(
        name="vpc, publicAddress",
        change={"vpc": {"Name": "company"}, "publicAddress": True},
        read=place,
        expected=("company", "company-public-0", True),
        replaces=True,
        before=lambda trial: make_vpc(trial.aws.client("ec2"), public=2, private=1, nat=True),
    ),
    Row(name="securityGroups", change={"securityGroups": extra_group}, read=groups, expected=(True, 2), replaces=False),
    Row(
        name="stableAddresses",
        change={"stableAddresses": True},
        read=lambda trial, instance: (*elastic(trial, instance), *groups(trial, instance)),
        expected=(True, 2, True, 2),
        replaces=True,
    ),
    Row(
        name="securityGroups: none, with stableAddresses",
        change={"securityGroups": None},
        read=groups,
        expected=(False, 1),
        replaces=False,
    ),
    Row(
        name="subnets: private",
        change={"subnets": "private", "publicAddress": False, "stableAddresses": None},
        more={"sites": {"www": {"zone": "scalability.expert", "address": "private"}}},
        read=lambda trial, instance: (*place(trial, instance), *elastic(trial, instance)),
        expected=("company", "company-private-2", False, False, 0),
        replaces=True,
    ),
    Row(
        name="subnets by their tags",
        change={"subnets": {"Name": "company-public-1"}, "publicAddress": True},
        read=place,
        expected=("company", "company-public-1", True),
        replaces=True,
    ),
)
_DISKS: Sequence[Row] = (
    Row(
        name="disk: type, iops, throughput",
        change={"disk": {"type": "gp3", "iops": 4000, "throughput": 250}},
        read=disk(*_PERFORMANCE),
        expected=("gp3", 4000, 250),
        replaces=False,
    ),
    Row(
        name="disk: the defaults of a type again",
        change={"disk": {"type": "gp3"}},
        read=disk(*_PERFORMANCE),
        expected=("gp3", 3000, 125),
        replaces=False,
    ),
    Row(
        name="disk: size",
        change={"disk": {"size": 20, "type": "io2", "iops": 500}},
        read=disk("Size", "VolumeType", "Iops", "Encrypted"),
        expected=(20, "io2", 500, True),
        replaces=True,
    ),
    Row(
        name="disk: kmsKey",
        change={"disk": {"size": 20, "kmsKey": KEY}},
        read=disk("Size", "KmsKeyId", *_PERFORMANCE),
        expected=(20, KEY, "gp3", 3000, 125),
        replaces=True,
    ),
    Row(
        name="disk: encrypted",
        change={"disk": {"encrypted": False}},
        read=disk("Size", "Encrypted"),
        expected=(8, False),
        replaces=True,
    ),
    Row(
        name="volumes",
        change={"volumes": [{"size": 30, "mount": "/srv/data"}, {"size": 125, "type": "st1", "mount": "/srv/logs"}]},
        read=lambda trial, instance: (
            _OF_DATA(trial, instance),
            disk("Size", "VolumeType", device="/dev/sdg")(trial, instance),
            setting("rollcall-volumes")(trial, instance),
            [each["Ebs"]["DeleteOnTermination"] for each in instance["BlockDeviceMappings"]],
        ),
        expected=((30, "gp3", True), (125, "st1"), "sdf=/srv/data sdg=/srv/logs", [True] * 3),
        replaces=True,
    ),
    Row(
        name="volumes: mount",
        change={"volumes": [{"size": 30, "mount": "/srv/elsewhere"}]},
        read=lambda trial, instance: (setting("rollcall-volumes")(trial, instance), len(disks(trial, instance))),
        expected=("sdf=/srv/elsewhere", 2),
        replaces=True,
    ),
    Row(
        name="tags",
        change={"tags": {"team": "web", "cost-center": "4711"}},
        read=lambda trial, instance: [
            (tags(each).get("team"), tags(each).get("cost-center"))
            for each in (instance, *disks(trial, instance).values())
        ],
        # The provider sees no change of the tags of further volumes. They get them with the next machine.
        expected=[("web", "4711"), ("web", "4711"), (None, None)],
        replaces=False,
    ),
    Row(
        name="tags: another value, and one fewer",
        change={"tags": {"team": "shop"}, "volumes": None},
        read=lambda trial, instance: [
            (tags(each).get("team"), tags(each).get("cost-center"))
            for each in (instance, *disks(trial, instance).values())
        ],
        expected=[("shop", None)] * 2,
        replaces=True,
    ),
)
_SYSTEM: Sequence[Row] = (
    Row(
        name="monitoring",
        change={"monitoring": True},
        read=of_instance("Monitoring", "State"),
        expected="enabled",
        replaces=False,
    ),
    Row(
        name="monitoring off",
        change={"monitoring": False},
        read=of_instance("Monitoring", "State"),
        expected="disabled",
        replaces=False,
    ),
    Row(
        name="policies",
        change={"policies": {"managed": [MANAGED], "statements": [{"actions": ["s3:GetObject"], "resources": ["*"]}]}},
        read=rights,
        expected=(["AmazonS3ReadOnlyAccess"], [["s3:GetObject"]], True),
        replaces=False,
    ),
    Row(
        name="policies: others",
        change={"policies": {"statements": [{"actions": ["sqs:SendMessage"], "resources": ["*"]}]}},
        read=rights,
        expected=([], [["sqs:SendMessage"]], True),
        replaces=False,
    ),
    Row(
        name="timezone, aptMirror, logs",
        change={
            "timezone": "Europe/Berlin",
            "aptMirror": "https://mirror.example.net/debian/",
            "logs": {"syslog": "logs.example.net:514"},
        },
        read=lambda trial, instance: [
            setting(f"rollcall-{each}")(trial, instance) for each in ("timezone", "apt-mirror", "logs")
        ],
        expected=["Europe/Berlin", "https://mirror.example.net/debian", "syslog=logs.example.net:514"],
        replaces=False,
    ),
    Row(
        name="logs: another target, no time zone",
        change={"timezone": None, "logs": {"http": "https://logs.example.net:19532"}},
        read=lambda trial, instance: [setting(f"rollcall-{each}")(trial, instance) for each in ("timezone", "logs")],
        expected=[None, "http=https://logs.example.net:19532"],
        replaces=False,
    ),
    Row(
        name="proxy",
        change={"proxy": "http://proxy.example.net:3128"},
        read=setting("rollcall-proxy"),
        expected="http://proxy.example.net:3128",
        replaces=True,
    ),
)
_MACHINES: Sequence[Row] = (
    Row(name="count", change={"count": 2}, read=of_instance("InstanceType"), expected="t3.micro", replaces=False),
    Row(
        name="timeout, priority, weight",
        change={"timeout": 60, "priority": 5, "weight": 5},
        read=of_instance("InstanceType"),
        expected="t3.micro",
        replaces=False,
    ),
    Row(name="size", change={"size": "t3.small"}, read=of_instance("InstanceType"), expected="t3.small", replaces=True),
    Row(
        name="ssh",
        change={"ssh": {"user": "admin", "keyName": "operators", "from": ["203.0.113.0/24"]}},
        read=of_instance("KeyName"),
        expected="operators",
        replaces=True,
        before=lambda trial: trial.aws.client("ec2").create_key_pair(KeyName="operators"),
    ),
    Row(
        name="ipv6",
        change={"ipv6": True},
        read=lambda _, instance: len(instance["NetworkInterfaces"][0]["Ipv6Addresses"]),
        expected=1,
        replaces=True,
        before=lambda trial: trial.aws.aws.have_ipv6(),
    ),
    Row(
        name="imageRefresh",
        change={"imageRefresh": "2026-11"},
        read=lambda _, instance: tags(instance)["rollcall-version"].split(" ", 1)[1],
        expected="debian-12 2026-11",
        replaces=True,
        # Another word alone replaces nothing, if the vendor has published nothing new.
        before=publish_newer,
    ),
    Row(
        name="size of another architecture",
        change={"size": "t4g.small"},
        read=of_instance("Architecture"),
        expected="arm64",
        replaces=True,
    ),
    Row(
        name="region",
        change={"region": "eu-west-1", "ssh": None, "ipv6": None},
        read=of_instance("Placement", "AvailabilityZone"),
        expected="eu-west-1a",
        replaces=True,
    ),
)
EC2: Mapping[str, Sequence[Row]] = {
    "zones": _ZONES,
    "network": _NETWORK,
    "disks": _DISKS,
    "permissions": _SYSTEM[:4],
    "system": _SYSTEM[4:],
    "machines": _MACHINES,
}
