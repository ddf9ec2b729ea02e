"""components/patching/on_machine.sh, by a real `sh` and a fake apt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from components.commands.patch import found_in, unhealthy
from components.patching.transitions import Found

SCRIPT = Path(__file__).resolve().parents[3] / "components/patching/on_machine.sh"
BOOT = "0f5c8a1e-6a3e-4b0e-9c3b-2f1d8a7b6c5d"
APT = """#!/bin/sh
echo "apt-get $*" >>"$ROOT/calls"
echo "some words of apt"
case "$*" in
    *"$APT_FAILS"*) [ -z "$APT_FAILS" ] || { echo "E: broken" >&2; exit 100; } ;;
esac
case "$*" in *--simulate*) echo "Inst libc6 [1] (2)"; echo "Conf libc6"; echo "Inst nginx [1] (2)" ;; esac
"""


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text(f"{BOOT}\n")
        (root / "run").mkdir()
        (root / "bin").mkdir()
        self.program("apt-get", APT)
        self.program("dpkg", '#!/bin/sh\necho "dpkg $*" >>"$ROOT/calls"\n')
        self.program("sudo", '#!/bin/sh\nshift\nexec "$@"\n')

    def program(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def run(self, part: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {
            "ROOT": str(self.root),
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "APT_FAILS": "",
            **environment,
        }
        # As `rollcall patch` sends it: the text is an argument.
        words = ["sh", "-c", SCRIPT.read_text(), "on_machine.sh", part]
        return subprocess.run(words, env=known, capture_output=True, text=True, check=False)

    @property
    def calls(self) -> list[str]:
        return (self.root / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_inspection_counts_packages_and_changes_none(machine: Machine) -> None:
    done = machine.run("inspect")
    assert found_in(done.stdout.splitlines()) == Found(packages=2, reboot=False, boot=BOOT)
    assert all(" update" in each or "--simulate" in each for each in machine.calls)


def test_an_upgrade_sees_that_a_reboot_is_needed(machine: Machine) -> None:
    (machine.root / "run/reboot-required").touch()
    done = machine.run("upgrade")
    assert done.returncode == 0 and found_in(done.stdout.splitlines()) == Found(reboot=True, boot=BOOT)
    assert machine.calls[0] == "dpkg --configure -a" and machine.calls[-1].endswith("--with-new-pkgs upgrade")
    assert "some words of apt" in done.stderr, "only the report is on standard output"


@pytest.mark.parametrize(("part", "fails"), [("inspect", " update"), ("inspect", "simulate"), ("upgrade", "upgrade")])
def test_an_apt_that_fails_is_the_exit_code(machine: Machine, part: str, fails: str) -> None:
    done = machine.run(part, APT_FAILS=fails)
    assert done.returncode == 100 and "E: broken" in done.stderr


def test_the_state_is_the_boot_and_the_agents_status(machine: Machine) -> None:
    machine.program("rollcall", '#!/bin/sh\necho \'{"step": "on hold",\'\necho \'"memberships": []}\'\n')
    boot, status = machine.run("state").stdout.splitlines()
    assert found_in([boot]).boot == BOOT and status == '{"step": "on hold","memberships": []}'
    machine.program("rollcall", "#!/bin/sh\nexit 1\n")
    done = machine.run("state")
    assert done.returncode == 0 and done.stdout.splitlines()[1:] == [""]


@pytest.mark.parametrize("line", ["", "packages=x reboot=no boot=1", "packages=1 boot=1", "Welcome"])
def test_another_answer_is_a_failure(line: str) -> None:
    assert found_in([line]).failed and found_in([]).failed == "it answered 'nothing'"


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ('{"memberships": [{"join": "a", "healthy": true}]}', None),
        ('{"memberships": [{"join": "a", "healthy": true}, {"join": "b", "healthy": false}]}', "the check of b fails"),
        ('{"memberships": []}', "its agent has not read its settings"),
        ("", "its agent does not run"),
        ("[]", "its agent does not run"),
    ],
)
def test_the_agents_status_says_whether_a_machine_is_healthy(status: str, why: str | None) -> None:
    assert unhealthy(status) == why
