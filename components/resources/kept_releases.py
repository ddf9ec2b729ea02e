"""Create KeptReleases: which releases stay in a release store, and which are deleted.

The engine creates the objects and never deletes one. This resource remembers which releases a stack had, the newest
first, and deletes what no fleet names and what is not among the newest of its kind (the agent, or one workload). So a
former release is still in the store when an operator goes back to it, and machines of the former release that are not
replaced yet find theirs. It deletes only what it remembers. The bucket is emptied when it is deleted itself.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from components.aws.account_settings import AWS_KEYS

History = Mapping[str, Sequence[str]]


class KeptReleasesError(Exception):
    """A release could not be deleted."""


def after(history: History, named: Mapping[str, str], keep: int) -> tuple[dict[str, list[str]], list[str]]:
    """Return the history with the keys that are `named` now, and the keys to delete.

    `history` has the keys of each kind of release, the newest first. Of each kind `keep` stay.
    """
    found = {kind: [*keys] for kind, keys in history.items()}
    for kind, key in named.items():
        found[kind] = [key, *(each for each in found.get(kind, ()) if each != key)]
    kept = {kind: keys[:keep] for kind, keys in found.items()}
    stay = {key for keys in kept.values() for key in keys} | {*named.values()}
    return kept, sorted({key for keys in found.values() for key in keys} - stay)


class KeptReleasesProvider(ResourceProvider):
    """Remembers releases, and deletes those that are too old."""

    serialize_as_secret_always = False
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in AWS_KEYS if (value := req.config.get(key)) is not None}

    def create(self, props: dict[str, Any]) -> CreateResult:
        history, _ = after({}, props["named"], int(props["keep"]))
        return CreateResult(f"{props['bucket']}/releases", {**props, "history": history})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        moved = [key for key in ("bucket", "region") if _olds.get(key) != _news.get(key)]
        changed = bool(moved) or any(_olds.get(key) != _news.get(key) for key in ("named", "keep"))
        return DiffResult(changes=changed, replaces=moved, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        history, old = after(_olds["history"], _news["named"], int(_news["keep"]))
        if old:
            self._delete(_news["bucket"], _news["region"], old)
        return UpdateResult({**_news, "history": history})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete nothing: the bucket is emptied when it is deleted."""

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


class KeptReleases(Resource, module="rollcall", name="KeptReleases"):  # type: ignore[call-arg]
    """The releases in `bucket`: the keys that fleets name now, by kind, and how many of each kind are kept."""

    history: pulumi.Output[dict[str, list[str]]]

    def __init__(
        self,
        name: str,
        *,
        bucket: pulumi.Input[str],
        region: str,
        named: Mapping[str, str],
        keep: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"bucket": bucket, "region": region, "named": dict(named), "keep": keep, "history": None}
        super().__init__(KeptReleasesProvider(), name, props, opts)
