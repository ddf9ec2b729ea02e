"""Get the release for this machine, check it, and unpack it. boot.sh runs this with python3 before anything else is installed.

The release is a tar, and its name is the SHA-256 of that tar. It is compressed only for the transport. It comes with the machine's own
user-script (Triton), or from the stack's S3 bucket, by one GET that is signed with the credentials of the instance role (EC2). The digest
is compared with the name before any byte is unpacked. The program prints `changed` if it has installed another release. On failure it
prints one line on standard error, which begins with `reason=`, and exits with code 1. It uses only the standard library.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import hashlib
import hmac
import http.client
import io
import json
import os
import re
import shutil
import ssl
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

RELEASE, STORE = "rollcall-release", "rollcall-store"
PLACEHOLDER = "\n#FILES\n"
PACKED_LIMIT, TAR_LIMIT = 4 << 20, 16 << 20
CONNECT_TIMEOUT_S, FETCH_LIMIT_S, METADATA_TIMEOUT_S = 10.0, 60.0, 3.0
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html , feature-ss-endpoints.html
IMDS = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL_S3", "")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ABSENT = ("", "AccessDenied", "AllAccessDisabled", "NoSuchKey", "NoSuchBucket")
_EMPTY = hashlib.sha256(b"").hexdigest()


class ReleaseError(Exception):
    """The release could not be installed. The message is one line of fields."""


def main(script: str, root: str) -> int:
    """Install the release that the machine's settings name. `script` is boot.sh with what follows it."""
    home = Path(root + "/opt/rollcall")
    try:
        source = source_of(script)
        digest = source.digest()
        if not _DIGEST.fullmatch(digest):
            raise ReleaseError(f"reason=no-release key={RELEASE} value={digest[:80]!r}")
        if not is_there(home, digest):
            unpack(home, digest, checked(source.packed(digest), digest))
        if switch(home, digest):
            print("changed")
    except ReleaseError as fault:
        print(fault, file=sys.stderr)
        return 1
    except (OSError, ValueError) as fault:
        print(f"reason=release-not-unpacked error={type(fault).__name__} said={str(fault)[:200]!r}", file=sys.stderr)
        return 1
    return 0


# Where it comes from.


def source_of(script: str) -> Carried | Ec2:
    """Return the source of releases: the end of the machine's boot script, or the store of its cloud."""
    carried = Path(script).read_text().rpartition(PLACEHOLDER)[2].split()
    return Carried(carried) if len(carried) > 1 else Ec2()


class Carried:
    """A Triton machine, or one of another cloud without a store. The boot script has pairs of a digest and a release at its end.

    The first pair is the agent; the others are workloads.
    """

    def __init__(self, words: list[str]) -> None:
        self._first, self._texts = words[0], dict(zip(words[::2], words[1::2], strict=False))

    def digest(self) -> str:
        return self._first

    def packed(self, digest: str, limit: int = PACKED_LIMIT) -> bytes:
        if digest not in self._texts:
            raise ReleaseError(f"reason=release-missing release={digest[:12]} from=user-script")
        try:
            return base64.b85decode(self._texts[digest])
        except ValueError as damaged:
            raise ReleaseError(f"reason=release-damaged release={digest[:12]} from=user-script") from damaged


class Ec2:
    """An EC2 machine. Its tags contain the settings, a bucket contains the release, and its instance role may read the bucket."""

    def __init__(self) -> None:
        self._token = self._request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})

    def digest(self) -> str:
        return self.setting(RELEASE)

    def setting(self, name: str) -> str:
        return self._metadata(f"tags/instance/{name}", f"reason=no-setting key={name} fix=instance-tags")

    def packed(self, digest: str, limit: int = PACKED_LIMIT) -> bytes:
        words = self.setting(STORE).split()
        store = dict(each.partition("=")[::2] for each in words[1:])
        if words[:1] != ["s3"] or {*store} != {"bucket", "region"}:
            raise ReleaseError(f"reason=unknown-store key={STORE} value={' '.join(words)[:80]!r}")
        role = self._metadata("iam/security-credentials/", "reason=no-instance-role").split()[0]
        keys = json.loads(self._metadata(f"iam/security-credentials/{role}", f"reason=no-credentials role={role}"))
        url = ENDPOINT or f"https://{store['bucket']}.s3.{store['region']}.{self._metadata('services/domain', 'x')}"
        # A custom endpoint does not have the bucket's name in its host name.
        path = f"{'/' + store['bucket'] if ENDPOINT else ''}/{key_of(digest)}"
        return fetched(url, path, signed(urlsplit(url).netloc, path, store["region"], keys), digest, limit)

    def _metadata(self, path: str, missing: str) -> str:
        return self._request("GET", f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, missing)

    def _request(self, method: str, path: str, headers: dict[str, str], missing: str = "") -> str:
        at = urlsplit(IMDS)
        connection = http.client.HTTPConnection(at.netloc, timeout=METADATA_TIMEOUT_S)
        try:
            connection.request(method, path, headers=headers)
            reply = connection.getresponse()
            text = reply.read(65536).decode()
        except (OSError, http.client.HTTPException) as failed:
            raise ReleaseError(f"reason=no-metadata path={path} error={type(failed).__name__}") from failed
        finally:
            connection.close()
        if reply.status == 200:
            return text
        raise ReleaseError(
            missing if missing and reply.status == 404 else f"reason=no-metadata path={path} status={reply.status}"
        )


def key_of(digest: str) -> str:
    """Return the release's key in its bucket."""
    return f"releases/{digest}.tar.bz2"


def signed(host: str, path: str, region: str, keys: dict[str, str]) -> dict[str, str]:
    """Return the headers of a GET, signed by Signature Version 4.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": _EMPTY, "x-amz-date": now, "x-amz-security-token": keys["Token"]}
    names, scope = ";".join(headers), f"{now[:8]}/{region}/s3/aws4_request"
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["GET", quote(path), "", *lines, "", names, _EMPTY])
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    claim = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": claim}


def fetched(url: str, path: str, headers: dict[str, str], digest: str, limit: int = PACKED_LIMIT) -> bytes:
    """Download a release from the store. Size and time are limited, even if the store answers slowly."""
    at, began = urlsplit(url), time.monotonic()
    which = f"release={digest[:12]} host={at.netloc}"
    connection: http.client.HTTPConnection
    if at.scheme == "https":
        connection = http.client.HTTPSConnection(
            at.netloc, timeout=CONNECT_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(at.netloc, timeout=CONNECT_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise ReleaseError(_refusal(reply.status, reply.read(4096), which))
        found = b""
        while part := reply.read1(65536):
            found += part
            if len(found) > limit:
                raise ReleaseError(f"reason=release-too-large {which} limit={limit}")
            if time.monotonic() - began > FETCH_LIMIT_S:
                raise ReleaseError(f"reason=store-too-slow {which} bytes={len(found)} seconds={FETCH_LIMIT_S:.0f}")
        return found
    except (OSError, http.client.HTTPException) as failed:
        raise ReleaseError(f"reason=store-unreachable {which} error={type(failed).__name__}") from failed
    finally:
        connection.close()


def _refusal(status: int, body: bytes, which: str) -> str:
    """Return the error that the store's answer means. A role that may not list the bucket gets 403 also for a missing object.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html , ErrorResponses.html
    """
    found = re.search(rb"<Code>(\w+)</Code>", body)
    code = found[1].decode() if found else ""
    reasons = {403: "release-missing-or-forbidden", 404: "release-missing"}
    # Any other code of a 403 is about the signature, for example `RequestTimeTooSkewed` if the clock is wrong.
    reason = "store-refused" if status in reasons and code not in _ABSENT else reasons.get(status, "store-failed")
    return f"reason={reason} {which} status={status}{f' code={code}' if code else ''}"


# What arrived.


def checked(packed: bytes, digest: str, limit: int = TAR_LIMIT) -> bytes:
    """Return the decompressed tar, if it has this digest."""
    coder, tar = bz2.BZ2Decompressor(), b""
    try:
        tar = coder.decompress(packed, limit + 1)
    except (OSError, ValueError, EOFError) as damaged:
        raise ReleaseError(f"reason=release-damaged release={digest[:12]} bytes={len(packed)}") from damaged
    if len(tar) > limit:
        raise ReleaseError(f"reason=release-too-large release={digest[:12]} limit={limit}")
    if not coder.eof:
        raise ReleaseError(f"reason=release-damaged release={digest[:12]} bytes={len(packed)} said='it ends too early'")
    found = hashlib.sha256(tar).hexdigest()
    if found != digest:
        raise ReleaseError(f"reason=another-release release={digest[:12]} found={found[:12]}")
    return tar


def contents(tar: bytes) -> dict[str, bytes]:
    """Return the files of a release by their paths. Raises ReleaseError for a member of another kind and for a path outside the folder.

    tarfile's own filters came with Python 3.12, and Debian 12 has 3.11: https://peps.python.org/pep-0706/
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            if not member.isreg():
                raise ReleaseError(f"reason=unsafe-release member={member.name!r} said='it is not a plain file'")
            parts = member.name.split("/")
            if member.name in found or any(part in ("", ".", "..") for part in parts) or "\0" in member.name:
                raise ReleaseError(f"reason=unsafe-release member={member.name!r} said='its path leads elsewhere'")
            file = archive.extractfile(member)
            found[member.name] = file.read() if file else b""
    if not found:
        raise ReleaseError("reason=unsafe-release said='it holds nothing'")
    return found


# Install the release. After a power cut at any step, either the old release or the new one is there.


def is_there(home: Path, digest: str) -> bool:
    """Return whether a release is installed. It gets its name only after all of it is on the disk."""
    return (home / "releases" / digest).is_dir()


def unpack(home: Path, digest: str, tar: bytes) -> None:
    files = contents(tar)

    def write(partial: Path) -> None:
        for name, data in files.items():
            write_file(partial / name, io.BytesIO(data))

    place(home, digest, write)


def write_file(path: Path, source: IO[bytes], mode: int = 0o644) -> None:
    """Write a new file, and flush it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(source, file)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())


def place(home: Path, digest: str, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the releases, and rename it after all of it is on the disk."""
    releases = home / "releases"
    partial = releases / f".{digest}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    for name, _, _ in os.walk(partial, topdown=False):
        Path(name).chmod(0o755)
        sync(Path(name))
    partial.rename(releases / digest)
    for folder in (releases, home, home.parent):
        sync(folder)


def switch(home: Path, digest: str) -> bool:
    """Point `current` at this release. Return whether it has changed. Then only this release and the former one stay on the disk."""
    link, target, fresh = home / "current", f"releases/{digest}", home / ".current.new"
    former = link.readlink().name if link.is_symlink() else ""
    if former == digest:
        return False
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)
    sync(home)
    for each in (home / "releases").iterdir():
        if each.name not in (digest, former):
            shutil.rmtree(each, ignore_errors=True)
    return True


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
