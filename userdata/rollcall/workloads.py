"""Install an operator's workload on this machine, and write the unit that runs it. boot.sh calls it for each workload.

    python3 -m rollcall.workloads NAME BOOT_SCRIPT ROOT INSTANCE [DIGEST]

With a DIGEST, it only gets that release ready while the present one runs: the agent calls it before a release in place.
The release of a workload is a tar, named by its SHA-256, with its definition (`workload.json`) and its files (below `files/`).
get_release.py gets it from the end of the boot script, from the stack's store, or from a mirror. This program prints one line:

- `unit`, `nginx`, or `secret`: a unit that the agent starts once it has the workload's secrets and its hook has succeeded; `agent`: the
  agent gets the first release, as soon as a roll-out says which one
- `changed` or `same`
- the root of the site or `-`
- the packages that it needs

On failure it prints one line on standard error, which begins with `reason=`. The exit code is 2 if another try would fail too.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

# On a machine this module is beside the package, and boot.sh puts it on the path.
import get_release
from get_release import ReleaseError
from rollcall import before, confinement, containers
from rollcall.clouds import Cloud, Ec2, Joyent, detect
from rollcall.errors import FatalError, RollcallError
from rollcall.files import write_whole
from rollcall.in_place import CARRIED
from rollcall.safe_paths import is_inside, link_stays
from rollcall.settings import DEFINITION_FORMAT, WORKLOAD, check_format, workloads_in_place
from rollcall.unit_files import UnitFile, UnitFileError, read_unit
from rollcall.workload_secrets import HOME as SECRETS
from rollcall.workload_secrets import REVISION
from rollcall.workload_units import DEFINITION, WAIT, agent_starts, units

FILES = "files"
PACKED_LIMIT, UNPACKED_LIMIT = 576 << 20, 512 << 20
ARTIFACT_LIMIT, ARTIFACT_UNPACKED_LIMIT, MOST_MEMBERS = 512 << 20, 1 << 30, 50_000
ARTIFACT_S, TIMEOUT_S = 600.0, 30.0
PACKAGES_S = 1800.0
# Another try to get a release ready would fail too.
_LASTING = re.compile(r"reason=(unit-|unsafe-|release-too-large|not-confined lacks=(?!unknown))")
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def main(words: list[str]) -> int:
    name, script, root, instance, *digest = words
    try:
        print(prepare(name, script, root, instance, *digest) if digest else set_up(name, script, root, instance))
    except (ReleaseError, RollcallError) as fault:
        print(f"{fault} workload={name}", file=sys.stderr)
        return 2 if _LASTING.match(str(fault)) else 1
    except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError) as fault:
        print(
            f"reason=not-set-up error={type(fault).__name__} said={str(fault)[:200]!r} workload={name}", file=sys.stderr
        )
        return 1
    return 0


def set_up(name: str, script: str, root: str, instance: str) -> str:
    """Install the release that the settings name, and the unit that runs it. Return what remains to be done."""
    cloud = detect()
    settings, home = cloud.keys(), home_of(name, root)
    if name in workloads_in_place(settings):
        # The agent performs releases in place. A boot starts the release that the machine has.
        digest = running(home)
        if not digest:
            return "agent same -"
    else:
        digest = settings.get(WORKLOAD + name, "")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ReleaseError(f"reason=no-release key={WORKLOAD}{name} value={digest[:80]!r}")
    definition = get(name, digest, script, home, cloud, settings)
    changed = get_release.switch(home, digest, clean_up=WORKLOAD + name in settings)
    confine(name, definition, str(home), is_ec2=cloud.name == Ec2.name)
    packages = " ".join(_packages(definition))
    if "nginx" in definition:
        return f"nginx {'changed' if changed else 'same'} {root_of(name, definition)} nginx {packages}".rstrip()
    changed |= write_units(name, definition, digest, root, instance)
    kind = "secret" if agent_starts(definition) else "unit"
    if changed and ("before" in definition or "container" in definition):
        # The former release runs. The agent starts this one when it has the image, and when its hook has succeeded.
        confinement.stop(f"workload-{name}")
        (Path(f"{root}{SECRETS}") / name / REVISION).unlink(missing_ok=True)
        changed = False
    return f"{kind} {'changed' if changed else 'same'} - {packages}".rstrip()


def get(name: str, digest: str, script: str, home: Path, cloud: Cloud, settings: Mapping[str, str]) -> dict[str, Any]:
    """Get a release if it is not on the disk. Return its definition."""
    if not get_release.is_there(home, digest):
        stores = get_release.stores_of(script, settings, secrets_of(cloud), digest)
        if cloud.name == Joyent.name and name in workloads_in_place(settings):
            # A roll-out delivers a release to a machine without a store in its metadata.
            with contextlib.suppress(FatalError):
                stores.insert(0, ("", get_release.Carried([digest, cloud.secret(CARRIED + digest)])))
        home.mkdir(parents=True, exist_ok=True)
        with get_release.tar_from(stores, digest, PACKED_LIMIT, PACKED_LIMIT, home) as tar:
            get_release.place(home, digest, lambda partial: unpack_release(tar, partial))
    definition: dict[str, Any] = json.loads((home / "releases" / digest / DEFINITION).read_text())
    check_format(str(definition.get("format", 1)), DEFINITION_FORMAT, f"workload={name}")
    return definition


def _packages(definition: Mapping[str, Any]) -> Sequence[str]:
    return containers.PACKAGES if "container" in definition else definition.get("packages", ())


def prepare(name: str, script: str, root: str, instance: str, digest: str) -> str:
    """Get a release and all that it needs, while another one runs: everything that can fail before the switch. Return its packages."""
    cloud, home = detect(), home_of(name, root)
    definition = get(name, digest, script, home, cloud, cloud.keys())
    confine(name, definition, str(home), is_ec2=cloud.name == Ec2.name, stops=False)
    packages = [*(["nginx"] if "nginx" in definition else ()), *_packages(definition)]
    if "before" in definition:
        text = _units(name, definition, digest, root, instance)[before.unit_of(name)]
        if replaced(_unit_file(root, before.unit_of(name)), text):
            subprocess.run(["systemctl", "daemon-reload"], timeout=TIMEOUT_S, check=True)
    elif "nginx" not in definition:
        _units(name, definition, digest, root, instance)
    if packages:
        # Outside of the agent's unit, so it goes on if the agent is restarted.
        words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "/bin/sh", script, "need", *packages]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PACKAGES_S, check=False)
        if done.returncode:
            raise ReleaseError("reason=" + done.stderr.strip().rpartition("reason=")[2][:300])
    return " ".join(packages)


def home_of(name: str, root: str = "") -> Path:
    """Return the folder with the releases of a workload."""
    return Path(f"{root}/opt/rollcall/workloads/{name}")


def running(home: Path) -> str:
    """Return the digest that `current` leads to; empty if there is none."""
    link = home / "current"
    return link.readlink().name if link.is_symlink() else ""


def root_of(name: str, definition: Mapping[str, Any]) -> PurePosixPath:
    """Return the folder of a static site."""
    return PurePosixPath(f"/opt/rollcall/workloads/{name}/current/{FILES}") / str(definition["nginx"]["root"])


def write_units(name: str, definition: dict[str, Any], digest: str, root: str, instance: str) -> bool:
    """Write the units of a release. Return whether one has changed."""
    replaced(home_of(name, root) / WAIT, Path(__file__).with_name(WAIT).read_text())
    found = _units(name, definition, digest, root, instance)
    return any([replaced(_unit_file(root, file), text) for file, text in found.items()])


def _units(name: str, definition: dict[str, Any], digest: str, root: str, instance: str) -> dict[str, str]:
    files = home_of(name, root) / "releases" / digest / FILES
    return units(name, definition, instance, own_unit(definition, files), digest)


def _unit_file(root: str, file: str) -> Path:
    return Path(f"{root}/etc/systemd/system/{file}")


def secrets_of(cloud: Cloud) -> Callable[[str], str]:
    """Return what reads a secret of this machine. It raises ReleaseError, so that one store without its key is only one reason."""

    def secret(name: str) -> str:
        try:
            return cloud.secret(name)
        except RollcallError as missing:
            raise ReleaseError(str(missing)) from missing

    return secret


def confine(name: str, definition: dict[str, Any], home: str, *, is_ec2: bool, stops: bool = True) -> None:
    """Refuse a workload that this machine cannot confine, unless its definition accepts that. `stops`: stop it as well."""
    lacks = confinement.lacking(home, metadata=is_ec2)
    if not lacks:
        return
    if definition.get("confinement") != "best-effort":
        if stops:
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
