"""Install an operator's workload on this machine, and write the unit that runs it. boot.sh calls it for each workload.

    python3 -m rollcall.workloads NAME BOOT_SCRIPT ROOT INSTANCE

The release of a workload is a tar, named by its SHA-256, with its definition (`workload.json`) and its files (below `files/`).
get_release.py gets it from the end of the boot script, from the stack's store, or from a mirror. This program prints one line:

- `unit`, `nginx`, or `secret`: a unit that the agent starts once it has the workload's secrets and its hook has succeeded
- `changed` or `same`
- the root of the site or `-`
- the packages that it needs

On failure it prints one line on standard error, which begins with `reason=`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

# On a machine this module is beside the package, and boot.sh puts it on the path.
import get_release
from get_release import ReleaseError
from rollcall import confinement
from rollcall.clouds import Cloud, Ec2, detect
from rollcall.errors import RollcallError
from rollcall.files import write_whole
from rollcall.safe_paths import is_inside, link_stays
from rollcall.settings import DEFINITION_FORMAT, WORKLOAD, check_format
from rollcall.unit_files import UnitFile, UnitFileError, read_unit
from rollcall.workload_secrets import HOME as SECRETS
from rollcall.workload_secrets import REVISION
from rollcall.workload_units import DEFINITION, WAIT, agent_starts, units

FILES = "files"
PACKED_LIMIT, UNPACKED_LIMIT = 576 << 20, 512 << 20
ARTIFACT_LIMIT, ARTIFACT_UNPACKED_LIMIT, MOST_MEMBERS = 512 << 20, 1 << 30, 50_000
ARTIFACT_S, TIMEOUT_S = 600.0, 30.0
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def main(words: list[str]) -> int:
    name, script, root, instance = words
    try:
        print(set_up(name, script, root, instance))
    except (ReleaseError, RollcallError) as fault:
        print(f"{fault} workload={name}", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as fault:
        print(
            f"reason=not-set-up error={type(fault).__name__} said={str(fault)[:200]!r} workload={name}", file=sys.stderr
        )
        return 1
    return 0


def set_up(name: str, script: str, root: str, instance: str) -> str:
    """Install the release that the settings name, and the unit that runs it. Return what remains to be done."""
    cloud = detect()
    settings = cloud.keys()
    digest = settings.get(WORKLOAD + name, "")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ReleaseError(f"reason=no-release key={WORKLOAD}{name} value={digest[:80]!r}")
    home = Path(f"{root}/opt/rollcall/workloads/{name}")
    if not get_release.is_there(home, digest):
        stores = get_release.stores_of(script, settings, secrets_of(cloud), digest)
        home.mkdir(parents=True, exist_ok=True)
        with get_release.tar_from(stores, digest, PACKED_LIMIT, PACKED_LIMIT, home) as tar:
            get_release.place(home, digest, lambda partial: unpack_release(tar, partial))
    definition = json.loads((home / "releases" / digest / DEFINITION).read_text())
    check_format(str(definition.get("format", 1)), DEFINITION_FORMAT, f"workload={name}")
    changed = get_release.switch(home, digest)
    confine(name, definition, str(home), is_ec2=cloud.name == Ec2.name)
    packages = " ".join(definition.get("packages", ()))
    if "nginx" in definition:
        at = PurePosixPath(f"/opt/rollcall/workloads/{name}/current/{FILES}") / definition["nginx"]["root"]
        return f"nginx {'changed' if changed else 'same'} {at} nginx {packages}".rstrip()
    replaced(home / WAIT, Path(__file__).with_name(WAIT).read_text())
    for file, text in units(name, definition, instance, own_unit(definition, home / "current" / FILES)).items():
        changed |= replaced(Path(f"{root}/etc/systemd/system/{file}"), text)
    kind = "secret" if agent_starts(definition) else "unit"
    if changed and "before" in definition:
        # The former release runs. The agent starts this one when its hook has succeeded.
        confinement.stop(f"workload-{name}")
        (Path(f"{root}{SECRETS}") / name / REVISION).unlink(missing_ok=True)
        changed = False
    return f"{kind} {'changed' if changed else 'same'} - {packages}".rstrip()


def secrets_of(cloud: Cloud) -> Callable[[str], str]:
    """Return what reads a secret of this machine. It raises ReleaseError, so that one store without its key is only one reason."""

    def secret(name: str) -> str:
        try:
            return cloud.secret(name)
        except RollcallError as missing:
            raise ReleaseError(str(missing)) from missing

    return secret


def confine(name: str, definition: dict[str, Any], home: str, *, is_ec2: bool) -> None:
    """Refuse a workload that this machine cannot confine, unless its definition accepts that."""
    lacks = confinement.lacking(home, metadata=is_ec2)
    if not lacks:
        return
    if definition.get("confinement") != "best-effort":
        # The workload may have started before this boot's check.
        confinement.stop("nginx" if "nginx" in definition else f"workload-{name}")
        raise ReleaseError(f"reason=not-confined lacks={lacks} fix='confinement: best-effort'")
    print(f"reason=not-confined lacks={lacks} workload={name} said='best-effort'", file=sys.stderr)


def own_unit(definition: dict[str, Any], files: Path) -> UnitFile | None:
    """Return the workload's own unit file, if it has one."""
    path = definition.get("unit")
    if path is None:
        return None
    try:
        return read_unit((files / path).read_text())
    except FileNotFoundError as missing:
        raise ReleaseError(f"reason=unit-missing unit={path}") from missing
    except UnitFileError as wrong:
        raise ReleaseError(f"reason=unit-refused unit={path} said={str(wrong)[:300]!r}") from wrong


def unpack_release(tar: IO[bytes], to: Path) -> None:
    """Unpack a workload's release, and its artifact if it has one."""
    unpack(tar, to, UNPACKED_LIMIT)
    definition = json.loads((to / DEFINITION).read_text())
    (to / FILES).mkdir(exist_ok=True)
    if "artifact" not in definition:
        return
    path = urlsplit(definition["artifact"]).path
    with tempfile.TemporaryFile(dir=to) as file:
        download(definition["artifact"], definition["sha256"], file)
        if path.endswith(_TARS):
            unpack(file, to / FILES, ARTIFACT_UNPACKED_LIMIT)
        else:
            get_release.write_file(to / FILES / (PurePosixPath(path).name or "artifact"), file, 0o755)


def download(url: str, sha256: str, file: IO[bytes]) -> None:
    """Download an https address to `file`, if it has this SHA-256. Size and time are limited."""
    import requests
    import urllib3

    began, found, size = time.monotonic(), hashlib.sha256(), 0
    which = f"artifact={sha256[:12]} host={urlsplit(url).netloc}"
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_S) as reply:
            if reply.status_code != 200:
                raise ReleaseError(
                    f"reason=artifact-{_REFUSALS.get(reply.status_code, 'failed')} {which} status={reply.status_code}"
                )
            if urlsplit(reply.url).scheme != "https":
                raise ReleaseError(f"reason=artifact-not-https {which} said='it leads to another address'")
            for part in reply.raw.stream(1 << 16, decode_content=False):
                size += len(part)
                if size > ARTIFACT_LIMIT:
                    raise ReleaseError(f"reason=artifact-too-large {which} limit={ARTIFACT_LIMIT}")
                if time.monotonic() - began > ARTIFACT_S:
                    raise ReleaseError(f"reason=artifact-too-slow {which} bytes={size} seconds={ARTIFACT_S:.0f}")
                found.update(part)
                file.write(part)
    # requests lets urllib3's own error through if a body that is read raw ends too early.
    except (requests.RequestException, OSError, urllib3.exceptions.HTTPError) as failed:
        raise ReleaseError(f"reason=artifact-unreachable {which} error={type(failed).__name__}") from failed
    if found.hexdigest() != sha256:
        raise ReleaseError(f"reason=another-artifact {which} found={found.hexdigest()[:12]} bytes={size}")
    file.seek(0)


_REFUSALS = {401: "forbidden", 403: "forbidden", 404: "missing", 410: "missing"}


# What arrived. tarfile's own filters came with Python 3.12, and Debian 12 has 3.11: https://peps.python.org/pep-0706/


def unpack(tar: IO[bytes], to: Path, limit: int) -> None:
    """Unpack plain files, and links that stay inside the folder. Links come last, so no file is written through one."""
    size, links = 0, list[tuple[Path, str]]()
    with tarfile.open(fileobj=tar, mode="r:*") as archive:
        for count, (path, member) in enumerate(_members(archive)):
            size += member.size
            if size > limit or count >= MOST_MEMBERS:
                raise ReleaseError(f"reason=release-too-large members={count + 1} bytes={size} limit={limit}")
            if member.issym():
                links.append((to / path, member.linkname))
                continue
            file = archive.extractfile(member)
            get_release.write_file(to / path, file or io.BytesIO(), 0o755 if member.mode & 0o100 else 0o644)
    for link, target in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for member in archive:
        path = member.name.removeprefix("./").rstrip("/")
        if member.isdir():
            continue
        if not (member.isreg() or member.issym()):
            raise ReleaseError(f"reason=unsafe-release member={member.name!r} said='it is not a plain file or a link'")
        if not is_inside(path):
            raise ReleaseError(f"reason=unsafe-release member={member.name!r} said='its path leads elsewhere'")
        if member.issym() and not link_stays(path, member.linkname):
            raise ReleaseError(f"reason=unsafe-release member={member.name!r} said='its link leads elsewhere'")
        yield path, member


def replaced(file: Path, text: str) -> bool:
    """Write this text to a file. Return whether it has changed."""
    if file.is_file() and file.read_text() == text:
        return False
    write_whole(file, text)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
