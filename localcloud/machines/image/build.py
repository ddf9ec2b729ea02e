"""Building the image: mmdebstrap for the base, a second layer for nginx, then a rename makes it visible."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localcloud.machines.image import ROOTFS, SUITES, USUAL, Image, ImageError, current
from localcloud.machines.image.repository import write_index
from localcloud.machines.image.sources import apt_options, debian_sources

PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "cloud-init", "python3", "python3-requests", "python3-dnspython",
    "ca-certificates", "openssl", "openssh-server", "iproute2", "curl", "procps", "netbase", "gzip", "sudo",
)  # fmt: skip
# What a container has no use for, and what would work by itself at odd times and disturb measurements.
MASKED = (
    "console-getty.service", "getty@.service", "container-getty@.service", "getty.target", "apt-daily.timer",
    "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "dpkg-db-backup.timer",
    "systemd-timesyncd.service", "systemd-logind.service", "networking.service", "systemd-udevd.service",
    "systemd-udev-trigger.service", "systemd-hwdb-update.service", "dev-hugepages.mount", "dev-mqueue.mount",
    "systemd-firstboot.service", "systemd-pcrphase.service", "ldconfig.service", "cloud-init-hotplugd.socket",
    # Each takes an inotify instance of a small number that all machines share.
    "systemd-ask-password-console.path", "systemd-ask-password-wall.path",
)  # fmt: skip
# The first looks for metadata before there is a network, and at a second boot waits 5 s in vain to tell whether it moved. The second
# does what user data in the form `#cloud-config` asks for, and that of Rollcall is a script. Those of Debian 13 cannot be left out:
# there, all stages are one process (rootfs).
MASKED_OF = {"bookworm": ("cloud-init-local.service", "cloud-config.service")}
# Looks for cloud-init's metadata. The others look for disks, consoles and scripts of other systems that a container does not have, at
# each boot and each time systemd reads its units again (systemd.generator(7)).
GENERATOR_KEPT = "cloud-init-generator"
# In no image, but in its repository: what machines of other people's images have, for those who install it.
OFFERED = ("needrestart",)
ENABLED = {
    "multi-user.target.wants": ("joyent-user-script.service",),
    "cloud-init.service.wants": ("ec2-hypervisor-uuid.service",),
    "cloud-init-main.service.wants": ("ec2-hypervisor-uuid.service",),
}
UNUSED_FOR = 30 * 24 * 3600
ROOM_NEEDED = 1536 * 1024 * 1024
# Docs, manual pages and translations: half the size of a small Debian, and no machine reads them.
LEFT_OUT = ("doc", "man", "locale", "info")


# Whatever a build mounts and starts ends with it, even if it is killed: a mount of /dev that survived in a half-made image
# would take the host's devices along when that is deleted.
CONTAINED = (
    "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip


def ensure(say: Callable[[str], None] = print, release: str = USUAL) -> Image:
    """The image of a release, built now if it is not there yet; another process that builds one is waited for.

    Raises ImageError if this is not root, a tool or the package source is missing, or the disk is full; then nothing
    half made is left.
    """
    image = current(release)
    if image.complete:
        os.utime(image.root / "manifest.json")
        return image
    _check(image.root.parent)
    with _locked(image.root.parent / "image.lock", say):
        if image.complete:
            return image
        say(f"image: building {release} for the machines (once; about a minute)")
        started = time.monotonic()
        _prune(image.root.parent)
        partial = image.root.with_name(f"{image.root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _build(partial, SUITES[release], say)
            partial.rename(image.root)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        say(f"image: ready in {time.monotonic() - started:.0f} s at {image.root}")
    return image


def _prune(folder: Path) -> None:
    """Remove images of earlier sources that nobody has asked for in a month; a machine may run on a younger one."""
    for manifest in folder.glob("image-*/manifest.json"):
        if time.time() - manifest.stat().st_mtime > UNUSED_FOR:
            shutil.rmtree(manifest.parent, ignore_errors=True)


def _check(folder: Path) -> None:
    if os.geteuid() != 0:
        raise ImageError("root: building the image of the machines needs it. Run it as root.")
    missing = [
        tool for tool in ("mmdebstrap", "dpkg-deb", "unshare", "setpriv", "chroot") if shutil.which(tool) is None
    ]
    if missing:
        raise ImageError(f"{', '.join(missing)}: missing. Run `apt-get install mmdebstrap util-linux dpkg`.")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < ROOM_NEEDED:
        raise ImageError(
            f"{folder}: has {free >> 20} MiB free, and the image of the machines needs {ROOM_NEEDED >> 20}. "
            "Free some, or set XDG_CACHE_HOME to another disk."
        )


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("image: another process is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(root: Path, suite: str, say: Callable[[str], None]) -> None:
    log = root.parent / "image-build.log"
    log.unlink(missing_ok=True)
    _bootstrap(root, suite, log)
    say("image: base system done; adding nginx as a layer")
    _finish_base(root / "base", suite)
    packages = write_index(root / "repo")
    _install_layer(root, log)
    for package in (root / "offered").iterdir():
        package.rename(root / "repo" / package.name)
    (root / "offered").rmdir()
    write_index(root / "repo")
    manifest = {"suite": suite, "made": int(time.time()), "layers": {"nginx": packages}}
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _bootstrap(root: Path, suite: str, log: Path) -> None:
    """The base, and beside it the packages that nginx would add, and OFFERED, fetched but not installed."""
    for name in ("repo", "offered"):
        (root / name).mkdir()
    options = root / "apt.conf"
    options.write_text("\n".join([*apt_options(), 'Acquire::Languages "none";', ""]))
    fetch = 'export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"'
    for packages, folder in (("nginx", "repo"), (" ".join(OFFERED), "offered")):
        fetch += (
            f" && apt-get clean && apt-get --yes --no-install-recommends --download-only install {packages}"
            f' && cp "$1"/var/cache/apt/archives/*.deb {root / folder}/'
        )
    exclude = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in LEFT_OUT]
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
    ]
    command += [*exclude, f"--aptopt={options}", f"--customize-hook={fetch}", suite, str(root / "base"), "-"]
    _run(command, log, debian_sources(suite), f"mmdebstrap could not build Debian {suite}")
    options.unlink()


def _finish_base(base: Path, suite: str) -> None:
    """Make a clean, small, anonymous machine of what was bootstrapped."""
    shutil.copytree(ROOTFS, base, symlinks=True, dirs_exist_ok=True)
    for path in ROOTFS.rglob("*"):
        made = base / path.relative_to(ROOTFS)
        if not made.is_symlink():
            # What the checkout's umask made of it is no business of the image's.
            made.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    units = base / "etc/systemd/system"
    for unit in (*MASKED, *MASKED_OF.get(suite, ())):
        _link(units / unit, "/dev/null")
    for generator in (base / "usr/lib/systemd/system-generators").iterdir():
        if generator.name != GENERATOR_KEPT:
            _link(base / "etc/systemd/system-generators" / generator.name, "/dev/null")
    for wants, enabled in ENABLED.items():
        for unit in enabled:
            _link(units / wants / unit, f"/etc/systemd/system/{unit}")
    _link(units / "multi-user.target.wants/systemd-networkd.service", "/lib/systemd/system/systemd-networkd.service")
    wait = "/lib/systemd/system/systemd-networkd-wait-online.service"
    _link(units / "network-online.target.wants/systemd-networkd-wait-online.service", wait)
    _link(units / "multi-user.target.wants/ssh.service", "/lib/systemd/system/ssh.service")
    leftovers = ["etc/hostname", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id", "etc/apt/sources.list"]
    leftovers += ["etc/apt/apt.conf.d/99mmdebstrap"]
    keys = [path.relative_to(base).as_posix() for path in (base / "etc/ssh").glob("ssh_host_*")]
    sources = [path.relative_to(base).as_posix() for path in (base / "etc/apt/sources.list.d").glob("*")]
    for name in [*leftovers, *keys, *sources]:
        (base / name).unlink(missing_ok=True)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _install_layer(root: Path, log: Path) -> None:
    """Install the repository's packages over the base; what that changes is the layer `nginx`."""
    for name in ("nginx", "work", "merged"):
        (root / name).mkdir()
    # Services do not start: exit 101 of policy-rc.d says so
    # (https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt).
    script = """set -eu
    mount -t overlay overlay -o lowerdir=base,upperdir=nginx,workdir=work merged
    mount -t proc proc merged/proc
    mount --bind -o ro repo merged/mnt
    printf '#!/bin/sh\\nexit 101\\n' >merged/usr/sbin/policy-rc.d
    chmod 755 merged/usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive chroot merged sh -c 'dpkg --install /mnt/*.deb && systemctl disable nginx.service'
    rm merged/usr/sbin/policy-rc.d
    """
    _run(["sh", "-c", script], log, "", "nginx could not be installed into the image", cwd=root)
    for name in ("work", "merged"):
        shutil.rmtree(root / name)


def _run(command: list[str], log: Path, stdin: str, failure: str, cwd: Path | None = None) -> None:
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "HOME": "/root"}
    environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    with log.open("ab") as output:
        done = subprocess.run(
            [*CONTAINED, *command],
            input=stdin.encode(),
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            check=False,
        )
    if done.returncode == 0:
        return
    free = shutil.disk_usage(log.parent).free
    if free < 32 * 1024 * 1024:
        raise ImageError(
            f"{failure}: the disk is full ({free >> 20} MiB free in {log.parent}). Free some, or set XDG_CACHE_HOME to another disk."
        )
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
    raise ImageError(f"{failure}: exit code {done.returncode}. Read {log}. Its last lines:\n{tail}")
