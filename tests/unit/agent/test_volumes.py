"""rollcall.volumes: each volume is found by the name that EC2 asked for, formatted once, and mounted before workloads start."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from rollcall.errors import TransientError
from rollcall.setting_values import SettingsError
from rollcall.volume_settings import Volume, format_volumes, parse_volumes
from rollcall.volumes import Volumes, drop_in, escaped

DATA, LOGS = Volume(device="sdf", mount="/srv/data"), Volume(device="sdg", mount="/srv/my-logs")


class Machine:
    """A root with devices. `formatted` are those with a file system; `fails` are programs that fail."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names: dict[str, str] = {}
        self.formatted = set[str]()
        self.fails: dict[str, int] = {}
        self.calls: list[str] = []
        self.in_container = False
        self.slept = 0.0
        (root / "dev").mkdir()

    def has(self, path: str, name: str = "") -> None:
        (self.root / "dev" / path).touch()
        self.names[path] = name

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        program, device = words[0], Path(words[-1]).name
        line = " ".join(words).replace(str(self.root), "")
        self.calls.append(line)
        code, out = self.fails.get(program, 0), ""
        if program == "systemd-detect-virt":
            code = 0 if self.in_container else 1
        elif program == "blkid" and "TYPE" in words and not code:
            code, out = (0, "ext4\n") if device in self.formatted else (2, "")
        elif program == "blkid":
            out = f"uuid-of-{device}\n"
        elif program == "mkfs.ext4" and not code:
            self.formatted.add(device)
        return subprocess.CompletedProcess(words, code, out, "it said no" if code else "")

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def name_of(self, path: Path) -> str:
        if not self.names[path.name]:
            raise OSError("not an EBS volume")
        return self.names[path.name]

    def mount(self, *volumes: Volume) -> None:
        Volumes(self.root, self.run, self.name_of, self.sleep).mount(volumes)

    def unit(self, name: str) -> str:
        return (self.root / "etc/systemd/system" / name).read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_volumes_are_found_by_the_names_that_were_asked_for_whatever_linux_calls_them(machine: Machine) -> None:
    machine.has("nvme0n1", "/dev/xvda")
    machine.has("nvme1n1", "sdg")
    machine.has("nvme2n1", "/dev/sdf")
    machine.has("nvme3n1")
    machine.mount(DATA, LOGS)
    assert "What=/dev/disk/by-uuid/uuid-of-nvme2n1\nWhere=/srv/data\n" in machine.unit("srv-data.mount")
    assert "What=/dev/disk/by-uuid/uuid-of-nvme1n1" in machine.unit("srv-my\\x2dlogs.mount")
    assert "WantedBy=local-fs.target" in machine.unit("srv-data.mount")
    assert "systemctl enable --now --quiet srv-data.mount" in machine.calls
    assert machine.formatted == {"nvme1n1", "nvme2n1"}


def test_a_machine_with_xen_has_the_letter_of_the_name(machine: Machine) -> None:
    machine.has("xvdf")
    machine.mount(DATA)
    assert "uuid-of-xvdf" in machine.unit("srv-data.mount")


def test_a_volume_with_a_file_system_keeps_it(machine: Machine) -> None:
    machine.has("nvme1n1", "sdf")
    machine.formatted.add("nvme1n1")
    machine.mount(DATA)
    assert not [each for each in machine.calls if each.startswith("mkfs")]


def test_a_volume_that_cannot_be_read_is_not_formatted(machine: Machine) -> None:
    machine.has("nvme1n1", "sdf")
    machine.fails["blkid"] = 8
    with pytest.raises(TransientError, match="reason=volume-unreadable device=sdf status=8 said='it said no'"):
        machine.mount(DATA)
    assert not [each for each in machine.calls if each.startswith("mkfs")]


def test_the_machine_waits_a_minute_for_a_volume_and_then_says_which_is_missing(machine: Machine) -> None:
    with pytest.raises(TransientError, match="reason=no-volume device=sdf mount=/srv/data"):
        machine.mount(DATA)
    assert machine.slept == 60


@pytest.mark.parametrize("program", ["mkfs.ext4", "systemctl"])
def test_what_fails_is_named(machine: Machine, program: str) -> None:
    machine.has("nvme1n1", "sdf")
    machine.fails[program] = 1
    with pytest.raises(TransientError, match=f"reason=volume-not-mounted device={program} status=1 said='it said no'"):
        machine.mount(DATA)


def test_workloads_and_their_hooks_and_checks_wait_for_the_volumes_and_may_write_there(machine: Machine) -> None:
    machine.has("nvme1n1", "sdf")
    machine.mount(DATA)
    for kind in ("workload-", "before-workload-", "check-workload-"):
        assert machine.unit(f"{kind}.service.d/rollcall-volumes.conf") == drop_in([DATA])
    assert drop_in([DATA, LOGS]) == (
        "[Unit]\nRequiresMountsFor=/srv/data /srv/my-logs\n\n[Service]\nReadWritePaths=/srv/data /srv/my-logs\n"
    )


def test_everybody_may_write_to_a_new_volume_and_a_used_one_keeps_its_mode(machine: Machine) -> None:
    machine.has("nvme1n1", "sdf")
    folder = machine.root / "srv/data"
    (folder / "lost+found").mkdir(parents=True)
    machine.mount(DATA)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    folder.chmod(0o750)
    (folder / "file").touch()
    machine.mount(DATA)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750


def test_a_container_has_the_folder_on_its_root_disk_and_no_mount_unit(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.in_container = True
    machine.mount(DATA)
    assert capsys.readouterr().out == "volume device=sdf mount=/srv/data on=root reason=container\n"
    assert (machine.root / "srv/data").is_dir()
    assert not list((machine.root / "etc/systemd/system").glob("*.mount"))
    assert machine.unit("workload-.service.d/rollcall-volumes.conf") == drop_in([DATA])


def test_a_setting_is_read_as_it_was_written() -> None:
    assert parse_volumes(format_volumes([DATA, LOGS])) == (DATA, LOGS)
    for wrong in ("sdf", "=/srv", "sdf=srv"):
        with pytest.raises(SettingsError, match="is not DEVICE=FOLDER"):
            parse_volumes(wrong)


@pytest.mark.parametrize("path", ["/srv", "/srv/data", "/var/lib/my-app_1.2", "/data/a.b"])
def test_a_path_is_escaped_as_systemd_does(path: str) -> None:
    done = subprocess.run(["systemd-escape", "--path", path], capture_output=True, text=True, check=True, timeout=10)
    assert escaped(path) == done.stdout.strip()
