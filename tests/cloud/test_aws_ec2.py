"""The local EC2 through boto3: launches, power, tags, what is refused."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.machines.compute import InstantHypervisor
from tests.cloud.aws_cloud import Cloud, debian, image, running, until

pytestmark = pytest.mark.clouds


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def refused(code: str, act: Callable[[], Any], message: str = "") -> None:
    with pytest.raises(ClientError) as caught:
        act()
    error = caught.value.response["Error"]
    assert error["Code"] == code and message in error["Message"], error


def tagged(**pairs: str) -> list[dict[str, Any]]:
    return [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in pairs.items()]}]


class TestCatalogue:
    def test_public_parameters_lead_to_the_images(self, cloud: Cloud) -> None:
        ubuntu = image(cloud, "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id")
        bare = image(cloud, "/aws/service/debian/release/12-bare/latest/amd64")
        every = cloud.client("ec2").describe_images()["Images"]
        found = [each for each in every if each["Architecture"] == "x86_64"]
        assert {each["Architecture"] for each in every} == {"x86_64", "arm64"} and len(every) == 2 * len(found)
        trixie, bare_trixie = (
            image(cloud, f"/aws/service/debian/release/{each}/latest/amd64") for each in ("13", "13-bare")
        )
        assert {each["ImageId"] for each in found} == {debian(cloud), ubuntu, bare, trixie, bare_trixie}
        described = {each["ImageId"]: each["Description"] for each in found}
        assert "Debian 12 stands in for Ubuntu 24.04" in described[ubuntu]
        assert {(each["Architecture"], each["State"], each["RootDeviceType"]) for each in found} == {
            ("x86_64", "available", "ebs")
        }
        by_name = cloud.client("ec2").describe_images(Filters=[{"Name": "name", "Values": ["debian-12-bare-amd64-*"]}])[
            "Images"
        ]
        assert [each["ImageId"] for each in by_name] == [bare]
        # As programs look for Debian's own (https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie).
        newest = cloud.client("ec2").describe_images(
            Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-13-amd64-*"]}]
        )["Images"]
        assert [each["ImageId"] for each in newest] == [trixie]

    def test_public_parameters_have_no_owner(self, cloud: Cloud) -> None:
        ssm = cloud.client("ssm")
        assert ssm.describe_parameters()["Parameters"] == []
        refused("AccessDeniedException", lambda: ssm.put_parameter(Name="/aws/service/x/y", Type="String", Value="1"))
        refused("ParameterNotFound", lambda: ssm.get_parameter(Name="/aws/service/debian/release/14/latest/amd64"))

    def test_the_default_network_is_there(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        subnets = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
        assert len({each["AvailabilityZone"] for each in subnets}) >= 3
        assert {each["VpcId"] for each in subnets} == {vpc} and all(each["MapPublicIpOnLaunch"] for each in subnets)


class TestLaunch:
    def test_an_instance_is_pending_until_its_machine_runs(self, cloud: Cloud) -> None:
        made = cloud.client("ec2").run_instances(
            ImageId=debian(cloud),
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=tagged(Name="web-0"),
        )["Instances"][0]
        assert made["State"] == {"Code": 0, "Name": "pending"} and "PublicIpAddress" not in made
        machine = cloud.hands.machines[made["InstanceId"]]
        assert (machine.name, machine.cloud, machine.image, machine.memory_mib) == ("web-0", "aws", "debian-12", 1024)
        seen = cloud.describe(machine.id)
        assert seen["State"]["Name"] == "pending" and seen["PublicIpAddress"] == machine.address == "198.51.100.10"
        cloud.aws.running(machine.id)
        seen = cloud.describe(machine.id)
        assert seen["State"] == {"Code": 16, "Name": "running"}
        assert seen["PublicDnsName"] == "ec2-198-51-100-10.us-west-2.compute.amazonaws.com"
        assert [group["GroupName"] for group in seen["SecurityGroups"]] == ["default"]
        assert seen["NetworkInterfaces"][0]["Association"]["PublicIp"] == "198.51.100.10"

    def test_the_image_decides_what_is_booted(self, cloud: Cloud) -> None:
        bare = image(cloud, "/aws/service/debian/release/12-bare/latest/amd64")
        ubuntu = image(cloud, "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id")
        trixie = image(cloud, "/aws/service/debian/release/13/latest/amd64")
        for ami, wanted in ((bare, "debian-12-bare"), (ubuntu, "debian-12"), (trixie, "debian-13")):
            assert cloud.hands.machines[cloud.run(ImageId=ami)[0]].image == wanted

    def test_a_key_pair_reaches_the_machine(self, cloud: Cloud) -> None:
        public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7yFq0Jm1g0tZq2m5Zk8r0fQ2hB9b1n4cXrN0yq9m3A me"
        cloud.client("ec2").import_key_pair(KeyName="me", PublicKeyMaterial=public.encode())
        assert cloud.hands.machines[cloud.run(KeyName="me")[0]].ssh_keys == (public,)

    def test_userdata_is_kept_byte_for_byte(self, cloud: Cloud) -> None:
        data = gzip.compress(b"#!/bin/sh\necho hello\n" * 50, mtime=0) + bytes(range(256))
        instance = cloud.run(UserData=data)[0]
        kept = cloud.client("ec2").describe_instance_attribute(InstanceId=instance, Attribute="userData")
        assert base64.b64decode(kept["UserData"]["Value"]) == data
        address = cloud.hands.machines[instance].address
        token = cloud.aws.imds(address, "PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})[2]
        got = cloud.aws.imds(address, "GET", "/latest/user-data", {"X-aws-ec2-metadata-token": token.decode()})
        assert got[0] == 200 and got[2] == data

    def test_userdata_is_16384_bytes_at_most(self, cloud: Cloud) -> None:
        cloud.run(UserData=b"x" * 16384)
        refused("InvalidParameterValue", lambda: cloud.run(UserData=b"x" * 16385), "limited to 16384 bytes")

    def test_a_client_token_launches_once(self, cloud: Cloud) -> None:
        first = cloud.run(ClientToken="once")
        assert cloud.run(ClientToken="once") == first
        refused("IdempotentParameterMismatch", lambda: cloud.run(ClientToken="once", InstanceType="t3.small"))
        assert cloud.run(ClientToken="twice") != first
        assert len(cloud.hands.machines) == 2

    def test_every_instance_of_a_launch_has_the_profile_and_an_address(self, cloud: Cloud) -> None:
        ids = cloud.run(3, IamInstanceProfile={"Name": cloud.role("web")})
        seen = [cloud.describe(each) for each in ids]
        assert {each["IamInstanceProfile"]["Arn"].rpartition("/")[2] for each in seen} == {"web"}
        assert {each["PublicIpAddress"] for each in seen} == {"198.51.100.10", "198.51.100.11", "198.51.100.12"}
        assert len({each["PrivateIpAddress"] for each in seen}) == 3

    def test_the_root_volume_is_the_images_by_default(self, cloud: Cloud) -> None:
        options = [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeType": "gp3"}}]
        seen = cloud.describe(cloud.run(BlockDeviceMappings=options)[0])
        assert [each["DeviceName"] for each in seen["BlockDeviceMappings"]] == ["/dev/xvda"] == [seen["RootDeviceName"]]
        assert seen["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
        volume = cloud.client("ec2").describe_volumes(VolumeIds=[seen["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])[
            "Volumes"
        ][0]
        assert (volume["Encrypted"], volume["VolumeType"], volume["Size"]) == (True, "gp3", 8)
        assert len(cloud.describe(cloud.run()[0])["BlockDeviceMappings"]) == 1

    @pytest.mark.parametrize(
        ("ebs", "message"),
        [
            ({"VolumeSize": 65537}, "not in the range of gp3"),
            ({"VolumeType": "gp2", "VolumeSize": 16385}, "not in the range of gp2"),
            ({"VolumeType": "st1", "VolumeSize": 124}, "not in the range of st1"),
            ({"VolumeSize": 200, "Iops": 2999}, "not in 3000 to 80000"),
            ({"VolumeSize": 10, "Iops": 5001}, "maximum is 500"),
            ({"VolumeType": "io2", "VolumeSize": 10}, "iops must be specified for io2"),
            ({"VolumeType": "io1", "VolumeSize": 10, "Iops": 501}, "maximum is 50"),
            ({"VolumeType": "gp2", "VolumeSize": 10, "Iops": 3000}, "iops is not supported for gp2"),
            ({"VolumeSize": 10, "Throughput": 751}, "maximum is 0.25"),
            ({"VolumeType": "io2", "VolumeSize": 10, "Iops": 100, "Throughput": 125}, "throughput is not supported"),
            ({"VolumeSize": 10, "KmsKeyId": "arn:aws:kms:us-west-2:1:key/1"}, "requires the parameter Encrypted"),
            ({"Encrypted": True}, "size or snapshotId"),
        ],
    )
    def test_a_volume_outside_its_types_ranges_is_refused(
        self, cloud: Cloud, ebs: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ClientError) as caught:
            cloud.run(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": ebs}])
        assert message in caught.value.response["Error"]["Message"]
        assert cloud.hands.machines == {}

    def test_a_volume_changes_four_times_a_day_and_never_becomes_smaller(self, cloud: Cloud) -> None:
        ec2, seen = cloud.client("ec2"), cloud.describe(cloud.run()[0])
        volume = seen["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        refused("InvalidParameterValue", lambda: ec2.modify_volume(VolumeId=volume, Size=7), "smaller")
        for size in (9, 10, 11):
            ec2.modify_volume(VolumeId=volume, Size=size)
        ec2.modify_volume(VolumeId=volume, VolumeType="gp2")
        (found,) = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
        assert (found["Size"], found["VolumeType"], found.get("Iops"), found.get("Throughput")) == (
            11,
            "gp2",
            None,
            None,
        )
        refused("VolumeModificationRateExceeded", lambda: ec2.modify_volume(VolumeId=volume, Size=12))

    @pytest.mark.parametrize(
        ("options", "code", "message"),
        [
            (
                {"ImageId": "ami-00000000000000000"},
                "InvalidAMIID.NotFound",
                "The image id '[ami-00000000000000000]' does not",
            ),
            ({"ImageId": "debian"}, "InvalidAMIID.Malformed", "debian"),
            ({"InstanceType": "t9.micro"}, "InvalidParameterValue", "Invalid value 't9.micro' for InstanceType."),
            ({"InstanceType": "t4g.micro"}, "InvalidParameterValue", "arm64"),
            ({"SubnetId": "subnet-0123"}, "InvalidSubnetID.NotFound", "The subnet ID 'subnet-0123' does not exist"),
            ({"Placement": {"AvailabilityZone": "us-west-2z"}}, "InvalidParameterValue", "us-west-2z"),
            ({"SecurityGroupIds": ["sg-0123"]}, "InvalidGroup.NotFound", "sg-0123"),
            ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound", "nobody"),
            ({"IamInstanceProfile": {"Name": "none"}}, "InvalidParameterValue", "Invalid IAM Instance Profile name"),
            ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "InvalidParameterValue", "1 to 64"),
            ({"TagSpecifications": tagged(**{"aws:x": "1"})}, "InvalidParameterValue", "reserved"),
            ({"TagSpecifications": tagged(**{f"k{each}": "" for each in range(51)})}, "TagLimitExceeded", ""),
            ({"TagSpecifications": tagged(**{"k" * 129: ""})}, "InvalidParameterValue", "128"),
            ({"MinCount": 3, "MaxCount": 2}, "InvalidParameterValue", "smaller"),
        ],
    )
    def test_a_launch_that_cannot_be_is_refused_and_makes_nothing(
        self, cloud: Cloud, options: dict[str, Any], code: str, message: str
    ) -> None:
        requested = {"ImageId": debian(cloud), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **options}
        refused(code, lambda: cloud.client("ec2").run_instances(**requested), message)
        assert cloud.client("ec2").describe_instances()["Reservations"] == [] and not cloud.hands.calls

    def test_a_group_of_another_network_is_refused(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
        group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
        refused("InvalidParameter", lambda: cloud.run(SecurityGroupIds=[group]), "belong to different networks")

    def test_a_dry_run_launches_nothing(self, cloud: Cloud) -> None:
        refused("DryRunOperation", lambda: cloud.run(DryRun=True))
        assert not cloud.hands.calls


def test_the_vcpu_quota_counts_what_runs() -> None:
    with running(vcpu_limit=6) as cloud:
        ec2, ami = cloud.client("ec2"), debian(cloud)
        first = cloud.run(2)
        made = ec2.run_instances(ImageId=ami, InstanceType="t3.micro", MinCount=1, MaxCount=5)["Instances"]
        assert len(made) == 1
        refused("VcpuLimitExceeded", cloud.run, "current vCPU limit of 6")
        ec2.terminate_instances(InstanceIds=[first[0]])
        cloud.aws.stopped(first[0])
        assert len(cloud.run()) == 1


def test_addresses_run_out_and_come_back() -> None:
    with running(addresses=("198.51.100.10", "198.51.100.11")) as cloud:
        ids = cloud.run(2)
        refused("InsufficientAddressCapacity", cloud.run)
        cloud.client("ec2").terminate_instances(InstanceIds=[ids[0]])
        refused("InsufficientAddressCapacity", cloud.run)
        cloud.aws.stopped(ids[0])
        assert cloud.hands.machines[cloud.run()[0]].address == "198.51.100.10"


class TestPower:
    def test_stopping_is_graceful_and_starting_gives_a_new_address(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        private = cloud.describe(instance)["PrivateIpAddress"]
        changed = ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]
        assert (changed["PreviousState"]["Name"], changed["CurrentState"]["Name"]) == ("running", "stopping")
        assert cloud.hands.calls[-1] == ("shut_down", instance)
        seen = cloud.describe(instance)
        assert seen["State"]["Name"] == "stopping" and seen["PublicIpAddress"] == "198.51.100.10"
        cloud.aws.stopped(instance)
        seen = cloud.describe(instance)
        assert seen["State"] == {"Code": 80, "Name": "stopped"} and "PublicIpAddress" not in seen
        interface = seen["NetworkInterfaces"][0]
        assert "Association" not in interface and "Association" not in interface["PrivateIpAddresses"][0]
        assert "Association" not in ec2.describe_network_interfaces()["NetworkInterfaces"][0]
        assert seen["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert seen["StateTransitionReason"].startswith("User initiated (")
        changed = ec2.start_instances(InstanceIds=[instance])["StartingInstances"][0]
        assert (changed["PreviousState"]["Name"], changed["CurrentState"]["Name"]) == ("stopped", "pending")
        cloud.aws.running(instance)
        seen = cloud.describe(instance)
        assert (seen["PublicIpAddress"], seen["PrivateIpAddress"]) == ("198.51.100.11", private)
        assert "StateReason" not in seen or not seen["StateReason"].get("Code")

    def test_a_start_is_another_launch_of_the_same_instance(self, cloud: Cloud) -> None:
        """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html (launchTime)"""
        instance = cloud.run()[0]
        first = cloud.describe(instance)
        cloud.aws.stopped(instance)
        assert cloud.describe(instance)["LaunchTime"] == first["LaunchTime"]
        cloud.clock.ahead = 120
        cloud.client("ec2").start_instances(InstanceIds=[instance])
        cloud.clock.ahead = 0
        again = cloud.describe(instance)
        assert 119 <= (again["LaunchTime"] - first["LaunchTime"]).total_seconds() <= 125
        attached = [each["NetworkInterfaces"][0]["Attachment"]["AttachTime"] for each in (first, again)]
        assert attached[0] == attached[1]
        assert again["NetworkInterfaces"][0]["Association"]["PublicDnsName"] == again["PublicDnsName"]

    def test_a_machine_that_turns_itself_off_is_stopped_with_the_reason(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        cloud.aws.stopped(instance)
        seen = cloud.describe(instance)
        assert seen["State"]["Name"] == "stopped"
        assert seen["StateReason"] == {
            "Code": "Client.InstanceInitiatedShutdown",
            "Message": "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
        }
        assert cloud.aws.imds("198.51.100.10", "GET", "/latest/meta-data/", {})[0] == 404

    def test_a_machine_may_be_configured_to_terminate_when_it_turns_itself_off(self, cloud: Cloud) -> None:
        instance = cloud.run(InstanceInitiatedShutdownBehavior="terminate")[0]
        cloud.aws.stopped(instance)
        assert cloud.describe(instance)["State"]["Name"] == "terminated"
        assert cloud.hands.calls[-1] == ("remove", instance)

    def test_terminating_shuts_down_first_and_then_removes(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        changed = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"][0]
        assert changed["CurrentState"] == {"Code": 32, "Name": "shutting-down"}
        assert cloud.hands.calls[-1] == ("shut_down", instance)
        assert cloud.describe(instance)["State"]["Name"] == "shutting-down"
        assert cloud.aws.imds("198.51.100.10", "GET", "/latest/meta-data/instance-id", {})[2].decode() == instance
        cloud.aws.stopped(instance)
        assert cloud.hands.calls[-1] == ("remove", instance)
        seen = cloud.describe(instance)
        assert seen["State"] == {"Code": 48, "Name": "terminated"}
        assert seen["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
        assert ec2.describe_volumes()["Volumes"] == [] and ec2.describe_network_interfaces()["NetworkInterfaces"] == []
        cloud.clock.ahead = 3700
        cloud.aws.regions["us-west-2"].power.tidy()
        cloud.clock.ahead = 0
        refused("InvalidInstanceID.NotFound", lambda: cloud.describe(instance), f"'{instance}' does not exist")

    def test_force_pulls_the_plug(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        cloud.client("ec2").stop_instances(InstanceIds=[instance], Force=True)
        assert cloud.hands.calls[-1] == ("cut_power", instance)

    def test_a_stopped_machine_is_terminated_at_once(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        cloud.aws.stopped(instance)
        ec2.terminate_instances(InstanceIds=[instance])
        assert cloud.describe(instance)["State"]["Name"] == "terminated"
        assert cloud.hands.calls[-1] == ("remove", instance)

    def test_what_the_state_does_not_allow_is_refused(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        same = ec2.start_instances(InstanceIds=[instance])["StartingInstances"][0]
        assert same["CurrentState"]["Name"] == same["PreviousState"]["Name"] == "running"
        ec2.stop_instances(InstanceIds=[instance])
        refused("IncorrectInstanceState", lambda: ec2.start_instances(InstanceIds=[instance]))
        refused("IncorrectInstanceState", lambda: ec2.reboot_instances(InstanceIds=[instance]))
        cloud.aws.stopped(instance)
        again = ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]
        assert again["CurrentState"]["Name"] == "stopped"
        ec2.terminate_instances(InstanceIds=[instance])
        refused("IncorrectInstanceState", lambda: ec2.stop_instances(InstanceIds=[instance]))
        refused("IncorrectInstanceState", lambda: ec2.start_instances(InstanceIds=[instance]))

    def test_unknown_and_malformed_ids_are_refused_and_nothing_is_done_to_the_others(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        unknown = "i-00000000000000000"
        for act in (ec2.stop_instances, ec2.terminate_instances, ec2.describe_instances):
            refused("InvalidInstanceID.NotFound", functools.partial(act, InstanceIds=[instance, unknown]), unknown)
            refused("InvalidInstanceID.Malformed", functools.partial(act, InstanceIds=["nonsense"]), "nonsense")
        assert cloud.describe(instance)["State"]["Name"] == "running"

    def test_reboot_keeps_state_and_address(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        cloud.client("ec2").reboot_instances(InstanceIds=[instance])
        assert cloud.hands.calls[-1] == ("reboot", instance)
        seen = cloud.describe(instance)
        assert (seen["State"]["Name"], seen["PublicIpAddress"]) == ("running", "198.51.100.10")

    def test_protection_from_termination_holds(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run(DisableApiTermination=True)[0]
        refused(
            "OperationNotPermitted", lambda: ec2.terminate_instances(InstanceIds=[instance]), "disableApiTermination"
        )
        ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": False})
        ec2.terminate_instances(InstanceIds=[instance])

    def test_a_machine_that_cannot_start_ends_with_the_reason(self, cloud: Cloud) -> None:
        instance = cloud.client("ec2").run_instances(
            ImageId=debian(cloud), InstanceType="t3.micro", MinCount=1, MaxCount=1
        )["Instances"][0]["InstanceId"]
        cloud.aws.failed(instance, "no room")
        seen = cloud.describe(instance)
        assert seen["State"]["Name"] == "terminated" and seen["StateReason"]["Code"] == "Server.InternalError"
        assert "no room" in seen["StateReason"]["Message"]

    def test_userdata_and_size_change_only_while_stopped(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        refused(
            "IncorrectInstanceState",
            lambda: ec2.modify_instance_attribute(InstanceId=instance, UserData={"Value": b"new"}),
        )
        cloud.aws.stopped(instance)
        ec2.modify_instance_attribute(InstanceId=instance, UserData={"Value": b"new"})
        ec2.modify_instance_attribute(InstanceId=instance, InstanceType={"Value": "t3.small"})
        ec2.start_instances(InstanceIds=[instance])
        machine = cloud.hands.machines[instance]
        assert machine.memory_mib == 2048 and cloud.metadata(machine.address, "user-data") == (200, "new")

    def test_what_happens_at_poweroff_is_changed_without_touching_the_groups(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]
        ec2.modify_instance_attribute(InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
        assert [each["GroupName"] for each in cloud.describe(instance)["SecurityGroups"]] == ["default"]
        cloud.aws.stopped(instance)
        assert cloud.describe(instance)["State"]["Name"] == "terminated"

    def test_a_group_that_was_replaced_can_be_deleted(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        old, new = (
            ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"] for name in ("old", "new")
        )
        instance = cloud.run(SecurityGroupIds=[old])[0]
        refused("InvalidGroup.NotFound", lambda: ec2.modify_instance_attribute(InstanceId=instance, Groups=["sg-0123"]))
        ec2.modify_instance_attribute(InstanceId=instance, Groups=[new])
        assert [each["GroupId"] for each in cloud.describe(instance)["SecurityGroups"]] == [new]
        ec2.delete_security_group(GroupId=old)
        refused("DependencyViolation", lambda: ec2.delete_security_group(GroupId=new))

    def test_status_follows_the_state(self, cloud: Cloud) -> None:
        ec2, ids = cloud.client("ec2"), cloud.run(2)
        cloud.aws.stopped(ids[1])
        seen = ec2.describe_instance_status()["InstanceStatuses"]
        assert [(each["InstanceId"], each["InstanceStatus"]["Status"]) for each in seen] == [(ids[0], "ok")]
        assert len(ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]) == 2

    def test_a_group_in_use_cannot_be_deleted(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="web", Description="web", VpcId=vpc)["GroupId"]
        instance = cloud.run(SecurityGroupIds=[group])[0]
        ec2.terminate_instances(InstanceIds=[instance])
        refused("DependencyViolation", lambda: ec2.delete_security_group(GroupId=group))
        cloud.aws.stopped(instance)
        ec2.delete_security_group(GroupId=group)


class TestTagsAndLists:
    def test_instances_are_found_by_tag_and_state(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        web, api = (
            cloud.run(TagSpecifications=tagged(fleet="web"))[0],
            cloud.run(TagSpecifications=tagged(fleet="api"))[0],
        )
        cloud.aws.stopped(api)

        def found(**filters: str) -> list[str]:
            requested = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
            pages = ec2.describe_instances(Filters=requested)["Reservations"]
            return [each["InstanceId"] for page in pages for each in page["Instances"]]

        assert found(**{"tag:fleet": "web"}) == [web]
        assert sorted(found(tag_key="fleet")) == sorted([web, api])
        assert found(instance_state_name="stopped") == [api]
        assert found(**{"tag:fleet": "api", "instance_state_name": "running"}) == []

    def test_lists_come_in_pages_and_whole_by_default(self, cloud: Cloud) -> None:
        ec2 = cloud.client("ec2")
        ids = [cloud.run()[0] for _ in range(7)]
        first = ec2.describe_instances(MaxResults=5)
        assert len(first["Reservations"]) == 5 and first["NextToken"]
        rest = ec2.describe_instances(MaxResults=5, NextToken=first["NextToken"])
        assert len(rest["Reservations"]) == 2 and "NextToken" not in rest
        assert len(ec2.describe_instances()["Reservations"]) == 7
        refused("InvalidParameterCombination", lambda: ec2.describe_instances(InstanceIds=ids, MaxResults=5))
        refused("InvalidParameterValue", lambda: ec2.describe_instances(MaxResults=2))
        refused("InvalidParameterValue", lambda: ec2.describe_instances(NextToken="nonsense"))

    def test_tags_have_limits(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run()[0]

        def put(**pairs: str) -> None:
            ec2.create_tags(Resources=[instance], Tags=[{"Key": key, "Value": value} for key, value in pairs.items()])

        put(**{"k" * 128: "v" * 256, "an odd/key": ""})
        refused("InvalidParameterValue", lambda: put(**{"k" * 129: ""}), "128")
        refused("InvalidParameterValue", lambda: put(k="v" * 257), "256")
        refused("InvalidParameterValue", lambda: put(**{"aws:k": ""}), "reserved")
        put(**{f"k{each}": "" for each in range(48)})
        refused("TagLimitExceeded", lambda: put(more=""))
        put(k0="changed")
        refused(
            "InvalidInstanceID.NotFound",
            lambda: ec2.create_tags(Resources=["i-00000000000000000"], Tags=[{"Key": "k"}]),
        )

    def test_tags_come_and_go(self, cloud: Cloud) -> None:
        ec2, instance = cloud.client("ec2"), cloud.run(TagSpecifications=tagged(Name="web-0"))[0]
        ec2.create_tags(Resources=[instance], Tags=[{"Key": "rollcall-drain", "Value": "true"}])
        assert {each["Key"] for each in cloud.describe(instance)["Tags"]} == {"Name", "rollcall-drain"}
        ec2.delete_tags(Resources=[instance], Tags=[{"Key": "rollcall-drain"}])
        assert {each["Key"] for each in cloud.describe(instance)["Tags"]} == {"Name"}
        bare = [{"ResourceType": "instance", "Tags": [{"Key": "only-a-key"}]}]
        assert cloud.describe(cloud.run(TagSpecifications=bare)[0])["Tags"] == [{"Key": "only-a-key", "Value": ""}]


def test_more_instances_than_a_page_of_ids_are_described_at_once() -> None:
    with running(addresses=("198.18.0.1", "198.19.255.254"), hypervisor=InstantHypervisor()) as cloud:
        ec2, ami = cloud.client("ec2"), debian(cloud)
        ids: list[str] = []
        for _ in range(12):
            made = ec2.run_instances(ImageId=ami, InstanceType="t3.nano", MinCount=10, MaxCount=10)["Instances"]
            ids += [each["InstanceId"] for each in made]

        def states(**requested: Any) -> list[str]:
            pages = ec2.describe_instances(**requested)["Reservations"]
            return [each["State"]["Name"] for page in pages for each in page["Instances"]]

        assert until(lambda: states() == ["running"] * 120)
        assert states(InstanceIds=ids) == ["running"] * 120
        ec2.terminate_instances(InstanceIds=ids)
        assert until(lambda: set(states(InstanceIds=ids)) == {"terminated"})
