"""components.resources.kept_releases: which releases stay, and what is deleted of the local S3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components.joyent.errors import CloudApiError
from components.model import Instance
from components.resources import kept_releases
from components.resources.kept_releases import KeptReleasesError, KeptReleasesProvider, after
from components.resources.releases import key_of
from rollcall.in_place import ReleaseReport, WorkloadReport, report_key
from tests.cloud.aws_cloud import Cloud, point_shell_at, running

pytestmark = pytest.mark.clouds
BUCKET = "rollcall-releases-1a2b3c4"


@pytest.mark.parametrize(
    ("history", "named", "kept", "old"),
    [
        ({}, {"shop": "a"}, {"shop": ["a"]}, []),
        ({"shop": ["b", "a"]}, {"shop": "c"}, {"shop": ["c", "b", "a"]}, []),
        ({"shop": ["c", "b", "a"]}, {"shop": "d"}, {"shop": ["d", "c", "b"]}, ["a"]),
        # Back to a former one: nothing is lost.
        ({"shop": ["c", "b", "a"]}, {"shop": "a"}, {"shop": ["a", "c", "b"]}, []),
        ({"shop": ["a"]}, {"shop": "a"}, {"shop": ["a"]}, []),
        # Each workload has its own: one that changes daily takes nothing from one that seldom does.
        (
            {"shop": ["c", "b", "a"], "www": ["x"]},
            {"shop": "d", "www": "y"},
            {"shop": ["d", "c", "b"], "www": ["y", "x"]},
            ["a"],
        ),
        # One that no fleet runs any more keeps its last ones, in case it comes back.
        ({"shop": ["b", "a"], "www": ["x"]}, {"shop": "c"}, {"shop": ["c", "b", "a"], "www": ["x"]}, []),
        # The same release under another name is not deleted.
        ({"old": ["d", "c", "b", "a"]}, {"new": "a"}, {"old": ["d", "c", "b"], "new": ["a"]}, []),
    ],
)
def test_of_each_kind_the_newest_three_stay_and_what_is_named(
    history: dict[str, list[str]], named: dict[str, str], kept: dict[str, list[str]], old: list[str]
) -> None:
    assert after(history, named, 3) == (kept, old)


def test_what_a_machine_names_stays_until_no_machine_does() -> None:
    history = {"shop": ["d", "c", "b", "a"]}
    assert after(history, {"shop": "e"}, 2, frozenset("a")) == ({"shop": ["e", "d", "a"]}, ["b", "c"])
    assert after({"shop": ["e", "d", "a"]}, {"shop": "f"}, 2) == ({"shop": ["f", "e"]}, ["a", "d"])


def test_a_smaller_number_deletes_at_once() -> None:
    assert after({"shop": ["d", "c", "b", "a"]}, {"shop": "d"}, 2) == ({"shop": ["d", "c"]}, ["a", "b"])


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with running() as made:
        point_shell_at(made, monkeypatch)
        s3 = made.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield made


def keys(cloud: Cloud) -> set[str]:
    found = cloud.client("s3").list_object_versions(Bucket=BUCKET)
    return {each["Key"] for each in (*found.get("Versions", ()), *found.get("DeleteMarkers", ()))}


def props(key: str, keep: int = 2) -> dict[str, Any]:
    return {"bucket": BUCKET, "region": "us-west-2", "named": {"shop": key}, "keep": keep, "history": None}


def test_what_is_too_old_is_deleted_with_all_its_versions_and_nothing_else_is(cloud: Cloud) -> None:
    s3, provider = cloud.client("s3"), KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2"}
    for key in ("releases/a", "releases/ab", "releases/b", "before/shop/a", "by-hand"):
        for body in (b"1", b"2"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    s3.delete_object(Bucket=BUCKET, Key="releases/a")
    state = provider.create(props("releases/a")).outs
    assert state and state["history"] == {"shop": ["releases/a"]}
    for key in ("releases/b", "releases/c"):
        assert provider.diff("", state, props(key)).changes and not provider.diff("", state, props(key)).replaces
        state = provider.update("", state, props(key)).outs
    assert state and state["history"] == {"shop": ["releases/c", "releases/b"]}
    assert keys(cloud) == {"releases/ab", "releases/b", "before/shop/a", "by-hand"}
    assert not provider.diff("", state, {**props("releases/c"), "keep": 2.0}).changes
    # An object that was deleted by hand is not an error.
    state = provider.update("", state, props("releases/d")).outs
    state = provider.update("", state or {}, props("releases/e")).outs
    assert state and keys(cloud) == {"releases/ab", "before/shop/a", "by-hand"}


def test_what_a_machine_names_stays_however_many_releases_have_failed_since(cloud: Cloud) -> None:
    s3, provider = cloud.client("s3"), KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2"}
    digests = [letter * 64 for letter in "abcde"]
    for digest in (*digests, "f" * 64):
        s3.put_object(Bucket=BUCKET, Key=key_of(digest), Body=b"1")
    tags = {"rollcall-store": f"s3 bucket={BUCKET} region=us-west-2", "rollcall-release": "f" * 64}
    (machine,) = cloud.run(**tagged({**tags, "rollcall-workload-shop": digests[0]}))
    cloud.run(
        **tagged({**tags, "rollcall-store": "s3 bucket=another region=us-west-2", "rollcall-workload-shop": digests[1]})
    )
    state = provider.create(
        {**props(key_of(digests[0])), "named": {"agent": key_of("f" * 64), "shop": key_of(digests[0])}}
    ).outs
    for digest in digests[1:4]:
        state = provider.update("", state or {}, props(key_of(digest))).outs
    assert keys(cloud) == {key_of(each) for each in (digests[0], *digests[2:], "f" * 64)}
    assert state and state["history"]["shop"] == [key_of(digests[at]) for at in (3, 2, 0)]
    cloud.client("ec2").terminate_instances(InstanceIds=[machine])
    state = provider.update("", state, props(key_of(digests[4]))).outs
    assert keys(cloud) == {key_of(each) for each in (*digests[3:], "f" * 64)}


def test_what_machines_that_change_in_place_want_or_run_stays_and_reports_of_others_are_deleted(cloud: Cloud) -> None:
    s3, provider = cloud.client("s3"), KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2"}
    wanted, former, runs, gone, *others = (letter * 64 for letter in "abcdef")
    for digest in (wanted, former, runs, gone, *others):
        s3.put_object(Bucket=BUCKET, Key=key_of(digest), Body=b"1")
    (machine,) = cloud.run(
        **tagged(
            {
                "rollcall-store": f"s3 bucket={BUCKET} region=us-west-2",
                "rollcall-wanted-shop": f"{wanted} rollout=0a1b2c3d",
                "rollcall-gate-shop": f"promoted to={wanted} from={former} rollout=0a1b2c3d number=1",
            }
        )
    )
    for instance, digest in ((machine, runs), ("i-0123456789abcdef0", gone)):
        workload = WorkloadReport(wanted=digest, rollout="0a1b2c3d", runs=digest, step="done")
        report = ReleaseReport(instance=instance, workloads={"shop": workload})
        for _ in range(2):
            s3.put_object(Bucket=BUCKET, Key=report_key("machines/web/AROA", instance), Body=report.text().encode())
    s3.put_object(Bucket=BUCKET, Key="machines/by-hand", Body=b"{}")
    history = {"shop": [key_of(each) for each in (wanted, former, runs, gone)]}
    state = {**props(key_of(wanted)), "reports": True, "history": history}
    state = provider.update("", state, {**props(key_of(others[0])), "reports": True}).outs or {}
    assert state["history"]["shop"] == [key_of(each) for each in (others[0], wanted, former, runs)]
    kept = {key_of(each) for each in (wanted, former, runs, *others)}
    assert keys(cloud) == {*kept, report_key("machines/web/AROA", machine), "machines/by-hand"}


class Triton:
    """A data centre with one machine of the stack `prod`."""

    def __init__(self, live: dict[str, str], releases: dict[str, str], runs: str) -> None:
        self.machine = Instance(
            instance="a", fleet="web", machine="0", generation="1", running=True, live=live, releases=releases
        )
        workload = WorkloadReport(wanted=runs, rollout="0a1b2c3d", runs=runs, step="done")
        self.report = ReleaseReport(instance="a", workloads={"shop": workload})
        self.fault: CloudApiError | None = None

    def machines(self, stack: str) -> tuple[Instance, ...]:
        return (self.machine,) if stack == "prod" else ()

    def reports(self, machines: Any) -> dict[str, ReleaseReport]:
        if self.fault:
            raise self.fault
        return {each.instance: self.report for each in machines}


def test_what_triton_machines_name_or_run_stays(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2", "rollcall:joyent": "{}"}
    wanted, carried, runs, old, *newest = (letter * 64 for letter in "abcdef")
    for digest in (wanted, carried, runs, old, *newest):
        cloud.client("s3").put_object(Bucket=BUCKET, Key=key_of(digest), Body=b"")
    live = {"rollcall-wanted-shop": f"{wanted} rollout=0123abcd drain=yes healthy=10 deadline=300"}
    there = Triton(live, {"www": carried}, runs)
    requested: list[tuple[str, str]] = []

    def view_of(name: str, datacenter: str, config: Mapping[str, str]) -> Triton:
        requested.append((name, datacenter))
        assert "rollcall:joyent" in config
        return there

    monkeypatch.setattr(kept_releases, "view_of", view_of)
    history = {"shop": [key_of(each) for each in (newest[0], wanted, carried, runs, old)]}
    news = {**props(key_of(newest[1])), "stack": "prod", "datacenters": ["", "us-east-1"]}
    state = provider.update("", {**props(key_of(newest[0])), "history": history}, news).outs or {}
    assert requested == [("joyent", ""), ("joyent", "us-east-1")]
    assert keys(cloud) == {key_of(each) for each in (wanted, carried, runs, *newest)}
    assert key_of(old) not in state["history"]["shop"]
    # Nothing is deleted while a data centre does not answer.
    there.fault = CloudApiError("HTTP 503")
    with pytest.raises(KeptReleasesError, match="on Triton could not be listed"):
        provider.update("", state, {**news, **props("releases/x")})
    assert keys(cloud) == {key_of(each) for each in (wanted, carried, runs, *newest)}


def tagged(tags: dict[str, str]) -> dict[str, Any]:
    found = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": found}]}


def test_the_releases_of_machines_that_change_in_place_stay(cloud: Cloud) -> None:
    """Their settings name the release, and the one that a rollback needs, within longer texts."""
    provider = KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2"}
    digests = [letter * 64 for letter in "abcde"]
    for digest in digests:
        cloud.client("s3").put_object(Bucket=BUCKET, Key=key_of(digest), Body=b"")
    gate = f"done to={digests[1]} from={digests[0]} rollout=0123abcd number=4"
    tags = {"rollcall-store": f"s3 bucket={BUCKET} region=us-west-2", "rollcall-gate-shop": gate}
    cloud.run(
        **tagged({**tags, "rollcall-wanted-shop": f"{digests[1]} rollout=0123abcd drain=yes healthy=10 deadline=300"})
    )
    state = provider.create(props(key_of(digests[0]))).outs
    for digest in digests[1:]:
        state = provider.update("", state or {}, props(key_of(digest))).outs
    assert keys(cloud) == {key_of(digests[at]) for at in (0, 1, 3, 4)}


def test_a_refusal_names_the_object_and_leaves_the_history_as_it_was(cloud: Cloud) -> None:
    provider = KeptReleasesProvider()
    provider.config = {"aws:region": "us-west-2"}
    state = {**props("releases/b"), "bucket": "rollcall-absent-1", "history": {"shop": ["releases/b", "releases/a"]}}
    with pytest.raises(KeptReleasesError, match=r"^rollcall:keepReleases: releases/a of the bucket rollcall-absent-1"):
        provider.update("", state, {**props("releases/c"), "bucket": "rollcall-absent-1"})
