"""userdata/boot.sh: the real script under a real `sh`, on a root of the test's, with nothing on its PATH but what it may use."""

from __future__ import annotations

import base64
import bz2
import configparser
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from components.compute import ec2
from components.resources import userdata

SOURCE = userdata.HOME / "boot.sh"
# What the script may use of a machine as it is; what would change this one is replaced by a stub.
TOOLS = ["cat", "chmod", "cmp", "date", "env", "grep", "mkdir", "mv", "rm", "sed", "sh", "tee", "timeout", "touch"]
STUBS = {
    "dpkg": """echo "$*" >>"$HOME/dpkg" """,
    "dpkg-query": """for last; do :; done; grep -qx "$last" "$HOME/installed" && printf installed""",
    # Fails with what is in `no-repository`; `stale` means lists that an update makes new.
    "apt-get": """echo "apt-get $*" >>"$HOME/calls"
env >"$HOME/environment"
[ ! -e "$HOME/no-repository" ] || { cat "$HOME/no-repository"; exit 100; }
[ ! -e "$HOME/stale" ] || case " $* " in *" update "*) rm "$HOME/stale" ;; *) echo "E: 404 Not Found"; exit 100 ;; esac
case " $* " in *" install "*) for last; do :; done; echo "$last" >>"$HOME/installed" ;; esac""",
    "systemctl": """echo "systemctl $*" >>"$HOME/calls"
[ ! -e "$HOME/refuses" ] || ! grep -qxF "$*" "$HOME/refuses" """,
    "sleep": """echo "sleep $*" >>"$HOME/calls" """,
}
# Gets the release with the real Python; a file has the machine's identity.
PYTHON = """#!/bin/sh
case $1 in -c | */get_release.py) exec @PYTHON@ "$@" ;; esac
case "$*" in "-m rollcall.workloads "*)
    echo "python3 $*" >>"$HOME/calls"
    [ -e "$HOME/workload" ] || { echo "reason=no-release key=rollcall-workload-$3" >&2; exit 1; }
    exec cat "$HOME/workload" ;;
esac
echo "python3 $* PYTHONPATH=$PYTHONPATH" >>"$HOME/calls"
[ ! -e "$HOME/fails-$3" ] || { cat "$HOME/fails-$3"; exit 1; }
[ "$3" = prepare ] || cat "$HOME/whoami"
"""
UNIT = "/etc/systemd/system/rollcall-boot.service"
BASE = ["python3", "python3-requests", "python3-dnspython"]


class Host:
    """A machine: a root, the installed packages, and its identity."""

    def __init__(self, home: Path) -> None:
        self.home, self.root, self.bin = home, home / "root", home / "bin"
        self.bin.mkdir()
        for each in TOOLS:
            (self.bin / each).symlink_to(str(shutil.which(each)))
        for name, text in STUBS.items():
            self._program(self.bin / name, f"#!/bin/sh\n{text}\n")
        (self.root / "usr/bin").mkdir(parents=True)
        self._program(self.root / "usr/bin/python3", PYTHON.replace("@PYTHON@", sys.executable))
        self.installed(*BASE, "nginx")
        self.is_("aws i-0123 site")

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def installed(self, *packages: str) -> None:
        (self.home / "installed").write_text("".join(f"{each}\n" for each in packages))

    def is_(self, line: str) -> None:
        (self.home / "whoami").write_text(f"{line}\n")

    def refuses(self, words: str) -> None:
        (self.home / "refuses").write_text(f"{words}\n")

    def sh(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"PATH": str(self.bin), "HOME": str(self.home), "ROOT": str(self.root), **environment}
        return subprocess.run(
            ["/bin/sh", *words], env=known, capture_output=True, text=True, timeout=60, check=False, cwd=self.home
        )

    def sourced(self, commands: str) -> subprocess.CompletedProcess[str]:
        """The functions of the script as it is in the repository, called one by one."""
        return self.sh("-c", f'. {SOURCE}; mkdir -p "$KEPT" "${{LOG%/*}}"; {commands}', ROLLCALL_SOURCED="1")

    def given(self, text: str = "") -> subprocess.CompletedProcess[str]:
        """What a machine gets, as its cloud runs it: once, or at every boot."""
        script = self.home / "userdata"
        script.write_text(text or userdata.build())
        return self.sh(str(script))

    def boot(self, text: str = "") -> subprocess.CompletedProcess[str]:
        """The same, and then what its unit runs."""
        assert self.given(text).returncode == 0
        self.calls()
        return self.unit()

    def unit(self, **environment: str) -> subprocess.CompletedProcess[str]:
        (command,) = re.findall(r"(?m)^ExecStart=/bin/sh (.*)$", self.read(UNIT))
        script, *words = command.split()
        return self.sh(f"{self.root}{script}", *words, **environment)

    def workload(self, line: str) -> None:
        """What rollcall.workloads says is left to do."""
        (self.home / "workload").write_text(f"{line}\n")

    def settings(self, **settings: str) -> None:
        """The metadata of a Triton machine."""
        cases = "".join(f"{name}) echo '{value}' ;;\n" for name, value in settings.items())
        self._program(self.bin / "mdata-get", f"#!/bin/sh\ncase $1 in\n{cases}*) exit 1 ;;\nesac\n")

    def fails(self, command: str, message: str) -> None:
        """`rollcall COMMAND` fails with these words."""
        (self.home / f"fails-{command}").write_text(f"{message}\n")

    def metadata(self) -> None:
        """Triton's tool that puts metadata."""
        self._program(self.bin / "mdata-put", """#!/bin/sh\necho "mdata-put $*" >>"$HOME/calls"\n""")

    def calls(self, of: str = "") -> list[str]:
        """What was asked of the stubs since the last time, without apt's options."""
        path = self.home / "calls"
        found = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [each for each in found if each.startswith(of)]

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    @property
    def log(self) -> str:
        return self.read("/var/log/rollcall.log")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class TestText:
    # A shell reads no further than where the script exits, and what follows is another program and data.
    @pytest.mark.parametrize(
        "text", [SOURCE.read_text(), userdata.build().partition("#GET_RELEASE\n")[0]], ids=["source", "built"]
    )
    def test_it_is_a_posix_script(self, text: str) -> None:
        assert text.startswith("#!/bin/sh\n")
        checked = subprocess.run(["/bin/sh", "-n"], input=text, text=True, capture_output=True, timeout=30, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")

    def test_sourced_it_does_nothing(self, host: Host) -> None:
        done = host.sh("-c", f". {SOURCE}; echo $RELEASE", ROLLCALL_SOURCED="1")
        assert (done.returncode, done.stdout) == (0, f"{host.root}/opt/rollcall/current\n")
        assert host.calls() == [] and list(host.root.iterdir()) == [host.root / "usr"]


class TestPut:
    def test_a_file_is_written_with_its_mode_and_named_as_changed(self, host: Host) -> None:
        done = host.sourced('echo a >in; put /etc/a/b.conf 640 <in; put /etc/c 644 </dev/null; echo "$CHANGED"')
        assert done.stdout.split() == ["/etc/a/b.conf", "/etc/c"]
        assert (host.read("/etc/a/b.conf"), host.read("/etc/c")) == ("a\n", "")
        assert list((host.root / "etc/a").iterdir()) == [host.root / "etc/a/b.conf"]
        assert (host.root / "etc/a/b.conf").stat().st_mode & 0o777 == 0o640

    def test_the_same_text_changes_nothing_and_another_does(self, host: Host) -> None:
        again = 'echo a >in; put /x 644 <in; CHANGED=; put /x 644 <in; echo "same:$CHANGED"; '
        done = host.sourced(again + 'echo b >in; put /x 644 <in; echo "other:$CHANGED"')
        assert done.stdout.splitlines() == ["same:", "other: /x"]
        assert host.read("/x") == "b\n" and not (host.root / "x.rollcall-new").exists()


class TestPackages:
    def test_what_is_installed_needs_no_repository(self, host: Host) -> None:
        assert host.sourced("need python3 nginx").returncode == 0 and host.calls() == []

    def test_what_is_missing_is_installed_without_a_question(self, host: Host) -> None:
        host.installed("python3")
        assert host.sourced("need python3 nginx").returncode == 0
        (call,) = host.calls()
        assert call.endswith("install --no-install-recommends nginx") and " -qq -y " in call

    def test_what_cannot_be_installed_is_reported_in_one_line(self, host: Host) -> None:
        (host.home / "no-repository").touch()
        done = host.sourced("need no-such-thing; echo went on")
        assert done.returncode == 1 and done.stdout == ""
        expected = f"ERROR boot: reason=package-missing package=no-such-thing log={host.root}/var/log/rollcall.log\n"
        assert done.stderr.endswith(expected) and done.stderr.count("\n") == 1 and host.log.endswith(expected)

    @pytest.mark.parametrize(
        "reason",
        [
            "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)",
            "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Could not connect to deb.debian.org:80",
            "E: Unable to locate package no-such-thing",
        ],
    )
    def test_the_reason_is_apt_s_own_first_one_and_reaches_the_roll_call(self, host: Host, reason: str) -> None:
        (host.home / "no-repository").write_text(
            f"Reading package lists...\nW: Something old.\n{reason}\nE: A consequence.\n"
        )
        host.metadata()
        done = host.sourced("need no-such-thing")
        message = f"reason=package-missing package=no-such-thing said='{reason}'"
        assert message in done.stderr and reason in host.log and "E: A consequence." in host.log
        # As EC2's console has it, and as Triton's metadata.
        assert ec2._STATUS_LINE.findall(f"[    9.1] sh[123]: {done.stderr}") == [
            f"{message} log={host.root}/var/log/rollcall.log"
        ]
        assert host.calls("mdata-put") == [f"mdata-put rollcall-status {message}"]

    def test_lists_that_are_too_old_or_not_there_are_fetched(self, host: Host) -> None:
        host.installed("python3")
        (host.home / "stale").touch()
        assert host.sourced("need nginx").returncode == 0
        assert [each.split()[-1] for each in host.calls()] == ["nginx", "update", "nginx"]

    def test_apt_asks_nothing_waits_for_locks_and_restarts_nothing_by_itself(self, host: Host) -> None:
        assert host.sourced("run_apt 9 update").returncode == 0
        (call,) = host.calls()
        for option in ("APT::Update::Error-Mode=any", "DPkg::Lock::Timeout=120", "DPkg::Options::=--force-confold"):
            assert f" -o {option} " in call
        environment = (host.home / "environment").read_text().splitlines()
        assert {"DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"} <= {*environment}

    def test_what_an_interrupted_apt_left_is_configured_before_the_next_one(self, host: Host) -> None:
        assert host.sourced("run_apt 9 update; run_apt 9 upgrade").returncode == 0
        assert (host.home / "dpkg").read_text() == "--configure -a\n" * 2

    def test_the_system_is_updated_once_in_a_machine_s_life(self, host: Host) -> None:
        assert host.sourced("update_system").returncode == 0
        assert [each.split()[-1] for each in host.calls()] == ["update", "upgrade"]
        assert host.sourced("update_system").returncode == 0 and host.calls() == []

    def test_the_systems_timers_upgrade_no_packages(self, host: Host) -> None:
        host.sourced("stop_unattended_upgrades")
        found = host.root / "etc/apt/apt.conf.d/99rollcall"
        words = ["apt-config", "-c", str(found), "dump", "APT::Periodic::Enable"]
        assert (
            subprocess.run(words, capture_output=True, text=True, check=True).stdout == 'APT::Periodic::Enable "0";\n'
        )

    def test_an_update_that_failed_is_tried_again(self, host: Host) -> None:
        (host.home / "no-repository").write_text("E: No mirror.\n")
        done = host.sourced("update_system || update_system")
        assert done.returncode == 1 and done.stdout.count("reason=not-updated said='E: No mirror.'\n") == 2
        assert [each.split()[-1] for each in host.calls()] == ["update", "update"]
        (host.home / "no-repository").unlink()
        assert host.sourced("update_system && update_system").returncode == 0
        assert [each.split()[-1] for each in host.calls()] == ["update", "upgrade"]


class TestIdentity:
    def test_the_agent_that_was_just_written_says_it(self, host: Host) -> None:
        assert host.sourced("whoami_line").stdout == "aws i-0123 site\n"
        assert host.calls() == [f"python3 -m rollcall whoami PYTHONPATH={host.root}/opt/rollcall/current"]

    def test_a_machine_that_cannot_say_it_fails_with_the_agent_s_last_line(self, host: Host) -> None:
        (host.home / "whoami").unlink()
        done = host.boot()
        assert done.returncode == 1 and re.search(r"reason=unknown-machine said='cat: .*whoami.*' log=", done.stderr)


class TestUnit:
    """A machine keeps what its cloud gave it, and systemd runs it at every boot and until it works."""

    def test_what_the_cloud_runs_only_hands_itself_to_the_unit(self, host: Host) -> None:
        done = host.given()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert host.read("/usr/local/lib/rollcall/boot.sh") == userdata.build()
        assert host.calls() == [
            "systemctl enable -q --no-reload rollcall-boot.service",
            "systemctl daemon-reload",
            "systemctl restart --no-block rollcall-boot.service",
        ]

    @pytest.mark.parametrize(("more", "call"), [("", "start"), ("\n", "restart")])
    def test_at_the_next_boot_only_another_text_runs_again(self, host: Host, more: str, call: str) -> None:
        host.given()
        host.calls()
        host.given(userdata.build() + more)
        assert host.calls()[-1] == f"systemctl {call} --no-block rollcall-boot.service"

    def test_it_runs_at_every_boot_and_again_as_long_as_it_fails(self, host: Host) -> None:
        host.given()
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(host.read(UNIT))
        assert unit["Install"]["WantedBy"] == "multi-user.target"
        service = unit["Service"]
        assert (service["Type"], service["Restart"]) == ("oneshot", "on-failure")
        # systemd gives up after five starts within ten seconds (systemd.unit(5), StartLimitBurst=).
        assert int(service["RestartSec"]) > 10 / 5
        assert service["StandardOutput"] == "journal+console", "the roll call reads EC2's console"

    def test_mirrors_that_are_down_at_the_first_boot_cost_a_try_and_not_the_machine(self, host: Host) -> None:
        host.installed("python3", "python3-requests")
        (host.home / "no-repository").write_text("E: No mirror.\n")
        failed = host.boot()
        assert failed.returncode == 1 and "package=python3-dnspython said='E: No mirror.'" in failed.stderr
        assert host.calls("systemctl") == []
        (host.home / "no-repository").unlink()
        done = host.unit()
        assert (done.returncode, done.stderr) == (0, "") and "INFO boot: done\n" in done.stdout
        assert [each.split()[-1] for each in host.calls("apt-get")] == [*BASE[2:], "nginx", "update", "upgrade"]

    def test_a_machine_that_has_all_serves_without_mirrors_and_is_updated_when_they_are_back(self, host: Host) -> None:
        (host.home / "no-repository").write_text("E: No mirror.\n")
        assert host.boot().returncode == 0
        assert host.calls()[0].endswith(" update"), "a new machine is updated before it serves, if it can be"
        assert host.unit().returncode == 0
        calls = host.calls()
        served = calls.index("systemctl start rollcall.service")
        assert not [each for each in calls[:served] if each.startswith("apt-get")]
        assert len([each for each in calls[served:] if each.endswith(" update")]) == calls.count("sleep 30") == 8
        (host.home / "no-repository").unlink()
        assert host.unit().returncode == 0
        assert [each.split()[-1] for each in host.calls("apt-get")] == ["update", "upgrade"]
        assert host.unit().returncode == 0 and host.calls("apt-get") == []


def another() -> str:
    """What a machine gets with a release that has another agent."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in userdata.files().items():
            given_settings = b"# Another agent.\n" + data if name == "rollcall/agent.py" else data
            member = tarfile.TarInfo(name)
            member.size = len(given_settings)
            archive.addfile(member, io.BytesIO(given_settings))
    tar = found.getvalue()
    packed = base64.b85encode(bz2.compress(tar)).decode()
    return f"{userdata.boot_script()}{hashlib.sha256(tar).hexdigest()}\n{packed}\n"


NGINX = "/etc/systemd/system/nginx.service.d/rollcall.conf"
SITE = ["enable -q --no-reload nginx.service", "restart nginx.service"]
AGENT = ["enable -q --no-reload rollcall.service", "restart rollcall.service"]


class TestBoot:
    def test_a_site_s_machine_serves_and_registers(self, host: Host) -> None:
        done = host.boot()
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("INFO boot: done\n")
        assert host.calls("systemctl") == [f"systemctl {each}" for each in ("daemon-reload", *SITE, *AGENT)]
        assert "add_header X-Served-By i-0123 always;" in host.read("/etc/nginx/rollcall-site.conf")
        assert "include /etc/nginx/rollcall-site.conf;" in host.read("/etc/nginx/conf.d/rollcall.conf")
        # Before systemd reads its units again.
        lines = host.read(NGINX).splitlines()
        assert {"BindReadOnlyPaths=-/var/www/rollcall", "IPAddressDeny=169.254.169.254 fd00:ec2::254"} <= {*lines}
        page = host.read("/var/www/rollcall/index.html")
        assert "i-0123" in page and "aws" in page and "@" not in page
        command = host.root / "usr/local/bin/rollcall"
        assert command.stat().st_mode & 0o777 == 0o755
        assert command.read_text().endswith('exec /usr/bin/python3 -m rollcall "$@"\n')
        assert host.read("/etc/nginx/rollcall-edge.conf") == "", "no header is trusted before the ranges are read"
        assert "cloud=aws instance=i-0123 workloads=site" in host.log

    def test_every_file_lands_to_the_byte(self, host: Host) -> None:
        host.boot()
        release = host.root / "opt/rollcall/releases" / userdata.carried_release().digest
        assert (host.root / "opt/rollcall/current").resolve() == release
        assert {str(each.relative_to(release)): each.read_bytes() for each in release.rglob("*") if each.is_file()} == (
            userdata.carried_files(certificates=False)
        )
        assert {each.stat().st_mode & 0o777 for each in release.rglob("*") if each.is_file()} == {0o644}
        for unit in ("rollcall.service", "the-service.service"):
            assert host.read(f"/etc/systemd/system/{unit}").encode() == userdata.files()[f"units/{unit}"]
        assert not list(host.root.rglob("*.rollcall-new")) and list(release.parent.iterdir()) == [release]

    def test_booting_again_starts_what_may_have_stopped_and_restarts_nothing(self, host: Host) -> None:
        host.boot()
        host.calls()
        before = {each: each.stat().st_mtime_ns for each in host.root.rglob("*") if each.is_file()}
        assert host.boot().returncode == 0
        started = [each for each in host.calls() if " -q " not in each and not each.startswith("python3")]
        assert started == [
            "systemctl daemon-reload",
            "systemctl start nginx.service",
            "systemctl start rollcall.service",
        ]
        changed = {each.name for each, when in before.items() if each.stat().st_mtime_ns != when}
        assert changed == {"rollcall.log", "whoami", "get_release.py", "release"}

    def test_a_machine_uses_its_proxy_from_the_first_package_on(self, host: Host) -> None:
        host.settings(**{"rollcall-proxy": "http://proxy.example.net:3128"})
        assert host.boot().returncode == 0
        assert "https_proxy=http://proxy.example.net:3128\n" in (host.home / "environment").read_text()
        (line,) = host.calls("systemctl set-environment")
        assert "HTTPS_PROXY=http://proxy.example.net:3128" in line and "NO_PROXY=localhost,127.0.0.1" in line
        assert "3128" in host.read("/etc/apt/apt.conf.d/98rollcall-proxy")
        host.settings()
        assert host.boot().returncode == 0
        assert host.calls("systemctl set-environment") == []
        assert not (host.root / "etc/apt/apt.conf.d/98rollcall-proxy").exists()

    def test_the_system_is_prepared_before_a_workload_and_its_failure_ends_the_boot(self, host: Host) -> None:
        assert host.boot().returncode == 0
        calls = host.calls()
        prepared = next(at for at, each in enumerate(calls) if each.startswith("python3 -m rollcall prepare"))
        assert prepared < next(at for at, each in enumerate(calls) if "nginx" in each)
        host.fails("prepare", "reason=no-volume device=sdf mount=/srv")
        done = host.boot()
        assert done.returncode == 1 and "ERROR boot: reason=no-volume device=sdf mount=/srv log=" in host.log

    @pytest.mark.parametrize(
        ("path", "restarted"),
        [
            ("/etc/systemd/system/rollcall.service", "rollcall.service"),
            ("/etc/nginx/conf.d/rollcall.conf", "nginx.service"),
            (NGINX, "nginx.service"),
            ("/etc/default/the-service", "the-service.service"),
        ],
    )
    def test_what_changed_is_restarted(self, host: Host, path: str, restarted: str) -> None:
        host.is_("aws i-0123 site the-service")
        host.boot()
        host.calls()
        (host.root / path.lstrip("/")).write_text("of an older version")
        assert host.boot().returncode == 0
        assert "of an older version" not in host.read(path)
        assert f"systemctl restart {restarted}" in host.calls()

    def test_the_ranges_that_the_agent_read_stay(self, host: Host) -> None:
        host.boot()
        (host.root / "etc/nginx/rollcall-edge.conf").write_text("set_real_ip_from 192.0.2.0/24;\n")
        host.boot()
        assert host.read("/etc/nginx/rollcall-edge.conf") == "set_real_ip_from 192.0.2.0/24;\n"

    def test_the_sample_service_s_machine_needs_no_nginx(self, host: Host) -> None:
        host.installed(*BASE)
        host.is_("joyent 0f4c5b5e the-service")
        assert host.boot().returncode == 0
        assert not (host.root / "etc/nginx").exists() and "nginx" not in "".join(host.calls("apt-get"))
        assert host.read("/etc/default/the-service") == "INSTANCE=0f4c5b5e\n"

    def test_a_new_machine_gets_the_packages_that_its_agent_needs(self, host: Host) -> None:
        host.installed()
        assert host.boot().returncode == 0
        installed = [each.split()[-1] for each in host.calls("apt-get") if " install " in each]
        assert sorted(installed) == sorted([*BASE, "nginx"])

    @pytest.mark.parametrize(
        ("line", "refuses", "reason"),
        [
            ("aws i-0123 gopher", "", "reason=no-release key=rollcall-workload-gopher"),
            ("aws i-0123 site", "restart nginx.service", "reason=nginx-not-started"),
            ("aws i-0123 the-service", "restart the-service.service", "reason=the-service-not-started"),
            ("aws i-0123", "restart rollcall.service", "reason=agent-not-started"),
        ],
    )
    def test_what_does_not_start_is_reported_in_one_line(
        self, host: Host, line: str, refuses: str, reason: str
    ) -> None:
        host.is_(line)
        host.refuses(refuses)
        done = host.boot()
        assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1
        assert done.stderr in host.log and "boot: done" not in host.log

    @pytest.mark.parametrize(("state", "verb"), [("changed", "restart"), ("same", "start")])
    def test_a_workload_of_the_operators_gets_its_packages_and_is_not_waited_for(
        self, host: Host, state: str, verb: str
    ) -> None:
        host.is_("aws i-0123 shop")
        host.workload(f"unit {state} - python3-venv libpq5")
        assert host.boot().returncode == 0
        calls = host.calls()
        call = f"-m rollcall.workloads shop {host.root}/usr/local/lib/rollcall/boot.sh {host.root} i-0123"
        started = f"systemctl {verb} --no-block workload-shop.service"
        order = [
            f"python3 {call}",
            "apt-get python3-venv",
            "apt-get libpq5",
            started,
            "systemctl restart rollcall.service",
        ]
        words = [f"apt-get {each.split()[-1]}" if " install " in each else each for each in calls]
        assert [each for each in words if each in order] == order
        assert calls.index("systemctl enable -q --no-reload workload-shop.service") < calls.index(started)

    @pytest.mark.parametrize("state", ["changed", "same"])
    def test_a_workload_with_secrets_is_left_to_the_agent_to_start(self, host: Host, state: str) -> None:
        host.is_("aws i-0123 shop")
        host.workload(f"secret {state} - python3-venv")
        assert host.boot().returncode == 0
        calls = [each for each in host.calls() if each.startswith("systemctl")]
        again = ["systemctl try-restart --no-block workload-shop.service"]
        assert [each for each in calls if "workload-shop" in each] == (again if state == "changed" else [])
        assert "systemctl restart rollcall.service" in calls

    def test_a_static_site_of_the_operators_is_served_by_nginx_from_where_it_was_unpacked(self, host: Host) -> None:
        host.is_("aws i-0123 www")
        host.workload("nginx changed /opt/rollcall/workloads/www/current/files/public nginx")
        assert host.boot().returncode == 0
        served = host.read("/etc/nginx/rollcall-site.conf")
        assert "root /opt/rollcall/workloads/www/current/files/public;" in served and "X-Served-By i-0123" in served
        calls = host.calls("systemctl")
        assert calls.index("systemctl restart nginx.service") == 3 and calls[1] == "systemctl daemon-reload"
        assert not (host.root / "var/www").exists()
        confined = host.read(NGINX)
        assert "BindReadOnlyPaths=-/opt/rollcall/workloads/www\n" in confined and "@" not in confined

    def test_a_workload_with_releases_in_place_that_has_none_is_left_to_the_agent(self, host: Host) -> None:
        host.is_("aws i-0123 shop")
        host.workload("agent same -")
        assert host.boot().returncode == 0 and "boot: done" in host.log
        assert not any("workload-shop" in each for each in host.calls())

    def test_the_agent_installs_the_packages_of_a_release_in_place(self, host: Host) -> None:
        assert host.boot().returncode == 0
        host.calls()
        script = f"{host.root}/usr/local/lib/rollcall/boot.sh"
        assert host.sh(script, "need", "jq", "nginx").returncode == 0
        assert [each.split()[-1] for each in host.calls()] == ["jq"]
        (host.home / "no-repository").write_text("E: no such package\n")
        done = host.sh(script, "need", "jq", "tree")
        assert done.returncode == 1 and "reason=package-missing package=tree said='E: no such package'" in done.stderr

    @pytest.mark.parametrize(
        ("verb", "folder", "called"),
        [("", "public", []), ("reload-or-restart", "dist", ["systemctl reload-or-restart nginx.service"])],
    )
    def test_the_agent_lets_nginx_serve_another_folder(
        self, host: Host, verb: str, folder: str, called: list[str]
    ) -> None:
        host.is_("aws i-0123 www")
        files = "/opt/rollcall/workloads/www/current/files"
        host.workload(f"nginx changed {files}/public nginx")
        host.boot()
        host.calls()
        script = f"{host.root}/usr/local/lib/rollcall/boot.sh"
        done = host.sh(script, "serve_workload", "www", f"{files}/{folder}", verb=verb, instance="i-0123")
        assert (done.returncode, done.stderr) == (0, "")
        found = host.calls()
        assert [each for each in found if "start nginx" in each] == (called or ["systemctl start nginx.service"])
        assert f"root {files}/{folder};" in host.read("/etc/nginx/rollcall-site.conf")

    def test_a_release_that_did_not_arrive_whole_is_not_started(self, host: Host) -> None:
        *lines, packed = userdata.build().splitlines(keepends=True)
        done = host.boot("".join([*lines, packed[: len(packed) // 10 * 5]]))
        assert done.returncode == 1 and "reason=release-damaged" in done.stderr
        assert host.calls("systemctl") == [] and not (host.root / "opt").exists()

    def test_another_release_is_put_beside_the_old_one_and_restarts_what_runs_from_it(self, host: Host) -> None:
        host.is_("aws i-0123 site the-service")
        host.boot()
        host.calls()
        digest, text = userdata.carried_release().digest, another()
        assert host.boot(text).returncode == 0
        found = {each.name for each in (host.root / "opt/rollcall/releases").iterdir()}
        assert len(found) == 2 and digest in found
        assert host.read("/opt/rollcall/current/rollcall/agent.py").startswith("# Another agent.\n")
        assert {"systemctl restart rollcall.service", "systemctl restart the-service.service"} <= {*host.calls()}
