"""The stand-in for the AWS plugin against the local AWS: each type from its creation to its import."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from localcloud.plugins.aws import PLUGIN, Aws, ec2
from localcloud.plugins.aws.iam import smtp_password
from localcloud.plugins.values import received
from tests.cloud.aws_cloud import OPERATOR, TRUST, Cloud, allow, debian, image, running, until
from tests.plugin_host import Host, RefusedError, Resource, hosted, secrets_in

pytestmark = pytest.mark.clouds
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
CLOSED = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
POLICY = json.dumps(allow("route53:ListHostedZones"))
OTHER_POLICY = json.dumps(allow("route53:GetChange"))


class Lab:
    """The cloud, a host of the plugin on it, and what some types need before they can be made."""

    def __init__(self, cloud: Cloud, host: Host) -> None:
        self.cloud, self.host = cloud, host
        self.iam, self.ec2 = cloud.client("iam"), cloud.client("ec2")
        self.route53, self.ssm, self.s3 = (cloud.client(each) for each in ("route53", "ssm", "s3"))
        for bucket in ("there-before", "another-bucket"):
            here = {"LocationConstraint": "us-west-2"}
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=here)
        self.debian, self.ubuntu = debian(cloud), image(cloud, UBUNTU)
        self.role = cloud.role("there-before")
        cloud.role("another-profile")
        self.iam.create_role(RoleName="another", AssumeRolePolicyDocument=TRUST)
        for user in ("ann", "bob"):
            self.iam.create_user(UserName=user)
        self.zone = cloud.aws.add_zone("unilans.net")
        self.instance, self.sought = self.run(), self.run()
        self.ec2.create_tags(Resources=[self.sought], Tags=[{"Key": "kind", "Value": "sought"}])

    def run(self) -> str:
        made = self.ec2.run_instances(MinCount=1, MaxCount=1, ImageId=self.debian, InstanceType="t3.micro")
        identity = str(made["Instances"][0]["InstanceId"])
        self.settled(identity, "running")
        return identity

    def state(self, identity: str) -> str:
        return str(self.cloud.describe(identity)["State"]["Name"])

    def settled(self, identity: str, state: str) -> str:
        assert until(lambda: self.state(identity) == state), self.state(identity)
        return state

    def record(self, name: str, kind: str) -> dict[str, Any] | None:
        found = self.route53.list_resource_record_sets(
            HostedZoneId=self.zone, StartRecordName=name, StartRecordType=kind, MaxItems="1"
        )["ResourceRecordSets"]
        same = [each for each in found if (each["Name"], each["Type"]) == (f"{name}.", kind)]
        return same[0] if same else None

    def upsert(self, name: str, kind: str, ttl: int, *values: str) -> None:
        records = [{"Value": value} for value in values]
        made = {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": records}
        change = {"Action": "UPSERT", "ResourceRecordSet": made}
        self.route53.change_resource_record_sets(HostedZoneId=self.zone, ChangeBatch={"Changes": [change]})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    options = {"hypervisor": InstantHypervisor(), "route53_limits": UNLIMITED}
    with pytest.MonkeyPatch.context() as patch, running(**options) as cloud, hosted(Aws()) as host:
        patch.setenv("AWS_ENDPOINT_URL", cloud.url)
        patch.setenv("AWS_ACCESS_KEY_ID", OPERATOR[0])
        patch.setenv("AWS_SECRET_ACCESS_KEY", OPERATOR[1])
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr("localcloud.plugins.aws.ec2._POLL", 0.05)
        host.configure(region="us-west-2")
        yield Lab(cloud, host)


@dataclass(frozen=True, kw_only=True)
class Case:
    """`inputs` may be functions of the lab. `changed` is changed in place, each of `replaced` makes a new resource.

    `seen` is what the cloud has of the resource, as boto3 shows it; `drift` changes it there, and then a refresh must show the
    inputs `drifted`. `identity` is the id's form. `unread` are inputs that the cloud does not tell an import.
    """

    token: str
    inputs: Mapping[str, Any]
    changed: Mapping[str, Any]
    replaced: Mapping[str, Any]
    identity: str
    seen: Callable[[Lab, Resource], Any]
    first: Any
    then: Any
    drift: Callable[[Lab, Resource], Any]
    drifted: Mapping[str, Any]
    outputs: tuple[str, ...] = ("arn",)
    unread: tuple[str, ...] = ()
    stays: bool = False
    found: Callable[[Lab], Any] = field(default=lambda lab: None)


def rule(port: int) -> dict[str, Any]:
    return {
        "protocol": "tcp",
        "fromPort": port,
        "toPort": port,
        "cidrBlocks": ["0.0.0.0/0"],
        "ipv6CidrBlocks": ["::/0"],
    }


def bucket_policy(action: str) -> str:
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "arn:aws:s3:::there-before/none"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, sort_keys=True)


def lifecycle(days: int) -> list[dict[str, Any]]:
    return [
        {
            "id": "old",
            "status": "Enabled",
            "filter": {"prefix": "releases/"},
            "noncurrentVersionExpiration": {"noncurrentDays": days},
            "abortIncompleteMultipartUpload": {"daysAfterInitiation": 1},
        }
    ]


def encryption(algorithm: str) -> list[dict[str, Any]]:
    return [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": algorithm}}]


def days(lab: Lab, made: Resource) -> list[int]:
    rules = lab.s3.get_bucket_lifecycle_configuration(Bucket=made.id)["Rules"]
    return [each["NoncurrentVersionExpiration"]["NoncurrentDays"] for each in rules]


def algorithm(lab: Lab, made: Resource) -> str:
    (rule,) = lab.s3.get_bucket_encryption(Bucket=made.id)["ServerSideEncryptionConfiguration"]["Rules"]
    return str(rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"])


def tags(found: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in found}


def group(lab: Lab, made: Resource) -> Any:
    return lab.ec2.describe_security_groups(GroupIds=[made.id])["SecurityGroups"][0]


def instance(lab: Lab, made: Resource) -> Any:
    found = lab.cloud.describe(made.id)
    profile = found["IamInstanceProfile"]["Arn"].rpartition("/")[2]
    return (
        found["InstanceType"],
        found["State"]["Name"],
        tags(found["Tags"]),
        found["MetadataOptions"]["HttpTokens"],
        profile,
    )


def placement_group(lab: Lab, made: Resource) -> Any:
    return lab.ec2.describe_placement_groups(GroupNames=[made.id])["PlacementGroups"][0]


def role(lab: Lab, made: Resource) -> Any:
    found = lab.iam.get_role(RoleName=made.id)["Role"]
    boundary = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    return found.get("Description", ""), found["MaxSessionDuration"], tags(found.get("Tags", ())), boundary


def profile(lab: Lab, made: Resource) -> Any:
    found = lab.iam.get_instance_profile(InstanceProfileName=made.id)["InstanceProfile"]
    return [each["RoleName"] for each in found["Roles"]], tags(found.get("Tags", ()))


def user(lab: Lab, made: Resource) -> Any:
    found = lab.iam.get_user(UserName=made.outputs["name"])["User"]
    return found["Path"], tags(found.get("Tags", ()))


def zone(lab: Lab, made: Resource) -> Any:
    found = lab.route53.get_hosted_zone(Id=made.id)["HostedZone"]
    tag_list = lab.route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=made.id)["ResourceTagSet"][
        "Tags"
    ]
    return found["Name"], found["Config"].get("Comment"), tags(tag_list)


def key_of(user: str) -> Callable[[Lab, Resource], Any]:
    def seen(lab: Lab, made: Resource) -> Any:
        keys = lab.iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
        return [each["Status"] for each in keys if each["AccessKeyId"] == made.id]

    return seen


def parameter(lab: Lab, made: Resource) -> Any:
    found = lab.ssm.get_parameter(Name=made.id, WithDecryption=True)["Parameter"]
    tag_list = lab.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=made.id)["TagList"]
    return found["Type"], found["Value"], tags(tag_list)


BOUNDARY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
CASES = {
    "security group": Case(
        token="aws:ec2/securityGroup:SecurityGroup",
        inputs={
            "name": "web", "description": "the web", "ingress": [rule(80), rule(443)], "tags": {"a": "1", "b": "2"},
            "egress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, "cidrBlocks": ["0.0.0.0/0"]}],
        },
        changed={"ingress": [rule(443), rule(8080)], "tags": {"a": "9"}},
        replaced={"name": "other", "description": "another", "vpcId": "vpc-00000000"},
        identity="sg-[0-9a-f]+",
        outputs=("arn", "ownerId"),
        seen=lambda lab, made: (
            sorted(each["FromPort"] for each in group(lab, made)["IpPermissions"]), tags(group(lab, made)["Tags"]),
        ),
        first=([80, 443], {"a": "1", "b": "2"}),
        then=([443, 8080], {"a": "9"}),
        drift=lambda lab, made: lab.ec2.revoke_security_group_egress(
            GroupId=made.id, IpPermissions=group(lab, made)["IpPermissionsEgress"]
        ),
        drifted={"egress": []},
    ),
    "instance": Case(
        token="aws:ec2/instance:Instance",
        inputs={
            "ami": lambda lab: lab.debian, "instanceType": "t3.micro", "tags": {"Name": "web"},
            "metadataOptions": {"httpTokens": "required"}, "userDataReplaceOnChange": True, "userData": "#!/bin/sh\n",
            "iamInstanceProfile": lambda lab: lab.role,
        },
        changed={
            "iamInstanceProfile": "another-profile", "instanceInitiatedShutdownBehavior": "terminate",
            "instanceType": "t3.small", "tags": {"Name": "web", "drain": "1"}, "metadataOptions": {"httpTokens": "optional"},
        },
        replaced={
            "ami": lambda lab: lab.ubuntu, "userData": "#!/bin/sh\n:", "keyName": "a-key", "availabilityZone": "us-west-2b",
        },
        identity="i-[0-9a-f]{17}",
        outputs=("arn", "publicIp", "privateIp", "instanceState", "availabilityZone"),
        seen=instance,
        first=("t3.micro", "running", {"Name": "web"}, "required", "there-before"),
        then=("t3.small", "running", {"Name": "web", "drain": "1"}, "optional", "another-profile"),
        drift=lambda lab, made: lab.ec2.delete_tags(Resources=[made.id], Tags=[{"Key": "Name"}]),
        drifted={"tags": {"drain": "1"}},
        unread=("userData", "userDataReplaceOnChange"),
    ),
    "placement group": Case(
        token="aws:ec2/placementGroup:PlacementGroup",
        inputs={"name": "apart", "strategy": "spread", "tags": {"a": "1"}},
        changed={"tags": {"a": "2"}},
        replaced={"name": "other", "strategy": "partition"},
        identity="apart",
        outputs=("arn", "placementGroupId"),
        seen=lambda lab, made: (placement_group(lab, made)["Strategy"], tags(placement_group(lab, made)["Tags"])),
        first=("spread", {"a": "1"}),
        then=("spread", {"a": "2"}),
        drift=lambda lab, made: lab.ec2.delete_tags(Resources=[made.outputs["placementGroupId"]], Tags=[{"Key": "a"}]),
        drifted={"tags": {}},
    ),
    "elastic address": Case(
        token="aws:ec2/eip:Eip",
        inputs={"domain": "vpc", "tags": {"a": "1"}},
        changed={"tags": {"a": "2"}},
        replaced={"address": "198.51.100.77", "domain": "standard"},
        identity="eipalloc-[0-9a-f]+",
        outputs=("publicIp", "allocationId"),
        seen=lambda lab, made: tags(lab.ec2.describe_addresses(AllocationIds=[made.id])["Addresses"][0]["Tags"]),
        first={"a": "1"},
        then={"a": "2"},
        drift=lambda lab, made: lab.ec2.delete_tags(Resources=[made.id], Tags=[{"Key": "a"}]),
        drifted={"tags": {}},
    ),
    "network interface": Case(
        token="aws:ec2/networkInterface:NetworkInterface",
        inputs={
            "subnetId": lambda lab: lab.ec2.describe_subnets()["Subnets"][0]["SubnetId"], "description": "web-0",
            "tags": {"a": "1"},
        },
        changed={"tags": {"a": "2"}},
        replaced={"subnetId": "subnet-00000000"},
        identity="eni-[0-9a-f]+",
        outputs=("privateIp", "macAddress"),
        seen=lambda lab, made: tags(lab.ec2.describe_network_interfaces(NetworkInterfaceIds=[made.id])["NetworkInterfaces"][0]["TagSet"]),
        first={"a": "1"},
        then={"a": "2"},
        drift=lambda lab, made: lab.ec2.delete_tags(Resources=[made.id], Tags=[{"Key": "a"}]),
        drifted={"tags": {}},
    ),
    "power": Case(
        token="aws:ec2transitgateway/instanceState:InstanceState",
        inputs={"instanceId": lambda lab: lab.instance, "state": "stopped"},
        changed={"state": "running"},
        replaced={"instanceId": "i-0123456789abcdef0"},
        identity="i-[0-9a-f]{17}",
        outputs=("instanceId", "state"),
        seen=lambda lab, made: lab.state(made.id),
        first="stopped",
        then="running",
        drift=lambda lab, made: (lab.ec2.stop_instances(InstanceIds=[made.id]), lab.settled(made.id, "stopped")),
        drifted={"state": "stopped"},
        stays=True,
    ),
    "role": Case(
        token="aws:iam/role:Role",
        inputs={"name": "web", "assumeRolePolicy": TRUST, "description": "of the web", "tags": {"a": "1", "b": "2"}},
        changed={"description": "of all", "maxSessionDuration": 7200, "tags": {"a": "2"}, "permissionsBoundary": BOUNDARY},
        replaced={"name": "other", "path": "/deep/"},
        identity="web",
        outputs=("arn", "uniqueId", "createDate"),
        seen=role,
        first=("of the web", 3600, {"a": "1", "b": "2"}, None),
        then=("of all", 7200, {"a": "2"}, BOUNDARY),
        drift=lambda lab, made: lab.iam.delete_role_permissions_boundary(RoleName=made.id),
        drifted={"permissionsBoundary": None},
    ),
    "role policy": Case(
        token="aws:iam/rolePolicy:RolePolicy",
        inputs={"name": "mine", "role": lambda lab: lab.role, "policy": POLICY},
        changed={"policy": OTHER_POLICY},
        replaced={"name": "other", "role": "another"},
        identity="there-before:mine",
        outputs=("policy",),
        seen=lambda lab, made: lab.iam.get_role_policy(RoleName="there-before", PolicyName="mine")["PolicyDocument"],
        first=json.loads(POLICY),
        then=json.loads(OTHER_POLICY),
        drift=lambda lab, made: lab.iam.put_role_policy(
            RoleName="there-before", PolicyName="mine", PolicyDocument=POLICY
        ),
        drifted={"policy": json.loads(POLICY)},
    ),
    "instance profile": Case(
        token="aws:iam/instanceProfile:InstanceProfile",
        inputs={"name": "web", "role": lambda lab: lab.role, "tags": {"a": "1", "b": "2"}},
        changed={"role": "another", "tags": {"b": "3"}},
        replaced={"name": "other", "path": "/deep/"},
        identity="web",
        outputs=("arn", "uniqueId"),
        seen=profile,
        first=(["there-before"], {"a": "1", "b": "2"}),
        then=(["another"], {"b": "3"}),
        drift=lambda lab, made: lab.iam.remove_role_from_instance_profile(
            InstanceProfileName=made.id, RoleName="another"
        ),
        drifted={"role": None},
    ),
    "user": Case(
        token="aws:iam/user:User",
        inputs={"name": "carol", "tags": {"a": "1", "b": "2"}},
        changed={"name": "caroline", "path": "/deep/", "tags": {"b": "3"}},
        replaced={},
        identity="carol",
        outputs=("arn", "uniqueId"),
        seen=user,
        first=("/", {"a": "1", "b": "2"}),
        then=("/deep/", {"b": "3"}),
        drift=lambda lab, made: lab.iam.untag_user(UserName="caroline", TagKeys=["b"]),
        drifted={"tags": None},
    ),
    "user policy": Case(
        token="aws:iam/userPolicy:UserPolicy",
        inputs={"name": "mine", "user": "ann", "policy": POLICY},
        changed={"policy": OTHER_POLICY},
        replaced={"name": "other", "user": "bob"},
        identity="ann:mine",
        outputs=("policy",),
        seen=lambda lab, made: lab.iam.get_user_policy(UserName="ann", PolicyName="mine")["PolicyDocument"],
        first=json.loads(POLICY),
        then=json.loads(OTHER_POLICY),
        drift=lambda lab, made: lab.iam.put_user_policy(UserName="ann", PolicyName="mine", PolicyDocument=POLICY),
        drifted={"policy": json.loads(POLICY)},
    ),
    "access key": Case(
        token="aws:iam/accessKey:AccessKey",
        inputs={"user": "ann"},
        changed={"status": "Inactive"},
        replaced={"user": "bob"},
        identity="AKIA[0-9A-Z]{16}",
        outputs=("secret", "sesSmtpPasswordV4", "createDate", "status"),
        seen=key_of("ann"),
        first=["Active"],
        then=["Inactive"],
        drift=lambda lab, made: lab.iam.update_access_key(UserName="ann", AccessKeyId=made.id, Status="Active"),
        drifted={"status": "Active"},
    ),
    "zone": Case(
        token="aws:route53/zone:Zone",
        inputs={"name": "Example.net.", "tags": {"a": "1", "b": "2"}},
        changed={"comment": "ours", "tags": {"b": "3"}, "forceDestroy": True},
        replaced={"name": "example.org"},
        identity="Z[0-9A-Z]+",
        outputs=("arn", "zoneId", "nameServers", "primaryNameServer"),
        seen=zone,
        first=("example.net.", "Managed by Pulumi", {"a": "1", "b": "2"}),
        then=("example.net.", "ours", {"b": "3"}),
        drift=lambda lab, made: lab.route53.update_hosted_zone_comment(Id=made.id, Comment="by hand"),
        drifted={"comment": "by hand"},
    ),
    "record": Case(
        token="aws:route53/record:Record",
        inputs={
            "zoneId": lambda lab: lab.zone, "name": "_theService._TCP.unilans.net.", "type": "PTR", "ttl": 60,
            "records": ["v1._theService._tcp.unilans.net", "v2._theService._tcp.unilans.net"],
        },
        changed={"ttl": 120, "records": ["v2._theService._tcp.unilans.net"]},
        replaced={"name": "_other._tcp", "zoneId": "Z0000000000000000000"},
        identity="Z[0-9A-Z]+__theservice._tcp.unilans.net_PTR",
        outputs=("fqdn", "name"),
        seen=lambda lab, made: lab.record("_theservice._tcp.unilans.net", "PTR"),
        first={
            "Name": "_theservice._tcp.unilans.net.", "Type": "PTR", "TTL": 60,
            "ResourceRecords": [{"Value": f"v{each}._theService._tcp.unilans.net"} for each in (1, 2)],
        },
        then={
            "Name": "_theservice._tcp.unilans.net.", "Type": "PTR", "TTL": 120,
            "ResourceRecords": [{"Value": "v2._theService._tcp.unilans.net"}],
        },
        drift=lambda lab, made: lab.upsert("_theService._tcp.unilans.net", "PTR", 7, "v9.unilans.net"),
        drifted={"ttl": 7, "records": ["v9.unilans.net"]},
    ),
    "parameter": Case(
        token="aws:ssm/parameter:Parameter",
        inputs={"name": "/rollcall/token", "type": "SecureString", "value": "of the machines", "tags": {"a": "1", "b": "2"}},
        changed={"value": "new", "tags": {"b": "3"}},
        replaced={"name": "/rollcall/other"},
        identity="/rollcall/token",
        outputs=("arn", "version", "value", "tier"),
        seen=parameter,
        first=("SecureString", "of the machines", {"a": "1", "b": "2"}),
        then=("SecureString", "new", {"b": "3"}),
        drift=lambda lab, made: lab.ssm.put_parameter(
            Name=made.id, Value="by hand", Type="SecureString", Overwrite=True
        ),
        drifted={"value": "by hand"},
    ),
    "bucket": Case(
        token="aws:s3/bucket:Bucket",
        inputs={"bucket": "rollcall-releases-1a2b3c4", "forceDestroy": True, "tags": {"a": "1", "b": "2"}},
        changed={"tags": {"b": "3"}},
        replaced={"bucket": "other-name"},
        identity="rollcall-releases-1a2b3c4",
        outputs=("arn", "bucketDomainName", "bucketRegionalDomainName"),
        unread=("forceDestroy",),
        seen=lambda lab, made: tags(lab.s3.get_bucket_tagging(Bucket=made.id)["TagSet"]),
        first={"a": "1", "b": "2"},
        then={"b": "3"},
        drift=lambda lab, made: lab.s3.put_bucket_tagging(
            Bucket=made.id, Tagging={"TagSet": [{"Key": "by", "Value": "hand"}]}
        ),
        drifted={"tags": {"by": "hand"}},
    ),
    "public access block": Case(
        token="aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        inputs={"bucket": "there-before", **dict.fromkeys(CLOSED, True)},
        changed={"blockPublicAcls": False},
        replaced={"bucket": "another-bucket"},
        identity="there-before",
        outputs=(),
        seen=lambda lab, made: sum(
            lab.s3.get_public_access_block(Bucket=made.id)["PublicAccessBlockConfiguration"].values()
        ),
        first=4,
        then=3,
        drift=lambda lab, made: lab.s3.put_public_access_block(
            Bucket=made.id,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": False, "IgnorePublicAcls": True, "BlockPublicPolicy": False, "RestrictPublicBuckets": True,
            },
        ),
        drifted={"blockPublicPolicy": False},
    ),
    "versioning": Case(
        token="aws:s3/bucketVersioning:BucketVersioning",
        inputs={"bucket": "there-before", "versioningConfiguration": {"status": "Enabled"}},
        changed={"versioningConfiguration": {"status": "Suspended"}},
        replaced={"bucket": "another-bucket"},
        identity="there-before",
        outputs=(),
        stays=True,
        seen=lambda lab, made: lab.s3.get_bucket_versioning(Bucket=made.id)["Status"],
        first="Enabled",
        then="Suspended",
        drift=lambda lab, made: lab.s3.put_bucket_versioning(
            Bucket=made.id, VersioningConfiguration={"Status": "Enabled"}
        ),
        drifted={"versioningConfiguration": {"status": "Enabled"}},
    ),
    "encryption": Case(
        token="aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        inputs={"bucket": "there-before", "rules": encryption("AES256")},
        changed={"rules": encryption("aws:kms")},
        replaced={"bucket": "another-bucket"},
        identity="there-before",
        outputs=(),
        stays=True,
        seen=lambda lab, made: algorithm(lab, made),
        first="AES256",
        then="aws:kms",
        drift=lambda lab, made: lab.s3.delete_bucket_encryption(Bucket=made.id),
        drifted={"rules": encryption("AES256")},
    ),
    "bucket policy": Case(
        token="aws:s3/bucketPolicy:BucketPolicy",
        inputs={"bucket": "there-before", "policy": bucket_policy("s3:PutObject")},
        changed={"policy": bucket_policy("s3:GetObject")},
        replaced={"bucket": "another-bucket"},
        identity="there-before",
        outputs=(),
        seen=lambda lab, made: json.loads(lab.s3.get_bucket_policy(Bucket=made.id)["Policy"])["Statement"][0]["Action"],
        first="s3:PutObject",
        then="s3:GetObject",
        drift=lambda lab, made: lab.s3.put_bucket_policy(Bucket=made.id, Policy=bucket_policy("s3:*")),
        drifted={"policy": bucket_policy("s3:*")},
    ),
    "lifecycle": Case(
        token="aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        inputs={"bucket": "there-before", "rules": lifecycle(30)},
        changed={"rules": lifecycle(7)},
        replaced={"bucket": "another-bucket"},
        identity="there-before",
        outputs=(),
        seen=lambda lab, made: days(lab, made),
        first=[30],
        then=[7],
        drift=lambda lab, made: lab.s3.put_bucket_lifecycle_configuration(
            Bucket=made.id,
            LifecycleConfiguration={"Rules": [{
                "ID": "old", "Status": "Enabled", "Filter": {"Prefix": "releases/"},
                "NoncurrentVersionExpiration": {"NoncurrentDays": 1}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            }]},
        ),
        drifted={"rules": lifecycle(1)},
    ),
    "object": Case(
        token="aws:s3/bucketObjectv2:BucketObjectv2",
        inputs={"bucket": "another-bucket", "key": "releases/one", "content": "one", "contentType": "text/plain"},
        changed={"content": "two"},
        replaced={"key": "releases/two", "bucket": "there-before"},
        identity="another-bucket/releases/one",
        outputs=("arn", "etag", "contentType"),
        unread=("content",),
        seen=lambda lab, made: lab.s3.get_object(Bucket="another-bucket", Key="releases/one")["Body"].read(),
        first=b"one",
        then=b"two",
        drift=lambda lab, made: lab.s3.put_object(
            Bucket="another-bucket", Key="releases/one", Body=b"two", ContentType="text/html"
        ),
        drifted={"contentType": "text/html"},
    ),
}  # fmt: skip


def test_a_bucket_with_objects_goes_only_by_force_and_with_every_version(lab: Lab) -> None:
    token, inputs = "aws:s3/bucket:Bucket", {"bucket": "full-bucket"}
    made = lab.host.create(token, inputs)
    lab.s3.put_bucket_versioning(Bucket="full-bucket", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        lab.s3.put_object(Bucket="full-bucket", Key="a", Body=body)
    lab.s3.delete_object(Bucket="full-bucket", Key="a")
    with pytest.raises(RefusedError, match="BucketNotEmpty"):
        lab.host.delete(made)
    lab.host.delete(lab.host.update(made, {**inputs, "forceDestroy": True}))
    assert lab.host.refresh(made) is None


def test_an_object_of_a_versioned_bucket_goes_with_all_of_its_versions(lab: Lab) -> None:
    bucket = lab.host.create("aws:s3/bucket:Bucket", {"bucket": "with-versions"})
    lab.s3.put_bucket_versioning(Bucket=bucket.id, VersioningConfiguration={"Status": "Enabled"})
    kind, inputs = "aws:s3/bucketObjectv2:BucketObjectv2", {"bucket": bucket.id, "key": "a", "contentBase64": "AQI="}
    made = lab.host.create(kind, inputs)
    assert lab.s3.get_object(Bucket=bucket.id, Key="a")["Body"].read() == b"\1\2"
    lab.s3.put_object(Bucket=bucket.id, Key="ab", Body=b"of another user")
    lab.host.delete(lab.host.update(made, {**inputs, "contentBase64": "AwQ="}))
    assert [each["Key"] for each in lab.s3.list_object_versions(Bucket=bucket.id)["Versions"]] == ["ab"]
    lab.host.delete(lab.host.update(bucket, {"bucket": bucket.id, "forceDestroy": True}))


@pytest.mark.parametrize(
    ("kind", "inputs", "wrong"),
    [
        ("bucketVersioning:BucketVersioning", {"versioningConfiguration": {"status": "Enabled", "mfa": "1"}}, "versioningConfiguration"),
        ("bucketLifecycleConfiguration:BucketLifecycleConfiguration", {"rules": [{"id": "x", "transitions": []}]}, "rules"),
        ("bucketObjectv2:BucketObjectv2", {"key": "a", "content": "x", "overrideProvider": {"x": 1}}, "overrideProvider"),
        ("bucketObjectv2:BucketObjectv2", {"key": "a", "content": "x", "contentBase64": "AA=="}, "content"),
        ("bucketObjectv2:BucketObjectv2", {"key": "a", "source": "x", "content": "x"}, "source"),
        ("bucket:Bucket", {"acl": "public-read"}, "acl"),
    ],
)  # fmt: skip
def test_what_the_stand_in_would_do_nothing_for_is_refused(
    lab: Lab, kind: str, inputs: dict[str, Any], wrong: str
) -> None:
    assert set(lab.host.faults(f"aws:s3/{kind}", {"bucket": "there-before", **inputs})) == {wrong}


def known(lab: Lab, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value(lab) if callable(value) else value for key, value in inputs.items()}


def plain(value: Any) -> Any:
    """A policy as the cloud has it, whatever its spaces; no rules and no tags are the same as none."""
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value or None


# A pair of two ids, which nothing changes in place. The first is in test_plugin_addresses.py.
PAIRS = {"aws:ec2/eipAssociation:EipAssociation", "aws:iam/rolePolicyAttachment:RolePolicyAttachment"}


def test_every_type_of_the_plugin_has_a_case() -> None:
    assert {case.token for case in CASES.values()} | PAIRS == {each.token for each in PLUGIN.types}


def test_a_managed_policy_is_attached_to_a_role_found_and_detached(lab: Lab) -> None:
    token = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    lab.iam.create_role(RoleName="attached-to", AssumeRolePolicyDocument=trust)
    inputs = {"role": "attached-to", "policyArn": BOUNDARY}
    made = lab.host.create(token, inputs)

    def attached() -> list[str]:
        found = lab.iam.list_attached_role_policies(RoleName="attached-to")["AttachedPolicies"]
        return [each["PolicyArn"] for each in found]

    assert attached() == [BOUNDARY]
    read = lab.host.refresh(made)
    assert read is not None and read.inputs == made.inputs
    for key in inputs:
        assert list(lab.host.diff(made, {**inputs, key: "other"}).replaces) == [key]
    lab.host.delete(made)
    assert attached() == [] and lab.host.refresh(made) is None
    lab.host.delete(made)


@pytest.mark.parametrize("name", CASES)
def test_a_type_from_its_creation_to_its_end(lab: Lab, name: str) -> None:
    case, host = CASES[name], lab.host
    inputs = known(lab, case.inputs)
    made = host.create(case.token, inputs)
    assert re.fullmatch(case.identity, made.id)
    assert not [key for key in case.outputs if made.outputs.get(key) in (None, "", [])], made.outputs
    assert case.seen(lab, made) == case.first
    assert host.diff(made, inputs).changes == NONE

    read = host.refresh(made)
    assert read is not None
    assert read.inputs == made.inputs
    assert {key: read.outputs.get(key) for key in case.outputs} == {key: made.outputs[key] for key in case.outputs}

    imported = host.imported(case.token, made.id)
    assert imported is not None
    assert set(host.diff(imported, inputs).diffs) <= set(case.unread)

    for key, value in known(lab, case.replaced).items():
        found = host.diff(made, {**inputs, key: value})
        assert (list(found.replaces), found.changes) == ([key], SOME)

    wanted = {**inputs, **known(lab, case.changed)}
    found = host.diff(made, wanted)
    assert (set(found.diffs), list(found.replaces)) == (set(case.changed), [])
    changed = host.update(made, wanted)
    assert case.seen(lab, changed) == case.then
    assert host.diff(changed, wanted).changes == NONE
    again = host.refresh(changed)
    assert again is not None
    assert again.inputs == changed.inputs

    case.drift(lab, changed)
    drifted = host.refresh(changed)
    assert drifted is not None
    assert {key: plain(drifted.inputs.get(key)) for key in case.drifted} == {
        key: plain(value) for key, value in case.drifted.items()
    }
    assert set(host.diff(drifted, wanted).diffs) == set(case.drifted)
    updated = host.update(drifted, wanted)
    assert case.seen(lab, updated) == case.then

    host.delete(updated)
    assert (host.refresh(updated) is None) != case.stays
    host.delete(updated)


# What a type does beside the table's.


def txt(lab: Lab, name: str, *records: str, **more: Any) -> dict[str, Any]:
    return {"zoneId": lab.zone, "name": name, "type": "TXT", "ttl": 60, "records": list(records), **more}


def values(lab: Lab, name: str, kind: str = "TXT") -> list[str]:
    found = lab.record(name, kind)
    return [each["Value"] for each in found["ResourceRecords"]] if found else []


TOKEN = "aws:route53/record:Record"


def test_the_quotes_around_a_txt_value_are_the_providers(lab: Lab) -> None:
    inputs = txt(lab, "txt.unilans.net", "path=/", 'first" "second', r"a=\"b\"")
    made = lab.host.create(TOKEN, inputs)
    assert values(lab, "txt.unilans.net") == ['"path=/"', '"first" "second"', r'"a=\"b\""']
    imported = lab.host.imported(TOKEN, made.id)
    assert imported is not None
    assert imported.inputs["records"] == inputs["records"]
    assert lab.host.diff(imported, {**inputs, "records": inputs["records"][::-1]}).changes == NONE
    lab.host.delete(made)


def test_a_string_over_255_characters_is_not_split(lab: Lab) -> None:
    with pytest.raises(RefusedError, match="TooLong"):
        lab.host.create(TOKEN, txt(lab, "long", "x" * 256))
    made = lab.host.create(TOKEN, txt(lab, "long", f'{"x" * 255}""y'))
    assert values(lab, "long.unilans.net") == [f'"{"x" * 255}""y"']
    lab.host.delete(made)


def test_what_is_there_already_is_only_taken_with_allow_overwrite(lab: Lab) -> None:
    lab.upsert("taken.unilans.net", "TXT", 60, '"before"')
    with pytest.raises(RefusedError, match=r"Tried to create resource record set .* but it already exists"):
        lab.host.create(TOKEN, txt(lab, "taken", "ours"))
    assert values(lab, "taken.unilans.net") == ['"before"']
    made = lab.host.create(TOKEN, txt(lab, "taken", "ours", allowOverwrite=True))
    assert values(lab, "taken.unilans.net") == ['"ours"']
    lab.host.delete(made)


def test_a_name_without_its_zone_is_the_same_set(lab: Lab) -> None:
    made = lab.host.create(TOKEN, txt(lab, "Short", "v"))
    assert (made.id, made.outputs["name"]) == (f"{lab.zone}_short_TXT", "short")
    assert made.outputs["fqdn"] == "short.unilans.net"
    assert list(lab.host.diff(made, txt(lab, "short.unilans.net", "v")).replaces) == ["name"]
    lab.host.delete(made)


def test_the_zones_own_name_and_a_wildcard_are_found(lab: Lab) -> None:
    for name, identity in (("", f"{lab.zone}__TXT"), ("*.unilans.net", f"{lab.zone}_*.unilans.net_TXT")):
        made = lab.host.create(TOKEN, txt(lab, name, "v"))
        assert made.id == identity
        assert lab.host.refresh(made) is not None
        lab.host.delete(made)
        assert lab.host.refresh(made) is None


def test_another_type_takes_the_place_of_the_old_one_at_once(lab: Lab) -> None:
    made = lab.host.create(TOKEN, {**txt(lab, "kind", "192.0.2.1")})
    wanted = {**txt(lab, "kind", "192.0.2.1"), "type": "A"}
    assert list(lab.host.diff(made, wanted).replaces) == []
    changed = lab.host.update(made, wanted)
    assert (values(lab, "kind.unilans.net"), values(lab, "kind.unilans.net", "A")) == ([], ["192.0.2.1"])
    assert lab.host.refresh(changed) is not None
    lab.host.delete(changed)
    assert values(lab, "kind.unilans.net", "A") == []


def test_a_routed_set_and_an_alias_are_read_as_they_were_given(lab: Lab) -> None:
    target = lab.host.create(TOKEN, {**txt(lab, "target", "192.0.2.1"), "type": "A"})
    alias = {"name": "Target.unilans.net.", "zoneId": lab.zone, "evaluateTargetHealth": False}
    weights = [
        {**txt(lab, "weighted", value), "setIdentifier": value, "weightedRoutingPolicies": [{"weight": weight}]}
        for value, weight in (("blue", 10), ("green", 0))
    ]
    wanted = [*weights, {"zoneId": lab.zone, "name": "alias", "type": "A", "aliases": [alias]}]
    made = [lab.host.create(TOKEN, inputs, name=f"n{index}") for index, inputs in enumerate(wanted)]
    for each, inputs in zip(made, wanted, strict=True):
        imported = lab.host.imported(TOKEN, each.id, name=each.name)
        assert imported is not None
        assert lab.host.diff(imported, inputs).changes == NONE
    for each in made:
        lab.host.delete(each)
        assert lab.host.refresh(each) is None
    lab.host.delete(target)


WRONG: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "neither records nor aliases": ({"records": []}, {"records": "exactly one of"}),
    "records and aliases": (
        {"aliases": [{"name": "a", "zoneId": "Z1", "evaluateTargetHealth": True}]},
        {"records": "exactly one of", "ttl": "conflicts"},
    ),
    "a type that is none": ({"type": "WKS"}, {"type": "must be one of A, AAAA"}),
    "a policy without an identifier": (
        {"weightedRoutingPolicies": [{"weight": 1}]},
        {"weightedRoutingPolicies": "needs `setIdentifier`"},
    ),
    "two policies": (
        {"setIdentifier": "a", "weightedRoutingPolicies": [{"weight": 1}], "multivalueAnswerRoutingPolicy": True},
        {"multivalueAnswerRoutingPolicy": "conflicts with 'weightedRoutingPolicies'"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_record_that_cannot_be_is_refused_by_its_input(lab: Lab, name: str) -> None:
    given, expected = WRONG[name]
    assert lab.host.faults(TOKEN, txt(lab, "fine", "v")) == {}
    found = lab.host.faults(TOKEN, {**txt(lab, "fine", "v"), **given})
    assert set(found) == set(expected)
    assert not [key for key, why in expected.items() if why not in found[key]], found


def test_an_id_that_is_none_is_reported(lab: Lab) -> None:
    with pytest.raises(RefusedError, match="expected ZONEID_RECORDNAME_TYPE_SET-IDENTIFIER"):
        lab.host.imported(TOKEN, "Z1_unilans.net")


def test_a_zone_with_records_goes_only_by_force(lab: Lab) -> None:
    token, inputs = "aws:route53/zone:Zone", {"name": "full.example"}
    made = lab.host.create(token, inputs)
    lab.host.create(TOKEN, {**txt(lab, "www", "192.0.2.1"), "type": "A", "zoneId": made.id})
    with pytest.raises(RefusedError, match="HostedZoneNotEmpty"):
        lab.host.delete(made)
    lab.host.delete(lab.host.update(made, {**inputs, "forceDestroy": True}))
    assert lab.host.refresh(made) is None


ZONES = "aws:route53/getZone:getZone"


def test_the_vpcs_of_a_private_zone_change_in_place_and_their_order_does_not_count(lab: Lab) -> None:
    token, name = "aws:route53/zone:Zone", "private.example"
    one, two, three = (lab.ec2.create_vpc(CidrBlock=f"10.{at}.0.0/16")["Vpc"]["VpcId"] for at in (1, 2, 3))

    def given(*vpcs: str) -> dict[str, Any]:
        return {"name": name, "vpcs": [{"vpcId": each, "vpcRegion": "us-west-2"} for each in vpcs]}

    def there(zone: str) -> set[str]:
        return {each["VPCId"] for each in lab.route53.get_hosted_zone(Id=zone)["VPCs"]}

    made = lab.host.create(token, given(one, two))
    assert there(made.id) == {one, two} and [*lab.host.diff(made, given(two, one)).diffs] == []
    # Without a region a VPC is in the provider's.
    assert [*lab.host.diff(made, {"name": name, "vpcs": [{"vpcId": one}, {"vpcId": two}]}).diffs] == []
    found = lab.host.diff(made, given(three))
    assert [*found.diffs] == ["vpcs"] and [*found.replaces] == []
    # The last VPC is removed only after another one is there.
    made = lab.host.update(made, given(three))
    assert there(made.id) == {three}
    assert lab.host.invoke(ZONES, name=name, privateZone=True)["zoneId"] == made.id
    lab.host.delete(made)


def test_a_zone_is_found_by_name_and_by_id(lab: Lab) -> None:
    by_name, dotted = (lab.host.invoke(ZONES, name=name) for name in ("unilans.net", "UNILANS.net."))
    assert by_name == dotted == lab.host.invoke(ZONES, zoneId=lab.zone)
    assert (by_name["zoneId"], by_name["name"]) == (lab.zone, "unilans.net")
    assert by_name["primaryNameServer"] in by_name["nameServers"]


def test_no_zone_and_several_zones_are_distinguished(lab: Lab) -> None:
    with pytest.raises(RefusedError, match="no matching Route 53 Hosted Zone found"):
        lab.host.invoke(ZONES, name="unilans.org")
    with pytest.raises(RefusedError, match="no matching Route 53 Hosted Zone found"):
        lab.host.invoke(ZONES, name="unilans.net", privateZone=True)
    with pytest.raises(RefusedError, match="only one of"):
        lab.host.invoke(ZONES, name="unilans.net", zoneId=lab.zone)
    with pytest.raises(RefusedError, match="Z0000000000000000000 is not there any more"):
        lab.host.invoke(ZONES, zoneId="Z0000000000000000000")
    for _ in range(2):
        lab.cloud.aws.add_zone("twice.example")
    with pytest.raises(RefusedError, match="multiple Route 53 Hosted Zones matched"):
        lab.host.invoke(ZONES, name="twice.example")


def test_an_access_key_signs_and_its_secret_is_secret(lab: Lab) -> None:
    made = lab.host.create("aws:iam/accessKey:AccessKey", {"user": "bob"})
    assert secrets_in(made) == {"secret", "sesSmtpPasswordV4"}
    known_as = lab.cloud.client("sts", (made.id, made.outputs["secret"])).get_caller_identity()["Arn"]
    assert known_as.endswith(":user/bob")
    assert made.outputs["sesSmtpPasswordV4"] == smtp_password(made.outputs["secret"], "us-west-2")
    read = lab.host.refresh(made)
    assert read is not None
    assert (secrets_in(read), read.outputs["secret"]) == (secrets_in(made), made.outputs["secret"])
    imported = lab.host.imported("aws:iam/accessKey:AccessKey", made.id)
    assert imported is not None
    assert (imported.inputs, secrets_in(imported)) == ({"user": "bob", "status": "Active"}, set())
    lab.host.delete(made)


def test_the_smtp_password_is_the_vendors_for_the_same_key() -> None:
    """Two values that the vendor's tests expect."""
    expected = {
        "eu-central-1": "BMXhUYlu5Z3gSXVQORxlVa7XPaz91aGWdfHxvkOZdWZ2",
        "us-west-1": "BH+jbMzper5WwlwUar9E1ySBqHa9whi0GPo+sJ0mVYJj",
    }
    assert {region: smtp_password("some+secret+key", region) for region in expected} == expected


def test_a_user_with_keys_goes_only_by_force(lab: Lab) -> None:
    token = "aws:iam/user:User"
    made = lab.host.create(token, {"name": "dave"})
    lab.iam.create_access_key(UserName="dave")
    with pytest.raises(RefusedError, match="DeleteConflict"):
        lab.host.delete(made)
    lab.host.delete(lab.host.update(made, {"name": "dave", "forceDestroy": True}))
    assert lab.host.refresh(made) is None


def test_what_was_made_half_is_kept_and_finished_by_an_update(lab: Lab) -> None:
    token, inputs = "aws:iam/instanceProfile:InstanceProfile", {"name": "half", "role": "nobody"}
    with pytest.raises(RefusedError, match="nobody") as refused:
        lab.host.create(token, inputs)
    partial = refused.value.partial
    assert partial.id == "half"
    assert "nobody" in partial.reasons[0]
    assert lab.iam.get_instance_profile(InstanceProfileName="half")["InstanceProfile"]["Roles"] == []
    lab.iam.create_role(RoleName="nobody", AssumeRolePolicyDocument=TRUST)
    kept = Resource(
        token, "one", partial.id, received(partial.inputs), received(partial.properties), partial.properties
    )
    made = lab.host.update(kept, inputs)
    assert profile(lab, made)[0] == ["nobody"]
    lab.host.delete(made)


def test_an_update_of_what_is_gone_says_so(lab: Lab) -> None:
    made = lab.host.create("aws:iam/user:User", {"name": "erin"})
    lab.iam.delete_user(UserName="erin")
    with pytest.raises(RefusedError, match="is not there any more"):
        lab.host.update(made, {"name": "erin", "tags": {"a": "1"}})


REGIONAL = [name for name, case in CASES.items() if case.token.startswith(("aws:ec2", "aws:s3", "aws:ssm"))]


@pytest.mark.parametrize("name", REGIONAL)
def test_another_region_is_refused_and_the_providers_is_an_output(lab: Lab, name: str) -> None:
    case = CASES[name]
    inputs = known(lab, case.inputs)
    assert set(lab.host.faults(case.token, {**inputs, "region": "eu-west-1"})) == {"region"}
    assert lab.host.faults(case.token, {**inputs, "region": "us-west-2"}) == {}
    made = lab.host.create(case.token, inputs)
    assert made.outputs["region"] == "us-west-2"
    arn = made.outputs.get("arn", "arn:aws:s3:::")
    # Buckets have their names in a space that all accounts share.
    assert f":{lab.cloud.aws.account}:" in arn or arn.startswith("arn:aws:s3:::")
    lab.host.delete(made)


def test_an_instance_does_not_change_in_place_what_the_stand_in_cannot(lab: Lab) -> None:
    inputs = {"ami": lab.debian, "instanceType": "t3.micro", "monitoring": False}
    made = lab.host.create("aws:ec2/instance:Instance", inputs)
    changed = lab.host.update(made, {**inputs, "monitoring": True})
    assert lab.ec2.describe_instances(InstanceIds=[made.id])["Reservations"][0]["Instances"][0]["Monitoring"] == {
        "State": "enabled"
    }
    read = lab.host.refresh(changed)
    assert read is not None and read.inputs["monitoring"] is True
    lab.host.update(changed, {**inputs, "monitoring": False})
    lab.host.delete(made)


INSTANCE = "aws:ec2/instance:Instance"


def volumes(lab: Lab, made: Resource) -> list[dict[str, Any]]:
    mine = [{"Name": "attachment.instance-id", "Values": [made.id]}]
    return [dict(each) for each in lab.ec2.describe_volumes(Filters=mine)["Volumes"]]


@pytest.mark.parametrize("image", ["debian", "ubuntu"])
def test_the_root_volume_is_the_images_own_and_has_its_tags(lab: Lab, image: str) -> None:
    disk = {"encrypted": True, "volumeType": "gp3", "tags": {"a": "1", "b": "2"}}
    inputs = {"ami": getattr(lab, image), "instanceType": "t3.micro", "rootBlockDevice": disk}
    made = lab.host.create(INSTANCE, inputs)
    (volume,) = volumes(lab, made)
    assert (volume["Encrypted"], volume["VolumeType"], tags(volume["Tags"])) == (True, "gp3", {"a": "1", "b": "2"})
    read = lab.host.refresh(made)
    assert read is not None and read.inputs == made.inputs

    wanted = {**inputs, "rootBlockDevice": {**disk, "tags": {"a": "3"}}}
    assert list(lab.host.diff(made, wanted).replaces) == []
    changed = lab.host.update(made, wanted)
    (volume,) = volumes(lab, made)
    assert tags(volume["Tags"]) == {"a": "3"}
    lab.ec2.delete_tags(Resources=[volume["VolumeId"]], Tags=[{"Key": "a"}])
    drifted = lab.host.refresh(changed)
    assert drifted is not None
    assert list(lab.host.diff(drifted, wanted).diffs) == ["rootBlockDevice"]
    other = {**inputs, "rootBlockDevice": {**disk, "encrypted": False}}
    assert list(lab.host.diff(made, other).replaces) == ["rootBlockDevice"]
    lab.host.delete(made)


def test_size_type_iops_and_throughput_of_the_root_volume_change_in_place(lab: Lab) -> None:
    inputs = {"ami": lab.debian, "instanceType": "t3.micro", "rootBlockDevice": {"volumeType": "gp3"}}
    made = lab.host.create(INSTANCE, inputs)
    bigger = {"volumeType": "gp3", "volumeSize": 20, "iops": 4000, "throughput": 500}
    wanted = {**inputs, "rootBlockDevice": bigger}
    assert list(lab.host.diff(made, wanted).replaces) == []
    changed = lab.host.update(made, wanted)
    (volume,) = volumes(lab, made)
    assert (volume["Size"], volume["Iops"], volume["Throughput"]) == (20, 4000, 500)
    read = lab.host.refresh(changed)
    assert read is not None and list(lab.host.diff(read, wanted).diffs) == []
    lab.ec2.modify_volume(VolumeId=volume["VolumeId"], VolumeType="io2", Iops=600)
    drifted = lab.host.refresh(changed)
    assert drifted is not None and list(lab.host.diff(drifted, wanted).diffs) == ["rootBlockDevice"]
    with pytest.raises(RefusedError, match="New size cannot be smaller"):
        lab.host.update(drifted, {**inputs, "rootBlockDevice": {**bigger, "volumeSize": 10}})
    lab.host.delete(made)


def test_a_change_of_a_further_volume_replaces_the_instance_and_one_of_its_tags_is_not_seen(lab: Lab) -> None:
    data = {"deviceName": "/dev/sdf", "volumeSize": 10, "volumeType": "gp3", "encrypted": True, "tags": {"a": "1"}}
    inputs = {"ami": lab.debian, "instanceType": "t3.micro", "ebsBlockDevices": [data]}
    made = lab.host.create(INSTANCE, inputs)
    (volume,) = [each for each in volumes(lab, made) if each["Attachments"][0]["Device"] == "/dev/sdf"]
    assert (volume["Size"], tags(volume["Tags"])) == (10, {"a": "1"})
    listed = lab.ec2.describe_instances(InstanceIds=[made.id])["Reservations"][0]["Instances"][0]
    assert [each["Ebs"]["DeleteOnTermination"] for each in listed["BlockDeviceMappings"]] == [True, True]
    read = lab.host.refresh(made)
    assert read is not None and list(lab.host.diff(read, inputs).diffs) == []
    for other in ({**data, "volumeSize": 11}, {**data, "deviceName": "/dev/sdg"}, {**data, "encrypted": False}):
        assert list(lab.host.diff(made, {**inputs, "ebsBlockDevices": [other]}).replaces) == ["ebsBlockDevices"]
    assert list(lab.host.diff(made, {**inputs, "ebsBlockDevices": []}).replaces) == ["ebsBlockDevices"]
    assert list(lab.host.diff(made, {**inputs, "ebsBlockDevices": [{**data, "tags": {"a": "2"}}]}).diffs) == []
    mine = {each["VolumeId"] for each in volumes(lab, made)}
    lab.host.delete(made)
    assert len(mine) == 2 and mine.isdisjoint(each["VolumeId"] for each in lab.ec2.describe_volumes()["Volumes"])


def test_a_stopped_instance_has_no_public_address_any_more_as_the_provider_sees_it(lab: Lab) -> None:
    inputs = {"ami": lab.debian, "instanceType": "t3.micro", "associatePublicIpAddress": True}
    made = lab.host.create(INSTANCE, inputs)
    lab.ec2.stop_instances(InstanceIds=[made.id])
    lab.settled(made.id, "stopped")
    stopped = lab.host.refresh(made)
    assert stopped is not None
    assert list(lab.host.diff(stopped, inputs).replaces) == ["associatePublicIpAddress"]
    lab.host.delete(made)


def test_a_parameter_that_is_there_is_refused_or_overwritten_and_tagged_then(lab: Lab) -> None:
    kind, inputs = "aws:ssm/parameter:Parameter", {"type": "String", "value": "new", "tags": {"owner": "ours"}}
    lab.ssm.put_parameter(Name="/here", Value="old", Type="String")
    with pytest.raises(RefusedError, match="ParameterAlreadyExists"):
        lab.host.create(kind, {**inputs, "name": "/here"})
    made = lab.host.create(kind, {**inputs, "name": "/here", "overwrite": True})
    assert parameter(lab, made) == ("String", "new", {"owner": "ours"})
    unchanged = lab.host.refresh(made)
    assert unchanged is not None and not lab.host.diff(unchanged, made.inputs).diffs
    lab.host.delete(made)


def test_an_open_parameters_text_is_not_a_secret(lab: Lab) -> None:
    kind = "aws:ssm/parameter:Parameter"
    made = lab.host.create(kind, {"type": "String", "insecureValue": "ami-1"}, name="image")
    assert (made.outputs["insecureValue"], secrets_in(made)) == ("ami-1", {"value"})
    lab.ssm.put_parameter(Name=made.id, Value="ami-2", Type="String", Overwrite=True)
    drifted = lab.host.refresh(made)
    assert drifted is not None
    assert (drifted.inputs["insecureValue"], drifted.inputs.get("value")) == ("ami-2", None)
    updated = lab.host.update(drifted, made.inputs)
    assert lab.ssm.get_parameter(Name=made.id)["Parameter"]["Value"] == updated.outputs["insecureValue"] == "ami-1"
    lab.host.delete(updated)
    for wrong in ({}, {"value": "a", "insecureValue": "a"}, {"type": "SecureString", "insecureValue": "a"}):
        assert lab.host.faults(kind, {"type": "String", **wrong}), wrong


@pytest.mark.parametrize("image", ["debian", "ubuntu"])
def test_the_root_volume_is_the_images_own_device(lab: Lab, image: str) -> None:
    disk = {"encrypted": True, "volumeType": "gp3"}
    inputs = {"ami": getattr(lab, image), "instanceType": "t3.micro", "rootBlockDevice": disk}
    made = lab.host.create("aws:ec2/instance:Instance", inputs)
    (volume,) = lab.cloud.describe(made.id)["BlockDeviceMappings"]
    root = lab.ec2.describe_images(ImageIds=[getattr(lab, image)])["Images"][0]["RootDeviceName"]
    assert volume["DeviceName"] == root
    (described,) = lab.ec2.describe_volumes(VolumeIds=[volume["Ebs"]["VolumeId"]])["Volumes"]
    assert described["Encrypted"] and described["VolumeType"] == "gp3"
    lab.host.delete(made)


FUNCTIONS: dict[str, tuple[dict[str, Any], Callable[[Lab, dict[str, Any]], bool]]] = {
    "aws:ssm/getParameter:getParameter": ({"name": UBUNTU}, lambda lab, found: found["value"] == lab.ubuntu),
    "aws:ec2/getVpc:getVpc": (
        {"default": True},
        lambda lab, found: found["default"] and found["id"].startswith("vpc-"),
    ),
    "aws:ec2/getSubnets:getSubnets": (
        {"filters": [{"name": "default-for-az", "values": ["true"]}]},
        lambda lab, found: len(found["ids"]) > 1,
    ),
    "aws:ec2/getAmi:getAmi": (
        {"mostRecent": True, "filters": [{"name": "image-id", "values": ["*"]}]},
        lambda lab, found: found["id"].startswith("ami-"),
    ),
    "aws:ec2/getInstances:getInstances": (
        {"instanceTags": {"kind": "sought"}, "instanceStateNames": ["running", "stopped"]},
        lambda lab, found: found["ids"] == [lab.sought] and len(found["privateIps"]) == 1,
    ),
    "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": (
        {
            "locationType": "availability-zone",
            "filters": [{"name": "instance-type", "values": ["t3.micro"]}],
        },
        lambda lab, found: "us-west-2a" in found["locations"] and set(found["instanceTypes"]) == {"t3.micro"},
    ),
    "aws:index/getRegion:getRegion": ({}, lambda lab, found: found["name"] == "us-west-2"),
    "aws:index/getCallerIdentity:getCallerIdentity": (
        {},
        lambda lab, found: found["accountId"] == lab.cloud.aws.account,
    ),
    "aws:index/getAvailabilityZones:getAvailabilityZones": ({}, lambda lab, found: "us-west-2a" in found["names"]),
    ZONES: ({"name": "unilans.net"}, lambda lab, found: found["id"] == lab.zone),
}


def test_every_function_of_the_plugin_is_tried() -> None:
    assert set(FUNCTIONS) == set(PLUGIN.functions)


@pytest.mark.parametrize("token", FUNCTIONS)
def test_a_function_finds_what_is_there(lab: Lab, token: str) -> None:
    given, right = FUNCTIONS[token]
    found = lab.host.invoke(token, **given)
    assert right(lab, found), found


def test_the_clouds_own_words_reach_the_user(lab: Lab) -> None:
    with pytest.raises(RefusedError, match=r"aws: .*ParameterNotFound"):
        lab.host.invoke("aws:ssm/getParameter:getParameter", name="/none")


def test_another_order_of_security_groups_changes_nothing() -> None:
    instance = ec2.Instance.__new__(ec2.Instance)
    before, after = {"vpcSecurityGroupIds": ["sg-1", "sg-2"]}, {"vpcSecurityGroupIds": ["sg-2", "sg-1"]}
    assert instance.differences(before, after) == {}
    assert instance.differences(before, {"vpcSecurityGroupIds": ["sg-1"]}) == {"vpcSecurityGroupIds": "update"}
