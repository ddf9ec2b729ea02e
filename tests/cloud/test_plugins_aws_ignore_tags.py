"""The stand-in for the AWS plugin: tags that `aws:ignoreTags` names are in the cloud, and in no resource."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from localcloud.plugins.aws import Aws
from localcloud.plugins.aws.common import IgnoredTags
from localcloud.plugins.resource import PluginError
from tests.cloud.aws_cloud import Cloud
from tests.cloud.test_plugins_aws_default_tags import TOKENS, cloud, inputs, seen
from tests.plugin_host import hosted

__all__ = ["cloud"]
pytestmark = pytest.mark.clouds
NONE = provider_pb2.DiffResponse.DIFF_NONE
OWN, LIVE = {"rollcall-stack": "local"}, {"rollcall-wanted-www": "a", "rollcall-hold": "b", "exact": "c"}
DEFAULTS = {"team": "web"}
SETTINGS = {
    "region": "us-west-2",
    "ignoreTags": json.dumps({"keyPrefixes": ["rollcall-wanted-", "rollcall-hold"], "keys": ["exact"]}),
}


def write(cloud: Cloud, token: str, name: str) -> None:
    """Let someone else tag the resource."""
    live = [{"Key": key, "Value": value} for key, value in LIVE.items()]
    iam, ssm, route53 = (cloud.client(each) for each in ("iam", "ssm", "route53"))
    requests: dict[str, Callable[[], Any]] = {
        "ec2": lambda: cloud.client("ec2").create_tags(Resources=[name], Tags=live),
        "iam/role": lambda: iam.tag_role(RoleName=name, Tags=live),
        "iam/instanceProfile": lambda: iam.tag_instance_profile(InstanceProfileName=name, Tags=live),
        "iam/user": lambda: iam.tag_user(UserName=name, Tags=live),
        "route53": lambda: route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=name, AddTags=live),
        "ssm": lambda: ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=name, Tags=live),
    }
    next(request for kind, request in requests.items() if token.startswith(f"aws:{kind}"))()


@pytest.mark.parametrize("defaults", [{}, DEFAULTS], ids=["alone", "with default tags"])
@pytest.mark.parametrize("token", TOKENS)
def test_they_do_not_count_as_a_difference_and_survive_an_update(
    cloud: Cloud, token: str, defaults: dict[str, str]
) -> None:
    given = {**inputs(cloud)[token], "tags": OWN}
    with hosted(Aws()) as host:
        host.configure(**SETTINGS, **({"defaultTags": json.dumps({"tags": defaults})} if defaults else {}))
        made = host.create(token, given)
        write(cloud, token, made.id)
        read = host.refresh(made)
        assert read is not None and read.inputs == made.inputs
        assert (read.outputs["tags"], read.outputs["tagsAll"]) == (OWN, {**defaults, **OWN})
        assert host.diff(read, given).changes == NONE
        renamed = {**given, "tags": {"rollcall-stack": "other"}}
        changed = host.update(read, renamed)
        assert seen(cloud, token, made.id) == {**defaults, "rollcall-stack": "other", **LIVE}
        assert host.diff(changed, renamed).changes == NONE
        host.delete(changed)


def test_without_the_setting_they_are_a_difference(cloud: Cloud) -> None:
    token = TOKENS[0]
    given = {**inputs(cloud)[token], "tags": OWN}
    with hosted(Aws()) as host:
        host.configure(region="us-west-2")
        made = host.create(token, given)
        write(cloud, token, made.id)
        read = host.refresh(made)
        assert read is not None and read.inputs["tags"] == {**OWN, **LIVE}
        assert "tags" in list(host.diff(read, given).diffs)
        host.delete(made)


def test_those_of_the_environment_are_ignored_besides() -> None:
    environ = {"TF_AWS_IGNORE_TAGS_KEYS": "a,b", "TF_AWS_IGNORE_TAGS_KEY_PREFIXES": "c-"}
    found = IgnoredTags.of({"ignoreTags": {"keys": ["d"]}}, environ)
    assert found.without({"a": "", "b": "", "c-1": "", "d": "", "e": ""}) == {"e": ""}
    assert IgnoredTags.of({}, {}).without({"a": ""}) == {"a": ""}


def test_a_setting_of_another_form_is_refused() -> None:
    for wrong in ([{"keys": ["a"]}], {"prefixes": ["a"]}):
        with pytest.raises(PluginError, match="ignoreTags is not a mapping with keys and keyPrefixes"):
            IgnoredTags.of({"ignoreTags": json.dumps(wrong)}, {})
