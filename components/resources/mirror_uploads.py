"""Create a Mirror: the stack's releases in a bucket of an S3-compatible store, for a mirror with `upload`.

The program writes the packed releases into a folder of the project, and the resource uploads what its bucket lacks. So
a release is in the state by its name only. It deletes nothing from the bucket, because several stacks may use the same
one: the name of a release comes from its bytes.

A provider here is stored in the state by reference to its module and class (components/registration/resources.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.config.mirror_checks import DEFAULT_REGION
from components.config.models import MirrorSettings
from components.resources.release_uploads import UploadProvider


class MirrorProvider(UploadProvider):
    """Uploads releases to the bucket of a mirror."""

    PLACE = ("endpoint", "bucket", "region")
    KEYS = ("access_key", "secret_key")

    def store(self, props: Mapping[str, Any]) -> Any:
        from components.aws.compatible_store import CompatibleStore

        return CompatibleStore(**{key: props[key] for key in (*self.PLACE, *self.KEYS)})

    def where(self, props: Mapping[str, Any]) -> str:
        return f"rollcall:mirrors.{props['mirror']}"

    def fix(self, props: Mapping[str, Any]) -> str:
        return f"Correct {self.where(props)}.upload, or run `pulumi up` again when the store answers"


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
