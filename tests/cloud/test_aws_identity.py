"""Who may do what in the local AWS, through boto3."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import OPERATOR, Cloud, allow, running

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"
CHANGE = "route53:ChangeResourceRecordSets"
CALLS: dict[str, Callable[[Any], Any]] = {
    "ec2": lambda client: client.describe_instances(),
    "iam": lambda client: client.list_roles(),
    "ssm": lambda client: client.describe_parameters(),
    "sts": lambda client: client.get_caller_identity(),
    "route53": lambda client: client.list_hosted_zones(),
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Cloud]:
    with running() as cloud:
        yield cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def refusal(act: Callable[[], Any]) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        act()
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


@pytest.mark.parametrize(
    ("service", "unknown", "wrong", "late"),
    [
        ("ec2", ("AuthFailure", 401), ("SignatureDoesNotMatch", 403), ("RequestExpired", 400)),
        ("iam", ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403), ("SignatureDoesNotMatch", 403)),
        (
            "ssm",
            ("UnrecognizedClientException", 400),
            ("InvalidSignatureException", 400),
            ("InvalidSignatureException", 400),
        ),
        ("sts", ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403), ("SignatureDoesNotMatch", 403)),
        ("route53", ("InvalidClientTokenId", 403), ("SignatureDoesNotMatch", 403), ("SignatureDoesNotMatch", 403)),
    ],
)
def test_each_service_refuses_a_wrong_signature_in_its_own_words(
    shared: Cloud, service: str, unknown: tuple[str, int], wrong: tuple[str, int], late: tuple[str, int]
) -> None:
    act = CALLS[service]
    assert act(shared.client(service))["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert refusal(lambda: act(shared.client(service, ("AKIANOBODY0000000001", "x"))))[:2] == unknown
    assert refusal(lambda: act(shared.client(service, (OPERATOR[0], "wrong"))))[:2] == wrong
    shared.clock.ahead = 400.0
    try:
        assert refusal(lambda: act(shared.client(service)))[:2] == late
    finally:
        shared.clock.ahead = 0.0


def test_an_unsigned_request_and_a_foreign_region_or_service_are_refused(shared: Cloud) -> None:
    unsigned = boto3.client(
        "route53", region_name="us-west-2", endpoint_url=shared.url, config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError, match="Missing"):
        unsigned.list_hosted_zones()
    unsigned.close()
    code, status, message = refusal(lambda: shared.client("ec2", region="ap-south-1").describe_instances())
    assert (code, status) == ("SignatureDoesNotMatch", 403) and "ap-south-1" in message
    assert shared.client("route53", region="us-east-1").list_hosted_zones()["HostedZones"] == []
    assert refusal(lambda: shared.client("sqs").list_queues())[1] == 501
    assert requests.get(shared.url, timeout=5).status_code == 403


@pytest.mark.parametrize(
    ("service", "throttled"),
    [
        ("ec2", ("RequestLimitExceeded", 503)),
        ("iam", ("Throttling", 400)),
        ("ssm", ("ThrottlingException", 400)),
        ("sts", ("Throttling", 400)),
        ("route53", ("Throttling", 400)),
    ],
)
def test_a_fault_hits_its_service_only_and_in_its_own_words(
    shared: Cloud, service: str, throttled: tuple[str, int]
) -> None:
    shared.faults.add(f"{service} throttle")
    try:
        assert refusal(lambda: CALLS[service](shared.client(service)))[:2] == throttled
        other = next(each for each in CALLS if each != service)
        CALLS[other](shared.client(other))
    finally:
        shared.faults.clear()


def test_a_body_changed_on_the_way_is_noticed(shared: Cloud) -> None:
    client = shared.client("iam")

    def tamper(request: Any, **_: Any) -> None:
        request.body = request.body.replace("mine", "evil")

    client.meta.events.register("before-send.iam.CreateUser", tamper)
    assert refusal(lambda: client.create_user(UserName="mine"))[0] == "SignatureDoesNotMatch"


class TestUsers:
    def user(self, cloud: Cloud, name: str, policy: dict[str, Any] | None = None) -> tuple[str, str]:
        iam = cloud.client("iam")
        iam.create_user(UserName=name)
        if policy is not None:
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=json.dumps(policy))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def test_a_users_key_works_until_it_is_switched_off(self, cloud: Cloud) -> None:
        key = self.user(cloud, "joyent")
        caller = cloud.client("sts", key).get_caller_identity()
        assert (
            caller["Arn"] == f"arn:aws:iam::{cloud.aws.account}:user/joyent" and caller["Account"] == cloud.aws.account
        )
        cloud.client("iam").update_access_key(UserName="joyent", AccessKeyId=key[0], Status="Inactive")
        assert refusal(lambda: cloud.client("sts", key).get_caller_identity())[0] == "InvalidClientTokenId"

    def test_a_user_may_do_only_what_its_policies_allow(self, cloud: Cloud) -> None:
        zone = cloud.aws.add_zone(ZONE)
        key = self.user(
            cloud, "reader", allow("route53:ListResourceRecordSets", f"arn:aws:route53:::hostedzone/{zone}")
        )
        route53 = cloud.client("route53", key)
        assert route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        code, status, message = refusal(lambda: route53.list_hosted_zones())
        assert (code, status) == ("AccessDenied", 403)
        assert message == (
            f"User: arn:aws:iam::{cloud.aws.account}:user/reader is not authorized to perform: route53:ListHostedZones on "
            "resource: * because no identity-based policy allows the route53:ListHostedZones action"
        )

    def test_an_attached_policy_counts_and_an_explicit_deny_wins(self, cloud: Cloud) -> None:
        key = self.user(cloud, "ann", allow("*"))
        assert cloud.client("iam", key).list_roles()["Roles"] == []
        deny = {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}}
        made = cloud.client("iam").create_policy(PolicyName="no-iam", PolicyDocument=json.dumps(deny))["Policy"]["Arn"]
        cloud.client("iam").attach_user_policy(UserName="ann", PolicyArn=made)
        code, _, message = refusal(lambda: cloud.client("iam", key).list_roles())
        assert code == "AccessDenied" and message.endswith("with an explicit deny in an identity-based policy")

    def test_a_groups_policy_counts_for_its_users(self, cloud: Cloud) -> None:
        key, iam = self.user(cloud, "bob"), cloud.client("iam")
        assert refusal(lambda: cloud.client("iam", key).list_roles())[0] == "AccessDenied"
        iam.create_group(GroupName="readers")
        iam.put_group_policy(GroupName="readers", PolicyName="own", PolicyDocument=json.dumps(allow("iam:List*")))
        iam.add_user_to_group(GroupName="readers", UserName="bob")
        assert cloud.client("iam", key).list_roles()["Roles"] == []

    def test_ec2_says_unauthorized_in_its_own_code(self, cloud: Cloud) -> None:
        instance = cloud.run(TagSpecifications=[tags("instance", team="web")])[0]
        key = self.user(cloud, "ops", allow("ec2:StopInstances", StringEquals={"aws:ResourceTag/team": "web"}))
        ec2 = cloud.client("ec2", key)
        code, status, message = refusal(lambda: ec2.terminate_instances(InstanceIds=[instance]))
        assert (
            (code, status) == ("UnauthorizedOperation", 403)
            and "ec2:TerminateInstances" in message
            and instance in message
        )
        assert ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]["CurrentState"]["Name"] == "stopping"
        other = cloud.run()[0]
        assert refusal(lambda: ec2.stop_instances(InstanceIds=[other]))[0] == "UnauthorizedOperation"


def tags(kind: str, **pairs: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in pairs.items()]}


class TestInstanceRoles:
    def test_a_machine_acts_as_its_role(self, cloud: Cloud) -> None:
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web")})[0]
        caller = cloud.client("sts", cloud.credentials(instance)).get_caller_identity()
        assert caller["Arn"] == f"arn:aws:sts::{cloud.aws.account}:assumed-role/web/{instance}"
        assert caller["UserId"].endswith(f":{instance}")

    def test_the_token_belongs_to_the_key(self, cloud: Cloud) -> None:
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web")})[0]
        key = cloud.credentials(instance)
        for broken in ((key[0], key[1]), (key[0], key[1], "x")):
            assert refusal(cloud.client("sts", broken).get_caller_identity)[0] == ("InvalidClientTokenId")

    def test_credentials_are_renewed_in_time_and_refused_after_they_expire(self, cloud: Cloud) -> None:
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web")})[0]
        first = cloud.credentials(instance)
        cloud.clock.ahead = 21600 - 1000
        assert cloud.credentials(instance) == first
        cloud.clock.ahead = 21600 - 800
        second = cloud.credentials(instance)
        assert second[0] != first[0]
        cloud.clock.ahead = 0.0
        assert cloud.client("sts", first).get_caller_identity()["Account"] == cloud.aws.account
        sts, ssm = cloud.client("sts", first), cloud.client("ssm", first)
        # The client signs with its own time, so the server's moves on by what a session lives.
        sessions = cloud.aws._identities._sessions
        sessions._issued[first[0]] = type(sessions._issued[first[0]])(
            **{**vars(sessions._issued[first[0]]), "expires": cloud.clock() - 1}
        )
        assert refusal(sts.get_caller_identity)[:2] == ("ExpiredToken", 403)
        assert refusal(lambda: ssm.get_parameter(Name="x"))[:2] == ("ExpiredTokenException", 400)
        assert cloud.client("sts", second).get_caller_identity()["Account"] == cloud.aws.account

    def test_a_deleted_roles_credentials_are_dead(self, cloud: Cloud) -> None:
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web")})[0]
        key, iam = cloud.credentials(instance), cloud.client("iam")
        iam.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web")
        iam.delete_role(RoleName="web")
        assert refusal(lambda: cloud.client("sts", key).get_caller_identity())[0] == "InvalidClientTokenId"

    def test_a_permissions_boundary_limits_what_the_policies_allow(self, cloud: Cloud) -> None:
        iam = cloud.client("iam")
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web", allow("*"))})[0]
        key = cloud.credentials(instance)
        assert cloud.client("iam", key).list_roles()["Roles"]
        made = iam.create_policy(PolicyName="edge", PolicyDocument=json.dumps(allow("ssm:*")))["Policy"]["Arn"]
        iam.put_role_permissions_boundary(RoleName="web", PermissionsBoundary=made)
        code, _, message = refusal(lambda: cloud.client("iam", key).list_roles())
        assert code == "AccessDenied" and "no permissions boundary allows" in message

    def test_a_parameter_is_read_only_with_permission(self, cloud: Cloud) -> None:
        ssm = cloud.client("ssm")
        for name in ("/rollcall/local/site", "/rollcall/local/other"):
            ssm.put_parameter(Name=name, Type="SecureString", Value=f"secret of {name}")
        arn = f"arn:aws:ssm:us-west-2:{cloud.aws.account}:parameter/rollcall/local/site"
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("web", allow("ssm:GetParameter", arn))})[0]
        mine = cloud.client("ssm", cloud.credentials(instance))
        found = mine.get_parameter(Name="/rollcall/local/site", WithDecryption=True)["Parameter"]["Value"]
        assert found == "secret of /rollcall/local/site"
        code, status, message = refusal(lambda: mine.get_parameter(Name="/rollcall/local/other", WithDecryption=True))
        assert (code, status) == ("AccessDeniedException", 400)
        assert f"assumed-role/web/{instance}" in message and "ssm:GetParameter on resource: " in message
        assert refusal(lambda: mine.get_parameters(Names=["/rollcall/local/site"]))[0] == "AccessDeniedException"


class TestRoute53Conditions:
    """The policy that issue 5's registrar writes: two statements over normalized names, types and actions."""

    def machine(self, cloud: Cloud, zone: str) -> Any:
        def keys(name: str) -> str:
            return f"{CHANGE}{name}"

        def one(names: str, values: list[str], types: list[str], operator: str) -> dict[str, Any]:
            return {
                "Effect": "Allow",
                "Action": CHANGE,
                "Resource": f"arn:aws:route53:::hostedzone/{zone}",
                "Condition": {
                    f"ForAllValues:{operator}": {keys(names): values},
                    "ForAllValues:StringEquals": {keys("RecordTypes"): types, keys("Actions"): ["CREATE", "DELETE"]},
                    "Null": {keys(each): "false" for each in (names, "RecordTypes", "Actions")},
                },
            }

        hosts = one("NormalizedRecordNames", [f"*.rc.{ZONE}"], ["A", "AAAA", "TXT"], "StringLike")
        services = one("NormalizedRecordNames", [f"v1._theservice._tcp.{ZONE}"], ["SRV"], "StringLike")
        policy = {"Version": "2012-10-17", "Statement": [hosts, services]}
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("api", policy)})[0]
        return cloud.client("route53", cloud.credentials(instance))

    def test_exactly_what_a_machine_needs_is_allowed(self, cloud: Cloud) -> None:
        zone, other = cloud.aws.add_zone(ZONE), cloud.aws.add_zone("example.com")
        route53 = self.machine(cloud, zone)
        change(route53, zone, ("CREATE", f"0a1b2c.rc.{ZONE}", "A", "198.51.100.10"))
        change(route53, zone, ("CREATE", f"v1._theService._tcp.{ZONE}.", "SRV", f"10 10 4218 0a1b2c.rc.{ZONE}"))
        refused: list[tuple[str, tuple[str, str, str, str]]] = [
            (other, ("CREATE", "a.rc.example.com", "A", "198.51.100.10")),
            (zone, ("CREATE", f"www.{ZONE}", "A", "198.51.100.10")),
            (zone, ("CREATE", f"0a1b2d.rc.{ZONE}", "CNAME", "elsewhere.example")),
            (zone, ("CREATE", f"v2._theService._tcp.{ZONE}", "SRV", f"10 10 4218 0a1b2c.rc.{ZONE}")),
            (zone, ("CREATE", f"v1._theService._tcp.{ZONE}", "TXT", '"path=/"')),
            (zone, ("UPSERT", f"v1._theService._tcp.{ZONE}", "SRV", f"10 10 4218 0a1b2c.rc.{ZONE}")),
            (zone, ("CREATE", f"*.{ZONE}", "A", "198.51.100.10")),
        ]
        for where, what in refused:
            code, status, message = refusal(functools.partial(change, route53, where, what))
            assert (code, status) == ("AccessDenied", 403), what
            assert f"{CHANGE} on resource: arn:aws:route53:::hostedzone/{where}" in message
        # One batch over both statements is allowed by neither.
        both = [
            ("DELETE", f"0a1b2c.rc.{ZONE}", "A", "198.51.100.10"),
            ("DELETE", f"v1._theService._tcp.{ZONE}", "SRV", f"10 10 4218 0a1b2c.rc.{ZONE}"),
        ]
        assert refusal(lambda: change(route53, zone, *both))[0] == "AccessDenied"
        for each in both:
            change(route53, zone, each)
        assert cloud.aws.lookup(ZONE, f"0a1b2c.rc.{ZONE}") is None

    def test_a_condition_written_with_capitals_matches_nothing(self, cloud: Cloud) -> None:
        zone = cloud.aws.add_zone(ZONE)
        names = {f"{CHANGE}NormalizedRecordNames": [f"v1._theService._tcp.{ZONE}"]}
        policy = allow(CHANGE, "*", **{"ForAllValues:StringLike": names})
        instance = cloud.run(IamInstanceProfile={"Name": cloud.role("api", policy)})[0]
        route53 = cloud.client("route53", cloud.credentials(instance))
        wanted = ("CREATE", f"v1._theService._tcp.{ZONE}", "SRV", f"10 10 4218 a.{ZONE}")
        assert refusal(lambda: change(route53, zone, wanted))[0] == "AccessDenied"


def change(client: Any, zone: str, *changes: tuple[str, str, str, str], ttl: int = 30) -> Any:
    """Changes of (action, name, type, one value)."""
    return client.change_resource_record_sets(
        HostedZoneId=zone,
        ChangeBatch={
            "Changes": [
                {
                    "Action": action,
                    "ResourceRecordSet": {
                        "Name": name,
                        "Type": kind,
                        "TTL": ttl,
                        "ResourceRecords": [{"Value": value}],
                    },
                }
                for action, name, kind, value in changes
            ]
        },
    )


def test_a_role_is_assumed_by_whom_it_trusts(cloud: Cloud) -> None:
    iam, account = cloud.client("iam"), cloud.aws.account
    trust = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
            "Action": "sts:AssumeRole",
        },
    }
    iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=json.dumps(trust))
    cloud.role("web")
    arn = f"arn:aws:iam::{account}:role"
    made = cloud.client("sts").assume_role(RoleArn=f"{arn}/deploy", RoleSessionName="me")["Credentials"]
    key = (made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
    assert cloud.client("sts", key).get_caller_identity()["Arn"].endswith(":assumed-role/deploy/me")
    sts = cloud.client("sts")
    assert refusal(lambda: sts.assume_role(RoleArn=f"{arn}/web", RoleSessionName="me"))[0] == "AccessDenied"
