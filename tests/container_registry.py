"""Debian's docker-registry on loopback, and images that are made at run time: files in one layer, without a build tool."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests

from localcloud.runtime.images import INDEX, MANIFEST, descriptor, digest, image_of
from tests.programs import program

USER, PASSWORD = "acme", "a-password-of-the-registry"
# The line of htpasswd(1) for them: docker-registry takes bcrypt only.
LOGIN = f"{USER}:$2b$05$abcdefghijklmnopqrstuutdet4itF4ObGgnA4Qq64c8TDpSfaMXC\n"
_STARTS_WITHIN_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image: the `files` by their paths, each with a mode, links with their targets, and what it starts.

    A path that ends with a slash is a folder.
    """

    files: Mapping[str, tuple[bytes, int]]
    links: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    env: Sequence[str] = ()
    architecture: str = "amd64"

    def config(self) -> dict[str, Any]:
        return {"Cmd": [*self.command], "Entrypoint": [*self.entrypoint], "Env": ["PATH=/bin", *self.env]}

    def layer(self) -> bytes:
        found = io.BytesIO()
        with tarfile.open(fileobj=found, mode="w") as archive:
            for path, (data, mode) in self.files.items():
                member = tarfile.TarInfo(path)
                member.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
                member.size, member.mode = len(data), mode
                archive.addfile(member, io.BytesIO(data))
            for path, target in self.links.items():
                link = tarfile.TarInfo(path)
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
        return found.getvalue()


def archive(image: Image) -> bytes:
    """Return an image as an archive in the format of OCI (https://github.com/opencontainers/image-spec/blob/main/image-layout.md)."""
    blobs, top = image_of(image.layer(), image.config(), image.architecture)
    files = {f"blobs/{each.replace(':', '/')}": data for each, data in blobs.items()}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return replace(image, files={name: (data, 0o644) for name, data in files.items()}, links={}).layer()


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry at `host:port`, for clients that trust `ca`."""

    where: str
    url: str
    ca: Path
    login: tuple[str, str] | None

    def push(self, path: str, tag: str, image: Image) -> str:
        """Push an image for one architecture. Return the digest of its manifest."""
        return self._put(path, tag, MANIFEST, self._manifest(path, image))

    def push_index(self, path: str, tag: str, images: Sequence[Image]) -> str:
        """Push an index of images for several architectures. Return the digest of the index."""
        listed = []
        for image in images:
            manifest = self._manifest(path, image)
            self._put(path, digest(manifest), MANIFEST, manifest)
            platform = {"os": "linux", "architecture": image.architecture}
            listed.append({**descriptor(MANIFEST, manifest), "platform": platform})
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
        return self._put(path, tag, INDEX, index)

    def _manifest(self, path: str, image: Image) -> bytes:
        """Push the blobs of an image. Return its manifest."""
        blobs, top = image_of(image.layer(), image.config(), image.architecture)
        manifest = blobs.pop(top["digest"])
        for blob in blobs.values():
            self._blob(path, blob)
        return manifest

    def _blob(self, path: str, data: bytes) -> None:
        began = self._call("POST", f"/v2/{path}/blobs/uploads/")
        where = urljoin(self.url, began.headers["Location"])
        self._call("PUT", f"{where}&digest={digest(data)}", data, "application/octet-stream")

    def _put(self, path: str, reference: str, kind: str, data: bytes) -> str:
        self._call("PUT", f"/v2/{path}/manifests/{reference}", data, kind)
        return digest(data)

    def _call(self, method: str, path: str, data: bytes = b"", kind: str = "") -> requests.Response:
        reply = requests.request(
            method,
            urljoin(self.url, path),
            data=data,
            headers={"Content-Type": kind} if kind else {},
            auth=self.login,
            verify=str(self.ca),
            timeout=20,
        )
        assert reply.ok, (reply.status_code, reply.text)
        return reply


@contextlib.contextmanager
def running(home: Path, certificate: Path, ca: str, *, is_private: bool) -> Iterator[Registry]:
    """Run docker-registry on loopback. `certificate` has its key and certificate for `localhost`, which `ca` signed."""
    found, port = program("docker-registry"), _free_port()
    home.mkdir()
    (home / "ca.pem").write_text(ca)
    (home / "htpasswd").write_text(LOGIN)
    tls = {"certificate": str(certificate), "key": str(certificate)}
    settings: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(home / "images")}},
        "http": {"addr": f"127.0.0.1:{port}", "tls": tls},
    }
    if is_private:
        settings["auth"] = {"htpasswd": {"realm": "a registry", "path": str(home / "htpasswd")}}
    # JSON is YAML.
    (home / "config.yml").write_text(json.dumps(settings))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [found.path, "serve", str(home / "config.yml")],
            env=found.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(process, port, home / "log")
        where = f"localhost:{port}"
        login = (USER, PASSWORD) if is_private else None
        yield Registry(where=where, url=f"https://{where}", ca=home / "ca.pem", login=login)
    finally:
        process.terminate()
        process.wait(20)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"docker-registry does not answer on port {port}: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as tcp:
        tcp.bind(("127.0.0.1", 0))
        return int(tcp.getsockname()[1])
