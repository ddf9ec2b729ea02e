"""The local AWS in two regions: each has machines, images, parameters and metadata of its own; IAM and addresses are one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from components.settings import EC2_IMAGES
from localcloud.aws.catalogue import REGIONS
from localcloud.listing import instances_of_aws
from tests.cloud.aws_cloud import Cloud, allow, running

pytestmark = pytest.mark.clouds
HOME, AWAY = REGIONS


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def image_in(cloud: Cloud, region: str) -> str:
    ssm = cloud.client("ssm", region=region)
    return str(ssm.get_parameter(Name=EC2_IMAGES["debian-12"])["Parameter"]["Value"])


def launched(cloud: Cloud, region: str, **options: object) -> str:
    ec2 = cloud.client("ec2", region=region)
    made = ec2.run_instances(
        ImageId=image_in(cloud, region), InstanceType="t3.micro", MinCount=1, MaxCount=1, **options
    )
    instance = str(made["Instances"][0]["InstanceId"])
    cloud.aws.running(instance)
    return instance


def listed(cloud: Cloud, region: str) -> list[str]:
    reservations = cloud.client("ec2", region=region).describe_instances()["Reservations"]
    return [each["InstanceId"] for reservation in reservations for each in reservation["Instances"]]


def test_a_machine_is_in_one_region_and_no_two_have_one_address(cloud: Cloud) -> None:
    made = {region: [launched(cloud, region) for _ in range(2)] for region in REGIONS}
    assert {region: listed(cloud, region) for region in REGIONS} == made
    addresses = {each.address for each in cloud.hands.machines.values()}
    assert len(addresses) == 4
    shown = {each["id"]: each["region"] for each in instances_of_aws(cloud.aws)}
    assert shown == {instance: region for region, ids in made.items() for instance in ids}
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        cloud.client("ec2", region=HOME).terminate_instances(InstanceIds=[made[AWAY][0]])
    cloud.aws.stopped(made[AWAY][0])
    assert cloud.aws.regions[AWAY].power.state(made[AWAY][0]) == "stopped"


def test_its_metadata_say_its_region_and_a_zone_of_it(cloud: Cloud) -> None:
    for region in REGIONS:
        address = cloud.hands.machines[launched(cloud, region)].address
        assert cloud.metadata(address, "meta-data/placement/region")[1] == region
        zone = cloud.metadata(address, "meta-data/placement/availability-zone")[1]
        zones = cloud.client("ec2", region=region).describe_availability_zones()["AvailabilityZones"]
        assert zone in {each["ZoneName"] for each in zones}
        assert f'"region": "{region}"' in cloud.metadata(address, "dynamic/instance-identity/document")[1]


def test_an_image_has_another_id_in_each_region_and_is_in_no_other(cloud: Cloud) -> None:
    images = {region: image_in(cloud, region) for region in REGIONS}
    assert len(set(images.values())) == 2
    ec2 = cloud.client("ec2", region=AWAY)
    assert [each["ImageId"] for each in ec2.describe_images(ImageIds=[images[AWAY]])["Images"]] == [images[AWAY]]
    with pytest.raises(ClientError, match=r"InvalidAMIID\.NotFound"):
        ec2.run_instances(ImageId=images[HOME], InstanceType="t3.micro", MinCount=1, MaxCount=1)


def test_a_role_reads_the_parameter_of_the_region_that_its_policy_names(cloud: Cloud) -> None:
    for region in REGIONS:
        cloud.client("ssm", region=region).put_parameter(Name="/secret", Type="SecureString", Value=region)
    arn = f"arn:aws:ssm:{AWAY}:{cloud.aws.account}:parameter/secret"
    profile = cloud.role("reader", allow("ssm:GetParameter", arn))
    key = cloud.credentials(launched(cloud, AWAY, IamInstanceProfile={"Name": profile}))
    own = cloud.client("ssm", key, AWAY).get_parameter(Name="/secret", WithDecryption=True)
    assert own["Parameter"]["Value"] == AWAY
    with pytest.raises(ClientError, match="AccessDeniedException"):
        cloud.client("ssm", key, HOME).get_parameter(Name="/secret", WithDecryption=True)


def test_a_quota_is_of_a_region(cloud: Cloud) -> None:
    for region in REGIONS:
        quotas = cloud.client("service-quotas", region=region)
        told = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]
        assert region in told["QuotaArn"]


def test_what_is_global_is_the_same_from_both(cloud: Cloud) -> None:
    cloud.role("one")
    for region in REGIONS:
        assert [each["RoleName"] for each in cloud.client("iam", region=region).list_roles()["Roles"]] == ["one"]
        assert cloud.client("sts", region=region).get_caller_identity()["Account"] == cloud.aws.account
