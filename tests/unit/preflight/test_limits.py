"""docs/limits.md: for each row a configuration just inside, which has no fault, and one just outside, which has the documented one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.models import FleetSettings, FleetVpc, Settings, Subnet
from components.config.reader import read, read_whole
from components.config.site_zones import zones_of
from components.joyent.machine_checks import _LONGEST_NAME_IN_DNS, LARGEST_BODY
from components.joyent.records import ImageRecord, PackageRecord
from components.preflight import (
    account_limits,
    aws_tags,
    checks,
    cloudflare_tokens,
    ec2_zones,
    policy_sizes,
    record_sizes,
    vpcs,
)
from components.preflight.account_limits import Account, record_sets_needed, rule_counts
from components.preflight.cloudflare_zone import FoundZone, room_fault
from components.preflight.quotas import Births, Found, Quota, check_triton, over
from components.preflight.state import PriorState
from components.resources import firewall, userdata
from components.resources.dns_credentials import _ASSUME, POLICY, token_name
from components.resources.release_files import key_of
from components.resources.releases import claims_of
from components.resources.service_directory import static_records
from components.workloads.definitions import packed
from rollcall.settings import CloudflareJoin
from tests.limits_page import PAGE, kept, rows

ZONE = "unilans.net"
Faults = Sequence[str]


def fleet(joins: Sequence[str] = ("site/www",), cloud: str = "aws", **more: Any) -> dict[str, Any]:
    return {"cloud": cloud, "count": 1, "size": "s", "image": "debian-12", "joins": [*joins], **more}


def directory(zone: str = ZONE, incarnations: Mapping[str, Any] | None = None) -> dict[str, Any]:
    services = {"theService": {"port": 4218, "incarnations": incarnations or {"v1": {}}}}
    return {"zone": zone, "services": services}


def given(
    fleets: Mapping[str, Any] | None = None,
    services: Mapping[str, Any] | None = None,
    *,
    stack: str = "local",
    **more: Any,
) -> Settings:
    texts: dict[str, Any] = {"fleets": fleets or {"web": fleet()}, **more}
    joins = [join for each in texts["fleets"].values() for join in each["joins"]]
    texts.setdefault(
        "sites", {"www": {"zone": "scalability.expert", "maxRecords": 100_000}} if "site/www" in joins else {}
    )
    if services is not None:
        texts["serviceDiscovery"] = services
    return read(stack, texts)


def checked(make: Callable[[], Settings], then: Callable[[Settings], Faults] = lambda _: ()) -> Faults:
    """What the configuration shows by itself, and then what the preflight says."""
    try:
        return [*then(make())]
    except ConfigurationError as wrong:
        return wrong.faults


@dataclass(frozen=True, kw_only=True)
class Case:
    """The faults of a configuration at the limit, and of one that is one more."""

    inside: Callable[[], Faults]
    outside: Callable[[], Faults]


def at(limit: int, faults: Callable[[int], Faults]) -> Case:
    return Case(inside=lambda: faults(limit), outside=lambda: faults(limit + 1))


# DNS


def zone_vpcs(count: int) -> Faults:
    """A private zone that is made with so many VPCs."""
    private = {"private": True, "create": True, "vpcs": [f"vpc-{number:017x}" for number in range(count)]}
    return checked(lambda: given({"web": fleet(["theService/v1"])}, {**directory(), **private}))


def zone_of(length: int) -> str:
    """A zone with so many characters."""
    labels = ["a" * 50] * 6
    name = ".".join(labels)[: length - 4].rstrip(".")
    return f"{name}{'b' * (length - 4 - len(name))}.net"


def a_name(length: int) -> Faults:
    # The longest name in the zone is that of the enumeration.
    zone = zone_of(length - len("_services._dns-sd._udp."))
    return checked(lambda: given(services=directory(zone)), record_sizes.faults)


def a_set_name(length: int) -> Faults:
    label = "v" * (length - len(f"._theService._tcp.{zone_of(180)}"))
    return checked(lambda: given(services=directory(zone_of(180), {label: {}})))


def a_site_name(length: int) -> Faults:
    host = zone_of(length - len("000000.c.rc..scalability.expert"))
    sites = {"www": {"zone": "scalability.expert"}, "far": {"zone": "scalability.expert", "host": host, "apex": False}}
    found = checked(lambda: read_whole("local", {"sites": sites, "fleets": {"web": fleet()}})[0], record_sizes.faults)
    return [each for each in found if "far" in each]


def a_label(length: int) -> Faults:
    name = "v" * length
    return checked(lambda: given({"web": fleet([f"theService/{name}"])}, directory(ZONE, {name: {}})))


def a_service(length: int) -> Faults:
    name = "s" * length
    services = {"zone": ZONE, "services": {name: {"port": 4218, "incarnations": {"v1": {}}}}}
    return checked(lambda: given({"web": fleet([f"{name}/v1"])}, services))


def a_txt(txt: Mapping[str, str]) -> Faults:
    return checked(lambda: given(services=directory(ZONE, {"v1": {"txt": txt}})), record_sizes.faults)


def text(length: int) -> str:
    """Return words, which do not look like a secret."""
    return ("word " * length)[:length]


def txt_of(total: int) -> dict[str, str]:
    """TXT keys and values of so many bytes on the wire: each string has a byte for its length."""
    sizes = [200] * (total // 200) + [total % 200 or 200]
    sizes = sizes if sum(sizes) == total else [200] * (total // 200)
    return {f"k{index}": text(size - len(f"k{index}=") - 1) for index, size in enumerate(sizes)}


# Route53


def a_batch(more: int) -> Faults:
    """A set of 400 values of 40 characters, which are exactly 32,000 characters with the old ones. `more`: of the zone's name."""
    bare = len(f"10 10 4218 000000-0000.rc.{ZONE}.")
    zone = f"{'x' * (40 - bare + more)}{ZONE}"
    return checked(lambda: given({"a": fleet(["theService/v1"], count=200)}, directory(zone)), record_sizes.faults)


def ptr_values(count: int) -> Faults:
    shards = {"va": 100, "vb": 100, "vc": 100, "vd": 99, "ve": 1}
    incarnations = {name: {"shards": number} for name, number in shards.items()}
    if count > 400:
        incarnations["vf"] = {"shards": count - 400}
    services = directory("a.b", incarnations)
    return checked(lambda: given({"web": fleet(["theService/ve"])}, services), record_sizes.faults)


def _characters(settings: Settings) -> int:
    assert settings.service_discovery
    sets = static_records(settings.service_discovery)
    return max(2 * sum(map(len, each.wire)) for each in sets if each.type == "PTR")


def upsert(characters: int) -> Faults:
    """A PTR set with so many characters, counted twice, of the names of services: each name in it is as long as is needed."""
    settings = _with_ptr_characters(characters // 2)
    if characters % 2 == 0:
        assert _characters(settings) == characters
    return record_sizes.faults(settings)


def _with_ptr_characters(wanted: int) -> Settings:
    """Incarnations whose PTR values have so many characters together."""
    end = len(f"._theService._tcp.{zone_of(180)}.")
    count = wanted // (end + 50)
    rest = wanted - count * (end + 40)
    sizes = [40 + rest // count + (1 if index < rest % count else 0) for index in range(count)]
    names = [f"v{index:03d}{'x' * (size - 4)}" for index, size in enumerate(sizes)]
    assert max(sizes) <= 63 and sum(size + end for size in sizes) == wanted
    return given(services=directory(zone_of(180), {each: {} for each in names}))


def a_value(length: int) -> Faults:
    """A TXT value of so many characters: a byte that is not ASCII takes four, and 1,300 bytes are the most."""
    # Five strings of 1,000 bytes with escapes, and one that fills the rest.
    txt, left = {}, length - 2
    for index in range(4):
        txt[f"k{index}"] = "é" * 120
        left -= len(f"k{index}=") + 960 + len('" "')
    txt["z"] = text(left - len("z="))
    return a_txt(txt)


class Route53:
    """Answers about limits, and a zone with a number of record sets, of which each of `stacks` has two machines."""

    def __init__(self, *, limit: int, count: int, stacks: Sequence[str] = ()) -> None:
        self._limit, self._stacks = {"Limit": {"Value": limit}, "Count": count}, stacks

    def get_account_limit(self, **_: str) -> Any:
        return self._limit

    def get_hosted_zone_limit(self, **_: str) -> Any:
        return self._limit

    def get_paginator(self, _: str) -> Any:
        listed: list[dict[str, Any]] = [
            {"Name": f"www.{ZONE}.", "Type": "A", "ResourceRecords": [{"Value": "192.0.2.1"}]}
        ]
        for stack in self._stacks:
            for machine in (0, 1):
                name = f"{stack}{machine}.rc.{ZONE}."
                mark = f'"rollcall/1 {stack} web {machine} 1f2e3d i-00000000"'
                listed += [{"Name": name, "Type": "A", "ResourceRecords": [{"Value": "192.0.2.1"}]}]
                listed += [{"Name": name, "Type": "TXT", "ResourceRecords": [{"Value": mark}]}]
        return SimpleNamespace(paginate=lambda **_: [{"ResourceRecordSets": listed}])


def account(state: Mapping[str, Any] | None = None, **clients: Any) -> Account:
    """An account with these clients, by service, and a state with nothing unless it is given."""
    named = {name.replace("_", "-"): each for name, each in clients.items()}
    return Account(client=lambda service, region="": named[service], region="us-west-2", state=PriorState(state or {}))


def zone_records(others: int) -> Faults:
    """Two machines of the stack are there, with two record sets each. Those of another stack are records of others."""
    settings = given({"web": fleet(["theService/v1"], count=2)}, directory())
    route53 = Route53(limit=10_000, count=others + 4, stacks=["local", "other"])
    return account_limits.zone_records(settings, account(route53=route53), "Z1").faults


def hosted_zones(there: int) -> Faults:
    settings = given({"web": fleet(["theService/v1"], count=0)}, {**directory(), "create": True})
    assert settings.service_discovery
    route53 = Route53(limit=500, count=there)
    return account_limits.hosted_zones(settings.service_discovery, account(route53=route53)).faults


MARKS = {"rollcall-stack": "local", "rollcall-project": "rollcall", "managed-by": "pulumi"}


def tagged(tags: Mapping[str, str], settings: Settings | None = None) -> Faults:
    return aws_tags.faults(settings or given(), MARKS, json.dumps({"tags": tags}), {})


def tags(count: int) -> dict[str, str]:
    return {f"own-{index}": "x" for index in range(count)}


def instance_tags(count: int) -> Faults:
    kinds = {each.name: each for each in aws_tags.kinds_of(given(), tuple(MARKS))}
    found = tagged(tags(count - len(kinds["EC2 instance"].ours)))
    return [each for each in found if "EC2 instance" in each]


def zone_tags(count: int) -> Faults:
    settings = given({"web": fleet(["theService/v1"], cloud="joyent", count=0)}, {**directory(), "create": True})
    return tagged(tags(count - len(MARKS)), settings)


# Cloudflare


def zone_of_others(others: int) -> Faults:
    settings = read("local", {"sites": {"www": {"zone": "s.example"}}, "fleets": {"web": fleet(count=10)}})
    api: Any = SimpleNamespace(all=lambda *_, **__: [{"name": f"n{index}.s.example"} for index in range(others)])
    zone = FoundZone(
        id="1", name="s.example", status="active", paused=False, type="full", account="", account_name="", plan="free",
        created_on="2026-01-01",
    )  # fmt: skip
    fault = room_fault(api, settings, zones_of(settings)[0], zone)
    return [fault] if fault else []


def addresses(count: int) -> Faults:
    """The largest fleet counts twice."""
    fleets = {"a": fleet(count=100), "b": fleet(count=100), "c": fleet(count=100), "d": fleet(count=100)}
    fleets["e"] = fleet(count=count - 500)
    return checked(lambda: given(fleets), record_sizes.faults)


def comment(length: int) -> Faults:
    name = "f" * 30
    bare = len(f"rollcall/1  {name} 0 000000 00000000-0000-0000-0000-000000000000")
    return checked(lambda: given({name: fleet()}, stack="s" * (length - bare)))


def tokens(owner: str, there: int) -> Faults:
    api: Any = SimpleNamespace(all=lambda path: [{}] * there)
    return cloudflare_tokens.room_faults(api, owner, given(), PriorState({}))


# EC2


class Quotas:
    """Service Quotas that were never raised, unless `raised`."""

    class exceptions:
        class NoSuchResourceException(Exception):
            pass

    def __init__(self, default: float, raised: float | None = None) -> None:
        self._default, self._raised = default, raised

    def get_service_quota(self, **_: str) -> Any:
        if self._raised is None:
            raise self.exceptions.NoSuchResourceException
        return {"Quota": {"Value": self._raised}}

    def get_aws_default_service_quota(self, **_: str) -> Any:
        return {"Quota": {"Value": self._default}}


def networks(count: int) -> list[str]:
    return [f"10.0.{index}.0/24" for index in range(count)]


def rules(count: int, raised: float | None = None) -> Faults:
    """Port 80, the port of the agents, and SSH from so many networks that there are `count` rules."""
    ssh = {"user": "admin", "keyName": "k", "from": networks(count - 2)}
    settings = given({"web": fleet(ssh=ssh)})
    quotas = account(service_quotas=Quotas(60, raised))
    return account_limits.rules(settings, settings.fleets, quotas, "us-west-2", lambda: firewall.Ranges(v4=())).faults


def paged(**pages: Sequence[Any]) -> Any:
    return SimpleNamespace(get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [pages]))


def groups(there: int, raised: float | None = None) -> Faults:
    clients = {"ec2": paged(SecurityGroups=[{}] * there), "service_quotas": Quotas(2500, raised)}
    return account_limits.groups(given().fleets, account(**clients), "us-west-2").faults


def spread(count: int) -> Faults:
    """One fleet in two zones, of which a third one is not used."""
    settings = given({"web": fleet(count=2 * count, placement="spread", zones=["eu-west-1a", "eu-west-1b"])})
    subnets = [{"AvailabilityZone": f"eu-west-1{letter}", "AvailabilityZoneId": ""} for letter in "abc"]
    zones = [each["AvailabilityZone"] for each in subnets]
    return ec2_zones.faults(settings.fleets, "eu-west-1", {"s": zones}, subnets)


def placement_groups(there: int) -> Faults:
    settings = given({"web": fleet(placement="partition")})
    ec2: Any = SimpleNamespace(describe_placement_groups=lambda: {"PlacementGroups": [{}] * there})
    return account_limits.placement_groups(settings.fleets, account(ec2=ec2), "us-west-2").faults


def a_network(free: int = 11, groups: Sequence[str] = ()) -> vpcs.Network:
    """A VPC with one subnet."""
    return vpcs.Network(
        region="us-west-2",
        vpcs=[{"VpcId": "vpc-1"}],
        subnets=[{"SubnetId": "subnet-1", "VpcId": "vpc-1", "AvailableIpAddressCount": free}],
        tables=[],
        groups=[{"GroupId": each, "GroupName": each, "VpcId": "vpc-1"} for each in groups],
        endpoints=[],
        offered={},
    )


def groups_of_interface(count: int) -> Faults:
    names = tuple(f"sg-{number}" for number in range(count))
    return [*a_network(groups=names).group_faults(replace(given().fleets[0], security_groups=names), "vpc-1", 5)]


def elastic(there: int) -> Faults:
    """A fleet of one machine needs two addresses."""
    ec2 = SimpleNamespace(describe_addresses=lambda: {"Addresses": [{}] * there})
    stable = replace(given().fleets[0], count=1, stable_addresses=True)
    clients: dict[str, Any] = {"ec2": ec2, "service_quotas": Quotas(5)}
    return account_limits.addresses([stable], account(**clients), "us-west-2").faults


def in_a_subnet(count: int) -> Faults:
    place = FleetVpc(id="vpc-1", subnets=(Subnet(id="subnet-1", zone="us-west-2a"),))
    births = Births(fleet="web", made=count, replaced=0, there=0)
    return a_network().room([(births, given().fleets[0], place)]).faults


def vcpus(count: int) -> Faults:
    quota = Quota(what="vCPUs", value=5, used=2, fix="Ask for {need}")
    births = Births(fleet="web", made=count - 2, replaced=0, there=1)
    return over(quota, [(births, 1.0)], again=[]).faults


def setting_tag(length: int) -> Faults:
    """The machine setting of the site, in which only the check has no limit of its own."""
    bare = len(checks_words("/"))
    return checked(lambda: given(sites={"www": {"zone": "s.example", "check": f"http:80:/{'c' * (length - bare)}"}}))


def checks_words(path: str) -> str:
    from components.config import checks as config_checks

    settings = given(sites={"www": {"zone": "s.example", "check": f"http:80:{path}x"}})
    words = config_checks._site_join(settings, settings.sites[0], settings.fleets[0])
    assert words.startswith(CloudflareJoin.KIND)
    return words[:-1]


# IAM, SSM and S3


def policy(cloud: str, kind: str, over_limit: int) -> Faults:
    """A policy with exactly the characters that IAM takes, or more: the zone's id, which is in it three times, fills it."""
    shards = {"user": 18, "role": 70}[kind]
    services = directory(ZONE, {f"v{each}": {"shards": shards} for each in range(1, 4)})
    joins = ["theService/v1"] if kind == "user" else [f"theService/v{each}" for each in range(1, 4)]
    settings = given({"web": fleet(joins, cloud=cloud)}, services)

    def length(zone: str) -> int:
        own = settings.fleets[0]
        home = "arn:aws:ssm:us-west-2:000000000000:parameter/rollcall/local/web"
        objects = f"arn:aws:s3:::{'b' * 63}/releases/*"
        arn = f"arn:aws:route53:::hostedzone/{zone}"
        return policy_sizes.len_of(policy_sizes.document(settings, own, arn, lambda short: f"{home}/{short}", objects))

    room = policy_sizes.MOST[kind] - length("")
    zone = "Z" * (room // 3 + over_limit)
    assert (length(zone) > policy_sizes.MOST[kind]) is bool(over_limit)
    return policy_sizes.faults(settings, zone=zone, region="us-west-2")


def iam(kind: str, quota: int, there: int, settings: Settings | None = None) -> Faults:
    summary = {
        "Roles": 0,
        "RolesQuota": 9,
        "InstanceProfiles": 0,
        "InstanceProfilesQuota": 9,
        "Users": 0,
        "UsersQuota": 9,
    }
    summary |= {kind: there, f"{kind}Quota": quota}
    client = SimpleNamespace(get_account_summary=lambda: {"SummaryMap": summary})
    return account_limits.iam(settings or given(), account(iam=client)).faults


def triton_service() -> Settings:
    return given({"web": fleet(["theService/v1"], cloud="joyent")}, directory())


def secret(size: int) -> Faults:
    workload = {"run": "/usr/bin/app", "secrets": {"key": "s" * size}}
    return checked(lambda: given({"web": fleet(runs=["app"])}, workloads={"app": workload}))


def ssm(there: int) -> Faults:
    """A fleet at a site has three parameters: the key of probes, the token, and the image."""
    settings = given()
    client = paged(Parameters=[{"Tier": "Standard"}] * there)
    return account_limits.parameters(settings, settings.fleets, account(ssm=client), "us-west-2").faults


def buckets(there: int, raised: float | None = None) -> Faults:
    s3 = SimpleNamespace(list_buckets=lambda: {"Buckets": [{}] * there})
    return account_limits.buckets(given(), account(s3=s3, service_quotas=Quotas(10_000, raised))).faults


# Triton


def body(size: int, folder: Path) -> Faults:
    """A workload of so many bytes that cannot be compressed. Each is in another folder, because a folder is packed once."""
    (folder / f"app{size}").mkdir(exist_ok=True)
    (folder / f"app{size}/start").write_bytes(_NOISE[:size])
    texts = {"app": {"files": f"app{size}", "run": "./start"}}
    settings = packed(given({"web": fleet(cloud="joyent", runs=["app"])}, workloads=texts), folder)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "project_folder", lambda: folder)
        return checks.carried_faults(settings)


_NOISE = os.urandom(LARGEST_BODY)


@dataclass(frozen=True)
class Body:
    """Finds the largest workload that fits."""

    folder: Path

    def largest(self) -> int:
        fits, exceeds = 0, LARGEST_BODY
        while exceeds - fits > 1:
            middle = (fits + exceeds) // 2
            if body(middle, self.folder):
                exceeds = middle
            else:
                fits = middle
        return fits


def triton_quota(used: int) -> Faults:
    api = SimpleNamespace(
        list_machines=lambda **_: [],
        get_limits=lambda: [{"by": "machines", "value": 3, "used": used}],
        list_packages=list,
    )
    far = FleetSettings(name="web", cloud="joyent", count=2, size="g1.nano", image="debian-12", joins=("site/www",))
    return check_triton((far,), "local", api).faults


def triton_disks(count: int) -> Faults:
    return checked(lambda: given({"web": fleet(cloud="joyent", disks=[1] * count)}))


def triton_disk_space(size: int) -> Faults:
    package = PackageRecord.of({"id": "p", "name": "b1", "memory": 1024, "disk": 51200, "flexible_disk": True})
    image = ImageRecord.of({"id": "i", "name": "vm", "type": "zvol", "requirements": {"brand": "bhyve"}})
    catalogue: Any = SimpleNamespace(image=lambda _: image, package=lambda _: package, packages=lambda: [package])
    api = SimpleNamespace(list_machines=lambda **_: [], get_limits=list)
    far = FleetSettings(
        name="web", cloud="joyent", count=1, size="b1", image="vm", joins=("site/www",), disks=("20480", str(size))
    )
    return check_triton((far,), "local", api, catalogue=catalogue).faults


def managed(count: int) -> Faults:
    arns = [f"arn:aws:iam::123456789012:policy/p{each}" for each in range(count)]
    return checked(lambda: given({"web": fleet(policies={"managed": arns})}))


def own_policy(more: int) -> Faults:
    """Statements with exactly as many characters as IAM takes, and `more`."""

    def settings(size: int) -> Settings:
        statement = {"actions": ["s3:GetObject"], "resources": [f"arn:aws:s3:::{'k' * size}"]}
        return given({"web": fleet(policies={"statements": [statement]})})

    policies = settings(1).fleets[0].policies
    assert policies is not None
    rest = policy_sizes.len_of(policies.document) - 1
    return policy_sizes.faults(settings(10_240 - rest + more), zone="", region="us-west-2")


def disk(**keys: Any) -> Faults:
    return checked(lambda: given({"web": fleet(disk=keys)}))


CASES: dict[str, Case] = {
    "dns-name": at(253, a_name),
    "dns-set-name": at(253, a_set_name),
    "dns-site-name": at(253, a_site_name),
    "dns-label": at(63, a_label),
    "dns-sd-service-name": at(15, a_service),
    "dns-sd-txt-string": at(255, lambda size: a_txt({"k": text(size - 2)})),
    "dns-sd-txt-total": at(1300, lambda size: a_txt(txt_of(size))),
    "route53-batch-characters": at(0, a_batch),
    "route53-upsert-characters": Case(inside=lambda: upsert(32_000), outside=lambda: upsert(32_002)),
    "route53-set-values": at(
        200, lambda count: checked(lambda: given({"a": fleet(["theService/v1"], count=count)}, directory("a.b")))
    ),
    "route53-ptr-values": at(400, ptr_values),
    "route53-value-length": at(4000, a_value),
    "route53-zone-records": at(
        10_000 - record_sets_needed(given({"web": fleet(["theService/v1"], count=2)}, directory())), zone_records
    ),
    "route53-hosted-zones": at(499, hosted_zones),
    "route53-zone-vpcs": at(300, zone_vpcs),
    "route53-zone-tags": at(10, zone_tags),
    "cloudflare-zone-records": at(200 - 21, zone_of_others),
    "cloudflare-set-characters": at(546, addresses),
    "cloudflare-comment": at(100, comment),
    "cloudflare-user-tokens": at(49, lambda there: tokens("/user", there)),
    "cloudflare-account-tokens": at(499, lambda there: tokens("/accounts/1", there)),
    "ec2-tags": at(50, instance_tags),
    "ec2-tag-key": at(128, lambda size: tagged({"k" * size: "x"})),
    "ec2-tag-value": at(256, lambda size: tagged({"k": "x" * size})),
    "ec2-setting-tag": at(256, setting_tag),
    "ec2-tag-characters": Case(inside=lambda: tagged({"a-_+=.@:Z9": "x"}), outside=lambda: tagged({"a b": "x"})),
    "ec2-volume-size": at(16_384, lambda size: disk(type="gp2", size=size)),
    "ec2-volume-iops": at(4_000, lambda iops: disk(size=8, iops=iops)),
    "ec2-volume-throughput": at(750, lambda throughput: disk(throughput=throughput)),
    "ec2-group-rules": at(60, rules),
    "ec2-groups": at(2499, groups),
    "ec2-groups-of-interface": at(4, groups_of_interface),
    "ec2-elastic-addresses": at(3, elastic),
    "ec2-subnet-addresses": at(11, in_a_subnet),
    "ec2-vcpus": at(5, vcpus),
    "ec2-spread": at(7, spread),
    "ec2-placement-groups": at(499, placement_groups),
    "iam-managed-policies": at(10, managed),
    "iam-own-policy": at(0, own_policy),
    "iam-role-policy": at(0, lambda more: policy("aws", "role", more)),
    "iam-user-policy": at(0, lambda more: policy("joyent", "user", more)),
    "iam-roles": at(999, lambda there: iam("Roles", 1000, there)),
    "iam-instance-profiles": at(999, lambda there: iam("InstanceProfiles", 1000, there)),
    "iam-users": at(4999, lambda there: iam("Users", 5000, there, triton_service())),
    "ssm-value": at(4096, secret),
    "ssm-parameters": at(9997, ssm),
    "s3-buckets": at(9999, buckets),
    "triton-quota": at(1, triton_quota),
    "triton-disks": at(8, triton_disks),
    "triton-disk-space": at(30720, triton_disk_space),
}


def test_every_row_has_a_configuration_inside_and_one_outside() -> None:
    assert sorted({*CASES, "cloudapi-body"}) == sorted(rows())


@pytest.mark.parametrize("name", CASES)
def test_just_inside_there_is_no_fault_and_just_outside_the_documented_one(name: str) -> None:
    assert [*CASES[name].inside()] == []
    faults = [*CASES[name].outside()]
    assert any(rows()[name].describes(each) for each in faults), faults
    assert all(each.startswith(("rollcall:", "aws:defaultTags")) and each.endswith((".", ")")) for each in faults)


def test_a_workload_just_inside_the_body_of_a_request_is_carried(tmp_path: Path) -> None:
    largest = Body(tmp_path).largest()
    assert largest > 0 and [*body(largest, tmp_path)] == []
    (fault,) = body(largest + 1, tmp_path)
    assert rows()["cloudapi-body"].describes(fault)


@pytest.mark.parametrize("name", rows())
def test_every_row_names_the_function_and_the_page(name: str) -> None:
    row = rows()[name]
    assert callable(getattr(import_module(row.module), row.function))
    assert "](https://" in row.source and row.number and row.says


def test_a_row_with_too_few_cells_is_not_overlooked() -> None:
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(written) == len(rows()) + len(kept()) > 50


class TestRaised:
    """A quota that AWS has raised is the one that counts."""

    def test_rules(self) -> None:
        assert [*rules(61, raised=100)] == [] and rules(101, raised=100)

    def test_security_groups_and_buckets(self) -> None:
        assert [*groups(2500, raised=3000)] == [] and groups(3000, raised=3000)
        assert [*buckets(10_000, raised=20_000)] == [] and buckets(20_000, raised=20_000)

    def test_roles(self) -> None:
        assert [*iam("Roles", 5000, 4999)] == [] and iam("Roles", 5000, 5000)

    def test_tokens_of_an_owner_who_has_more_already(self) -> None:
        assert [*tokens("/user", 51)] == []


class TestWhatIsThere:
    """What the state has is not made again, and without a state nothing is known."""

    STATE = {
        f"urn:pulumi:local::rollcall::{kind}::{name}": None
        for kind, name in (
            ("aws:iam/role:Role", "web-role"),
            ("aws:iam/instanceProfile:InstanceProfile", "web-profile"),
            ("aws:ec2/securityGroup:SecurityGroup", "web-group"),
            ("aws:s3/bucket:Bucket", "rollcall-releases"),
            *(
                ("aws:ssm/parameter:Parameter", f"web-{each}")
                for each in ("probe-key", "token-scalability_expert", "image")
            ),
        )
    }

    @pytest.mark.parametrize("state", [PriorState(STATE), None], ids=["there", "unknown"])
    def test_nothing_is_asked(self, state: PriorState | None) -> None:
        settings = given()
        unused = Account(client=lambda *_: pytest.fail("was asked"), region="us-west-2", state=state)
        assert account_limits.found(settings, unused, None, lambda: firewall.Ranges(v4=())) == Found()

    def test_an_account_that_is_over_its_quota_can_keep_what_it_has(self) -> None:
        client = SimpleNamespace(
            get_account_summary=lambda: {
                "SummaryMap": {
                    "Roles": 1200, "RolesQuota": 1000, "InstanceProfiles": 0, "InstanceProfilesQuota": 1, "Users": 0,
                    "UsersQuota": 1,
                }
            }
        )  # fmt: skip
        without = {key: value for key, value in self.STATE.items() if "instanceProfile" not in key}
        assert account_limits.iam(given(), account(without, iam=client)).faults == ()


def test_a_quota_that_may_not_be_read_is_a_warning() -> None:
    from botocore.exceptions import ClientError

    def denied() -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetAccountSummary")

    found = account_limits.iam(given(), account(iam=SimpleNamespace(get_account_summary=denied)))
    assert found.faults == ()
    assert found.warnings == (
        "AWS did not show the account's quotas of IAM (AccessDenied), so `up` has not checked that the stack fits into it. "
        "Allow iam:GetAccountSummary.",
    )


def test_ipv4_and_ipv6_rules_are_counted_separately_and_the_edge_counts() -> None:
    ssh = {"user": "admin", "keyName": "k", "from": [*networks(3), "2001:db8::/32"]}
    assert rule_counts(given({"web": fleet(ssh=ssh)}), given({"web": fleet(ssh=ssh)}).fleets[0]) == (5, 1)
    assert rule_counts(given(), replace(given().fleets[0], ipv6=True)) == (2, 2)
    sites = {"www": {"zone": "s.example", "proxied": True}}
    closed = given(sites=sites)
    edge = firewall.Ranges(v4=("192.0.2.0/24", "198.51.100.0/24"), v6=("2001:db8::/32",))
    assert rule_counts(closed, closed.fleets[0], lambda: edge) == (3, 1)


# What no configuration exceeds: the largest that there is.

LONGEST_FLEET, LONGEST_STACK = "f" * 30, "s" * 40
LONGEST_REGION = "ap-southeast-2"
_SUFFIX = len("-0123456")
_ARN = len(f"arn:aws:ssm:{LONGEST_REGION}:000000000000:parameter")
LARGEST: dict[str, Callable[[], int]] = {
    "route53-batch-records": lambda: 2 * record_sizes.MOST_VALUES,
    "cloudflare-wire-size": lambda: 1 + 255,
    "cloudflare-record-tags": lambda: 0,
    "cloudflare-api-rate": lambda: 2 * 300,
    "cloudflare-token-name": lambda: len(token_name(LONGEST_STACK, "z" * 253)),
    "ec2-user-data": lambda: len(userdata.gzipped()),
    "ec2-group-description": lambda: len(f"Rollcall {LONGEST_STACK} {LONGEST_FLEET}"),
    "iam-role-name": lambda: len(f"{LONGEST_FLEET}-{LONGEST_REGION}-role") + _SUFFIX,
    "iam-user-name": lambda: len(f"{LONGEST_FLEET}-user") + _SUFFIX,
    "iam-instance-profile-name": lambda: len(f"{LONGEST_FLEET}-{LONGEST_REGION}-profile") + _SUFFIX,
    "iam-policy-name": lambda: len(POLICY),
    "iam-trust-policy": lambda: len(json.dumps(_ASSUME)),
    "iam-access-keys": lambda: 2,
    "ssm-name-length": lambda: _ARN + len(f"/rollcall/{LONGEST_STACK}/{LONGEST_FLEET}/token-{'z' * 253}"),
    "ssm-name-levels": lambda: f"/rollcall/{LONGEST_STACK}/{LONGEST_FLEET}/token".count("/"),
    "s3-bucket-name": lambda: len(f"rollcall-releases-{LONGEST_REGION}") + _SUFFIX,
    "s3-key-length": lambda: max(len(key_of("d" * 64)), len(claims_of("", "w" * 63)) + 64),
    "s3-object-tags": lambda: 0,
    "cloudapi-name": lambda: len(f"{LONGEST_FLEET}-999"),
    "cloudapi-rule-targets": lambda: firewall._MOST_TARGETS,
    "cloudapi-rule-description": lambda: len(
        f"the edge of Cloudflare [{LONGEST_STACK}/{LONGEST_STACK}/{LONGEST_FLEET}-firewall-65535-99]"
    ),
    "pulumi-stack-name": lambda: len(LONGEST_STACK),
}


@pytest.mark.parametrize("name", kept())
def test_the_largest_configuration_stays_inside(name: str) -> None:
    assert LARGEST[name]() <= kept()[name]


def test_every_limit_that_is_kept_is_computed() -> None:
    assert sorted(LARGEST) == sorted(kept())
    assert kept()["cloudapi-name"] == _LONGEST_NAME_IN_DNS
