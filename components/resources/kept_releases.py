"""Create KeptReleases: which releases stay in a release store, and which are deleted.

The engine creates the objects and never deletes one. This resource remembers which releases a stack had, the newest
first, and deletes what no fleet and no machine names and what is not among the newest of its kind (the agent, or one
workload). So a former release is still in the store when an operator goes back to it, and machines of a former release
find theirs, also after several releases that have failed. It deletes only what it remembers, and the reports of
machines that no longer exist. The bucket is emptied when it is deleted itself.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from components.aws.account_settings import AWS_KEYS
from components.compute import s3_reports
from components.compute.registry import view_of
from components.joyent.errors import CloudApiError
from rollcall.in_place import ReleaseReport, parse_report

History = Mapping[str, Sequence[str]]


# Those of a machine that may boot again.
_STATES = ["pending", "running", "stopping", "stopped"]


def setting_of(bucket: str, region: str) -> str:
    """Return what the settings of a machine say about its bucket."""
    return f"s3 bucket={bucket} region={region}"


class KeptReleasesError(Exception):
    """A release could not be deleted."""


def after(
    history: History, named: Mapping[str, str], keep: int, in_use: Collection[str] = ()
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the history with the keys that are `named` now, and the keys to delete.

    `history` has the keys of each kind of release, the newest first. Of each kind `keep` stay, and those that machines
    have (`in_use`).
    """
    found = {kind: [*keys] for kind, keys in history.items()}
    for kind, key in named.items():
        found[kind] = [key, *(each for each in found.get(kind, ()) if each != key)]
    kept = {kind: [key for at, key in enumerate(keys) if at < keep or key in in_use] for kind, keys in found.items()}
    stay = {key for keys in kept.values() for key in keys} | {*named.values()}
    return kept, sorted({key for keys in found.values() for key in keys} - stay)


class KeptReleasesProvider(ResourceProvider):
    """Remembers releases, and deletes those that are too old."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {
            key: value for key in (*AWS_KEYS, "rollcall:joyent") if (value := req.config.get(key)) is not None
        }

    def create(self, props: dict[str, Any]) -> CreateResult:
        history, _ = after({}, props["named"], int(props["keep"]))
        return CreateResult(f"{props['bucket']}/releases", {**props, "history": history})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("bucket", "region") if _olds.get(key) != _news.get(key)]
        # A release that is in the store already changes nothing: a fleet that went back by itself, and then its program.
        known = _olds.get("history") or {}
        new = any(key not in known.get(kind, ()) for kind, key in _news["named"].items())
        changed = bool(moved) or new or any(_olds.get(key) != _news.get(key) for key in ("keep", "reports"))
        return DiffResult(changes=changed, replaces=moved, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        bucket, region, keep = _news["bucket"], _news["region"], int(_news["keep"])
        history, old = after(_olds["history"], _news["named"], keep)
        if old or _news.get("reports"):
            machines = self._machines(bucket, region)
            reports = self._reports(bucket, region) if _news.get("reports") else {}
            digests = _digests(machines, reports) | self._wanted_on_triton(_news)
            in_use = {key for key in old if any(digest in key for digest in digests)}
            history, old = after(_olds["history"], _news["named"], keep, in_use)
            old += [key for key, report in reports.items() if report.instance not in machines]
        if old:
            self._delete(bucket, region, old)
        return UpdateResult({**_news, "history": history})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete nothing: the bucket is emptied when it is deleted."""

    def _machines(self, bucket: str, region: str) -> dict[str, list[str]]:
        """Return the values of all settings of the machines of this bucket, by instance. Raises KeptReleasesError."""
        from botocore.exceptions import BotoCoreError, ClientError

        from components.aws.session import session_of

        wanted = {"tag:rollcall-store": [setting_of(bucket, region)], "instance-state-name": _STATES}
        filters = [{"Name": name, "Values": values} for name, values in wanted.items()]
        try:
            pages = session_of(self.config.get).client("ec2", region).get_paginator("describe_instances")
            listed = [each for page in pages.paginate(Filters=filters) for each in page["Reservations"]]
        except (BotoCoreError, ClientError) as refused:
            raise KeptReleasesError(
                f"rollcall:keepReleases: the machines of the bucket {bucket} could not be listed ({refused}). Run `pulumi up` again."
            ) from refused
        found = (each for reservation in listed for each in reservation["Instances"])
        return {each["InstanceId"]: [tag["Value"] for tag in each["Tags"]] for each in found}

    def _reports(self, bucket: str, region: str) -> dict[str, ReleaseReport]:
        """Return the reports of machines that change in place, by their keys. Raises KeptReleasesError."""
        from botocore.exceptions import BotoCoreError, ClientError

        from components.aws.session import session_of

        try:
            texts = s3_reports.texts(session_of(self.config.get).client("s3", region), bucket)
        except (BotoCoreError, ClientError) as refused:
            raise KeptReleasesError(
                f"rollcall:keepReleases: the reports in the bucket {bucket} could not be read ({refused}). Run `pulumi up` again."
            ) from refused
        found = {key: parse_report(text) for key, text in texts.items()}
        return {key: report for key, report in found.items() if report is not None}

    def _wanted_on_triton(self, props: Mapping[str, Any]) -> set[str]:
        """Return the digests that Triton machines have in their settings, and those that they run. Raises KeptReleasesError."""
        found = set[str]()
        for datacenter in props.get("datacenters") or ():
            try:
                view = view_of("joyent", datacenter, self.config)
                machines = view.machines(props["stack"])
                reports = view.reports(machines)
            except CloudApiError as refused:
                raise KeptReleasesError(
                    f"rollcall:keepReleases: the machines of the stack on Triton could not be listed ({refused}). Run `pulumi up` again."
                ) from refused
            values = {each.instance: [*each.live.values(), *each.releases.values()] for each in machines}
            found |= _digests(values, reports)
        return found

    def _delete(self, bucket: str, region: str, keys: Sequence[str]) -> None:
        """Delete objects with all of their versions. Raises KeptReleasesError."""
        from botocore.exceptions import BotoCoreError, ClientError

        from components.aws.session import session_of

        client = session_of(self.config.get).client("s3", region)
        for key in keys:
            try:
                pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
                for page in pages:
                    for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                        if each["Key"] == key:
                            client.delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])
            except (BotoCoreError, ClientError) as refused:
                raise KeptReleasesError(
                    f"rollcall:keepReleases: {key} of the bucket {bucket} could not be deleted ({refused}). Run `pulumi up` again."
                ) from refused


def _digests(machines: Mapping[str, Sequence[str]], reports: Mapping[str, ReleaseReport]) -> set[str]:
    """Return the digests that machines have in their settings, and those that they run.

    A setting is a digest, or it has digests among its words (rollcall.in_place).
    """
    words = (word for values in machines.values() for value in values for word in re.split("[ =]", value))
    found = {word for word in words if re.fullmatch("[0-9a-f]{64}", word)}
    running = (each for each in reports.values() if each.instance in machines)
    return found | {one.runs for each in running for one in each.workloads.values() if one.runs}


class KeptReleases(Resource, module="rollcall", name="KeptReleases"):  # type: ignore[call-arg]
    """The releases in `bucket`: the keys that fleets name now, by kind, and how many of each kind are kept.

    `reports`: machines that change in place write their reports there. `datacenters` are those of Triton fleets of the
    stack with the name `stack` that fetch releases from the bucket.
    """

    history: pulumi.Output[dict[str, list[str]]]

    def __init__(
        self,
        name: str,
        *,
        bucket: pulumi.Input[str],
        region: str,
        named: Mapping[str, str],
        keep: int,
        reports: bool = False,
        stack: str = "",
        datacenters: Sequence[str] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props: dict[str, Any] = {
            "bucket": bucket,
            "region": region,
            "named": dict(named),
            "keep": keep,
            "history": None,
        }
        if reports:
            props["reports"] = True
        if datacenters:
            props.update(stack=stack, datacenters=list(datacenters))
        super().__init__(KeptReleasesProvider(), name, props, opts)
