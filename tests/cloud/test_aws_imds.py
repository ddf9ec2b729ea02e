"""Instance metadata as machines see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.cloud.aws_cloud import Cloud, running

pytestmark = pytest.mark.clouds
REQUIRED = {"HttpTokens": "required", "InstanceMetadataTags": "enabled"}
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7yFq0Jm1g0tZq2m5Zk8r0fQ2hB9b1n4cXrN0yq9m3A me"
FIRST = "198.51.100.10"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with running() as made:
        yield made


def get(cloud: Cloud, path: str, address: str = FIRST, **headers: str) -> tuple[int, str]:
    status, _, body = cloud.aws.imds(address, "GET", path, headers)
    return status, body.decode()


def crawl(cloud: Cloud, path: str) -> dict[str, Any]:
    """Everything below a path, as cloud-init goes through it."""
    status, listing = cloud.metadata(FIRST, path)
    assert status == 200, path
    found: dict[str, Any] = {}
    for line in listing.splitlines():
        if line.endswith("/"):
            found[line[:-1]] = crawl(cloud, path + line)
        elif "=" in line and line.partition("=")[0].isdecimal():
            found[line] = crawl(cloud, f"{path}{line.partition('=')[0]}/")
        else:
            status, found[line] = cloud.metadata(FIRST, path + line)
            assert status == 200, path + line
    return found


class TestTokens:
    def test_an_instance_that_requires_tokens_refuses_version_1(self, cloud: Cloud) -> None:
        cloud.run(MetadataOptions=REQUIRED)
        assert get(cloud, "/latest/meta-data/instance-id")[0] == 401
        assert get(cloud, "/latest/meta-data/instance-id", **{TOKEN: "made-up"})[0] == 401
        assert cloud.metadata(FIRST, "meta-data/instance-id")[0] == 200

    def test_an_instance_that_leaves_it_open_answers_version_1(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        assert get(cloud, "/latest/meta-data/instance-id") == (200, instance)
        assert get(cloud, "/latest/meta-data/instance-id", **{TOKEN: "made-up"})[0] == 401

    def test_a_token_ends_and_belongs_to_one_machine(self, cloud: Cloud) -> None:
        cloud.run(2, MetadataOptions=REQUIRED)
        status, headers, token = cloud.aws.imds(FIRST, "PUT", "/latest/api/token", {TTL: "60"})
        assert status == 200 and headers[TTL.lower()] == "60"
        sent = {TOKEN.lower(): token.decode()}
        assert get(cloud, "/latest/meta-data/", **sent)[0] == 200
        assert get(cloud, "/latest/meta-data/", "198.51.100.11", **sent)[0] == 401
        cloud.clock.ahead = 61
        assert get(cloud, "/latest/meta-data/", **sent)[0] == 401

    @pytest.mark.parametrize("ttl", ["", "0", "21601", "soon"])
    def test_a_token_lives_from_a_second_to_six_hours(self, cloud: Cloud, ttl: str) -> None:
        cloud.run()
        assert cloud.aws.imds(FIRST, "PUT", "/latest/api/token", {TTL: ttl})[0] == 400
        assert cloud.aws.imds(FIRST, "PUT", "/latest/api/token", {TTL: "21600"})[0] == 200

    def test_a_proxy_gets_no_token_and_other_methods_no_answer(self, cloud: Cloud) -> None:
        cloud.run()
        assert cloud.aws.imds(FIRST, "PUT", "/latest/api/token", {TTL: "60", "X-Forwarded-For": "1.2.3.4"})[0] == 403
        assert cloud.aws.imds(FIRST, "POST", "/latest/meta-data/", {})[0] == 405

    def test_the_service_can_be_switched_off(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        ec2 = cloud.client("ec2")
        ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="disabled")
        assert get(cloud, "/latest/meta-data/")[0] == 403
        assert cloud.aws.imds(FIRST, "PUT", "/latest/api/token", {TTL: "60"})[0] == 403

    def test_what_a_change_of_options_does_not_name_stays(self, cloud: Cloud) -> None:
        instance = cloud.run(MetadataOptions={**REQUIRED, "HttpPutResponseHopLimit": 3})[0]
        cloud.client("ec2").modify_instance_metadata_options(InstanceId=instance, InstanceMetadataTags="disabled")
        options = cloud.describe(instance)["MetadataOptions"]
        assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 3)
        assert options["InstanceMetadataTags"] == "disabled"


class TestTree:
    def test_a_crawl_like_cloud_inits_finds_what_describe_says(self, cloud: Cloud) -> None:
        cloud.client("ec2").import_key_pair(KeyName="me", PublicKeyMaterial=PUBLIC_KEY.encode())
        instance = cloud.run(KeyName="me", IamInstanceProfile={"Name": cloud.role("web")})[0]
        seen, tree = cloud.describe(instance), crawl(cloud, "meta-data/")
        same = {
            "instance-id": "InstanceId",
            "ami-id": "ImageId",
            "instance-type": "InstanceType",
            "local-ipv4": "PrivateIpAddress",
            "public-ipv4": "PublicIpAddress",
            "hostname": "PrivateDnsName",
            "local-hostname": "PrivateDnsName",
            "public-hostname": "PublicDnsName",
        }
        assert {name: tree[name] for name in same} == {name: seen[key] for name, key in same.items()}
        assert tree["placement"]["availability-zone"] == seen["Placement"]["AvailabilityZone"]
        assert tree["placement"]["region"] == "us-west-2"
        nic = tree["network"]["interfaces"]["macs"][tree["mac"]]
        shown = seen["NetworkInterfaces"][0]
        assert (nic["interface-id"], nic["subnet-id"], nic["vpc-id"]) == (
            shown["NetworkInterfaceId"], shown["SubnetId"], shown["VpcId"],
        )  # fmt: skip
        assert nic["ipv4-associations"] == {FIRST: seen["PrivateIpAddress"]}
        assert tree["public-keys"] == {"0=me": {"openssh-key": PUBLIC_KEY}}
        assert tree["services"] == {"domain": "amazonaws.com", "partition": "aws"}
        assert "tags" not in tree

    def test_every_version_that_cloud_init_tries_answers(self, cloud: Cloud) -> None:
        instance = cloud.run(MetadataOptions={"InstanceMetadataTags": "enabled"})[0]
        versions = get(cloud, "/")[1].splitlines()
        assert versions[-1] == "latest"
        for version in ("2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23"):
            assert version in versions
            assert get(cloud, f"/{version}/meta-data/instance-id") == (200, instance)
        assert "tags/" in get(cloud, "/2021-03-23/meta-data/")[1].splitlines()
        assert "tags/" not in get(cloud, "/2018-09-24/meta-data/")[1].splitlines()
        assert get(cloud, "/2099-01-01/meta-data/")[0] == 404

    def test_the_identity_document_names_the_instance(self, cloud: Cloud) -> None:
        instance = cloud.run()[0]
        document = json.loads(cloud.metadata(FIRST, "dynamic/instance-identity/document")[1])
        assert (document["instanceId"], document["region"]) == (instance, "us-west-2")
        assert document["accountId"] == cloud.aws.account
        assert cloud.metadata(FIRST, "dynamic/instance-identity")[1] == "document"

    def test_what_an_instance_does_not_have_is_not_found(self, cloud: Cloud) -> None:
        cloud.run()
        for path in (
            "user-data",
            "meta-data/iam/info",
            "meta-data/public-keys/",
            "meta-data/tags/instance",
            "meta-data/x",
        ):
            assert cloud.metadata(FIRST, path)[0] == 404, path

    def test_a_machine_without_an_owner_gets_no_settings(self, cloud: Cloud) -> None:
        cloud.run()
        assert get(cloud, "/latest/meta-data/", "198.51.100.77")[0] == 404

    def test_a_machine_without_a_public_address_has_none_in_its_metadata(self, cloud: Cloud) -> None:
        interfaces = [{"DeviceIndex": 0, "AssociatePublicIpAddress": False}]
        ec2 = cloud.client("ec2")
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        instance = cloud.run(NetworkInterfaces=[{**interfaces[0], "SubnetId": subnet}])[0]
        assert "PublicIpAddress" not in cloud.describe(instance)
        assert cloud.metadata(FIRST, "meta-data/public-ipv4")[0] == 404
        assert cloud.metadata(FIRST, "meta-data/instance-id") == (200, instance)


class TestRole:
    def test_the_profile_and_its_credentials_are_there(self, cloud: Cloud) -> None:
        cloud.run(IamInstanceProfile={"Name": cloud.role("web")})
        info = json.loads(cloud.metadata(FIRST, "meta-data/iam/info")[1])
        assert info["Code"] == "Success" and info["InstanceProfileArn"].endswith(":instance-profile/web")
        assert cloud.metadata(FIRST, "meta-data/iam/security-credentials/") == (200, "web")
        document = json.loads(cloud.metadata(FIRST, "meta-data/iam/security-credentials/web")[1])
        assert (
            document["Code"] == "Success"
            and document["Type"] == "AWS-HMAC"
            and document["AccessKeyId"].startswith("ASIA")
        )
        assert cloud.metadata(FIRST, "meta-data/iam/security-credentials/other")[0] == 404

    def test_each_machine_has_its_own_credentials(self, cloud: Cloud) -> None:
        first, second = cloud.run(2, IamInstanceProfile={"Name": cloud.role("web")})
        assert cloud.credentials(first)[0] != cloud.credentials(second)[0]


class TestTags:
    def test_tags_are_shown_where_they_are_enabled_and_change_at_once(self, cloud: Cloud) -> None:
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "rollcall-fleet", "Value": "web aws"}]}]
        instance = cloud.run(MetadataOptions=REQUIRED, TagSpecifications=tags)[0]
        assert cloud.metadata(FIRST, "meta-data/tags/instance") == (200, "rollcall-fleet")
        assert cloud.metadata(FIRST, "meta-data/tags/instance/rollcall-fleet") == (200, "web aws")
        cloud.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "rollcall-drain", "Value": "true"}])
        assert cloud.metadata(FIRST, "meta-data/tags/instance/") == (200, "rollcall-drain\nrollcall-fleet")
        cloud.client("ec2").delete_tags(Resources=[instance], Tags=[{"Key": "rollcall-drain"}])
        assert cloud.metadata(FIRST, "meta-data/tags/instance/rollcall-drain")[0] == 404

    @pytest.mark.parametrize("key", ["a/b", "a b", ".", "_index"])
    def test_a_key_that_is_not_a_path_is_refused_where_tags_are_shown(self, cloud: Cloud, key: str) -> None:
        ec2 = cloud.client("ec2")
        shown, plain = cloud.run(MetadataOptions=REQUIRED)[0], cloud.run()[0]
        tag = [{"Key": key, "Value": ""}]
        with pytest.raises(ClientError, match="is not a valid tag key"):
            ec2.create_tags(Resources=[shown], Tags=tag)
        with pytest.raises(ClientError, match="is not a valid tag key"):
            cloud.run(MetadataOptions=REQUIRED, TagSpecifications=[{"ResourceType": "instance", "Tags": tag}])
        ec2.create_tags(Resources=[plain], Tags=tag)
        with pytest.raises(ClientError, match="is not a valid tag key"):
            ec2.modify_instance_metadata_options(InstanceId=plain, InstanceMetadataTags="enabled")
