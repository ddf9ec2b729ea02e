"""components.preflight.aws_tags: every tag that AWS would refuse is named by its key before anything is made, and no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from components.config.models import Settings
from components.config.reader import read
from components.preflight.aws_tags import default_tags, faults, ignored_faults, kinds_of
from rollcall.in_place import HOLD, LIVE, PATCH
from rollcall.settings import DRAIN
from tests.unit.config.test_release_checks import in_place
from tests.unit.graphs import Graphs

MARKS = {"rollcall-stack": "local", "rollcall-project": "rollcall", "managed-by": "pulumi"}
EC2 = {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
TRITON = {**EC2, "cloud": "joyent", "size": "g1.micro"}
SERVICE = {"theService": {"port": 4218, "incarnations": {f"v{each}": {} for each in range(1, 10)}}}
JOINS = ["site/www", *(f"theService/v{each}" for each in range(1, 10))]


def settings(fleet: Mapping[str, Any] = EC2, *, create: bool = False) -> Settings:
    machine_settings = {
        "sites": {"www": {"zone": "scalability.expert"}} if "site/www" in fleet["joins"] else {},
        "serviceDiscovery": {"zone": "unilans.net", "create": create, "services": SERVICE},
        "fleets": {"web": fleet},
    }
    return read("local", machine_settings)


def found(
    tags: Mapping[str, Any], machine_settings: Settings | None = None, environ: Mapping[str, str] | None = None
) -> list[str]:
    return faults(machine_settings or settings(), MARKS, json.dumps({"tags": tags}), environ or {})


IN_METADATA = (
    "cannot be on each EC2 instance: a key has a-z, A-Z, 0-9 and - _ + = , . @ : only and is not ., .. or _index, since machines read "
    "their tags from instance metadata. Rename it."
)


@pytest.mark.parametrize("key", ["cost center", "a/b", ".", "..", "_index", "größe"])
def test_a_key_that_instance_metadata_cannot_show_is_named(key: str) -> None:
    assert found({key: "x"}) == [f"aws:defaultTags: the key {key!r} {IN_METADATA}"]


def test_where_no_ec2_machine_is_the_rules_of_instances_do_not_hold() -> None:
    assert found({"cost center": "x"}, settings(TRITON)) == []
    assert found({"cost center": "x", "a/b": ""}, settings({**TRITON, "joins": JOINS})) == []


def test_no_tags_and_valid_tags_have_no_fault() -> None:
    assert faults(settings(), MARKS, None, {}) == []
    assert found({"team": "web", "Cost-Center": "a b/c", "x" * 128: "v" * 256, "year": 2026}) == []


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"aws:team": "x"}, "the key 'aws:team' begins with aws:, which AWS keeps for itself. Rename it."),
        ({"AWS:team": "x"}, "the key 'AWS:team' begins with aws:"),
        ({"k" * 129: "x"}, "has 129 characters, AWS takes 128. Shorten it."),
        ({"team": "v" * 257}, "the value of 'team' has 257 characters, AWS takes 256. Shorten it."),
        (
            {"team": "web!"},
            "the value of 'team' cannot be on each S3 bucket, SSM parameter, IAM instance profile, IAM role: a value has",
        ),
        (
            {"team": "aws:web"},
            "the value of 'team' cannot be on each IAM instance profile, IAM role: a value has letters",
        ),
        ({"": "x"}, "the key '' cannot be on each"),
        ({"rollcall-drain": "true"}, "begins with rollcall-, by which machines read their settings. Rename it."),
        ({"rollcall-join-7": "x"}, "begins with rollcall-"),
        ({"managed-by": "hand"}, "the key 'managed-by' is set to 'pulumi' by Rollcall itself. Take it out."),
        (
            {"Managed-By": "pulumi"},
            "the key 'Managed-By' differs from 'managed-by', which Rollcall sets, in case alone, and an IAM role cannot have both.",
        ),
        ({"Team": "a", "team": "b"}, "the key 'team' differs from 'Team', another key, in case alone"),
    ],
)
def test_what_a_service_refuses_is_named(tags: Mapping[str, str], message: str) -> None:
    assert any(each.startswith("aws:defaultTags: ") and message in each for each in found(tags)), found(tags)


def test_a_setting_that_rollcall_sets_alike_may_be_repeated() -> None:
    assert found({"managed-by": "pulumi", "rollcall-stack": "local", "Name": "x"}) == []


@pytest.mark.parametrize("over", [0, 1])
def test_the_tags_of_a_machine_are_counted_with_ours_and_the_one_that_asks_it_to_leave(over: int) -> None:
    machine_settings = settings({**EC2, "joins": JOINS})
    tags = {f"k{each}": "" for each in range(50 - 25 + over)}
    wanted = (
        [
            "aws:defaultTags: each EC2 instance would have 51 tags, 25 of them Rollcall's, and AWS takes 50. Give 25 at most."
        ]
        if over
        else []
    )
    assert found(tags, machine_settings) == wanted


def test_the_live_settings_of_a_machine_are_counted() -> None:
    """Two for each workload, where the machines change in place, and where to write the report."""
    former = read("local", in_place(release=None, runs=["shop", "www"]))
    live = read("local", in_place(runs=["shop", "www"]))
    before, after = (set(kinds_of(each, tuple(MARKS))[0].ours) for each in (former, live))
    assert before - after == {"rollcall-workload-shop", "rollcall-workload-www"}
    assert after - before == {
        *(f"rollcall-{kind}-{name}" for kind in ("wanted", "gate") for name in ("shop", "www")),
        "rollcall-report-to",
    }


@pytest.mark.parametrize(
    ("config", "environ"),
    [
        ({"keyPrefixes": ["cost-", *LIVE], "keys": ["x"]}, {}),
        ({"keyPrefixes": ["rollcall-"]}, {}),
        ({"keyPrefixes": list(LIVE[1:])}, {"TF_AWS_IGNORE_TAGS_KEY_PREFIXES": f"a,{LIVE[0]}"}),
    ],
)
def test_live_settings_that_the_provider_ignores_have_no_fault(config: Any, environ: dict[str, str]) -> None:
    assert ignored_faults(settings(), json.dumps(config), environ) == []


@pytest.mark.parametrize(
    "config",
    [None, "{}", '{"keys": ["x"]}', '{"keyPrefixes": ["", "cost-"]}', '{"keyPrefixes": ["rollcall-wanted-www"]}'],
)
def test_live_settings_that_an_up_would_remove_are_refused(config: str | None) -> None:
    assert ignored_faults(settings(), config, {}) == [
        "aws:ignoreTags: lacks rollcall-wanted-, rollcall-hold, rollcall-patch, rollcall-gate-, so an `up` would remove the settings that "
        "Rollcall writes to running machines. Add keyPrefixes: [rollcall-wanted-, rollcall-hold, rollcall-patch, rollcall-gate-], in "
        "Pulumi.yaml (as `value`) or in the file of the stack."
    ]
    assert ignored_faults(settings(TRITON), config, {}) == []


@pytest.mark.parametrize("config", ["[]", "x", "1", '[{"keyPrefixes": ["rollcall-"]}]', '{"keyPrefixes": 1}'])
def test_a_value_of_another_form_is_refused(config: str) -> None:
    (fault,) = ignored_faults(settings(), config, {})
    assert fault.startswith("aws:ignoreTags: ")


def test_a_zone_that_is_to_be_made_takes_ten() -> None:
    tags = {f"k{each}": "" for each in range(8)}
    assert found(tags) == []
    (fault,) = found(tags, settings(create=True))
    assert (
        "each Route53 hosted zone would have 11 tags, 3 of them Rollcall's, and AWS takes 10. Give 7 at most." in fault
    )


def test_a_user_is_tagged_for_a_fleet_outside_aws_that_joins_a_service() -> None:
    tags = {"team": "web!"}
    assert found(tags, settings(TRITON)) == []
    assert "each IAM user: " in found(tags, settings({**TRITON, "joins": ["theService/v1"]}))[0]


def test_those_of_the_environment_are_named_by_their_variable() -> None:
    environ = {"TF_AWS_DEFAULT_TAGS_a/b": "x", "TF_AWS_DEFAULT_TAGS_team": "ops"}
    assert found({}, environ=environ) == [f"TF_AWS_DEFAULT_TAGS_a/b: the key 'a/b' {IN_METADATA}"]
    assert {each.key: each.value for each in default_tags('{"tags": {"team": "web"}}', environ)}["team"] == "web"


@pytest.mark.parametrize("config", ["[]", '{"tags": []}', '{"tags": {"a": {}}}', "no json", '{"tags": {"a": null}}'])
def test_another_form_is_a_fault_with_the_form(config: str) -> None:
    assert faults(settings(), MARKS, config, {}) == [
        'aws:defaultTags: is not a block of tags. Write it as {"tags": {"team": "web"}}, each value a text.'
    ]


def test_a_long_image_and_renew_make_a_tag_that_is_too_long() -> None:
    machine_settings = settings({**EC2, "imageRefresh": "r" * 240})
    (fault,) = faults(machine_settings, MARKS, None, {})
    assert fault.startswith(
        "rollcall:fleets.web.imageRefresh: image and imageRefresh make a tag rollcall-version of 259 characters"
    )


def test_the_kinds_and_our_keys_are_those_of_the_program(graphs: Graphs) -> None:
    """What each type of resource has as tags, in the largest configuration that tags all of them."""
    words = {
        "aws:ec2/instance:Instance": "EC2 instance",
        "aws:ec2/securityGroup:SecurityGroup": "EC2 security group",
        "aws:s3/bucket:Bucket": "S3 bucket",
        "aws:ssm/parameter:Parameter": "SSM parameter",
        "aws:iam/instanceProfile:InstanceProfile": "IAM instance profile",
        "aws:iam/role:Role": "IAM role",
        "aws:iam/user:User": "IAM user",
        "aws:route53/zone:Zone": "Route53 hosted zone",
    }
    made: dict[str, set[str]] = {}
    for name, inputs in graphs["new"]["graph"].items():
        if name.startswith("aws:") and "tags" in inputs:
            made.setdefault(words[name.partition("::")[0]], set()).update(inputs["tags"])
    fleets = {
        "all": {**EC2, "joins": ["site/www", "theService/v1"]},
        "far": {**TRITON, "joins": ["site/www", "theService/v2"]},
    }
    machine_settings = read(
        "local",
        {
            "sites": {"www": {"zone": "scalability.expert"}},
            "serviceDiscovery": {"zone": "unilans.net", "create": True, "services": SERVICE},
            "fleets": fleets,
        },
    )
    assert {
        kind.name: set(kind.ours) - {DRAIN, HOLD, PATCH} for kind in kinds_of(machine_settings, tuple(MARKS))
    } == made
