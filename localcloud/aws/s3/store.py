"""The buckets of an account, in memory."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

NULL = "null"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of an object; `data` is None for a delete marker. `headers` are those that it was put with and is given back with."""

    id: str
    data: bytes | None
    modified: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data or b"").hexdigest()}"'  # noqa: S324 - what S3 calls an entity tag


@dataclass
class Bucket:
    """`configurations` are documents by their subresource, as they were put; `objects` versions by key, the newest last."""

    name: str
    region: str
    made: datetime
    configurations: dict[str, bytes] = field(default_factory=dict)
    objects: dict[str, list[Version]] = field(default_factory=dict)

    @property
    def versioning(self) -> str:
        """`Enabled`, `Suspended`, or an empty text."""
        document = self.configurations.get("versioning", b"")
        return next((word for word in ("Enabled", "Suspended") if f"<Status>{word}<".encode() in document), "")

    def current(self, key: str) -> Version | None:
        """The newest version, a delete marker too."""
        versions = self.objects.get(key)
        return versions[-1] if versions else None

    def version(self, key: str, wanted: str) -> Version | None:
        return next((each for each in self.objects.get(key, ()) if each.id == wanted), None)

    def put(
        self, key: str, data: bytes | None, headers: Mapping[str, str], tags: tuple[tuple[str, str], ...] = ()
    ) -> Version:
        """Add a version, in the place of the one without a number where versioning is not enabled."""
        enabled = self.versioning == "Enabled"
        made = Version(
            id=secrets.token_urlsafe(24) if enabled else NULL,
            data=data,
            modified=datetime.now(timezone.utc),
            headers=headers,
            tags=tags,
        )
        versions = (
            self.objects.get(key, []) if enabled else [each for each in self.objects.get(key, ()) if each.id != NULL]
        )
        self.objects[key] = [*versions, made]
        return made

    def replace(self, key: str, old: Version, new: Version) -> None:
        self.objects[key] = [new if each is old else each for each in self.objects[key]]

    def remove(self, key: str, version: str) -> Version | None:
        """Remove one version permanently. Return it."""
        found = self.version(key, version)
        left = [each for each in self.objects.get(key, ()) if each is not found]
        self.objects.pop(key, None)
        if left:
            self.objects[key] = left
        return found

    def delete(self, key: str) -> Version | None:
        """Delete a key without naming a version. Return the delete marker if there is one."""
        if self.versioning:
            return self.put(key, None, {})
        self.objects.pop(key, None)
        return None
