"""The live settings of machines: CloudView.set_settings, reports and deliver, on the local EC2 and on CloudAPI."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from components.commands import status
from components.compute import ec2
from components.compute.ec2 import Ec2View
from components.compute.triton import TritonView
from components.joyent.pacing import wait_until
from components.model import Instance
from components.resources.dns_credentials import policy_document
from components.workloads.release import Release
from rollcall.in_place import ReleaseReport, WorkloadReport, report_key
from tests.cloud.aws_cloud import Cloud, point_shell_at, running
from tests.unit.joyent.fake import FakeCloud

pytestmark = pytest.mark.clouds
BUCKET = "rollcall-releases-1a2b3c4"
STORE = f"s3 bucket={BUCKET} region=us-west-2"
TO = "machines/web/AROAEXAMPLE"
WANTED, GATE = "rollcall-wanted-www", "rollcall-gate-www"


def release(text: str) -> Release:
    return Release(digest=hashlib.sha256(text.encode()).hexdigest(), tar=text.encode())


def report(instance: str, **fields: Any) -> ReleaseReport:
    found: dict[str, Any] = {"wanted": "a" * 64, "rollout": "0a1b2c3d", "runs": "a" * 64, "step": "done", **fields}
    return ReleaseReport(instance=instance, workloads={"www": WorkloadReport(**found)})


class TestEc2:
    @pytest.fixture
    def cloud(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
        with running() as made:
            point_shell_at(made, monkeypatch)
            yield made

    def launched(self, cloud: Cloud, count: int, stack: str = "local") -> list[str]:
        tags = {"rollcall-stack": stack, "rollcall-fleet": "web", "rollcall-store": STORE}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return cloud.run(count, TagSpecifications=[{"ResourceType": "instance", "Tags": listed}])

    def live(self) -> dict[str, dict[str, str]]:
        return {each.instance: dict(each.live) for each in Ec2View("us-west-2").machines("local")}

    def test_settings_are_written_removed_and_listed(self, cloud: Cloud) -> None:
        one, other = self.launched(cloud, 2)
        view = Ec2View("us-west-2")
        view.set_settings("local", {one: {WANTED: "a", GATE: "b"}, other: {WANTED: "a", GATE: "b"}})
        assert self.live() == {one: {WANTED: "a", GATE: "b"}, other: {WANTED: "a", GATE: "b"}}
        view.set_settings("local", {one: {WANTED: "c", GATE: None}, other: {}})
        assert self.live() == {one: {WANTED: "c"}, other: {WANTED: "a", GATE: "b"}}
        # What is not there can be removed again, and every other tag stays.
        view.set_settings("local", {one: {GATE: None}})
        assert {tag["Key"] for tag in cloud.describe(one)["Tags"]} == {
            "rollcall-stack", "rollcall-fleet", "rollcall-store", WANTED,
        }  # fmt: skip

    def test_one_request_writes_the_same_change_of_many_machines(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ec2, "_MOST_TAGGED", 2)
        made = self.launched(cloud, 5)
        view = Ec2View("us-west-2")
        requests: list[int] = []
        view._ec2.meta.events.register_first(
            "before-call.ec2.CreateTags",
            lambda params, **_: requests.append(sum(key.startswith("ResourceId.") for key in params["body"])),
        )
        view.set_settings("local", {each: {WANTED: "a"} for each in made})
        assert requests == [2, 2, 1]
        assert self.live() == {each: {WANTED: "a"} for each in made}

    def test_machines_that_are_gone_and_those_of_other_stacks_are_left_alone(self, cloud: Cloud) -> None:
        (mine,), (theirs,) = self.launched(cloud, 1), self.launched(cloud, 1, "prod")
        Ec2View("us-west-2").set_settings(
            "local", {each: {WANTED: "a"} for each in (mine, theirs, "i-0123456789abcdef0")}
        )
        assert self.live() == {mine: {WANTED: "a"}}
        assert WANTED not in {tag["Key"] for tag in cloud.describe(theirs)["Tags"]}

    def test_a_machine_that_goes_meanwhile_does_not_keep_the_others_from_their_settings(
        self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """EC2 refuses the whole request for one instance that it does not know."""
        (mine,) = self.launched(cloud, 1)
        view = Ec2View("us-west-2")
        (listed,) = view.machines("local")
        late = Instance(instance="i-0123456789abcdef0", fleet="web", machine="1", generation="a", running=True)
        answers = [(listed, late), (listed,)]
        monkeypatch.setattr(view, "machines", lambda stack: answers.pop(0))
        view.set_settings("local", {mine: {WANTED: "a"}, late.instance: {WANTED: "a"}})
        assert self.live() == {mine: {WANTED: "a"}}

    def test_reports_are_read_from_the_bucket_and_again_only_when_they_change(self, cloud: Cloud) -> None:
        one, other, silent = self.launched(cloud, 3)
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})

        def write(instance: str, text: str) -> None:
            s3.put_object(Bucket=BUCKET, Key=report_key(TO, instance), Body=text.encode())

        view = Ec2View("us-west-2")
        gets: list[str] = []
        view.client("s3", "us-west-2").meta.events.register_first(
            "before-call.s3.GetObject", lambda params, **_: gets.append(params["url_path"])
        )
        machines = view.machines("local")
        assert view.reports(machines) == {}
        write(one, report(one).text())
        write(other, report(other, step="leaving").text())
        # A machine of no interest.
        write("i-0fedcba9876543210", report("i-0fedcba9876543210").text())
        assert view.reports(machines) == {one: report(one), other: report(other, step="leaving")}
        write(other, report(other).text())
        assert view.reports(machines) == {one: report(one), other: report(other)}
        assert len(gets) == 3
        # The report of another machine, and no report at all.
        write(one, report(other).text())
        write(silent, "{")
        assert view.reports(machines) == {other: report(other)}

    def test_a_report_is_safe_for_a_terminal(self, cloud: Cloud) -> None:
        (one,) = self.launched(cloud, 1)
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        text = report(one, step="failed", reason="a\x1b[2J", log=("b\x1b[2J",)).text()
        s3.put_object(Bucket=BUCKET, Key=report_key(TO, one), Body=text.encode())
        view = Ec2View("us-west-2")
        found = view.reports(view.machines("local"))[one].workloads["www"]
        assert (found.reason, found.log) == (r"a\x1b[2J", (r"b\x1b[2J",))

    def test_a_machine_may_write_one_report_only(self, cloud: Cloud) -> None:
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        folder = f"arn:aws:s3:::{BUCKET}/machines/web"
        policy = json.loads(policy_document([], [], f"arn:aws:s3:::{BUCKET}/releases/*", [], [folder]))
        profile = cloud.role("web-role", policy)
        role_id = cloud.client("iam").get_role(RoleName="web-role")["Role"]["RoleId"]
        one, other = cloud.run(2, IamInstanceProfile={"Name": profile})
        machine = cloud.client("s3", cloud.credentials(one))
        own = report_key(f"machines/web/{role_id}", one)
        machine.put_object(Bucket=BUCKET, Key=own, Body=b"{}")
        for refused in (report_key(f"machines/web/{role_id}", other), own.replace("web", "api"), "machines/web/x.json"):
            with pytest.raises(ClientError, match="AccessDenied"):
                machine.put_object(Bucket=BUCKET, Key=refused, Body=b"{}")
        for call in (machine.get_object, machine.delete_object):
            with pytest.raises(ClientError, match="AccessDenied"):
                call(Bucket=BUCKET, Key=own)

    def test_status_shows_what_each_machine_runs_and_wants(self, cloud: Cloud) -> None:
        """With the real readers of tags and reports: the second machine has not taken its release yet."""
        new, old = "b" * 64, "a" * 64
        one, other = self.launched(cloud, 2)
        s3 = cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        gate = f"rolling to={new} from={old} rollout=0a1b2c3d number=2"
        wanted = f"{new} rollout=0a1b2c3d drain=yes healthy=10 deadline=300"
        Ec2View("us-west-2").set_settings("local", {each: {WANTED: wanted, GATE: gate} for each in (one, other)})
        for machine, fields in ((one, {"wanted": new, "runs": new}), (other, {"wanted": new, "step": "draining"})):
            s3.put_object(Bucket=BUCKET, Key=report_key(TO, machine), Body=report(machine, **fields).text().encode())
        members = [{"machine": str(at), "generation": "a", "instance": each} for at, each in enumerate((one, other))]
        outputs: dict[str, Any] = {
            "stack": "local",
            "fleet": "web",
            "fleets": ["web"],
            "members": members,
            "places": [],
        }
        outputs |= {"cloud": {"cloud": "aws", "region": "us-west-2"}, "peers": ["web"]}
        roll_call = {"type": "pulumi-python:dynamic/rollcall:RollCall", "outputs": outputs}
        (found,) = status.compare([roll_call], {"aws:region": "us-west-2"})
        shown = [str(release) for each in found.machines for release in each.releases]
        assert shown == [f"runs www {new[:12]}", f"runs www {old[:12]}, wants {new[:12]}: draining"]
        assert found.roll_out is not None and found.roll_out.state == "rolling"
        assert found.differences["release"][0].startswith("rolling: 1 of 2 machines have www bbbbbb.")

    def test_releases_are_not_delivered_because_machines_fetch_them(self, cloud: Cloud) -> None:
        (one,) = self.launched(cloud, 1)
        before = cloud.describe(one)["Tags"]
        Ec2View("us-west-2").deliver([one], [release("a")])
        assert cloud.describe(one)["Tags"] == before


class TestTriton:
    @pytest.fixture
    def cloud(self) -> FakeCloud:
        return FakeCloud()

    @pytest.fixture
    def view(self, cloud: FakeCloud) -> TritonView:
        made = object.__new__(TritonView)
        made._api = cloud.session().api
        return made

    def launched(self, view: TritonView, *names: str) -> list[str]:
        metadata = {"tag.rollcall-stack": "local", "metadata.rollcall-status": "registered"}
        body = {"package": "g1.nano", "image": "debian-12", **metadata}
        return [view._api.create_machine({**body, "name": name}).id for name in names]

    def metadata(self, view: TritonView, machine: str, wanted: dict[str, str]) -> None:
        """Wait until a machine has this metadata, beside what it always has: CloudAPI's jobs take time."""

        def found() -> bool | None:
            have = view._api.get_machine(machine).metadata
            return {
                key: have[key] for key in have if key not in ("rollcall-status", "root_authorized_keys")
            } == wanted or None

        wait_until(f"{machine} has {sorted(wanted)}", found, timeout=10)

    def test_settings_are_written_removed_and_listed(self, view: TritonView) -> None:
        one, other = self.launched(view, "one", "other")
        gone = "0f4c5b5e-7e5f-4c1a-9d3e-2f6b8a7c9d10"
        view.set_settings("local", {one: {WANTED: "a", GATE: "b"}, other: {WANTED: "a"}, gone: {WANTED: "a"}})
        self.metadata(view, one, {WANTED: "a", GATE: "b"})
        self.metadata(view, other, {WANTED: "a"})
        view.set_settings("local", {one: {WANTED: "c", GATE: None, "rollcall-hold": None}})
        self.metadata(view, one, {WANTED: "c"})
        assert {each.instance: each.live for each in view.machines("local")} == {
            one: {WANTED: "c"}, other: {WANTED: "a"},
        }  # fmt: skip

    def test_the_releases_of_a_machine_that_is_replaced_are_listed(self, view: TritonView) -> None:
        one, other = self.launched(view, "one", "other")
        view._api.merge_metadata(one, {"rollcall-workload-www": "a" * 64})
        self.metadata(view, one, {"rollcall-workload-www": "a" * 64})
        assert {each.instance: each.releases for each in view.machines("local")} == {one: {"www": "a" * 64}, other: {}}

    def test_a_machine_that_goes_meanwhile_does_not_keep_the_others_from_their_settings(
        self, view: TritonView, cloud: FakeCloud
    ) -> None:
        one, other = self.launched(view, "one", "other")
        cloud.fault(f"POST /machines/{one}/metadata", lambda: (404, {"code": "ResourceNotFound", "message": "gone"}))
        view.set_settings("local", {one: {WANTED: "a"}, other: {WANTED: "a"}})
        self.metadata(view, other, {WANTED: "a"})

    def test_reports_are_read_from_the_metadata(self, view: TritonView) -> None:
        one, other, silent = self.launched(view, "one", "other", "silent")
        for machine, text in ((one, report(one).text()), (other, report(one).text())):
            view._api.merge_metadata(machine, {"rollcall-report": text})
            self.metadata(view, machine, {"rollcall-report": text})
        assert view.reports(view.machines("local")) == {one: report(one)}
        assert silent in {each.instance for each in view.machines("local")}

    def test_releases_are_delivered_once_by_one_request_each_and_old_ones_are_removed(
        self, view: TritonView, cloud: FakeCloud
    ) -> None:
        one, other = self.launched(view, "one", "other")
        first, second, third = (release(text) for text in "abc")

        def carried(*releases: Release) -> dict[str, str]:
            return {f"rollcall-carried-{each.digest}": base64.b85encode(each.packed).decode() for each in releases}

        view.deliver([one], [first, second])
        self.metadata(view, one, carried(first, second))
        assert cloud.count(f"POST /machines/{one}/metadata") == 2
        view.deliver([one], [second, third])
        self.metadata(view, one, carried(second, third))
        assert cloud.count(f"POST /machines/{one}/metadata") == 3
        view.deliver([one], [])
        self.metadata(view, one, {})
        assert not json.dumps(cloud.machines[other]).count("rollcall-carried")
