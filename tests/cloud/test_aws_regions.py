"""The local AWS in two regions: each has machines, images, parameters and metadata of its own; IAM and addresses are one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from components.commands import catalogue
from components.compute.base import utc
from components.compute.ec2 import Ec2View
from components.config.models import EC2_IMAGES, Settings
from components.config.reader import read
from components.preflight import checks, credentials
from localcloud.aws.catalogue import REGIONS
from localcloud.runtime.listing import instances_of_aws
from rollcall.settings import STACK
from tests.cloud.aws_cloud import OPERATOR, Cloud, allow, running

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
        given = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]
        assert region in given["QuotaArn"]


@pytest.fixture
def as_operator(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 finds the local AWS as it would find the real one."""
    given = {"ENDPOINT_URL": cloud.url, "ACCESS_KEY_ID": OPERATOR[0], "SECRET_ACCESS_KEY": OPERATOR[1], "REGION": HOME}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)


def spread(region: str) -> Settings:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
    fleets = {"web": fleet, "far": {**fleet, "region": region}}
    return read("prod", {"sites": {"www": {"zone": "scalability.expert"}}, "fleets": fleets})


@pytest.mark.parametrize(("region", "faults"), [(HOME, 0), (AWAY, 0), ("ap-south-1", 1)])
def test_credentials_are_checked_in_each_region(cloud: Cloud, as_operator: None, region: str, faults: int) -> None:
    found = credentials.aws_faults(checks.located(spread(region)))
    assert len(found) == faults
    message = (
        f"rollcall:fleets.far.region: AWS does not accept the credentials in {region} (SignatureDoesNotMatch). Enable"
    )
    assert all(each.startswith(message) for each in found)


def test_a_region_that_cannot_be_reached_is_named_with_what_is_near(
    as_operator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    (fault,) = credentials.region_faults("eu-wset-1", spread("eu-wset-1").fleets[1:])
    assert fault == "rollcall:fleets.far.region: eu-wset-1 cannot be reached. Write eu-west-1."


def test_each_region_has_its_own_quota(cloud: Cloud, as_operator: None) -> None:
    cloud.aws.regions[AWAY].quotas._vcpus = 1
    found = checks.quotas_found(spread(AWAY))
    assert len(found.faults) == 1 and "in eu-west-1" in found.faults[0] and "--region eu-west-1" in found.faults[0]
    cloud.aws.regions[HOME].quotas._vcpus = 1
    assert len(checks.quotas_found(spread(AWAY)).faults) == 2


def test_the_catalogue_is_of_the_region_that_is_asked_for(cloud: Cloud, as_operator: None) -> None:
    for region in REGIONS:
        found, _ = catalogue.list_offers(region)
        assert f"now {image_in(cloud, region)}," in "\n".join(map(str, found))
    found, faults = catalogue.list_offers("ap-south-1")
    assert found == [] and faults[0].startswith("aws is left out")


def test_a_view_is_of_its_region(cloud: Cloud, as_operator: None) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": STACK, "Value": "prod"}]}]
    made = {region: launched(cloud, region, TagSpecifications=tags) for region in REGIONS}
    views = {region: Ec2View(region) for region in REGIONS}
    assert {region: [each.instance for each in views[region].machines("prod")] for region in REGIONS} == {
        region: [instance] for region, instance in made.items()
    }
    views[HOME].end([made[AWAY]])
    assert len(views[AWAY].machines("prod")) == 1
    with pytest.raises(ClientError):
        Ec2View("ap-south-1").machines("prod")


def test_what_is_global_is_the_same_from_both(cloud: Cloud) -> None:
    cloud.role("one")
    for region in REGIONS:
        assert [each["RoleName"] for each in cloud.client("iam", region=region).list_roles()["Roles"]] == ["one"]
        assert cloud.client("sts", region=region).get_caller_identity()["Account"] == cloud.aws.account


def test_a_machine_is_as_old_as_its_first_launch(cloud: Cloud, as_operator: None) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html (launchTime)"""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": STACK, "Value": "prod"}]}]
    instance = cloud.run(TagSpecifications=tags)[0]
    made = Ec2View("us-west-2").machines("prod")[0].since
    cloud.aws.stopped(instance)
    cloud.clock.ahead = 120
    cloud.client("ec2").start_instances(InstanceIds=[instance])
    cloud.clock.ahead = 0
    cloud.aws.running(instance)
    assert Ec2View("us-west-2").machines("prod")[0].since == made
    assert utc(cloud.describe(instance)["LaunchTime"]) > made
