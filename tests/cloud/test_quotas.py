"""components.preflight.quotas on the local clouds: the account's own answers, and what keeps fleets from fitting into it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from components.config.machine_keys import DiskSettings
from components.config.models import EC2_IMAGES, FleetSettings, Settings, SshSettings, ec2_parameter
from components.joyent.catalogue import Catalogue
from components.joyent.client import CloudApi
from components.preflight import architectures
from components.preflight.quotas import Found, check_ec2, check_triton
from components.resources.fleets.revision import version
from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import Cloud, debian, running
from tests.cloud.cloudapi_server import ACCOUNT, RSA_KEY, Front, Lab, private_text

pytestmark = pytest.mark.clouds
WEB = FleetSettings(name="web", cloud="aws", count=2, size="t3.micro", image="debian-12", joins=("site/www",))
API = replace(WEB, name="api", count=1)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor(), vcpu_limit=8) as made:
        yield made


def check(cloud: Cloud, *fleets: FleetSettings, stack: str = "local") -> Found:
    return check_ec2(fleets or (WEB,), stack, "us-west-2", cloud.client)


def start(cloud: Cloud, settings: FleetSettings, index: int, *, stack: str = "local", of: str | None = None) -> str:
    """A machine of a fleet as the program makes it, of another version if `of` says so."""
    keys = {"rollcall-stack": stack, "rollcall-fleet": settings.name, "rollcall-machine": str(index)}
    tags = [
        {"Key": key, "Value": value} for key, value in {**keys, "rollcall-version": of or version(settings)}.items()
    ]
    made = cloud.client("ec2").run_instances(
        MinCount=1, MaxCount=1, ImageId=debian(cloud), InstanceType=settings.size,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    return str(made["Instances"][0]["InstanceId"])


def test_a_fleet_that_fits_while_every_machine_is_replaced_is_not_a_fault(cloud: Cloud) -> None:
    assert check(cloud) == Found()
    for index in range(2):
        start(cloud, WEB, index)
    assert check(cloud) == Found()


def test_ipv6_without_a_cidr_in_the_usable_zones_is_a_fault_with_the_commands(cloud: Cloud) -> None:
    settings, ec2 = replace(WEB, ipv6=True), cloud.client("ec2")
    (fault,) = check(cloud, settings).faults
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    assert fault.startswith(
        "rollcall:fleets.web.ipv6: is on, and no default subnet of us-west-2 in a zone with t3.micro"
    )
    assert (
        f"`aws ec2 associate-vpc-cidr-block --vpc-id {vpc} --amazon-provided-ipv6-cidr-block --region us-west-2`"
        in fault
    )
    assert check(cloud) == Found(), "a fleet without IPv6 needs none"
    made = ec2.associate_vpc_cidr_block(VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    subnet = re.search(r"--subnet-id (subnet-\w+) ", fault)
    assert subnet and check(cloud, settings).faults, "the VPC's alone is not enough"
    block = made["Ipv6CidrBlock"].replace("/56", "/64")
    ec2.associate_subnet_cidr_block(SubnetId=subnet[1], Ipv6CidrBlock=block)
    assert check(cloud, settings) == Found()


def test_a_fleet_that_turns_ipv6_on_is_replaced(cloud: Cloud) -> None:
    cloud.aws.have_ipv6()
    for index in range(2):
        start(cloud, WEB, index)
    assert check(cloud) == Found()
    assert check(cloud, replace(WEB, ipv6=True)).notes == (
        "web: 2 of 2 machines are replaced, successors first: 4 run for a while",
    )


def test_what_does_not_fit_is_one_fault_with_the_numbers_and_the_fix(cloud: Cloud) -> None:
    (fault,) = check(cloud, replace(WEB, count=4), API).faults
    assert fault.startswith(
        "rollcall:fleets: 10 vCPUs of standard on-demand instances in us-west-2 would be taken at once"
    )
    assert "web makes 4 × 2, api makes 1 × 2" in fault and "the quota is 8" in fault
    assert "--quota-code L-1216C47A --desired-value 10" in fault


def test_a_replacement_of_all_fleets_counts_twice(cloud: Cloud) -> None:
    three = replace(WEB, count=3)
    for index in range(3):
        start(cloud, three, index, of="old debian-12")
    found = check(cloud, three)
    (fault,) = found.faults
    assert "12 vCPUs" in fault and "6 are now; web makes 3 × 2 (3 in the place of others)" in fault
    assert found.notes == ("web: 3 of 3 machines are replaced, successors first: 6 run for a while",)


def test_what_a_change_of_userdata_would_take_is_reported_before_it_comes(cloud: Cloud) -> None:
    three = replace(WEB, count=3)
    for index in range(3):
        start(cloud, three, index)
    found = check(cloud, three)
    assert (found.faults, found.notes) == ((), ())
    assert "would take 12 vCPUs" in found.warnings[0]


def test_machines_of_others_count_and_are_not_ours(cloud: Cloud) -> None:
    start(cloud, WEB, 0, stack="shop.local")
    start(cloud, replace(WEB, name="elsewhere"), 0)
    (fault,) = check(cloud, replace(WEB, count=3)).faults
    assert "10 vCPUs" in fault and "4 are now; web makes 3 × 2)" in fault


def test_stopped_and_terminated_machines_take_nothing_and_a_stopped_one_is_there(cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    one, other = (start(cloud, WEB, index) for index in range(2))
    ec2.stop_instances(InstanceIds=[one])
    ec2.terminate_instances(InstanceIds=[other])
    four = replace(WEB, count=4)
    assert check(cloud, four).faults == ()
    (fault,) = check(cloud, replace(WEB, count=6)).faults
    assert "0 are now; web makes 5 × 2)" in fault


def test_a_size_that_ec2_has_not_names_its_fleet(cloud: Cloud) -> None:
    (fault,) = check(cloud, replace(WEB, size="t3.gigantic"), API).faults
    assert fault.startswith("rollcall:fleets.web.size: EC2 has no instance type 't3.gigantic' in us-west-2")


def test_a_key_pair_that_the_region_has_not_is_a_fault_where_a_machine_is_to_be_made(cloud: Cloud) -> None:
    settings = replace(WEB, ssh=SshSettings(user="admin", key_name="operators", sources=("203.0.113.0/24",)))
    (fault,) = check(cloud, settings, API).faults
    assert fault.startswith("rollcall:fleets.web.ssh.keyName: EC2 has no key pair 'operators' in us-west-2")
    assert "aws ec2 import-key-pair --key-name operators" in fault and "--region us-west-2" in fault
    cloud.client("ec2").create_key_pair(KeyName="operators-2")
    assert check(cloud, settings).faults, "another one of a like name is another one"
    cloud.client("ec2").create_key_pair(KeyName="operators")
    assert check(cloud, settings) == Found()
    for index in range(2):
        start(cloud, settings, index)
    cloud.client("ec2").delete_key_pair(KeyName="operators")
    assert check(cloud, settings) == Found(), "nothing is made, so no machine needs it"


X86_AMI, ARM_AMI = "ami-0deb1a0120a5d6401", "ami-0deb1a0120a5a6401"


def test_the_size_decides_for_which_architecture_the_image_is(cloud: Cloud) -> None:
    settings = Settings(
        stack="local",
        fleets=(WEB, replace(WEB, name="arm", size="t4g.micro"), replace(WEB, name="odd", size="x9.nano")),
    )
    found = architectures.found(settings, lambda _: cloud.client("ec2"))
    assert [each.architecture for each in found.fleets] == ["x86_64", "arm64", "x86_64"]
    assert check(cloud, found.fleets[1], API).faults == ()
    wanted = {"debian-12": "/aws/service/debian/release/12/latest/arm64"}
    wanted["debian-13"] = "/aws/service/debian/release/13/latest/arm64"
    wanted["ubuntu-24.04"] = "/aws/service/canonical/ubuntu/server/24.04/stable/current/arm64/hvm/ebs-gp3/ami-id"
    assert {name: ec2_parameter(name, "arm64") for name in EC2_IMAGES} == wanted
    for each in wanted.values():
        ami = cloud.client("ssm").get_parameter(Name=each)["Parameter"]["Value"]
        (image,) = cloud.client("ec2").describe_images(ImageIds=[ami])["Images"]
        assert image["Architecture"] == "arm64" and "boots as this machine's architecture" in image["Description"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "/aws/service/debian/release/99/latest/amd64"}, "SSM has no parameter /aws/service/debian/release/99/latest/amd64 in"),
        ({"image": "ami-0123456789abcdef0"}, "EC2 has no image ami-0123456789abcdef0 that this account may use in us-west-2."),
        ({"size": "t4g.micro", "image": X86_AMI}, "is for x86_64, and a t4g.micro has arm64. Name another image or size."),
        ({"image": ARM_AMI}, "is for arm64, and a t3.micro has x86_64. Name another image or size."),
    ],
)  # fmt: skip
def test_an_image_that_no_machine_can_be_made_from_is_a_fault_where_one_is_to_be_made(
    cloud: Cloud, change: dict[str, str], message: str
) -> None:
    settings = replace(WEB, **change)  # type: ignore[arg-type]
    (fault,) = check(cloud, settings, API).faults
    assert fault.startswith("rollcall:fleets.web.image: ") and message in fault
    if change["image"] in (X86_AMI, ARM_AMI):
        with pytest.raises(ClientError, match="does not match the architecture"):
            cloud.run(InstanceType=settings.size, ImageId=settings.image)
    else:
        for index in range(2):
            start(cloud, WEB, index, of=version(settings))
        assert check(cloud, settings).faults == (), "nothing is made"


@pytest.mark.parametrize(
    ("wrong", "right", "message", "code"),
    [
        ({"size": 7}, {"size": 8}, "disk.size: 7 GiB is less than the 8 GiB of the image", "InvalidBlockDeviceMapping"),
        (
            {"iops": 4001},
            {"iops": 4000},
            "disk.iops: is 4001, and gp3 takes 500 for each GiB of its 8, the size of the image",
            "InvalidParameterValue",
        ),
    ],
)
def test_a_disk_that_does_not_fit_the_image_is_a_fault_and_ec2_refuses_it(
    cloud: Cloud, wrong: dict[str, Any], right: dict[str, Any], message: str, code: str
) -> None:
    (fault,) = check(cloud, replace(WEB, disk=DiskSettings(**wrong)), API).faults
    assert fault.startswith("rollcall:fleets.web.") and message in fault
    assert check(cloud, replace(WEB, disk=DiskSettings(**right)), API).faults == ()

    def launch(disk: dict[str, Any]) -> None:
        names = {"size": "VolumeSize", "iops": "Iops"}
        ebs = {"VolumeType": "gp3", **{names[key]: value for key, value in disk.items()}}
        cloud.run(BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": ebs}])

    with pytest.raises(ClientError, match=code):
        launch(wrong)
    launch(right)


def command_in(fault: str) -> list[str]:
    """The AWS CLI's command in a fault, as words."""
    found = re.search(r"`aws ec2 ([^`]+)`", fault)
    assert found, fault
    return found[1].split()


def test_a_missing_default_subnet_is_a_fault_with_a_working_command(cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    for each in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=each["SubnetId"])
    (fault,) = check(cloud).faults
    assert "no zone of us-west-2 with t3.micro has a default subnet" in fault
    name, *words = command_in(fault)
    assert (name, words[0], words[2:]) == ("create-default-subnet", "--availability-zone", ["--region", "us-west-2"])
    ec2.create_default_subnet(AvailabilityZone=words[1])
    assert check(cloud) == Found()


def test_a_quota_that_was_never_raised_has_the_default(cloud: Cloud) -> None:
    cloud.aws.regions["us-west-2"].quotas._vcpus = None
    (fault,) = check(cloud, replace(WEB, count=3)).faults
    assert "the quota is 5" in fault


def test_without_the_right_to_read_quotas_it_is_a_warning(cloud: Cloud) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="operator")
    rights = {"Effect": "Allow", "Action": ["ec2:*", "ssm:GetParameter"], "Resource": "*"}
    iam.put_user_policy(
        UserName="operator", PolicyName="p", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [rights]})
    )
    key = iam.create_access_key(UserName="operator")["AccessKey"]

    def client(name: str) -> Any:
        return boto3.client(
            name, region_name="us-west-2", endpoint_url=cloud.url, aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"], config=Config(retries={"total_max_attempts": 1}),
        )  # fmt: skip

    found = check_ec2([replace(WEB, count=50)], "local", "us-west-2", client)
    assert found.faults == ()
    (warning,) = found.warnings
    assert "L-1216C47A" in warning and "AccessDenied" in warning and "servicequotas:GetServiceQuota" in warning


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


FAR = replace(WEB, cloud="joyent", size="g1.nano")


def api_of(lab: Lab) -> CloudApi:
    key = {"keyId": lab.fingerprint, "keyMaterial": private_text(RSA_KEY).decode()}
    return CloudApi.from_settings({"url": lab.url, "account": ACCOUNT, **key}, environ={})


def on_triton(lab: Lab, *fleets: FleetSettings) -> Found:
    return check_triton(fleets or (FAR,), "local", api_of(lab))


def triton_machine(lab: Lab, index: int, of: str) -> None:
    keys = {"rollcall-stack": "local", "rollcall-fleet": "web", "rollcall-machine": str(index), "rollcall-version": of}
    lab.running(name=f"web-{index}", **{f"tag.{key}": value for key, value in keys.items()})


def test_triton_tells_its_limits_where_its_operator_has_set_any(front: Front) -> None:
    lab = Lab(front, {"quota": 3})
    triton_machine(lab, 0, version(FAR))
    assert (on_triton(lab).faults, on_triton(lab).notes) == ((), ())
    assert "would take 4 machines of the Triton account; the quota is 3" in on_triton(lab).warnings[0]
    triton_machine(lab, 1, "old debian-12")
    assert on_triton(lab).faults == ()
    (fault,) = on_triton(lab, replace(FAR, count=3)).faults
    assert (
        "4 machines of the Triton account would be taken at once (2 are now; web makes 2 × 1 (1 in the place of others))"
        in fault
    )
    assert "the quota is 3. Ask Triton's operator for 4" in fault


def test_triton_without_the_plugin_tells_nothing_and_a_replacement_is_reported(front: Front) -> None:
    lab = Lab(front)
    for index in range(2):
        triton_machine(lab, index, "old debian-12")
    found = on_triton(lab, replace(FAR, count=40))
    assert (found.faults, found.warnings) == ((), ())
    assert found.notes == ("web: 2 of 2 machines are replaced, successors first: 42 run for a while",)


MISFITS: list[tuple[dict[str, Any], list[str]]] = [
    ({"image": "debian-12-hvm", "size": "b1.small", "disks": ("20480", "remaining"), "brand": "bhyve"}, []),
    ({"brand": "bhyve"}, ["brand: debian-12@20261101 (", "needs the brand lx, not bhyve. Choose another image."]),
    ({"size": "k1.medium"}, ["size: k1.medium (", "is for machines of brand kvm, not lx. Choose another package."]),
    (
        {"disks": ("20480",)},
        ["disks: g1.nano (", "has no flexible disk. Choose a package that has one: b1.small, b1.m"],
    ),
    (
        {"image": "debian-12-hvm", "size": "b1.small", "disks": ("60000",)},
        ["disks: are larger than the 51200 MiB of b1.small ("],
    ),
    ({"image": "debian-12-hvm", "size": "b1.small", "disks": ("1024",)}, ["disks: begin with 1024 MiB for the boot"]),
]


@pytest.mark.parametrize(("change", "words"), MISFITS, ids=[str(row[0]) for row in MISFITS])
def test_a_brand_and_disks_that_do_not_fit_are_a_fault_before_anything_is_made(
    front: Front, change: dict[str, Any], words: list[str]
) -> None:
    api = api_of(Lab(front))
    faults = check_triton((replace(FAR, **change),), "local", api, catalogue=Catalogue(api)).faults
    assert len(faults) == bool(words)
    for word in words:
        assert word in faults[0] and faults[0].startswith(f"rollcall:fleets.web.{words[0].partition(' ')[0]} ")


def test_memory_disk_and_limits_of_some_images_only() -> None:
    class Api:
        def __init__(self, *limits: dict[str, Any]) -> None:
            self._limits = limits

        def list_machines(self, tags: dict[str, str]) -> list[Any]:
            return []

        def get_limits(self) -> list[dict[str, Any]]:
            return list(self._limits)

        def list_packages(self) -> list[Any]:
            return [SimpleNamespace(id="1", name="g1.nano", memory=512, disk=10240)]

    def found(**limit: Any) -> Found:
        return check_triton((FAR,), "local", Api({"used": 0, **limit}))

    assert found(by="ram", value=1024).faults == () and found(by="quota", value=20).faults == ()
    assert "1024 MiB of memory" in found(by="ram", value=1023).faults[0]
    assert "20 GiB of disk" in found(by="quota", value=19).faults[0]
    assert found(by="ram", value=1, check="os", os="windows") == found(by="machines", value=0) == Found()
