"""What a machine finds on its disk at first boot, and the overlay that makes the disk of the image's layers."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path

from localcloud.machines.compute import Machine
from localcloud.machines.image import USUAL, Image, ImageError, release_of
from localcloud.machines.image.build import ensure
from localcloud.network.namespace import (
    FABRIC_ROUTER,
    FABRIC_SIDE,
    NETWORKS,
    VPC_ROUTER,
    VPC_SIDE,
    Cloud,
    hardware_address,
    is_on_the_wire,
)
from rollcall.timers import VARIABLE

_log = logging.getLogger(__name__)
# Where the daemon serves the usual image's package repository to the machines of both clouds; below it those of other releases.
REPOSITORY = f"http://{NETWORKS['aws'].gateway}/"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Disk:
    """The directories of one machine below the machines directory."""

    folder: Path

    @property
    def upper(self) -> Path:
        """The folder of the machine's own writes. It survives stops and power cuts."""
        return self.folder / "upper"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def last_words(self) -> str:
        """The last lines on its console, as one."""
        lines = self.console.read_text(errors="replace").splitlines() if self.console.exists() else []
        words = [line.strip() for line in lines if line.strip()]
        return " / ".join(words[-3:]) or "nothing on its console"

    @property
    def zonecontrol(self) -> Path:
        """Holds the metadata socket; the machine sees it at /native/.zonecontrol."""
        return self.folder / "zonecontrol"

    @property
    def containers(self) -> Path:
        """The folder of the machine's container images. The machine sees it at /var/lib/containers."""
        return self.folder / "containers"

    @property
    def run(self) -> Path:
        """The folder of the socket on which systemd-nspawn reports the progress of the boot."""
        return self.folder / "run"

    def prepare(self, machine: Machine) -> None:
        """Create the directories, and the first time also the files that distinguish this machine from others.

        The machine is off, so its address may differ from that of its last boot.
        """
        for folder in (self.folder / "root", self.folder / "work", self.zonecontrol, self.run, self.containers):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.upper.exists():
            fresh = self.folder / "upper.new"
            shutil.rmtree(fresh, ignore_errors=True)
            _write(fresh, machine_files(machine))
            fresh.rename(self.upper)
        files = machine_files(machine)
        for name in (_NETWORK, _FABRIC_NETWORK):
            path = self.upper / name
            if name in files:
                path.write_text(files[name])
            else:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


_NETWORK, _FABRIC_NETWORK = "etc/systemd/network/10-host0.network", "etc/systemd/network/20-fabric.network"
# The second interface of a machine that is on the fabric too.
FABRIC_INTERFACE = "fabric0"


def machine_files(machine: Machine) -> dict[str, str]:
    """The files that make a copy of the image this machine: path -> content."""
    name = host_name(machine.name) or machine.id
    address, prefix, gateway = _first_interface(machine)
    length = prefix.partition("/")[2]
    files = {
        "etc/hostname": f"{name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/machine-id": f"{uuid.uuid5(uuid.NAMESPACE_OID, machine.id).hex}\n",
        # No link-local address and no router to wait for: the network is up as soon as the address is set.
        _NETWORK: (
            "[Match]\nName=host0\n\n"
            f"[Link]\nMACAddress={hardware_address(address)}\n\n"
            f"[Network]\nAddress={address}/{length}\nGateway={gateway}\n{_ipv6(machine)}IPv6AcceptRA=no\nLLDP=no\n"
        ),
    }
    if machine.address and machine.fabric_address:
        # Its port is plugged in a moment after the machine's start. Nothing at boot waits for it.
        files[_FABRIC_NETWORK] = (
            f"[Match]\nName={FABRIC_INTERFACE}\n\n"
            f"[Link]\nMACAddress={hardware_address(machine.fabric_address)}\nRequiredForOnline=no\n\n"
            f"[Network]\nAddress={machine.fabric_address}/{FABRIC_SIDE.partition('/')[2]}\n"
            "LinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\nConfigureWithoutCarrier=yes\n"
        )
        # Linux would answer for either address on both interfaces (https://docs.kernel.org/networking/ip-sysctl.html, arp_ignore).
        files["etc/sysctl.d/50-fabric.conf"] = "net.ipv4.conf.all.arp_ignore = 1\n"
    if machine.ssh_keys:
        files["root/.ssh/authorized_keys"] = "".join(f"{key}\n" for key in machine.ssh_keys)
    return files


def _first_interface(machine: Machine) -> tuple[str, str, str]:
    """Return the address, the network and the router of a machine's first interface."""
    if machine.fabric_address and not machine.address:
        return machine.fabric_address, FABRIC_SIDE, FABRIC_ROUTER
    if machine.cloud == "aws" and is_on_the_wire(machine.address):
        return machine.address, VPC_SIDE, VPC_ROUTER
    network = NETWORKS[machine.cloud]
    return machine.address, network.prefix, network.gateway


def _ipv6(machine: Machine) -> str:
    """Return the network settings for IPv6.

    Neighbour discovery needs a link-local address. No other machine has our address, so duplicate detection is off.
    """
    if not machine.ipv6:
        return "LinkLocalAddressing=no\n"
    prefix, gateway = NETWORKS[machine.cloud].ipv6
    return (
        f"Address={machine.ipv6}/{prefix.partition('/')[2]}\nGateway={gateway}\n"
        "LinkLocalAddressing=ipv6\nIPv6DuplicateAddressDetection=0\n"
    )


def host_name(name: str) -> str:
    """What hostname(7) allows of a machine's name, which on EC2 is any text; empty if nothing is left."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:63].rstrip("-.")


def cloud_files(cloud: Cloud, release: str = USUAL, timers: str = "") -> dict[str, str]:
    """What all machines of a cloud and a release have in common beyond the image: path -> content."""
    gateway = NETWORKS[cloud].gateway
    repository = REPOSITORY if release == USUAL else f"{REPOSITORY}{release}/"
    files = {
        "etc/resolv.conf": f"nameserver {gateway}\noptions timeout:2 attempts:3\n",
        "etc/apt/sources.list.d/local.list": f"deb [trusted=yes] {repository} ./\n",
    }
    if timers:
        files["etc/systemd/system.conf.d/timers.conf"] = f'[Manager]\nDefaultEnvironment="{VARIABLE}={timers}"\n'
    if cloud == "joyent":
        files["etc/cloud/cloud-init.disabled"] = "Joyent machines run their user-script instead.\n"
    return files


class Layers:
    """The layer of each cloud and release, made once in `folder` and shared by its machines, over those of the image.

    `image` is that of the usual release. Another one is built when the first machine wants it, which then waits for it.
    """

    def __init__(self, folder: Path, image: Image, ca_pem: str, timers: str = "") -> None:
        self._folder = folder
        self._usual = image
        self._ca_pem = ca_pem
        self._timers = timers
        self._lock = threading.Lock()
        shutil.rmtree(folder, ignore_errors=True)
        for cloud in NETWORKS:
            self._cloud_layer(cloud, USUAL, image)

    def options(self, machine: Machine, disk: Disk) -> str:
        """The overlay's mount options for a machine (https://docs.kernel.org/filesystems/overlayfs.html).

        Raises ImageError for an image that is not in the catalogue, or a path that overlayfs would misread.
        """
        release = release_of(machine.image)
        image = self._usual if release == USUAL else ensure(_log.info, release)
        lower = [self._cloud_layer(machine.cloud, release, image), *image.layers(machine.image)]
        paths = [*lower, disk.upper, disk.folder / "work"]
        odd = [path for path in paths if set(str(path)) & set(',:\\"')]
        if odd:
            raise ImageError(
                f"{odd[0]}: has a character (, : \\ or a quote) that overlayfs does not accept. Move the checkout to another path."
            )
        return f"lowerdir={':'.join(map(str, lower))},upperdir={disk.upper},workdir={disk.folder / 'work'}"

    def _cloud_layer(self, cloud: Cloud, release: str, image: Image) -> Path:
        layer = self._folder / (cloud if release == USUAL else f"{cloud}-{release}")
        with self._lock:
            if not layer.exists():
                _write(layer, cloud_files(cloud, release, self._timers) | _trust(image, self._ca_pem))
        return layer

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _trust(image: Image, ca_pem: str) -> dict[str, str]:
    """The run-time CA added to the image's trust: in the bundle (requests, curl) and by hash link (openssl, the agent)."""
    if not ca_pem:
        return {}
    base = image.root / "base"
    # Use the image's openssl, so that the link has the name that the machine's openssl expects.
    done = subprocess.run(
        ["chroot", str(base), "openssl", "x509", "-noout", "-hash"],
        input=ca_pem, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ImageError(f"CA certificate: cannot be read ({done.stderr.strip()}). Run `make down`, then `make up`.")
    return {
        _BUNDLE: (base / _BUNDLE).read_text() + ca_pem,
        f"etc/ssl/certs/{done.stdout.strip()}.0": ca_pem,
        # update-ca-certificates finds it here when it rebuilds the bundle.
        "usr/local/share/ca-certificates/local-clouds.crt": ca_pem,
    }


def _write(root: Path, files: dict[str, str]) -> None:
    root.mkdir(parents=True)
    root.chmod(0o755)
    for name, content in files.items():
        path = root / name
        # An overlay shows the upper directory's mode for merged directories: they must be as Debian has them.
        for parent in reversed(path.relative_to(root).parents):
            made = root / parent
            made.mkdir(exist_ok=True)
            made.chmod(0o700 if made.name in ("root", ".ssh") else 0o755)
        path.write_text(content)
        path.chmod(0o600 if path.name == "authorized_keys" else 0o644)


def write_record(path: Path, record: dict[str, object]) -> None:
    """Replace a machine's record as one step, so that a reader never sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record, indent=1) + "\n")
    fresh.rename(path)
