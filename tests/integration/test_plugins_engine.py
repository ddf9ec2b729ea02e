"""The stand-ins under the real engine: one program with each of their types, on local clouds that boot nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from localcloud.plugins import STAND_INS
from tests.cloud.test_cloudflare_certificates import request_of
from tests.integration.engine_harness import Trial, on_trial

pytestmark = [pytest.mark.clouds, pytest.mark.engine]
WORD = "a-word-that-the-state-must-not-hold-in-clear"
PROGRAM = """
import json
import os
import pulumi
import pulumi_aws as aws
import pulumi_cloudflare as cloudflare
import pulumi_command as command

options = json.loads(os.environ["TRIAL"])
policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "route53:*", "Resource": "*"}]})

zone = aws.route53.Zone("zone", name="unilans.net", tags={"of": "trial"})
found = aws.route53.get_zone_output(zone_id=zone.zone_id)
aws.route53.Record("txt", zone_id=found.zone_id, name="_x._tcp.unilans.net", type="TXT", ttl=60, records=[options["txt"]])
role = aws.iam.Role("role", assume_role_policy=options["trust"], description="of the trial")
aws.iam.RolePolicy("role-policy", role=role.name, policy=policy)
profile = aws.iam.InstanceProfile("profile", role=role.name if options["whole"] else "nobody")
user = aws.iam.User("user", name="machine-user")
aws.iam.UserPolicy("user-policy", user=user.name, policy=policy)
key = aws.iam.AccessKey("key", user=user.name)
aws.ssm.Parameter("parameter", name="/trial/word", type="SecureString", value=pulumi.Config().require_secret("word"))
group = aws.ec2.SecurityGroup("group", ingress=[{
    "protocol": "tcp", "from_port": 80, "to_port": 80, "cidr_blocks": ["0.0.0.0/0"],
}])
instance = aws.ec2.Instance(
    "instance",
    ami=aws.ssm.get_parameter_output(name="/aws/service/debian/release/12/latest/amd64").value,
    instance_type="t3.micro",
    iam_instance_profile=profile.name,
    vpc_security_group_ids=[group.id],
    user_data=options["user_data"],
    user_data_replace_on_change=True,
    tags={"Name": "trial"},
)
aws.iam.RolePolicyAttachment("attached", role=role.name, policy_arn="arn:aws:iam::aws:policy/ReadOnlyAccess")
aws.ec2.PlacementGroup("apart", strategy="spread")
subnets = aws.ec2.get_subnets_output(filters=[{"name": "default-for-az", "values": ["true"]}])
interface = aws.ec2.NetworkInterface("interface", subnet_id=subnets.ids[0], security_groups=[group.id])
address = aws.ec2.Eip("address", domain="vpc")
aws.ec2.EipAssociation("association", allocation_id=address.id, network_interface_id=interface.id)
aws.ec2transitgateway.InstanceState("power", instance_id=instance.id, state="running")

account = cloudflare.get_accounts_output().results[0].id
site = cloudflare.Zone("site", name="example.net", account={"id": account})
cloudflare.DnsRecord("www", zone_id=site.id, name="www.example.net", type="A", content="198.51.100.10", ttl=60, comment="ours")
cloudflare.ZoneSetting("level", zone_id=site.id, setting_id="security_level", value="high")
groups = cloudflare.get_api_token_permission_groups_list_output(name="DNS Write")
cloudflare.OriginCaCertificate(
    "certificate", csr=os.environ["CSR"], hostnames=[site.name],
    request_type="origin-ecc", requested_validity=7)
policies = [{
    "effect": "allow",
    "permission_groups": [{"id": groups.results[0].id}],
    "resources": site.id.apply(lambda zone: '{"com.cloudflare.api.account.zone.' + zone + '":"*"}'),
}]
token = cloudflare.ApiToken("token", name="machines", policies=policies)
owned = cloudflare.AccountToken("owned", account_id=account, name="machines of the account", policies=policies)

command.local.Command("local", create="echo made >> $LOG", delete="echo unmade >> $LOG", environment={"LOG": options["log"]})
command.remote.Command("remote", connection={"host": "192.0.2.1"}, create=f"echo far >> {options['log']}")
bucket = aws.s3.Bucket("bucket", force_destroy=True)
parts = [
    aws.s3.BucketPublicAccessBlock("shut", bucket=bucket.id, block_public_acls=True, block_public_policy=True),
    aws.s3.BucketServerSideEncryptionConfiguration("encrypted", bucket=bucket.id, rules=[
        {"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}]),
    aws.s3.BucketVersioning("versioned", bucket=bucket.id, versioning_configuration={"status": "Enabled"}),
    aws.s3.BucketPolicy("tls", bucket=bucket.id, policy=bucket.arn.apply(lambda arn: json.dumps({
        "Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": f"{arn}/*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}))),
    aws.s3.BucketLifecycleConfiguration("kept", bucket=bucket.id, rules=[{
        "id": "old", "status": "Enabled", "filter": {"prefix": "releases/"},
        "noncurrent_version_expiration": {"noncurrent_days": 30}}]),
]
aws.s3.BucketObjectv2("object", bucket=bucket.id, key="releases/one", content_base64="b25l",
    opts=pulumi.ResourceOptions(depends_on=parts))
pulumi.export("secret", key.secret)
pulumi.export("token", token.value)
pulumi.export("owned", owned.value)
pulumi.export("word", zone.tags_all)
"""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with on_trial(tmp_path, PROGRAM) as made:
        made.run("config", "set", "--secret", "word", WORD)
        made.environ["CSR"] = request_of(ec.generate_private_key(ec.SECP256R1()))
        yield made


def of_the_stand_ins(resources: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {str(each["type"]) for each in resources.values()}


def test_one_program_with_every_type_from_up_to_destroy(trial: Trial) -> None:
    # What fails half-way is in the state, with the reason, and the next run finishes it.
    assert "nobody" in trial.run("up", "--yes", "--skip-preview", check=False, whole=False)
    (why,) = trial.resources()["profile"]["initErrors"]
    assert "nobody" in why
    trial.up()
    made = trial.resources()
    types = {each.token for name in STAND_INS for each in import_module(f"localcloud.plugins.{name}").PLUGIN.types}
    assert of_the_stand_ins(made) == types
    assert not [name for name, each in made.items() if each.get("initErrors")]
    assert sorted(trial.log) == ["far", "made"]

    assert "unchanged" in trial.run("preview", "--expect-no-changes")
    the_state_holds_no_secret(trial)

    drifts(trial, made)
    shown = trial.run("preview", "--diff")
    for name in ("txt", "role", "group", "power", "parameter", "www", "level", "certificate"):
        assert f"::{name}]" in shown, shown
    assert "path=/by-hand" in shown
    trial.up()
    assert "198.51.100.10" in {each.content for each in trial.site.api.dns.records.list(zone_id=made["site"]["id"])}
    assert "unchanged" in trial.run("preview", "--expect-no-changes")

    # A replacement: the new one first, then the old one goes, and what depends on it follows.
    before = made["instance"]["id"]
    trial.up(user_data="#!/bin/sh\n: other\n")
    after = trial.resources()["instance"]["id"]
    assert (after != before, trial.resources()["power"]["id"]) == (True, after)

    imports(trial, made)
    # Nothing in the state says that what was imported lies in the zones, so a destroy of all might begin with the zones.
    lies_in = [word for name in ("aws", "clo") for word in ("--target", str(trial.resources()[name]["urn"]))]
    trial.run("destroy", "--yes", "--skip-preview", *lies_in)
    trial.run("destroy", "--yes", "--skip-preview")
    assert trial.resources() == {}
    assert sorted(trial.log) == ["far", "made", "unmade"]
    nothing_is_left(trial, after)


def the_state_holds_no_secret(trial: Trial) -> None:
    shown = json.loads(trial.run("stack", "output", "--json", "--show-secrets"))
    state = (trial.folder / "backend/.pulumi/stacks/trial/trial.json").read_text()
    assert not [name for name in ("secret", "token", "owned") if shown[name] in state]
    assert WORD not in state
    assert trial.resources()["key"]["id"] in state


def drifts(trial: Trial, made: Mapping[str, Any]) -> None:
    """Change one resource of most kinds as another user does."""
    route53, iam, ec2 = (trial.aws.client(name) for name in ("route53", "iam", "ec2"))
    record = {
        "Name": "_x._tcp.unilans.net",
        "Type": "TXT",
        "TTL": 60,
        "ResourceRecords": [{"Value": '"path=/by-hand"'}],
    }
    route53.change_resource_record_sets(
        HostedZoneId=made["zone"]["id"], ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    )
    iam.update_role(RoleName=made["role"]["id"], Description="by hand")
    ec2.authorize_security_group_ingress(
        GroupId=made["group"]["id"],
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
    )
    ec2.stop_instances(InstanceIds=[made["instance"]["id"]])
    trial.aws.client("ssm").put_parameter(Name="/trial/word", Value="by hand", Type="SecureString", Overwrite=True)
    site = made["site"]["id"]
    trial.site.api.dns.records.edit(
        zone_id=site, dns_record_id=made["www"]["id"], type="A", name="www.example.net", content="198.51.100.99", ttl=60
    )
    trial.site.api.zones.settings.edit(zone_id=site, setting_id="security_level", value="low")
    trial.site.api.origin_ca_certificates.delete(made["certificate"]["id"])


def imports(trial: Trial, made: Mapping[str, Any]) -> None:
    """What was made by hand comes into the state, a Cloudflare record under the id that the cloud has for it."""
    site, zone = made["site"]["id"], made["zone"]["id"]
    there = trial.site.api.dns.records.create(
        zone_id=site, type="A", name="hand.example.net", content="198.51.100.44", ttl=60
    )
    record = {"Name": "hand.unilans.net", "Type": "A", "TTL": 60, "ResourceRecords": [{"Value": "198.51.100.44"}]}
    trial.aws.client("route53").change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": record}]}
    )
    wanted = {
        "aws:route53/record:Record": f"{zone}_hand.unilans.net_A",
        "cloudflare:index/dnsRecord:DnsRecord": f"{site}/{there.id}",
    }
    for token, identity in wanted.items():
        trial.run(
            "import", token, token[:3], identity, "--yes", "--protect=false", "--generate-code=false", "--skip-preview"
        )
    resources = trial.resources()
    assert resources["aws"]["inputs"]["records"] == ["198.51.100.44"]
    assert (resources["clo"]["id"], resources["clo"]["inputs"]["content"]) == (there.id, "198.51.100.44")


def nothing_is_left(trial: Trial, instance: str) -> None:
    iam = trial.aws.client("iam")
    assert trial.aws.client("route53").list_hosted_zones()["HostedZones"] == []
    assert (iam.list_users()["Users"], iam.list_roles()["Roles"], iam.list_instance_profiles()["InstanceProfiles"]) == (
        [],
        [],
        [],
    )
    assert trial.aws.describe(instance)["State"]["Name"] == "terminated"
    groups = trial.aws.client("ec2").describe_security_groups()["SecurityGroups"]
    assert {each["GroupName"] for each in groups} == {"default"}
    assert "example.net" not in [each.name for each in trial.site.api.zones.list()]
    assert "machines" not in [each.name for each in trial.site.api.user.tokens.list()]
    owned = [
        each.name
        for each in trial.site.api.accounts.tokens.list(account_id=trial.site.api.accounts.list().result[0].id)
    ]
    assert owned == []
