"""What the local AWS does not emulate says so in the service's own form; nothing says 'fine' and does nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import OPERATOR, Cloud, debian, running

pytestmark = pytest.mark.clouds
FORM, JSON = "application/x-www-form-urlencoded", "application/x-amz-json-1.1"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def instance(cloud: Cloud) -> str:
    return cloud.run()[0]


def refused(code: str, act: Callable[[], Any], message: str = "", status: int = 400) -> None:
    with pytest.raises(ClientError) as caught:
        act()
    error = caught.value.response
    assert error["Error"]["Code"] == code and message in error["Error"]["Message"], error
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status


def raw(cloud: Cloud, service: str, body: str, target: str = "") -> requests.Response:
    """A signed request that no SDK would send."""
    headers = {"Content-Type": JSON, "X-Amz-Target": target} if target else {"Content-Type": FORM}
    request = AWSRequest("POST", f"{cloud.url}/", data=body, headers=headers)
    SigV4Auth(Credentials(*OPERATOR), service, "us-west-2").add_auth(request)
    sent = request.prepare()
    return requests.post(sent.url, data=sent.body, headers=dict(sent.headers), timeout=30)


class TestRequests:
    @pytest.mark.parametrize(
        ("service", "body", "code"),
        [
            ("ec2", "Action=Nonsense&Version=2016-11-15", "InvalidAction"),
            ("ec2", "Action=describe_instances&Version=2016-11-15", "InvalidAction"),
            ("ec2", "Action=DescribeInstanceAttribute&Version=2016-11-15", "MissingParameter"),
            ("ec2", "Action=DeleteVolume&Version=2016-11-15", "MissingParameter"),
            ("ec2", "Action=DeleteSecurityGroup&Version=2016-11-15", "MissingParameter"),
            ("iam", "Action=Nonsense&Version=2010-05-08", "InvalidAction"),
            ("ec2", "Version=2016-11-15", "MissingAction"),
            ("iam", "Version=2010-05-08", "MissingAction"),
            ("iam", "Action=GetRole&Version=2010-05-08", "ValidationError"),
            ("sts", "Action=Nonsense&Version=2011-06-15", "InvalidAction"),
            ("sts", "Action=AssumeRole&Version=2011-06-15", "ValidationError"),
            ("sts", "Action=GetSessionToken&Version=2011-06-15", "UnsupportedOperation"),
        ],
    )
    def test_an_unknown_or_incomplete_request_is_a_client_error(
        self, cloud: Cloud, service: str, body: str, code: str
    ) -> None:
        reply = raw(cloud, service, body)
        assert reply.status_code == 400 and f"<Code>{code}</Code>" in reply.text
        assert ("<Response><Errors><Error>" if service == "ec2" else "<Type>Sender</Type>") in reply.text

    @pytest.mark.parametrize(
        ("operation", "body", "code"),
        [
            ("Nonsense", "{}", "UnknownOperationException"),
            ("", "{}", "UnknownOperationException"),
            ("GetParameter", "{}", "ValidationException"),
            ("GetParameters", "{}", "ValidationException"),
            ("GetParametersByPath", "{}", "ValidationException"),
            ("PutParameter", '{"Value": "x"}', "ValidationException"),
            ("AddTagsToResource", '{"ResourceId": "/a"}', "ValidationException"),
            ("GetParameter", '{"Name": 5}', "SerializationException"),
            ("SendCommand", '{"DocumentName": "AWS-RunShellScript"}', "UnsupportedOperationException"),
        ],
    )
    def test_of_ssm_too(self, cloud: Cloud, operation: str, body: str, code: str) -> None:
        reply = raw(cloud, "ssm", body, f"AmazonSSM.{operation}")
        assert (reply.status_code, reply.json()["__type"]) == (400, code) and reply.json()["message"]

    def test_a_service_that_there_is_not_answers_in_its_form(self, cloud: Cloud) -> None:
        reply = raw(cloud, "secretsmanager", "{}", "secretsmanager.GetSecretValue")
        assert (reply.status_code, reply.json()["__type"]) == (501, "UnknownService")
        with pytest.raises(ClientError) as caught:
            cloud.client("lambda").list_functions()
        assert caught.value.response["Error"]["Code"] == "UnknownService"
        assert "has no lambda" in caught.value.response["Error"]["Message"]
        reply = raw(cloud, "autoscaling", "Action=DescribeAutoScalingGroups&Version=2011-01-01")
        assert reply.status_code == 501 and "<Code>UnknownService</Code>" in reply.text

    def test_s3_answers_in_its_own_xml(self, cloud: Cloud) -> None:
        reply = raw(cloud, "s3", "")
        assert reply.status_code == 400 and "<Error><Code>InvalidRequest</Code>" in reply.text
        assert "<ErrorResponse" not in reply.text


class TestMachines:
    def test_nothing_says_that_it_ran_a_command(self, cloud: Cloud, instance: str) -> None:
        ssm = cloud.client("ssm")
        sent = {"DocumentName": "AWS-RunShellScript", "InstanceIds": [instance], "Parameters": {"commands": ["id"]}}
        # As SSM does for an instance without its agent.
        refused("InvalidInstanceId", lambda: ssm.send_command(**sent), f"Instances [[{instance}]] not in a valid state")
        targets = [{"Key": "tag:Name", "Values": ["web"]}]
        refused(
            "UnsupportedOperationException",
            lambda: ssm.send_command(DocumentName="AWS-RunShellScript", Targets=targets),
            "no agent",
        )
        refused("UnsupportedOperationException", lambda: ssm.start_session(Target=instance))
        refused("UnsupportedOperationException", ssm.describe_instance_information)

    def test_no_image_is_made_that_nothing_boots(self, cloud: Cloud, instance: str) -> None:
        ec2 = cloud.client("ec2")
        before = ec2.describe_images()["Images"]
        source = {"SourceImageId": debian(cloud), "SourceRegion": "us-west-2"}
        refused("UnsupportedOperation", lambda: ec2.create_image(InstanceId=instance, Name="mine"), "its catalogue")
        refused("UnsupportedOperation", lambda: ec2.copy_image(Name="mine", **source), "its catalogue")
        refused("UnsupportedOperation", lambda: ec2.register_image(Name="mine"), "its catalogue")
        assert ec2.describe_images()["Images"] == before

    def test_the_images_of_others_stay(self, cloud: Cloud) -> None:
        ec2, ami = cloud.client("ec2"), debian(cloud)
        refused("AuthFailure", lambda: ec2.deregister_image(ImageId=ami), ami, 403)
        private = {"Remove": [{"Group": "all"}]}
        refused("AuthFailure", lambda: ec2.modify_image_attribute(ImageId=ami, LaunchPermission=private), ami, 403)
        cloud.run()

    def test_no_machine_is_listed_that_nothing_booted(self, cloud: Cloud) -> None:
        ec2, booted = cloud.client("ec2"), len(cloud.hands.machines)
        wanted = {"ImageId": debian(cloud), "InstanceType": "t3.micro"}
        template = {"LaunchTemplateName": "mine", "Version": "1"}
        ec2.create_launch_template(LaunchTemplateName="mine", LaunchTemplateData=wanted)
        target = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"}
        fleet = {
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template}],
            "TargetCapacitySpecification": target,
        }
        refused("UnsupportedOperation", lambda: ec2.create_fleet(**fleet), "RunInstances only")
        refused("UnsupportedOperation", lambda: ec2.request_spot_instances(LaunchSpecification=wanted))
        launch = {"LaunchTemplate": template, "MinCount": 1, "MaxCount": 1}
        refused("UnsupportedOperation", lambda: ec2.run_instances(**launch), "launch templates")
        pages = ec2.describe_instances()["Reservations"]
        assert len([each for page in pages for each in page["Instances"]]) == len(cloud.hands.machines) == booted

    def test_nothing_is_attached_that_a_machine_would_not_have(self, cloud: Cloud, instance: str) -> None:
        ec2 = cloud.client("ec2")
        volume = ec2.create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
        attach = {"VolumeId": volume, "InstanceId": instance, "Device": "/dev/sdf"}
        refused("UnsupportedOperation", lambda: ec2.attach_volume(**attach), "root volume only")
        subnet = cloud.describe(instance)["SubnetId"]
        interface = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        second = {"NetworkInterfaceId": interface, "InstanceId": instance, "DeviceIndex": 1}
        refused("UnsupportedOperation", lambda: ec2.attach_network_interface(**second), "one interface")

    def test_what_moto_fails_at_is_not_emulated(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cloud.aws.regions["us-west-2"].store, "describe_vpcs", lambda **_: 1 / 0)
            refused("UnsupportedOperation", ec2.describe_vpcs, "fails at this request")


class TestParts:
    def test_a_running_machine_keeps_its_root_volume(self, cloud: Cloud, instance: str) -> None:
        ec2 = cloud.client("ec2")
        volume = cloud.describe(instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        for options in ({}, {"InstanceId": instance}, {"Device": "/dev/xvda"}, {"Force": True}):
            act = functools.partial(ec2.detach_volume, VolumeId=volume, **options)
            refused("OperationNotPermitted", act, volume)
        free = ec2.create_volume(AvailabilityZone="us-west-2a", Size=1)["VolumeId"]
        refused("IncorrectState", lambda: ec2.detach_volume(VolumeId=free), "'available' state")
        refused("InvalidVolume.NotFound", lambda: ec2.detach_volume(VolumeId="vol-00000000000000000"))

    def test_another_volume_is_detached_without_its_device(self, cloud: Cloud) -> None:
        disks = [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1}}]
        machine = cloud.describe(cloud.run(BlockDeviceMappings=disks)[0])
        volumes = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in machine["BlockDeviceMappings"]}
        assert cloud.client("ec2").detach_volume(VolumeId=volumes["/dev/sdf"])["State"] == "detaching"

    def test_the_default_security_group_cannot_be_deleted(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        group = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
        with running() as empty:
            other = empty.client("ec2")
            idle = other.describe_security_groups(GroupNames=["default"])["SecurityGroups"][0]["GroupId"]
            refused("CannotDelete", lambda: other.delete_security_group(GroupId=idle), "cannot be deleted by a user")
            refused("CannotDelete", lambda: other.delete_security_group(GroupName="default"))
            empty.run()
        refused("CannotDelete", lambda: ec2.delete_security_group(GroupId=group), f'"{group}" name: "default"')

    def test_a_group_in_use_is_not_deleted_by_its_name(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        group = ec2.create_security_group(GroupName="used", Description="used")["GroupId"]
        cloud.run(SecurityGroupIds=[group])
        refused("DependencyViolation", lambda: ec2.delete_security_group(GroupName="used"), group)

    def test_a_machines_interface_and_subnet_stay(self, cloud: Cloud, instance: str) -> None:
        ec2, seen = cloud.client("ec2"), cloud.describe(instance)
        interface = seen["NetworkInterfaces"][0]
        identity, attachment = interface["NetworkInterfaceId"], interface["Attachment"]["AttachmentId"]
        in_use = "is currently in use"
        refused("InvalidParameterValue", lambda: ec2.delete_network_interface(NetworkInterfaceId=identity), in_use)
        refused("OperationNotPermitted", lambda: ec2.detach_network_interface(AttachmentId=attachment), "index 0")
        refused("DependencyViolation", lambda: ec2.delete_subnet(SubnetId=seen["SubnetId"]), seen["SubnetId"])
        free = ec2.create_network_interface(SubnetId=seen["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
        ec2.delete_network_interface(NetworkInterfaceId=free)
