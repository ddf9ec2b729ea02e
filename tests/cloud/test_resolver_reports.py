"""What machines report about their resolvers: written with the instance role, read by the program, on the local EC2 and S3."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from components.compute.ec2 import Ec2View
from components.compute.locations import Location, Locations
from components.compute.s3_reports import S3Reports
from components.dns.route53 import ServicePlace
from components.model import RecordKey
from components.registration.inventory import Registries
from components.resources.dns_credentials import policy_document
from rollcall.in_place import VIEWS, report_key
from rollcall.resolver_view import ResolverReport
from tests.cloud.aws_cloud import Cloud, point_shell_at, running

pytestmark = pytest.mark.clouds
BUCKET = "rollcall-releases-1a2b3c4"
STORE = f"s3 bucket={BUCKET} region=us-west-2"
TO = f"{VIEWS}/api/AROAEXAMPLE"
ZONE = "unilans.net"
SET = f"v1._theservice._tcp.{ZONE}"
VALUE, OTHER = f"10 10 4218 ab12cd.rc.{ZONE}.", f"10 10 4218 cd34ef.rc.{ZONE}."


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with running() as made:
        point_shell_at(made, monkeypatch)
        made.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        yield made


def launched(cloud: Cloud, count: int) -> list[str]:
    tags = {"rollcall-stack": "local", "rollcall-fleet": "api", "rollcall-store": STORE, "rollcall-machine": "0"}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return cloud.run(count, TagSpecifications=[{"ResourceType": "instance", "Tags": listed}])


def write(cloud: Cloud, instance: str, *values: str, text: str = "") -> None:
    report = ResolverReport(instance=instance, answers={SET: {"SRV": values}})
    cloud.client("s3").put_object(Bucket=BUCKET, Key=report_key(TO, instance), Body=(text or report.text()).encode())


def test_a_report_counts_only_for_its_machine_and_only_while_it_is_new(cloud: Cloud) -> None:
    one, other = launched(cloud, 2)
    view = Ec2View("us-west-2")
    machines = view.machines("local")
    assert view.resolver_reports(machines) == {}
    write(cloud, one, VALUE)
    write(cloud, other, VALUE, OTHER)
    found = view.resolver_reports(machines)
    assert found[one].values(SET, "SRV") == {VALUE} and found[other].values(SET, "SRV") == {VALUE, OTHER}
    # No report, and the report of another machine.
    write(cloud, one, text="{")
    write(cloud, other, text=found[one].text())
    assert view.resolver_reports(machines) == {}
    # By the clock of S3.
    write(cloud, one, VALUE)
    for most, there in ((300.0, {one, other}), (-1.0, set[str]())):
        assert {*S3Reports(lambda region: cloud.client("s3"), VIEWS, most).read(machines)} == there


def test_a_place_in_a_private_zone_is_answered_by_every_running_machine(cloud: Cloud) -> None:
    one, other = launched(cloud, 2)
    place = ServicePlace(
        zone="Z1",
        domain=ZONE,
        service="_theService._tcp",
        incarnation="v1",
        port=4218,
        priority=10,
        weight=10,
        ttl=30,
        private=True,
        address="private",
    )
    assert ServicePlace.from_inputs(place.as_inputs()) == place
    locations = Locations(fleet="api", fleets=("api",), home=Location(cloud="aws", region="us-west-2"))
    registries = Registries([place], locations, {}, "local")
    (records,) = registries._records

    def answered() -> frozenset[str]:
        registries._reported[0]._last = None
        return registries._views[ZONE, True].all_of(SET, "SRV")

    assert answered() == frozenset() and "no machine has reported" in registries.sources[0]
    write(cloud, one, VALUE, OTHER)
    assert answered() == {VALUE, OTHER}
    write(cloud, other, VALUE)
    assert answered() == {VALUE}, "each machine has a vote"
    assert registries.delay == 40.0 and registries.notes == ()
    cloud.client("ec2").terminate_instances(InstanceIds=[other])
    cloud.aws.stopped(other)
    assert answered() == {VALUE, OTHER}, "a machine that does not run has no vote"
    assert [each.address for each in place.record_sets] == ["private", "private"]
    assert records is not None and RecordKey(SET, "SRV") in {each.key for each in place.record_sets}


def test_a_machine_may_write_its_own_report_only(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    folders = [f"arn:aws:s3:::{BUCKET}/{each}/api" for each in ("machines", VIEWS)]
    profile = cloud.role("api-role", json.loads(policy_document([], [], "", [], folders)))
    role_id = cloud.client("iam").get_role(RoleName="api-role")["Role"]["RoleId"]
    one, other = cloud.run(2, IamInstanceProfile={"Name": profile})
    machine = cloud.client("s3", cloud.credentials(one))
    own = report_key(f"{VIEWS}/api/{role_id}", one)
    machine.put_object(Bucket=BUCKET, Key=own, Body=b"{}")
    for refused in (report_key(f"{VIEWS}/api/{role_id}", other), own.replace("/api/", "/web/")):
        with pytest.raises(ClientError, match="AccessDenied"):
            machine.put_object(Bucket=BUCKET, Key=refused, Body=b"{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        machine.get_object(Bucket=BUCKET, Key=own)
    assert s3.get_object(Bucket=BUCKET, Key=own)["Body"].read() == b"{}"
