"""Images of containers as files that a web server can serve: the part of a registry's API that podman reads.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md ("Pulling manifests", "Pulling blobs").
`python -m localcloud image NAME SOURCE` serves one, because machines of the local clouds reach no registry.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.runtime.published import PublishError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFESTS = {
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
# The registry behind the name docker.io.
DOCKER_HUB = "registry-1.docker.io"
_BLOB = "application/octet-stream"
_CONFIG, _LAYER = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Served:
    """A file of a registry: its path at the host, its media type, and its content."""

    path: str
    kind: str
    data: bytes


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    """Return a content descriptor: https://github.com/opencontainers/image-spec/blob/main/descriptor.md"""
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def served(repository: str, tag: str, source: Path, command: Sequence[str] = ()) -> tuple[str, list[Served]]:
    """Return the digest of an image, and the files of a registry that has it.

    `source` is an archive in the format of OCI (`podman save --format oci-archive`, `docker save`), or a folder that becomes the only layer
    of an image that starts `command`. Raises PublishError.
    """
    blobs, top = _of_folder(source, command) if source.is_dir() else _of_archive(source)
    base, found = f"/v2/{repository}", [Served("/v2/", "application/json", b"{}")]
    for kind, data in _reached(top, blobs):
        folder = "manifests" if kind in _MANIFESTS else "blobs"
        found.append(Served(f"{base}/{folder}/{digest(data)}", kind if kind in _MANIFESTS else _BLOB, data))
    found.append(Served(f"{base}/manifests/{tag}", top["mediaType"], blobs[top["digest"]]))
    return str(top["digest"]), found


def _reached(named: Mapping[str, Any], blobs: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield what a descriptor names, and what that names."""
    if named["digest"] not in blobs:
        raise PublishError(
            f"{named['digest']}: is not in the archive. Save the image for all of its architectures, or for one."
        )
    data = blobs[named["digest"]]
    yield named["mediaType"], data
    if named["mediaType"] in _MANIFESTS:
        parts = json.loads(data)
        for each in (*parts.get("manifests", ()), *filter(None, [parts.get("config")]), *parts.get("layers", ())):
            yield from _reached(each, blobs)


def _of_archive(source: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Read an OCI layout: https://github.com/opencontainers/image-spec/blob/main/image-layout.md"""
    try:
        with tarfile.open(source) as archive:
            files = {each.name.removeprefix("./"): archive.extractfile(each) for each in archive if each.isreg()}
            contents = {name: file.read() for name, file in files.items() if file}
        (top,) = json.loads(contents["index.json"])["manifests"]
    except (OSError, tarfile.TarError, KeyError, ValueError) as wrong:
        raise PublishError(
            f"{source}: is not an archive with one image ({type(wrong).__name__}). Write it by `podman save --format oci-archive`."
        ) from wrong
    return {digest(data): data for data in contents.values()}, top


def _of_folder(source: Path, command: Sequence[str]) -> tuple[dict[str, bytes], dict[str, Any]]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(source.rglob("*")):
            member = archive.gettarinfo(path, path.relative_to(source).as_posix())
            member.uid = member.gid = member.mtime = 0
            member.uname = member.gname = ""
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    return image_of(packed.getvalue(), {"Cmd": [*command], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]})


def image_of(
    tar: bytes, config: Mapping[str, Any], architecture: str = "amd64"
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the blobs of an image with one layer, by their digests, and the descriptor of its manifest.

    https://github.com/opencontainers/image-spec/blob/main/config.md has the keys of `config`.
    """
    layer = gzip.compress(tar, mtime=0)
    rootfs = {"type": "layers", "diff_ids": [digest(tar)]}
    about = json.dumps({"architecture": architecture, "os": "linux", "config": dict(config), "rootfs": rootfs}).encode()
    parts = {"config": descriptor(_CONFIG, about), "layers": [descriptor(_LAYER, layer)]}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **parts}).encode()
    return {digest(each): each for each in (layer, about, manifest)}, descriptor(MANIFEST, manifest)
