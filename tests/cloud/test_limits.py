"""docs/limits.md on the local clouds: they take what is just inside each limit, and refuse what is just outside with the service's code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.config.models import FleetSettings, Settings
from components.config.reader import read
from components.dns.cloudflare_api import CloudflareApi
from components.preflight import account_limits, cloudflare_tokens, vpcs
from components.preflight.account_limits import Account, record_sets_needed
from components.preflight.quotas import Births, check_ec2
from components.preflight.state import PriorState
from components.resources.firewall import Ranges
from localcloud.aws.quotas import BUCKETS, GROUPS, RULES
from localcloud.aws.route53 import UNLIMITED
from localcloud.machines.compute import InstantHypervisor
from tests.cloud import cloudapi_server, cloudflare_server
from tests.cloud.aws_cloud import TRUST, Cloud, debian, running
from tests.cloud.cloudflare_server import ZONE as SITE_ZONE
from tests.limits_page import rows
from tests.vpcs import make_vpc

pytestmark = pytest.mark.clouds
ZONE = "unilans.net"


@dataclass(frozen=True, kw_only=True)
class Clouds:
    aws: Cloud
    cloudflare: cloudflare_server.Lab
    triton: cloudapi_server.Lab
    zone: str

    def client(self, service: str) -> Any:
        return self.aws.client(service)


@pytest.fixture(scope="module")
def fronts() -> Iterator[tuple[cloudflare_server.Front, cloudapi_server.Front]]:
    made = cloudflare_server.Front(), cloudapi_server.Front()
    yield made
    for each in made:
        each.stop()


@pytest.fixture
def clouds(fronts: tuple[cloudflare_server.Front, cloudapi_server.Front]) -> Iterator[Clouds]:
    with running(hypervisor=InstantHypervisor(), route53_limits=UNLIMITED, vcpu_limit=4) as aws:
        yield Clouds(
            aws=aws,
            cloudflare=cloudflare_server.Lab(fronts[0]),
            triton=cloudapi_server.Lab(fronts[1], {"quota": 1}),
            zone=aws.aws.add_zone(ZONE),
        )


@dataclass(frozen=True)
class Refused:
    """The code with which a service refuses; empty where it does not."""

    code: str = ""


TAKEN = Refused()
Try = Callable[[Clouds, bool], Refused]


def tried(call: Callable[[], object]) -> Refused:
    try:
        call()
    except ClientError as refused:
        return Refused(str(refused.response["Error"]["Code"]))
    return TAKEN


def change(clouds: Clouds, name: str, kind: str, values: Sequence[str], action: str = "CREATE") -> Refused:
    wanted = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": each} for each in values]}
    changes = [{"Action": action, "ResourceRecordSet": wanted}]
    route53 = clouds.client("route53")
    return tried(
        lambda: route53.change_resource_record_sets(HostedZoneId=clouds.zone, ChangeBatch={"Changes": changes})
    )


def a_name(length: int) -> str:
    """A name of so many characters in the zone."""
    rest = length - len(f".{ZONE}")
    labels = ["x" * 60] * (rest // 61)
    last = rest - 61 * len(labels)
    return ".".join([*labels, "y" * last, ZONE])


def dns_name(clouds: Clouds, outside: bool) -> Refused:
    return change(clouds, a_name(253 + outside), "A", ["192.0.2.1"])


def dns_label(clouds: Clouds, outside: bool) -> Refused:
    return change(clouds, f"{'x' * (63 + outside)}.{ZONE}", "A", ["192.0.2.1"])


def site_name(clouds: Clouds, outside: bool) -> Refused:
    rest = 253 + outside - len(f".{SITE_ZONE}")
    labels = ["x" * 60] * (rest // 61)
    name = ".".join([*labels, "y" * (rest - 61 * len(labels)), SITE_ZONE])
    return record(clouds, name=name, type="TXT", content='"challenge"')


def record(clouds: Clouds, **fields: Any) -> Refused:
    usual = {"type": "A", "name": "www", "content": "198.51.100.10", "ttl": 60}
    reply = clouds.cloudflare.raw("POST", f"/zones/{clouds.cloudflare.zone}/dns_records", json={**usual, **fields})
    return TAKEN if reply.is_success else Refused(str(reply.json()["errors"][0]["code"]))


def txt_string(clouds: Clouds, outside: bool) -> Refused:
    return change(clouds, f"t.{ZONE}", "TXT", [f'"k={"x" * (253 + outside)}"'])


def value_length(clouds: Clouds, outside: bool) -> Refused:
    strings = " ".join(f'"{"x" * size}"' for size in [247] * 15 + [248 + outside])
    assert len(strings) == 4000 + outside
    return change(clouds, f"t.{ZONE}", "TXT", [strings])


def srv(count: int, length: int = 34) -> list[str]:
    """Values of an SRV set with so many characters each."""
    bare = len(f"10 10 4218 {0:06x}-.rc.{ZONE}.")
    return [f"10 10 4218 {index:06x}-{'x' * (length - bare)}.rc.{ZONE}." for index in range(count)]


def set_values(clouds: Clouds, outside: bool) -> Refused:
    return change(clouds, f"v1._a._tcp.{ZONE}", "SRV", srv(400 + outside))


def ptr_values(clouds: Clouds, outside: bool) -> Refused:
    return change(clouds, f"_a._tcp.{ZONE}", "PTR", [f"v{index}.a.b." for index in range(400 + outside)])


def batch(clouds: Clouds, outside: bool) -> Refused:
    """One request deletes the old set and creates the new one, as the agent does it."""
    name, old = f"v1._a._tcp.{ZONE}", srv(400, 40)
    assert change(clouds, name, "SRV", old) == TAKEN
    new = [each.replace("10 10", "20 10", 1) for each in old]
    new[0] = new[0].replace("20 10", "200 10") if outside else new[0]
    assert sum(map(len, [*old, *new])) == 32_000 + outside
    sets = [("DELETE", old), ("CREATE", new)]
    changes = [
        {
            "Action": action,
            "ResourceRecordSet": {
                "Name": name, "Type": "SRV", "TTL": 60, "ResourceRecords": [{"Value": each} for each in values],
            },
        }
        for action, values in sets
    ]  # fmt: skip
    route53 = clouds.client("route53")
    return tried(
        lambda: route53.change_resource_record_sets(HostedZoneId=clouds.zone, ChangeBatch={"Changes": changes})
    )


def upsert(clouds: Clouds, outside: bool) -> Refused:
    values = [f"{'v' * 60}.{'w' * 60}.{index:02d}{'x' * 34}.b." for index in range(100)]
    assert sum(map(len, values)) == 16_100
    values = [f"{'v' * 59}{each[60:]}" for each in values]
    values[0] = f"v{values[0]}" if outside else values[0]
    assert sum(map(len, values)) == 16_000 + outside
    return change(clouds, f"_a._tcp.{ZONE}", "PTR", values, "UPSERT")


def settings(cloud: str = "aws", count: int = 2, joins: Sequence[str] = ("theService/v1",), **more: Any) -> Settings:
    fleet = {"cloud": cloud, "count": count, "size": "t3.micro", "image": "debian-12", "joins": [*joins], **more}
    services = {"zone": ZONE, "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}}}
    sites = {"www": {"zone": SITE_ZONE}} if "site/www" in joins else {}
    return read("local", {"sites": sites, "serviceDiscovery": services, "fleets": {"web": fleet}})


def account(clouds: Clouds) -> Account:
    client: Any = lambda service, region="": clouds.client(service)  # noqa: E731
    return Account(client=client, region="us-west-2", state=PriorState({}))


def agrees(faults: Sequence[str], name: str, *, outside: bool) -> None:
    """The preflight says beforehand what the cloud will do."""
    assert (len(faults) == 1 and rows()[name].describes(faults[0])) if outside else [*faults] == [], faults


def zone_records(clouds: Clouds, outside: bool) -> Refused:
    """The quota was changed for the account, and the records of others are in the zone."""
    needed = record_sets_needed(settings())
    store = clouds.aws.aws.route53.store
    store.most_sets = len(store.zone(clouds.zone).sets) + needed + 1
    for index in range(1 + outside):
        change(clouds, f"other{index}.{ZONE}", "A", ["192.0.2.1"])
    agrees(
        account_limits.zone_records(settings(), account(clouds), clouds.zone).faults,
        "route53-zone-records",
        outside=outside,
    )
    replies = [change(clouds, f"{index:06x}.rc.{ZONE}", "A", ["192.0.2.1"]) for index in range(needed)]
    return replies[-1]


def hosted_zones(clouds: Clouds, outside: bool) -> Refused:
    store = clouds.aws.aws.route53.store
    store.most_zones = len(store.all()) + (not outside)
    made = read(
        "local",
        {
            "serviceDiscovery": {
                "zone": "new.example", "create": True, "services": {"a": {"port": 1, "incarnations": {"v1": {}}}},
            },
            "fleets": {"web": {"cloud": "aws", "count": 0, "size": "s", "image": "debian-12", "joins": ["a/v1"]}},
        },
    ).service_discovery  # fmt: skip
    assert made is not None
    agrees(account_limits.hosted_zones(made, account(clouds)).faults, "route53-hosted-zones", outside=outside)
    return tried(lambda: clouds.client("route53").create_hosted_zone(Name="new.example", CallerReference="1"))


def zone_vpcs(clouds: Clouds, outside: bool) -> Refused:
    ec2, route53 = clouds.client("ec2"), clouds.client("route53")
    first, last = (ec2.create_vpc(CidrBlock=f"10.{each}.0.0/16")["Vpc"]["VpcId"] for each in (1, 2))
    vpc = {"VPCRegion": "us-west-2", "VPCId": first}
    zone = route53.create_hosted_zone(Name="private.example", CallerReference="1", VPC=vpc)["HostedZone"]["Id"]
    others = {f"vpc-{number:017x}": "us-west-2" for number in range(298 + outside)}
    clouds.aws.aws.route53.store.zone(zone).vpcs.update(others)
    return tried(lambda: route53.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC={**vpc, "VPCId": last}))


def zone_tags(clouds: Clouds, outside: bool) -> Refused:
    tags = [{"Key": f"k{index}", "Value": "x"} for index in range(10 + outside)]
    route53 = clouds.client("route53")
    return tried(
        lambda: route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=clouds.zone, AddTags=tags)
    )


# Cloudflare


def cloudflare_records(clouds: Clouds, outside: bool) -> Refused:
    replies = [record(clouds, name=f"n{index}") for index in range(200 + outside)]
    return replies[-1]


def cloudflare_set(clouds: Clouds, outside: bool) -> Refused:
    """546 addresses of 15 characters are 8,190."""
    clouds.cloudflare.zone = clouds.cloudflare.cloud.add_zone("paid.example", "pro")
    addresses = [f"198.151.{100 + index // 100}.{100 + index % 100}" for index in range(546 + outside)]
    assert {*map(len, addresses)} == {15}
    replies = [record(clouds, content=each) for each in addresses]
    assert {*replies[:546]} == {TAKEN}
    return replies[-1]


def comment(clouds: Clouds, outside: bool) -> Refused:
    return record(clouds, comment="c" * (100 + outside))


def tokens(path: str, quota: int, name: str) -> Try:
    def try_(clouds: Clouds, outside: bool) -> Refused:
        lab = clouds.cloudflare
        owner = path.format(account=lab.cloud.account_id)
        groups = lab.raw("GET", f"{owner}/tokens/permission_groups", params={"name": "DNS Write"}).json()["result"]
        policies = [
            {
                "effect": "allow",
                "permission_groups": [{"id": groups[0]["id"]}],
                "resources": {f"com.cloudflare.api.account.zone.{lab.zone}": "*"},
            }
        ]
        body = {"name": "t", "policies": policies}
        listed = lab.raw("GET", f"{owner}/tokens").json()["result_info"]["total_count"]
        for _ in range(quota - listed - 1 + outside):
            assert lab.raw("POST", f"{owner}/tokens", json=body).is_success
        api = CloudflareApi(lab.url, cloudflare_server.OPERATOR)
        at_site = settings(joins=["site/www"])
        agrees(cloudflare_tokens.room_faults(api, owner, at_site, PriorState({})), name, outside=outside)
        reply = lab.raw("POST", f"{owner}/tokens", json=body)
        return TAKEN if reply.is_success else Refused(str(reply.json()["errors"][0]["code"]))

    return try_


# EC2


def launched(clouds: Clouds, tags: dict[str, str], **options: Any) -> Refused:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    specifications = [{"ResourceType": "instance", "Tags": listed}]
    ec2 = clouds.client("ec2")
    return tried(
        lambda: ec2.run_instances(
            MinCount=1, MaxCount=1, ImageId=debian(clouds.aws), InstanceType="t3.micro", TagSpecifications=specifications,
            MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"}, **options,
        )
    )  # fmt: skip


def ec2_tags(clouds: Clouds, outside: bool) -> Refused:
    return launched(clouds, {f"k{index}": "x" for index in range(50 + outside)})


def tag_key(clouds: Clouds, outside: bool) -> Refused:
    return launched(clouds, {"k" * (128 + outside): "x"})


def tag_value(clouds: Clouds, outside: bool) -> Refused:
    return launched(clouds, {"k": "x" * (256 + outside)})


def managed_policies(clouds: Clouds, outside: bool) -> Refused:
    iam = clouds.client("iam")
    iam.create_role(RoleName="workloads", AssumeRolePolicyDocument=TRUST)
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = [iam.create_policy(PolicyName=f"p{each}", PolicyDocument=document)["Policy"]["Arn"] for each in range(11)]
    for arn in made[: 9 + outside]:
        iam.attach_role_policy(RoleName="workloads", PolicyArn=arn)
    return tried(lambda: iam.attach_role_policy(RoleName="workloads", PolicyArn=made[-1]))


def with_disk(clouds: Clouds, **ebs: Any) -> Refused:
    return tried(lambda: clouds.aws.run(BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": ebs}]))


def tag_characters(clouds: Clouds, outside: bool) -> Refused:
    return launched(clouds, {"a b" if outside else "aZ9-_+=.@:": "x"})


def group_rules(clouds: Clouds, outside: bool) -> Refused:
    """The port of the site and that of the agents are open to all, and SSH to the rest. IPv6 has rules of its own."""
    networks = [f"10.0.{index}.0/24" for index in range(58 + outside)]
    given = settings(joins=["site/www"], ssh={"user": "admin", "keyName": "k", "from": networks}, ipv6=True)
    found = account_limits.rules(given, given.fleets, account(clouds), "us-west-2", lambda: Ranges(v4=()))
    agrees(found.faults, "ec2-group-rules", outside=outside)
    ec2 = clouds.client("ec2")
    group = ec2.create_security_group(GroupName="g", Description="g")["GroupId"]

    def rule(port: int, ranges: Sequence[str], v6: Sequence[str] = ()) -> dict[str, Any]:
        listed = {"IpRanges": [{"CidrIp": each} for each in ranges], "Ipv6Ranges": [{"CidrIpv6": each} for each in v6]}
        return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **listed}

    everybody = [rule(port, ["0.0.0.0/0"], ["::/0"]) for port in (80, 4217)]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=everybody)
    return tried(lambda: ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule(22, networks)]))


def groups(clouds: Clouds, outside: bool) -> Refused:
    ec2, quotas = clouds.client("ec2"), clouds.aws.aws.regions["us-west-2"].quotas
    quotas.raised[GROUPS] = len(ec2.describe_security_groups()["SecurityGroups"]) + (not outside)
    agrees(account_limits.groups(settings().fleets, account(clouds), "us-west-2").faults, "ec2-groups", outside=outside)
    return tried(lambda: ec2.create_security_group(GroupName="g", Description="g"))


def in_vpcs(clouds: Clouds, fleet: FleetSettings) -> Sequence[str]:
    """The faults of a fleet that chooses its network."""
    given = Settings(fleets=(fleet,))
    chosen, _ = vpcs.resolved(given, [fleet], "us-west-2", clouds.client)
    made = {fleet.name: Births(fleet=fleet.name, made=fleet.count, replaced=0, there=0)}
    return vpcs.check(replace(given, vpcs=chosen), [fleet], "us-west-2", clouds.client, made).faults


def groups_of_interface(clouds: Clouds, outside: bool) -> Refused:
    ec2 = clouds.client("ec2")
    vpc = make_vpc(ec2, public=1)
    named = [vpc.group] + [
        ec2.create_security_group(GroupName=f"g{number}", Description="g", VpcId=vpc.id)["GroupId"]
        for number in range(3 + outside)
    ]
    fleet = replace(settings().fleets[0], vpc=vpc.id, security_groups=tuple(named))
    agrees(in_vpcs(clouds, fleet), "ec2-groups-of-interface", outside=outside)
    own = ec2.create_security_group(GroupName="own", Description="g", VpcId=vpc.id)["GroupId"]
    return tried(lambda: ec2.create_network_interface(SubnetId=vpc.public[0], Groups=[*named, own]))


def elastic(clouds: Clouds, outside: bool) -> Refused:
    """The quota is 5, and a machine needs two."""
    ec2 = clouds.client("ec2")
    for _ in range(3 + outside):
        ec2.allocate_address(Domain="vpc")
    fleet = replace(settings(count=1).fleets[0], stable_addresses=True)
    faults = account_limits.addresses([fleet], account(clouds), "us-west-2").faults
    agrees(faults, "ec2-elastic-addresses", outside=outside)
    return [tried(lambda: ec2.allocate_address(Domain="vpc")) for _ in range(2)][-1]


def in_a_subnet(clouds: Clouds, outside: bool) -> Refused:
    """A /28 has 16 addresses, of which EC2 keeps five."""
    ec2 = clouds.client("ec2")
    vpc = make_vpc(ec2, public=1)
    fleet = replace(settings(count=11 + outside).fleets[0], vpc=vpc.id)
    agrees(in_vpcs(clouds, fleet), "ec2-subnet-addresses", outside=outside)
    return [tried(lambda: ec2.create_network_interface(SubnetId=vpc.public[0])) for _ in range(11 + outside)][-1]


def vcpus(clouds: Clouds, outside: bool) -> Refused:
    """The quota is 4, and a t3.micro has two."""
    given = settings(count=2 + outside)
    agrees(check_ec2(given.fleets, "local", "us-west-2", clouds.client).faults, "ec2-vcpus", outside=outside)
    replies = [launched(clouds, {"k": "x"}) for _ in range(2 + outside)]
    return replies[-1]


def spread(clouds: Clouds, outside: bool) -> Refused:
    """Seven machines run in the only zone."""
    clouds.aws.aws.regions["us-west-2"].ec2._vcpu_limit = 100
    given = settings(count=7 + outside, placement="spread", zones=["us-west-2b"])
    found = check_ec2(given.fleets, "local", "us-west-2", clouds.client)
    agrees([each for each in found.faults if "placement" in each], "ec2-spread", outside=outside)
    clouds.client("ec2").create_placement_group(GroupName="web", Strategy="spread")
    placement = {"GroupName": "web", "AvailabilityZone": "us-west-2b"}
    clouds.aws.run(6 + outside, Placement=placement)
    return tried(lambda: clouds.aws.run(Placement=placement))


def placement_groups(clouds: Clouds, outside: bool) -> Refused:
    ec2 = clouds.client("ec2")
    for number in range(499 + outside):
        ec2.create_placement_group(GroupName=f"web-{number}", Strategy="partition")
    found = account_limits.placement_groups(settings(placement="partition").fleets, account(clouds), "us-west-2")
    agrees(found.faults, "ec2-placement-groups", outside=outside)
    return tried(lambda: ec2.create_placement_group(GroupName="one-more", Strategy="partition"))


# IAM, SSM and S3


def policy(characters: int) -> str:
    statement = {"Effect": "Allow", "Action": "route53:GetChange", "Resource": "arn:aws:s3:::"}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    bare = len("".join(json.dumps(document).split()))
    statement["Resource"] += "x" * (characters - bare)
    return json.dumps(document)


def role_policy(clouds: Clouds, outside: bool) -> Refused:
    iam, text = clouds.client("iam"), policy(10_240 + outside)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST)
    return tried(lambda: iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=text))


def user_policy(clouds: Clouds, outside: bool) -> Refused:
    iam, text = clouds.client("iam"), policy(2048 + outside)
    iam.create_user(UserName="u")
    return tried(lambda: iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=text))


def of_iam(what: str, quota: str, name: str, cloud: str, make: Callable[[Any], object]) -> Try:
    def try_(clouds: Clouds, outside: bool) -> Refused:
        iam = clouds.client("iam")
        used = iam.get_account_summary()["SummaryMap"][what]
        backend = clouds.aws.aws._moto.iam
        setattr(backend.account_summary, quota, used + (not outside))
        agrees(account_limits.iam(settings(cloud), account(clouds)).faults, name, outside=outside)
        return tried(lambda: make(iam))

    return try_


def ssm_value(clouds: Clouds, outside: bool) -> Refused:
    value, ssm = "x" * (4096 + outside), clouds.client("ssm")
    return tried(lambda: ssm.put_parameter(Name="/rollcall/a/b/c", Value=value, Type="SecureString"))


def ssm_parameters(clouds: Clouds, outside: bool) -> Refused:
    """A fleet of a service has two parameters: the key of probes, and the image."""
    api, ssm = clouds.aws.aws.regions["us-west-2"].ssm, clouds.client("ssm")
    for index in range(3 + outside):
        ssm.put_parameter(Name=f"/other/{index}", Value="x", Type="String")
    api.most_standard = 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(account_limits, "MOST_PARAMETERS", 5)
        found = account_limits.parameters(settings(), settings().fleets, account(clouds), "us-west-2")
    agrees(found.faults, "ssm-parameters", outside=outside)
    names = ["/rollcall/local/web/probe-key", "/rollcall/local/web/image-1"]
    replies = [tried(lambda each=each: ssm.put_parameter(Name=each, Value="x", Type="String")) for each in names]  # type: ignore[misc]
    return replies[-1]


def buckets(clouds: Clouds, outside: bool) -> Refused:
    s3, quotas = clouds.client("s3"), clouds.aws.aws.regions["us-west-2"].quotas
    there = {"LocationConstraint": "us-west-2"}
    s3.create_bucket(Bucket="other-bucket", CreateBucketConfiguration=there)
    for each in clouds.aws.aws.regions.values():
        each.quotas.raised[BUCKETS] = 1 + (not outside)
    assert quotas.raised
    agrees(account_limits.buckets(settings(), account(clouds)).faults, "s3-buckets", outside=outside)
    return tried(lambda: s3.create_bucket(Bucket="rollcall-releases", CreateBucketConfiguration=there))


# Triton


def body(clouds: Clouds, outside: bool) -> Refused:
    usual = {"package": "g1.nano", "image": clouds.triton.image("debian-12"), "metadata.user-script": ""}
    bare = len(json.dumps(usual))
    usual["metadata.user-script"] = "x" * (100_000 + outside - bare)
    return of_triton(clouds, usual)


def of_triton(clouds: Clouds, fields: dict[str, Any]) -> Refused:
    reply = clouds.triton.raw("POST", "/machines", fields)
    return TAKEN if reply.status_code == 201 else Refused(str(reply.json()["code"]))


def triton_quota(clouds: Clouds, outside: bool) -> Refused:
    fields = {"package": "g1.nano", "image": clouds.triton.image("debian-12")}
    replies = [of_triton(clouds, fields) for _ in range(1 + outside)]
    return replies[-1]


def triton_disks(clouds: Clouds, outside: bool) -> Refused:
    disks = [{"size": 20480}, *[{"size": 1}] * (7 + outside)]
    return of_triton(clouds, {"package": "b1.small", "image": clouds.triton.image("debian-12-hvm"), "disks": disks})


def triton_disk_space(clouds: Clouds, outside: bool) -> Refused:
    disks = [{"size": 20480}, {"size": 30720 + outside}]
    return of_triton(clouds, {"package": "b1.small", "image": clouds.triton.image("debian-12-hvm"), "disks": disks})


TRIES: dict[str, Try] = {
    "dns-name": dns_name,
    "dns-set-name": dns_name,
    "dns-site-name": site_name,
    "dns-label": dns_label,
    "dns-sd-txt-string": txt_string,
    "route53-batch-characters": batch,
    "route53-upsert-characters": upsert,
    "route53-set-values": set_values,
    "route53-ptr-values": ptr_values,
    "route53-value-length": value_length,
    "route53-zone-records": zone_records,
    "route53-hosted-zones": hosted_zones,
    "route53-zone-vpcs": zone_vpcs,
    "route53-zone-tags": zone_tags,
    "cloudflare-zone-records": cloudflare_records,
    "cloudflare-set-characters": cloudflare_set,
    "cloudflare-comment": comment,
    "cloudflare-user-tokens": tokens("/user", 50, "cloudflare-user-tokens"),
    "cloudflare-account-tokens": tokens("/accounts/{account}", 500, "cloudflare-account-tokens"),
    "ec2-tags": ec2_tags,
    "ec2-tag-key": tag_key,
    "ec2-tag-value": tag_value,
    "ec2-setting-tag": tag_value,
    "ec2-tag-characters": tag_characters,
    "ec2-volume-size": lambda clouds, outside: with_disk(clouds, VolumeType="gp2", VolumeSize=16_384 + outside),
    "ec2-volume-iops": lambda clouds, outside: with_disk(clouds, VolumeType="gp3", VolumeSize=8, Iops=4_000 + outside),
    "ec2-volume-throughput": lambda clouds, outside: with_disk(clouds, VolumeType="gp3", Throughput=750 + outside),
    "ec2-group-rules": group_rules,
    "ec2-groups": groups,
    "ec2-groups-of-interface": groups_of_interface,
    "ec2-elastic-addresses": elastic,
    "ec2-subnet-addresses": in_a_subnet,
    "ec2-vcpus": vcpus,
    "ec2-spread": spread,
    "ec2-placement-groups": placement_groups,
    "iam-managed-policies": managed_policies,
    "iam-own-policy": role_policy,
    "iam-role-policy": role_policy,
    "iam-user-policy": user_policy,
    "iam-roles": of_iam(
        "Roles", "_roles_quota", "iam-roles", "aws",
        lambda iam: iam.create_role(RoleName="r", AssumeRolePolicyDocument=TRUST),
    ),
    "iam-instance-profiles": of_iam(
        "InstanceProfiles", "_instance_profiles_quota", "iam-instance-profiles", "aws",
        lambda iam: iam.create_instance_profile(InstanceProfileName="p"),
    ),
    "iam-users": of_iam("Users", "_users_quota", "iam-users", "joyent", lambda iam: iam.create_user(UserName="u")),
    "ssm-value": ssm_value,
    "ssm-parameters": ssm_parameters,
    "s3-buckets": buckets,
    "cloudapi-body": body,
    "triton-quota": triton_quota,
    "triton-disks": triton_disks,
    "triton-disk-space": triton_disk_space,
}  # fmt: skip


def test_every_row_with_a_code_is_tried() -> None:
    assert sorted(TRIES) == sorted(name for name, row in rows().items() if row.refusal)


@pytest.mark.parametrize("name", TRIES)
def test_what_is_just_inside_is_taken(clouds: Clouds, name: str) -> None:
    assert TRIES[name](clouds, False) == TAKEN


@pytest.mark.parametrize("name", TRIES)
def test_what_is_just_outside_is_refused_with_the_documented_code(clouds: Clouds, name: str) -> None:
    assert TRIES[name](clouds, True) == Refused(rows()[name].refusal)


def test_the_names_of_parameters_and_roles_have_limits_too(clouds: Clouds) -> None:
    ssm, iam = clouds.client("ssm"), clouds.client("iam")
    arn = len(f"arn:aws:ssm:us-west-2:{clouds.aws.aws.account}:parameter")

    def parameter(name: str) -> Refused:
        return tried(lambda: ssm.put_parameter(Name=name, Value="x", Type="String"))

    assert parameter("/" + "n" * (1011 - arn - 1)) == TAKEN
    assert parameter("/" + "n" * (1011 - arn)) == Refused("ValidationException")
    assert parameter("/a" * 15) == TAKEN and parameter("/a" * 16) == Refused("HierarchyLevelLimitExceededException")
    for length, expected in ((64, TAKEN), (65, Refused("ValidationError"))):
        assert tried(lambda: iam.create_role(RoleName="r" * length, AssumeRolePolicyDocument=TRUST)) == expected  # noqa: B023
        assert tried(lambda: iam.create_user(UserName="u" * length)) == expected  # noqa: B023
    for length, expected in ((128, TAKEN), (129, Refused("ValidationError"))):
        assert tried(lambda: iam.create_instance_profile(InstanceProfileName="p" * length)) == expected  # noqa: B023


def test_a_user_has_two_access_keys(clouds: Clouds) -> None:
    iam = clouds.client("iam")
    iam.create_user(UserName="u")
    replies = [tried(lambda: iam.create_access_key(UserName="u")) for _ in range(3)]
    assert replies == [TAKEN, TAKEN, Refused("LimitExceeded")]


@pytest.mark.parametrize(("size", "expected"), [(16_384, TAKEN), (16_385, Refused("InvalidParameterValue"))])
def test_user_data_has_16384_bytes(clouds: Clouds, size: int, expected: Refused) -> None:
    assert launched(clouds, {"k": "x"}, UserData="x" * size) == expected


def test_a_raised_quota_is_read(clouds: Clouds) -> None:
    networks = [f"10.0.{index}.0/24" for index in range(70)]
    given = settings(joins=["site/www"], ssh={"user": "admin", "keyName": "k", "from": networks})

    def faults() -> Sequence[str]:
        return account_limits.rules(given, given.fleets, account(clouds), "us-west-2", lambda: Ranges(v4=())).faults

    assert len(faults()) == 1
    clouds.aws.aws.regions["us-west-2"].quotas.raised[RULES] = 100
    assert [*faults()] == []
