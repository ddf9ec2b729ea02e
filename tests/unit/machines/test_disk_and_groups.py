"""Files that make a machine, names, control groups and processes: what needs no root."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.machines.compute import Machine
from localcloud.machines.hypervisor.cgroups import _memberships, _mounts
from localcloud.machines.hypervisor.container import enter_command, short_name
from localcloud.machines.hypervisor.disk import Disk, Layers, cloud_files, host_name, machine_files
from localcloud.machines.hypervisor.nspawn import HypervisorError, check_host, cleanup
from localcloud.machines.hypervisor.processes import Process, memory_of
from localcloud.machines.image import Image, ImageError
from localcloud.network.namespace import NETWORKS, Namespace, NamespaceError, hardware_address, name_for

WEB = Machine(id="9f5b7a52-7a0b-4c55-9d0e-2d7c3c1f0a01", cloud="joyent", name="web-0", address="203.0.113.77")

HYBRID = """31 24 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
38 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:35 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
41 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_a_machines_network_is_set_before_it_boots() -> None:
    network = machine_files(WEB)["etc/systemd/network/10-host0.network"]
    assert "\nAddress=203.0.113.77/24\nGateway=203.0.113.1\n" in network
    assert "\nMACAddress=02:00:cb:00:71:4d\n" in network


def test_a_machine_with_ipv6_has_it_at_once_and_another_has_none() -> None:
    place = "etc/systemd/network/10-host0.network"
    aws = Machine(id="i-0123456789abcdef0", cloud="aws", name="web", address="198.51.100.9", ipv6="2001:db8:1::10")
    network = machine_files(aws)[place]
    assert "\nAddress=2001:db8:1::10/48\nGateway=2001:db8:1::1\n" in network
    # Neighbours are found from a link-local address, and a doubt about duplicates would cost the boot a second.
    assert "LinkLocalAddressing=ipv6\nIPv6DuplicateAddressDetection=0\n" in network
    for other in (WEB, replace(aws, ipv6="")):
        network = machine_files(other)[place]
        assert "LinkLocalAddressing=no\n" in network and "db8" not in network


def test_a_machine_on_a_fabric_has_a_second_interface_or_only_that_one() -> None:
    host0, second = "etc/systemd/network/10-host0.network", "etc/systemd/network/20-fabric.network"
    assert second not in machine_files(WEB)
    both = machine_files(replace(WEB, fabric_address="203.0.113.234"))
    assert both[host0] == machine_files(WEB)[host0]
    assert "Name=fabric0\n" in both[second] and "Address=203.0.113.234/27\n" in both[second]
    assert "Gateway" not in both[second], "the public network has the way out"
    assert "arp_ignore = 1" in both["etc/sysctl.d/50-fabric.conf"], "neither network finds the address of the other"
    alone = machine_files(replace(WEB, address="", fabric_address="203.0.113.234"))
    assert second not in alone
    assert "Address=203.0.113.234/27\nGateway=203.0.113.225\n" in alone[host0]


def test_a_machine_that_leaves_the_fabric_has_no_second_interface_at_its_next_boot(tmp_path: Path) -> None:
    disk, second = Disk(tmp_path / "m"), "etc/systemd/network/20-fabric.network"
    disk.prepare(replace(WEB, fabric_address="203.0.113.234"))
    assert (disk.upper / second).exists()
    disk.prepare(WEB)
    assert not (disk.upper / second).exists()


def test_machines_differ_in_name_and_id_and_only_those_with_keys_have_keys() -> None:
    files = machine_files(WEB)
    assert files["etc/hostname"] == "web-0\n"
    assert len(files["etc/machine-id"].strip()) == 32
    other = machine_files(Machine(id="i-0123456789abcdef0", cloud="aws", name="", address="198.51.100.9"))
    assert other["etc/machine-id"] != files["etc/machine-id"]
    assert other["etc/hostname"] == "i-0123456789abcdef0\n"
    assert "root/.ssh/authorized_keys" not in files
    keyed = Machine(id="x", cloud="aws", name="x", address="198.51.100.9", ssh_keys=("ssh-ed25519 A", "ssh-ed25519 B"))
    assert machine_files(keyed)["root/.ssh/authorized_keys"] == "ssh-ed25519 A\nssh-ed25519 B\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("web-0", "web-0"), ("web 0\n1.2.3.4 x", "web-0-1.2.3.4-x"), ("_-", ""), ("a" * 80, "a" * 63), ("Käse", "K-se")],
)
def test_any_name_becomes_a_host_name(name: str, expected: str) -> None:
    assert host_name(name) == expected


def test_the_error_on_a_host_without_the_tools_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HypervisorError, match="apt-get install iproute2 nftables systemd-container util-linux"):
        check_host()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HypervisorError, match="Run it as root"):
        check_host()


def test_only_joyent_machines_have_cloud_init_off() -> None:
    assert "etc/cloud/cloud-init.disabled" in cloud_files("joyent")
    assert "etc/cloud/cloud-init.disabled" not in cloud_files("aws")
    assert cloud_files("aws")["etc/resolv.conf"].startswith("nameserver 198.51.100.1\n")


def test_a_disk_keeps_what_was_written_when_it_is_prepared_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path / WEB.id)
    disk.prepare(WEB)
    (disk.upper / "etc/hostname").write_text("renamed\n")
    disk.prepare(WEB)
    assert (disk.upper / "etc/hostname").read_text() == "renamed\n"
    disk.remove()
    assert not disk.folder.exists()


def test_a_private_directory_stays_private_through_the_overlay(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "x")
    disk.prepare(Machine(id="x", cloud="aws", name="x", address="198.51.100.9", ssh_keys=("ssh-ed25519 A",)))
    modes = {name: (disk.upper / name).stat().st_mode & 0o777 for name in ("", "etc", "root", "root/.ssh")}
    assert modes == {"": 0o755, "etc": 0o755, "root": 0o700, "root/.ssh": 0o700}
    assert (disk.upper / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600


def test_a_path_that_overlayfs_would_misread_is_refused(tmp_path: Path) -> None:
    layers = Layers(tmp_path / "layers", Image(tmp_path / "image"), ca_pem="")
    good, bad = Disk(tmp_path / "x"), Disk(tmp_path / "a:b")
    assert layers.options(WEB, good) == (
        f"lowerdir={tmp_path}/layers/joyent:{tmp_path}/image/nginx:{tmp_path}/image/base,"
        f"upperdir={tmp_path}/x/upper,workdir={tmp_path}/x/work"
    )
    with pytest.raises(ImageError, match="a:b"):
        layers.options(WEB, bad)


def test_a_machine_of_another_release_has_that_image_and_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def ensure(say: object, release: str) -> Image:
        built.append(release)
        return Image(tmp_path / release)

    monkeypatch.setattr("localcloud.machines.hypervisor.disk.ensure", ensure)
    layers = Layers(tmp_path / "layers", Image(tmp_path / "image"), ca_pem="")
    assert built == [], "it is built when a machine wants it"
    options = layers.options(replace(WEB, image="debian-13-bare"), Disk(tmp_path / "x"))
    assert built == ["debian-13"] and options.startswith(
        f"lowerdir={tmp_path}/layers/joyent-debian-13:{tmp_path}/debian-13/base,"
    )
    listed = "etc/apt/sources.list.d/local.list"
    assert (tmp_path / "layers/joyent-debian-13" / listed).read_text() == (
        "deb [trusted=yes] http://198.51.100.1/debian-13/ ./\n"
    )
    assert (tmp_path / "layers/joyent" / listed).read_text() == "deb [trusted=yes] http://198.51.100.1/ ./\n"


def test_names_of_interfaces_fit_and_differ() -> None:
    names = {short_name(f"i-{number:017x}") for number in range(2000)}
    assert len(names) == 2000
    assert {len(f"vb-{name}") for name in names} == {15}


def test_each_checkout_and_instance_has_its_own_namespace(tmp_path: Path) -> None:
    names = {name_for(tmp_path / folder, instance) for folder in ("a", "b") for instance in ("local", "test")}
    assert len(names) == 4
    assert name_for(tmp_path / "a" / ".." / "a", "local") in names
    assert all(name.startswith("rc-") for name in names)


def test_a_namespace_that_is_not_there_cannot_be_entered() -> None:
    with pytest.raises(NamespaceError, match="namespace rc-000000-none: does not exist"):
        Namespace("rc-000000-none").run(os.getpid)


def test_a_bridge_has_the_gateway_first_and_only_ec2s_has_the_metadata_address() -> None:
    assert NETWORKS["aws"].addresses == (
        "198.51.100.1/24", "198.51.100.2/24", "198.51.100.3/24", "198.51.100.4/24", "198.51.100.5/24", "169.254.169.254/32",
        "192.0.2.1/24",
    )  # fmt: skip
    assert NETWORKS["joyent"].addresses == tuple(f"203.0.113.{each}/24" for each in range(1, 6))
    assert hardware_address("198.51.100.10") == "02:00:c6:33:64:0a"


def test_the_hierarchies_of_a_hybrid_host_are_distinguished() -> None:
    assert _mounts(HYBRID) == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "name=systemd": Path("/sys/fs/cgroup/systemd"),
        "": Path("/sys/fs/cgroup/unified"),
    }
    unified = "25 20 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    assert _mounts(unified) == {"": Path("/sys/fs/cgroup")}
    assert _memberships("9:name=systemd:/a\n4:cpu,cpuacct:/b\n0::/c:d\n") == {
        "name=systemd": "/a",
        "cpu": "/b",
        "cpuacct": "/b",
        "": "/c:d",
    }


def test_a_process_is_known_by_its_start_as_well() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Process.of(child.pid)
        assert process is not None
        assert process.alive
        impostor = Process(process.pid, process.started + 1)
        impostor.send(signal.SIGKILL)
        assert not impostor.alive
        assert process.alive
        process.send(signal.SIGKILL)
        child.wait()
    assert not process.alive
    assert Process.of(child.pid) is None


def test_memory_is_counted_and_processes_that_are_gone_count_nothing() -> None:
    assert memory_of([os.getpid()]) > 5 * 2**20
    assert memory_of([2**22 + 1]) == 0


def test_clean_up_spares_a_process_that_was_given_the_number_of_a_dead_one(tmp_path: Path) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    with subprocess.Popen(["sleep", "60"]) as child:
        (machines / "i-1.json").write_text(f'{{"processes": [{{"pid": {child.pid}, "started": 1}}]}}')
        (machines / "i-2.json").write_text("{ half a rec")
        assert cleanup(machines) == []
        assert child.poll() is None
        assert not machines.exists()
        child.kill()


def test_a_command_inside_starts_in_a_clean_environment() -> None:
    command = enter_command(42, ["id", "-u"], {"LANG": "C"})
    assert command[:2] == ["nsenter", "--target=42"]
    assert command[command.index("env") + 1] == "--ignore-environment"
    assert command[-3:] == ["LANG=C", "id", "-u"]
