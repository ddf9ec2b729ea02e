"""Create a Mirror: the stack's releases in a bucket of an S3-compatible store, for a mirror with `upload`.

The program writes the packed releases into a folder of the project, and the resource uploads what its bucket lacks. So
a release is in the state by its name only. It deletes nothing from the bucket, because several stacks may use the same
one: the name of a release comes from its bytes.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

import bz2
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.config.mirror_checks import DEFAULT_REGION
from components.config.models import MirrorSettings
from components.resources.release_files import digest_of

# Relative to the folder in which the engine runs the program and its providers.
FOLDER = Path(".rollcall/mirrors")
_PLACE = ("endpoint", "bucket", "region")


class MirrorError(Exception):
    """A release could not be uploaded."""


class MirrorProvider(ResourceProvider):
    """Uploads releases, and notices at a refresh that one is gone."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult(f"{props['endpoint']}/{props['bucket']}", self._filled(props, ()))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        keys = (*_PLACE, "access_key", "secret_key", "named")
        changed = any(_olds.get(key) != _news.get(key) for key in keys) or bool(_missing(_olds, _news))
        return DiffResult(changes=changed, replaces=[], stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        moved = any(_olds.get(key) != _news.get(key) for key in _PLACE)
        return UpdateResult(self._filled(_news, () if moved else _olds.get("present") or ()))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        store = _store(props)
        return ReadResult(
            id_, {**props, "present": [key for key in props.get("present") or () if not store.lacks(key)]}
        )

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete nothing: another stack may use the same bucket."""

    def _filled(self, props: Mapping[str, Any], present: Sequence[str]) -> dict[str, Any]:
        """Upload the releases that are not `present`. Return the outputs. Raises MirrorError."""
        from components.aws.compatible_store import StoreError

        store, where = _store(props), f"rollcall:mirrors.{props['mirror']}"
        for key in (each for each in props["named"] if each not in present):
            packed = (FOLDER / key).read_bytes()
            if hashlib.sha256(bz2.decompress(packed)).hexdigest() != digest_of(key):
                raise MirrorError(
                    f"{where}: {FOLDER / key} has another content than its name says. Run `pulumi up` again."
                )
            try:
                store.put(key, packed)
            except StoreError as refused:
                fix = f"Correct {where}.upload, or run `pulumi up` again when the store answers"
                raise MirrorError(
                    f"{where}: {key} could not be written to the bucket {props['bucket']} ({refused}). {fix}."
                ) from refused
        return {**props, "present": [*props["named"]]}


def _missing(olds: Mapping[str, Any], news: Mapping[str, Any]) -> set[str]:
    return {*news["named"]} - {*(olds.get("present") or ())}


def _store(props: Mapping[str, Any]) -> Any:
    from components.aws.compatible_store import CompatibleStore

    return CompatibleStore(**{key: props[key] for key in (*_PLACE, "access_key", "secret_key")})


class Mirror(Resource, module="rollcall", name="Mirror"):  # type: ignore[call-arg]
    """The releases with the keys `named` in the bucket of a mirror. `present` are those that it has."""

    present: pulumi.Output[list[str]]

    def __init__(
        self, mirror: MirrorSettings, named: Sequence[str], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        assert mirror.upload is not None
        props = {
            "mirror": mirror.name,
            "endpoint": mirror.address,
            "bucket": mirror.bucket,
            "region": mirror.region or DEFAULT_REGION,
            "access_key": pulumi.Output.secret(mirror.upload.access_key.get_secret_value()),
            "secret_key": pulumi.Output.secret(mirror.upload.secret_key.get_secret_value()),
            "named": list(named),
            "present": None,
        }
        secret = pulumi.ResourceOptions(additional_secret_outputs=["access_key", "secret_key"])
        name = f"mirror-{mirror.name}"
        super().__init__(MirrorProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))
