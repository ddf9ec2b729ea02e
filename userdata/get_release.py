"""Get the release for this machine, check it, and unpack it. boot.sh runs this with python3 before anything else is installed.

The release is a tar, and its name is the SHA-256 of that tar. It is compressed only for the transport. It comes with the machine's own
user-script (Triton), or from the stack's S3 bucket, by one GET that is signed with the credentials of the instance role (EC2). If that
fails, it comes from the first mirror that has it. The digest is compared with the name before any byte is unpacked, so the source does
not matter. The program prints `changed` if it has installed another release. On failure it prints one line on standard error, which
begins with `reason=`, and exits with code 1. It uses only the standard library.
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
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

RELEASE, STORE = "rollcall-release", "rollcall-store"
# This, and the name of a mirror, is the key of a setting.
MIRROR = "rollcall-mirror-"
PROXY, APT_MIRROR = "rollcall-proxy", "rollcall-apt-mirror"
# What the machine asks itself, and its metadata service.
DIRECT = "localhost,127.0.0.1,::1,169.254.169.254,fd00:ec2::254"
PLACEHOLDER = "\n#FILES\n"
PACKED_LIMIT, TAR_LIMIT = 4 << 20, 16 << 20
_CHUNK = 1 << 20
CONNECT_TIMEOUT_S, FETCH_LIMIT_S, METADATA_TIMEOUT_S = 10.0, 60.0, 3.0
# https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html , feature-ss-endpoints.html
IMDS = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL_S3", "")
SSM = os.environ.get("AWS_ENDPOINT_URL_SSM", "")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ABSENT = ("", "AccessDenied", "AllAccessDisabled", "NoSuchKey", "NoSuchBucket")


class ReleaseError(Exception):
    """The release could not be installed. The message is one line of fields."""


def main(script: str, root: str) -> int:
    """Install the release that the machine's settings name. `script` is boot.sh with what follows it."""
    home = Path(root + "/opt/rollcall")
    try:
        carried = carried_by(script)
        settings, secret = (dict[str, str](), no_secret) if carried.first else own_settings()
        digest = carried.first or settings[RELEASE]
        if not _DIGEST.fullmatch(digest):
            raise ReleaseError(f"reason=no-release key={RELEASE} value={digest[:80]!r}")
        if not is_there(home, digest):
            unpack(home, digest, tar_from(stores_of(script, settings, secret, digest), digest))
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


def stores_of(
    script: str, settings: Mapping[str, str], secret: Callable[[str], str], digest: str
) -> list[tuple[str, Carried | Store]]:
    """Return the stores that may have a release, in the order in which the machine asks them, each with its name.

    The boot script is the only one if it has the release at its end. Otherwise the store of the stack is the first, then its mirrors by
    their names. `secret` returns a secret of this machine by its name.
    """
    carried = carried_by(script)
    if carried.has(digest):
        return [("", carried)]
    mirrors = sorted(each for each in settings if each.startswith(MIRROR))
    found: list[tuple[str, Carried | Store]] = [
        (key.removeprefix(MIRROR), Store(key, settings[key], secret)) for key in mirrors
    ]
    if STORE in settings:
        found.insert(0, ("", Store(STORE, settings[STORE], secret)))
    return found or [("", carried)]


def tar_from(
    stores: Iterable[tuple[str, Carried | Store]],
    digest: str,
    limit: int = PACKED_LIMIT,
    tar_limit: int = TAR_LIMIT,
    folder: Path | None = None,
) -> IO[bytes]:
    """Return the decompressed tar from the first store that has it. Raises ReleaseError with the reason of each store.

    It is a file without a name in `folder`, or in the folder for temporary files.
    """
    reasons: list[str] = []
    for name, store in stores:
        try:
            with tempfile.TemporaryFile(dir=folder) as packed:
                store.fetch(digest, packed, limit)
                packed.seek(0)
                tar = checked(packed, digest, tar_limit, folder)
        except ReleaseError as fault:
            reason = str(fault)
        except (OSError, ValueError, LookupError) as fault:
            reason = f"reason=store-failed error={type(fault).__name__}"
        else:
            if reasons:
                print(f"fetched release={digest[:12]} mirror={name} after='{' '.join(reasons)}'", file=sys.stderr)
            return tar
        reasons.append(f"mirror={name} {reason}" if reasons else f"{reason} mirror={name}" if name else reason)
    raise ReleaseError(" ".join(reasons))


def carried_by(script: str) -> Carried:
    """Return the releases at the end of the machine's boot script."""
    return Carried(Path(script).read_text().rpartition(PLACEHOLDER)[2].split())


def no_secret(name: str) -> str:
    raise ReleaseError(f"reason=no-secret name={name}")


class Carried:
    """A Triton machine, or one of another cloud without a store. The boot script has pairs of a digest and a release at its end.

    The first pair is the agent; the others are workloads.
    """

    def __init__(self, words: list[str]) -> None:
        self.first = words[0] if words else ""
        self._texts = dict(zip(words[::2], words[1::2], strict=False))

    def has(self, digest: str) -> bool:
        return digest in self._texts

    def fetch(self, digest: str, to: IO[bytes], limit: int = PACKED_LIMIT) -> None:
        if digest not in self._texts:
            raise ReleaseError(f"reason=release-missing release={digest[:12]} from=user-script")
        try:
            to.write(base64.b85decode(self._texts[digest]))
        except ValueError as damaged:
            raise ReleaseError(f"reason=release-damaged release={digest[:12]} from=user-script") from damaged


class Store:
    """A web server, or a bucket of S3 or of a compatible store. `words` is the machine setting for it, with the key `key`:

    - `https url=URL`
    - `s3 bucket=BUCKET region=REGION`: a bucket of AWS, read with the instance role
    - `s3 endpoint=URL bucket=BUCKET region=REGION key=NAME`: `secret` returns ACCESS_KEY_ID SECRET by this name. Without `bucket`, the
      endpoint is the bucket's own.
    """

    def __init__(self, key: str, words: str, secret: Callable[[str], str]) -> None:
        self._key, self._words, self._secret = key, words.split(), secret

    def fetch(self, digest: str, to: IO[bytes], limit: int = PACKED_LIMIT) -> None:
        """Write the packed release to a file. Raises ReleaseError."""
        found = dict(each.partition("=")[::2] for each in self._words[1:])
        kind = " ".join([*self._words[:1], *sorted(found)])
        path = f"/{key_of(digest)}"
        if kind == "https url":
            url = found["url"]
            path = f"{urlsplit(url).path.rstrip('/')}{path}"
            fetch(url, path, {"user-agent": "rollcall"}, digest, to, limit)
            return
        if kind == "s3 bucket region":
            ec2 = Ec2()
            keys = ec2.keys()
            url = ENDPOINT or f"https://{found['bucket']}.s3.{found['region']}.{ec2.domain()}"
            # A custom endpoint does not have the bucket's name in its host name.
            path = f"/{found['bucket']}{path}" if ENDPOINT else path
        elif kind in ("s3 bucket endpoint key region", "s3 endpoint key region"):
            url, keys = found["endpoint"], access_key(self._secret(found["key"]))
            path = f"/{found['bucket']}{path}" if "bucket" in found else path
        else:
            raise ReleaseError(f"reason=unknown-store key={self._key} value={' '.join(self._words)[:80]!r}")
        fetch(url, path, signed(urlsplit(url).netloc, path, found["region"], keys), digest, to, limit)


def access_key(text: str) -> dict[str, str]:
    """Return the parts of an access key. Raises ReleaseError, without the text."""
    words = text.split()
    if len(words) != 2:
        raise ReleaseError("reason=bad-access-key fix='write ACCESS_KEY_ID SECRET'")
    return {"AccessKeyId": words[0], "SecretAccessKey": words[1]}


def own_settings() -> tuple[dict[str, str], Callable[[str], str]]:
    """Return the settings of an EC2 machine for its release and its stores, and what reads its secrets."""
    ec2 = Ec2()
    names = [RELEASE, *(each for each in ec2.names() if each == STORE or each.startswith(MIRROR))]
    return {STORE: "", **{name: ec2.setting(name) for name in names}}, ec2.secret


class Ec2:
    """An EC2 machine. Its tags contain the settings, a bucket contains the release, and its instance role may read the bucket."""

    def __init__(self) -> None:
        self._token = self._request("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"})

    def names(self) -> list[str]:
        return self._metadata("tags/instance", f"reason=no-setting key={RELEASE} fix=instance-tags").split()

    def setting(self, name: str) -> str:
        return self._metadata(f"tags/instance/{name}", f"reason=no-setting key={name} fix=instance-tags")

    def keys(self) -> dict[str, str]:
        """Return the credentials of the instance role."""
        role = self._metadata("iam/security-credentials/", "reason=no-instance-role").split()[0]
        keys: dict[str, str] = json.loads(
            self._metadata(f"iam/security-credentials/{role}", f"reason=no-credentials role={role}")
        )
        return keys

    def domain(self) -> str:
        return self._metadata("services/domain", "x")

    def secret(self, name: str) -> str:
        """Return the value of an SSM parameter.

        https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html
        """
        region = self._metadata("placement/region", "x")
        url = SSM or f"https://ssm.{region}.{self.domain()}"
        body = json.dumps({"Name": name, "WithDecryption": True}).encode()
        own = {"content-type": "application/x-amz-json-1.1", "x-amz-target": "AmazonSSM.GetParameter"}
        headers = signed(urlsplit(url).netloc, "/", region, self.keys(), "ssm", body, own)
        connection = connected(url)
        try:
            connection.request("POST", "/", body, headers)
            reply = connection.getresponse()
            text = reply.read(65536)
            if reply.status != 200:
                raise ReleaseError(f"reason=no-secret parameter={name} status={reply.status}")
            return str(json.loads(text)["Parameter"]["Value"])
        except (OSError, http.client.HTTPException, ValueError, LookupError) as failed:
            raise ReleaseError(f"reason=no-secret parameter={name} error={type(failed).__name__}") from failed
        finally:
            connection.close()

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


def signed(
    host: str,
    path: str,
    region: str,
    keys: Mapping[str, str],
    service: str = "s3",
    body: bytes = b"",
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the headers of a GET, or of a POST with a body, signed by Signature Version 4. `more` are headers that are signed too.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    now, content = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(body).hexdigest()
    unsorted = {"host": host, "x-amz-content-sha256": content, "x-amz-date": now, **(more or {})}
    # Temporary credentials have a token.
    unsorted.update({"x-amz-security-token": keys["Token"]} if "Token" in keys else {})
    headers = dict(sorted(unsorted.items()))
    names, scope = ";".join(headers), f"{now[:8]}/{region}/{service}/aws4_request"
    lines = [f"{name}:{value}" for name, value in headers.items()]
    canonical = "\n".join(["POST" if body else "GET", quote(path), "", *lines, "", names, content])
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    claim = f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": claim}


def proxy_of(host: str) -> str:
    """Return HOST:PORT of the proxy by which this host is reached; empty if it is reached directly."""
    given = getproxies()
    if "https" not in given or proxy_bypass(host):
        return ""
    return urlsplit(given["https"]).netloc


def connected(url: str) -> http.client.HTTPConnection:
    """Return a connection to the host of an address. It is opened by the first request, through the proxy if there is one."""
    at = urlsplit(url)
    if at.scheme == "https" and (proxy := proxy_of(at.hostname or "")):
        tunnel = http.client.HTTPSConnection(proxy, timeout=CONNECT_TIMEOUT_S, context=ssl.create_default_context())
        tunnel.set_tunnel(at.hostname or "", at.port or 443)
        return tunnel
    if at.scheme == "https":
        return http.client.HTTPSConnection(at.netloc, timeout=CONNECT_TIMEOUT_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(at.netloc, timeout=CONNECT_TIMEOUT_S)


def fetch(url: str, path: str, headers: dict[str, str], digest: str, to: IO[bytes], limit: int = PACKED_LIMIT) -> None:
    """Download a release to a file. Size and time are limited: FETCH_LIMIT_S, and a second for each further MiB."""
    at, began, size = urlsplit(url), time.monotonic(), 0
    which = f"release={digest[:12]} host={at.netloc}"
    connection = connected(url)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise ReleaseError(_refusal(reply.status, reply.read(4096), which))
        while part := reply.read1(65536):
            to.write(part)
            size += len(part)
            if size > limit:
                raise ReleaseError(f"reason=release-too-large {which} limit={limit}")
            if (seconds := time.monotonic() - began) > FETCH_LIMIT_S + (size >> 20):
                raise ReleaseError(f"reason=store-too-slow {which} bytes={size} seconds={seconds:.0f}")
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


# SYSTEM
# What the machine needs before it has a release: its proxy, and the mirror of apt.


def first_settings(script: str, root: str) -> int:
    """Set apt, and the environment of systemd, to what the settings say. Print the environment with the proxy as one line."""
    on_triton = shutil.which("mdata-get") is not None or bool(carried_by(script).first)
    setting = mdata_setting if on_triton else ec2_setting
    proxy, mirror = setting(PROXY), setting(APT_MIRROR)
    apt = Path(root + "/etc/apt")
    environment = [f"{name}={proxy}" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy") if proxy]
    environment += [f"{name}={DIRECT}" for name in ("NO_PROXY", "no_proxy") if proxy]
    line = " ".join(environment)
    lines = "".join(f'Acquire::{each}::Proxy "{proxy}";\n' for each in ("http", "https") if proxy)
    replace_text(apt / "apt.conf.d/98rollcall-proxy", lines)
    conf = f"[Manager]\nDefaultEnvironment={line}\n" if proxy else ""
    replace_text(Path(root + "/etc/systemd/system.conf.d/rollcall-proxy.conf"), conf)
    use_mirror(apt, mirror, Path(root + "/etc/os-release"), Path(root + "/var/lib/rollcall/updated"))
    print(line)
    return 0


def mdata_setting(name: str) -> str:
    """Return a setting of a Triton machine; empty if there is none."""
    try:
        done = subprocess.run(["mdata-get", name], capture_output=True, text=True, timeout=9, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def ec2_setting(name: str) -> str:
    """Return a setting of an EC2 machine; empty if there is none, or if its metadata cannot be read."""
    try:
        return Ec2().setting(name)
    except ReleaseError:
        return ""


def use_mirror(apt: Path, mirror: str, release: Path, updated: Path) -> None:
    """Let packages come from the mirror. The image's own sources are kept beside it, and come back without a mirror."""
    own = apt / "sources.list.d/rollcall.sources"
    if not mirror:
        replace_text(own, "")
        for each in [*apt.glob("*.rollcall-off"), *apt.glob("sources.list.d/*.rollcall-off")]:
            each.rename(each.with_suffix(""))
        return
    found = dict(each.replace('"', "").split("=", 1) for each in release.read_text().splitlines() if "=" in each)
    name, code, ubuntu = found["ID"], found["VERSION_CODENAME"], found["ID"] == "ubuntu"
    # Debian has its security updates in another archive, beside the first one.
    archives = [(mirror, f"{code} {code}-updates"), (mirror if ubuntu else f"{mirror}-security", f"{code}-security")]
    text = "\n".join(
        f"Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: main{' universe' if ubuntu else ''}\n"
        f"Signed-By: /usr/share/keyrings/{name}-archive-keyring.gpg\n"
        for url, suites in archives
    )
    if replace_text(own, text):
        updated.unlink(missing_ok=True)
    for each in (apt / "sources.list", *apt.glob("sources.list.d/*.list"), *apt.glob("sources.list.d/*.sources")):
        if each != own and each.exists():
            each.rename(f"{each}.rollcall-off")


def replace_text(path: Path, text: str) -> bool:
    """Write a file if it is different, or remove it if the text is empty. Return whether it was different."""
    if (path.read_text() if path.exists() else "") == text:
        return False
    if text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    else:
        path.unlink()
    return True


# END
# What arrived.


def checked(packed: IO[bytes], digest: str, limit: int = TAR_LIMIT, folder: Path | None = None) -> IO[bytes]:
    """Return a file with the decompressed tar, if it has this digest."""
    coder, found, size = bz2.BZ2Decompressor(), hashlib.sha256(), 0
    with contextlib.ExitStack() as on_failure:
        tar = on_failure.enter_context(tempfile.TemporaryFile(dir=folder))
        while not coder.eof:
            given = packed.read(_CHUNK) if coder.needs_input else b""
            if coder.needs_input and not given:
                raise ReleaseError(
                    f"reason=release-damaged release={digest[:12]} bytes={packed.tell()} said='it ends too early'"
                )
            try:
                part = coder.decompress(given, _CHUNK)
            except (OSError, ValueError, EOFError) as damaged:
                raise ReleaseError(f"reason=release-damaged release={digest[:12]} bytes={packed.tell()}") from damaged
            size += len(part)
            if size > limit:
                raise ReleaseError(f"reason=release-too-large release={digest[:12]} limit={limit}")
            found.update(part)
            tar.write(part)
        if found.hexdigest() != digest:
            raise ReleaseError(f"reason=another-release release={digest[:12]} found={found.hexdigest()[:12]}")
        tar.seek(0)
        on_failure.pop_all()
    return tar


def contents(tar: IO[bytes]) -> dict[str, bytes]:
    """Return the files of a release by their paths. Raises ReleaseError for a member of another kind and for a path outside the folder.

    tarfile's own filters came with Python 3.12, and Debian 12 has 3.11: https://peps.python.org/pep-0706/
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=tar, mode="r:") as archive:
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


def unpack(home: Path, digest: str, tar: IO[bytes]) -> None:
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


def switch(home: Path, digest: str, *, clean_up: bool = True) -> bool:
    """Point `current` at this release. Return whether it has changed. With `clean_up`, only this release and the former one stay."""
    link, target, fresh = home / "current", f"releases/{digest}", home / ".current.new"
    former = link.readlink().name if link.is_symlink() else ""
    if former == digest:
        return False
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)
    sync(home)
    if clean_up:
        keep(home, (digest, former))
    return True


def keep(home: Path, digests: Iterable[str]) -> None:
    """Delete all releases except these."""
    for each in (home / "releases").iterdir():
        if each.name not in digests:
            shutil.rmtree(each, ignore_errors=True)


def sync(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


if __name__ == "__main__":
    # SYSTEM
    if sys.argv[1] == "first":
        sys.exit(first_settings(*sys.argv[2:4]))
    # END
    sys.exit(main(*sys.argv[1:3]))
