"""components.config.machine_checks: what EC2 would refuse of a machine is an error, and the value beside it is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.config.reader import read
from tests.unit.config.test_models import changed, faults

KMS = "arn:aws:kms:eu-west-1:123456789012:key/1111-2222"
MANAGED = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
STATEMENT = {"actions": ["s3:GetObject"], "resources": ["*"]}
DATA = {"size": 100, "mount": "/srv/data"}

# A key of the fleet, a wrong value, the right one beside it, and what the error says.
TABLE: list[tuple[str, Any, Any, str]] = [
    ("disk", {"size": 0}, {"size": 1}, "disk.size"),
    ("disk", {"size": 65_537}, {"size": 65_536}, "disk.size"),
    (
        "disk",
        {"size": 16_385, "type": "gp2"},
        {"size": 16_384, "type": "gp2"},
        "disk.size: is 16385, and gp2 takes 1 to 16384",
    ),
    ("disk", {"type": "st1"}, {"type": "gp2"}, "gp3, gp2, io2, io1"),
    ("disk", {"iops": 2999}, {"iops": 3000}, "disk.iops: is 2999, and gp3 takes 3000 to 80000"),
    ("disk", {"size": 160, "iops": 80_001}, {"size": 160, "iops": 80_000}, "disk.iops"),
    ("disk", {"size": 8, "iops": 4001}, {"size": 8, "iops": 4000}, "takes 500 for each GiB of its 8"),
    ("disk", {"size": 4, "iops": 3001}, {"size": 4, "iops": 3000}, "Set 3000 at most, or raise the size"),
    ("disk", {"type": "io2"}, {"type": "io2", "iops": 100}, "disk.iops: is missing, and io2 needs it"),
    ("disk", {"type": "io2", "size": 4, "iops": 4001}, {"type": "io2", "size": 4, "iops": 4000}, "1000 for each GiB"),
    ("disk", {"type": "io1", "size": 4, "iops": 201}, {"type": "io1", "size": 4, "iops": 200}, "50 for each GiB"),
    ("disk", {"type": "gp2", "iops": 3000}, {"type": "gp2"}, "disk.iops: is for gp3, io1 and io2"),
    ("disk", {"throughput": 124}, {"throughput": 125}, "disk.throughput"),
    ("disk", {"throughput": 751}, {"throughput": 750}, "a quarter of its 3000 IOPS. Set 750 at most"),
    ("disk", {"throughput": 1001, "iops": 4000}, {"throughput": 1000, "iops": 4000}, "a quarter of its 4000 IOPS"),
    ("disk", {"throughput": 125, "type": "io2", "iops": 500}, {"type": "io2", "iops": 500}, "is for gp3"),
    ("disk", {"encrypted": "no"}, {"encrypted": False}, "Set true or false"),
    ("disk", {"kmsKey": "alias/mine"}, {"kmsKey": KMS}, "is not the ARN of a KMS key"),
    ("disk", {"kmsKey": KMS, "encrypted": False}, {"kmsKey": KMS}, "disk.kmsKey: is set, and encrypted is off"),
    ("tags", {"rollcall-x": "1"}, {"x-rollcall": "1"}, "tags.rollcall-x: is a tag that Rollcall sets itself"),
    ("tags", {"Name": "n"}, {"name": "n"}, "tags.Name: is a tag that Rollcall sets itself"),
    ("tags", {"AWS:x": "1"}, {"x.aws:": "1"}, "begins with aws:, which AWS keeps for itself"),
    ("tags", {"k" * 129: "1"}, {"k" * 128: "1"}, "has 129 characters, and a key has 1 to 128"),
    ("tags", {"k": "v" * 257}, {"k": "v" * 256}, "tags.k: has a value of 257 characters"),
    ("tags", {"a b": "1"}, {"a_b": "1 2/3"}, "is a key that instance metadata cannot show"),
    ("tags", {"k": 5}, {"k": "5"}, "tags.k"),
    ("timezone", "Berlin time", "Europe/Berlin", "is not the name of a time zone"),
    ("timezone", "../etc/passwd", "America/Argentina/Buenos_Aires", "is not the name of a time zone"),
    ("timezone", "utc", "UTC", "is not the name of a time zone"),
    (
        "proxy",
        "http://me:secret@proxy.example.net:3128",
        "http://proxy.example.net:3128",
        "without a user and a password",
    ),
    ("proxy", "https://proxy.example.net:3128", "http://192.0.2.1:3128/", "is not the address of an HTTP proxy"),
    ("proxy", "http://proxy.example.net", "http://[2001:db8::1]:3128", "is not the address of an HTTP proxy"),
    ("proxy", "http://proxy.example.net:65536", "http://proxy.example.net:65535", "proxy: has the port 65536"),
    ("aptMirror", "mirror.example.net", "http://mirror.example.net/debian", "is not the address of a mirror for apt"),
    (
        "aptMirror",
        "https://a:b@mirror.example.net",
        "https://mirror.example.net:8443/a/b",
        "is not the address of a mirror",
    ),
    ("logs", {}, {"syslog": "192.0.2.9:514"}, "logs: needs one of syslog and http"),
    ("logs", {"syslog": "a:1", "http": "http://a"}, {"http": "http://a:19532"}, "logs: needs one of syslog and http"),
    ("logs", {"syslog": "logs.example.net"}, {"syslog": "logs.example.net:6514"}, "is not a host and a port"),
    ("logs", {"syslog": "a:0"}, {"syslog": "a:1"}, "logs.syslog: has the port 0"),
    (
        "logs",
        {"http": "https://a:b@logs.example.net"},
        {"http": "https://logs.example.net/x"},
        "is not the address of a",
    ),
    ("monitoring", "yes", True, "Set true or false"),
    ("policies", {"managed": ["ReadOnly"]}, {"managed": [MANAGED]}, "is not the ARN of a managed policy"),
    ("policies", {"managed": [MANAGED, MANAGED]}, {"managed": [MANAGED]}, "is in it twice"),
    ("policies", {"statements": [{"actions": ["s3:Get"]}]}, {"statements": [STATEMENT]}, "statements[0].resources"),
    (
        "policies",
        {"statements": [{**STATEMENT, "actions": ["get"]}]},
        {"statements": [STATEMENT]},
        "is not an action of AWS",
    ),
    (
        "policies",
        {"statements": [{**STATEMENT, "resources": ["b"]}]},
        {"statements": [STATEMENT]},
        "is not the ARN of a",
    ),
    ("policies", {"statements": [{**STATEMENT, "effect": "Allow"}]}, {"statements": [STATEMENT]}, "allow, deny"),
    ("volumes", [{"mount": "/srv/data"}], [DATA], "volumes[0].size"),
    ("volumes", [{"size": 100}], [DATA], "volumes[0].mount"),
    (
        "volumes",
        [{**DATA, "type": "st1", "size": 124}],
        [{**DATA, "type": "st1", "size": 125}],
        "st1 takes 125 to 16384",
    ),
    ("volumes", [{**DATA, "mount": "srv"}], [{**DATA, "mount": "/srv"}], "is not a folder for a volume"),
    ("volumes", [{**DATA, "mount": "/etc/data"}], [{**DATA, "mount": "/mnt/data"}], "is not a folder for a volume"),
    ("volumes", [{**DATA, "mount": "/srv/../etc"}], [{**DATA, "mount": "/srv/..etc"[:5] + "etc"}], "is not a folder"),
    ("volumes", [{**DATA, "mount": "/var/lib"}], [{**DATA, "mount": "/var/lib/shop"}], "is a folder of the system"),
    (
        "volumes",
        [{**DATA, "mount": "/var/lib/rollcall/x"}],
        [{**DATA, "mount": "/opt/shop"}],
        "is a folder of the system",
    ),
    (
        "volumes",
        [DATA, DATA],
        [DATA, {**DATA, "mount": "/srv/more"}],
        "volumes[1].mount: and /srv/data are in each other",
    ),
    ("volumes", [DATA, {**DATA, "mount": "/srv/data/more"}], [DATA], "and /srv/data are in each other"),
    (
        "volumes",
        [{**DATA, "mount": f"/srv/{at:02}"} for at in range(12)],
        [{**DATA, "mount": f"/srv/{at:02}"} for at in range(11)],
        "volumes",
    ),
    (
        "volumes",
        [{**DATA, "mount": f"/srv/{at}{'x' * 120}"} for at in range(2)],
        [{**DATA, "mount": f"/srv/{at}{'x' * 100}"} for at in range(2)],
        "volumes: has folders that do not fit a tag",
    ),
]


@pytest.mark.parametrize(
    ("key", "wrong", "right", "message"), TABLE, ids=[f"{row[0]}={row[1]!r}"[:60] for row in TABLE]
)
def test_a_wrong_value_is_an_error_and_the_right_one_beside_it_none(
    key: str, wrong: Any, right: Any, message: str
) -> None:
    found = faults(changed(f"fleets/web-aws/{key}", wrong))
    assert any(message in each for each in found), found
    assert faults(changed(f"fleets/web-aws/{key}", right)) == ()


def test_a_key_is_in_the_region_of_the_fleet() -> None:
    config = changed("fleets/web-aws/disk", {"kmsKey": KMS})
    config["fleets"]["web-aws"]["region"] = "us-east-1"
    (fault,) = faults(config)
    assert "disk.kmsKey: is a key of another region, and the fleet is in us-east-1" in fault


@pytest.mark.parametrize(("key", "value"), [("disk", {"size": 20}), ("volumes", [DATA])])
def test_the_package_of_a_triton_machine_has_its_disk(key: str, value: Any) -> None:
    (fault,) = faults(changed(f"fleets/web-joyent/{key}", value))
    assert fault.startswith(f"rollcall:fleets.web-joyent.{key}: is for EC2 machines. Leave it out")


@pytest.mark.parametrize(("key", "value"), [("monitoring", False), ("policies", {"managed": [MANAGED]})])
def test_other_keys_of_ec2_are_errors_on_triton(key: str, value: Any) -> None:
    (fault,) = faults(changed(f"fleets/web-joyent/{key}", value))
    assert fault.startswith(f"rollcall:fleets.web-joyent.{key}: is for EC2 machines. Leave it out")


def test_tags_are_for_both_clouds_and_triton_keeps_some_for_itself() -> None:
    assert faults(changed("fleets/web-joyent/tags", {"team": "web", "cost center": "1"})) == ()
    (fault,) = faults(changed("fleets/web-joyent/tags", {"triton.cns.services": "x"}))
    assert "is a key that Triton keeps for itself" in fault


def test_a_workload_with_credentials_runs_on_ec2_fleets_with_policies() -> None:
    config = changed(
        "workloads", {"shop": {"artifact": "https://a.example/a.tar.gz", "sha256": "0" * 64, "run": "./a"}}
    )
    config["workloads"]["shop"]["awsCredentials"] = True
    web, far = config["fleets"]["web-aws"], config["fleets"]["web-joyent"]
    web["runs"] = ["shop"]
    assert faults(config) == (
        "rollcall:fleets.web-aws.policies: is missing, and shop has awsCredentials. Set it, as "
        "{managed: [arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess]}.",
    )
    web["policies"] = {"managed": [MANAGED]}
    assert faults(config) == ()
    far["runs"] = ["shop"]
    (fault,) = faults(config)
    assert "web-joyent.runs: has shop, which needs credentials of an EC2 machine" in fault
    del far["runs"]
    config["workloads"]["shop"] = {"files": "tests", "nginx": {}, "awsCredentials": True}
    (fault,) = faults(config)
    assert "rollcall:workloads.shop.awsCredentials: is on, and a static site has no program" in fault


def test_the_policy_is_what_iam_takes() -> None:
    conditions = {"StringEquals": {"aws:ResourceTag/team": "web"}}
    given = changed(
        "fleets/web-aws/policies", {"statements": [{**STATEMENT, "effect": "deny", "conditions": conditions}]}
    )
    policies = read("local", given).fleets[0].policies
    assert policies is not None
    assert json.loads(policies.document) == {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": ["s3:GetObject"], "Resource": ["*"], "Condition": conditions}],
    }
