"""Create ReleaseUploads: releases in the stack's bucket that are large or change in place. And the provider that also fills mirrors.

The program writes the packed releases into a folder of the project, and the provider uploads what the bucket lacks. So a
release is in the state by its name only, and a preview packs nothing. It deletes nothing from the bucket: KeptReleases
does that for the stack's bucket, and several stacks may use the bucket of a mirror. If a program names a release again that
the bucket has, this is no change: after a roll-out that went back by itself, the former program changes nothing.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.aws.account_settings import AWS_KEYS
from components.resources.release_files import digest_in, digest_of

# Relative to the folder in which the engine runs the program and its providers.
FILES = Path(".rollcall/uploads")


class UploadError(Exception):
    """A release could not be uploaded."""


class UploadProvider(ResourceProvider):
    """Uploads releases, and notices at a refresh that one is gone.

    `PLACE` are the inputs that say where the bucket is, and `KEYS` those with its access key.
    """

    PLACE: ClassVar[tuple[str, ...]]
    KEYS: ClassVar[tuple[str, ...]] = ()
    serialize_as_secret_always = False

    def store(self, props: Mapping[str, Any]) -> Any:
        """Return the bucket."""
        raise NotImplementedError

    def where(self, props: Mapping[str, Any]) -> str:
        """Return what an error names first."""
        raise NotImplementedError

    def fix(self, props: Mapping[str, Any]) -> str:
        """Return what the operator can do if the bucket refuses."""
        raise NotImplementedError

    def create(self, props: dict[str, Any]) -> CreateResult:
        return CreateResult("/".join(str(props[key]) for key in self.PLACE[:2]), self._filled(props, ()))

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = any(_olds.get(key) != _news.get(key) for key in (*self.PLACE, *self.KEYS))
        changed = changed or bool(self._absent(_olds, _news))
        return DiffResult(changes=changed, replaces=[], stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        moved = any(_olds.get(key) != _news.get(key) for key in self.PLACE)
        absent = {*_news["named"]} if moved else self._absent(_olds, _news)
        present = [] if moved else [key for key in _olds.get("present") or () if key not in absent]
        return UpdateResult(self._filled(_news, present))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """Notice which of the releases that were wanted last are gone."""
        store = self.store(props)
        gone = {key for key in props["named"] if key in (props.get("present") or ()) and store.lacks(key)}
        return ReadResult(id_, {**props, "present": [key for key in props.get("present") or () if key not in gone]})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Delete nothing: see above."""

    def _absent(self, olds: Mapping[str, Any], news: Mapping[str, Any]) -> set[str]:
        """Return the wanted releases that the bucket does not have. It may have lost those of before the last `up` meanwhile."""
        present = {*(olds.get("present") or ())}
        again = ({*news["named"]} & present) - {*olds["named"]}
        store = self.store(news) if again else None
        return ({*news["named"]} - present) | {key for key in again if store and store.lacks(key)}

    def _filled(self, props: Mapping[str, Any], present: Sequence[str]) -> dict[str, Any]:
        """Upload the releases that are not `present`. Return the outputs. Raises UploadError."""
        from components.aws.compatible_store import StoreError

        store, where = self.store(props), self.where(props)
        for key in (each for each in props["named"] if each not in present):
            file = FILES / key
            if digest_in(file) != digest_of(key):
                file.unlink()
                raise UploadError(f"{where}: {file} had another content than its name says. Run `pulumi up` again.")
            try:
                store.put(key, file)
            except StoreError as refused:
                raise UploadError(
                    f"{where}: {key} could not be written to the bucket {props['bucket']} ({refused}). {self.fix(props)}."
                ) from refused
        return {**props, "present": [*dict.fromkeys([*present, *props["named"]])]}


class BucketUploadProvider(UploadProvider):
    """Uploads large releases to the stack's bucket."""

    PLACE = ("bucket", "region")
    # A class attribute, so that what is stored in the state stays a bare reference.
    config: Mapping[str, str] = {}

    def configure(self, req: Any) -> None:
        self.config = {key: value for key in AWS_KEYS if (value := req.config.get(key)) is not None}

    def store(self, props: Mapping[str, Any]) -> Any:
        from components.aws.compatible_store import Bucket
        from components.aws.session import session_of

        return Bucket(session_of(self.config.get).client("s3", props["region"]), props["bucket"])

    def where(self, props: Mapping[str, Any]) -> str:
        return "rollcall:workloads"

    def fix(self, props: Mapping[str, Any]) -> str:
        return "Correct the reason that S3 gives, and run `pulumi up` again"


class ReleaseUploads(Resource, module="rollcall", name="ReleaseUploads"):  # type: ignore[call-arg]
    """The releases with the keys `named` in the stack's bucket. `present` are those that it has."""

    present: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        *,
        bucket: pulumi.Input[str],
        region: str,
        named: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"bucket": bucket, "region": region, "named": list(named), "present": None}
        super().__init__(BucketUploadProvider(), name, props, opts)
