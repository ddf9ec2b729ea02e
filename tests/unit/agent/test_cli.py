"""`rollcall`: exit codes, one-line messages and the log, as its own process before a local Cloudflare."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollcall.in_place import HOLD
from rollcall.ownership import Owner
from rollcall.settings import CloudflareJoin, MachineSettings
from tests.cloud.cloudflare_server import OPERATOR, ZONE, Front, Lab
from tests.unit.agent.fakes import ADDRESS, INSTANCE, OWNER
from tests.unit.agent.settings_fixtures import as_keys

pytestmark = pytest.mark.clouds
HOST = f"www.{ZONE}"
USERDATA = Path(__file__).resolve().parents[3] / "userdata"
# The command as it is, with its places and its machine's settings file below another root, and time between its ticks.
BELOW = """
import os, pathlib, sys
from rollcall import agent, cli, clouds
agent.TICK = float(os.environ.get("TICK", 60))
agent.STOP_DELAY_LIMIT_S = 0.5
root = pathlib.Path(sys.argv[1])
cli.LOG, cli.STATUS_FILE = root / "rollcall.log", root / "run" / "status.json"
cli.detect = lambda: clouds.detect(root)
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    made = Front()
    yield made
    made.stop()


class Machine:
    """One that Rollcall did not make: a settings file has its identity, and its workload is a program that succeeds."""

    def __init__(self, root: Path, front: Front) -> None:
        self.root, self.lab = root, Lab(front)
        self.log, self.status = root / "rollcall.log", root / "run" / "status.json"
        self.away = self.status.with_name("status.left")
        self.systemd_says("running")
        self._settings = root / "etc" / "rollcall.json"
        self._settings.parent.mkdir()
        self.secret = OPERATOR
        self.join_keys: dict[str, Any] = {
            "zone": self.lab.zone,
            "host": HOST,
            "token": "t",
            "check": "command:/bin/true",
        }
        self.describe()

    def describe(self, **changed: Any) -> None:
        settings = MachineSettings(
            stack="local",
            fleet="web-aws",
            machine="0",
            generation="ab12cd",
            workloads=("the-service",),
            joins=(CloudflareJoin(**{**self.join_keys, **changed}),),
        )
        self.write({"keys": as_keys(settings), "instance": INSTANCE, "addresses": [ADDRESS]})

    def write(self, content: dict[str, Any]) -> None:
        self._settings.write_text(json.dumps({"secrets": {"t": self.secret}, **content}))

    def systemd_says(self, state: str) -> None:
        systemctl = self.root / "bin" / "systemctl"
        systemctl.parent.mkdir(exist_ok=True)
        systemctl.write_text(f"#!/bin/sh\necho {state}\n")
        systemctl.chmod(0o755)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        environment = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", **environment}
        known = {**os.environ, "PYTHONPATH": str(USERDATA), "CLOUDFLARE_BASE_URL": self.lab.url, **environment}
        command = [sys.executable, "-c", BELOW, str(self.root), *words]
        return subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rollcall(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        with self.start(*words) as process:
            out, err = process.communicate(timeout=30)
        assert OPERATOR not in out + err + (self.log.read_text() if self.log.exists() else "")
        return process.returncode, out, err

    def registered(self) -> list[tuple[str, Owner | None]]:
        found = self.lab.api.dns.records.list(zone_id=self.lab.zone)
        return sorted((str(each.content), Owner.parse(each.comment or "")) for each in found)


@pytest.fixture
def machine(tmp_path: Path, front: Front) -> Machine:
    return Machine(tmp_path, front)


class TestOnce:
    def test_join_and_leave_are_done_when_they_exit_with_0(self, machine: Machine) -> None:
        code, out, err = machine.rollcall("join")
        assert (code, err) == (0, "") and f"registered: host={HOST} address={ADDRESS}" in out
        assert machine.registered() == [(ADDRESS, OWNER)]
        assert machine.rollcall("leave")[0] == 0
        assert machine.registered() == [] and machine.away.exists()
        assert machine.rollcall("join")[0] == 0
        assert machine.registered() == [(ADDRESS, OWNER)] and not machine.away.exists()
        assert machine.rollcall("leave", "--at-shutdown")[0] == 0
        assert machine.registered() == [] and not machine.away.exists()
        assert "registered" in machine.log.read_text() and f"left: host={HOST}" in machine.log.read_text()

    def test_an_unhealthy_workload_does_not_join(self, machine: Machine) -> None:
        machine.describe(check="command:/bin/false")
        code, _, err = machine.rollcall("join")
        assert (code, err) == (1, f"rollcall join: reason=workload-unhealthy log={machine.log}\n")
        assert machine.registered() == []

    def test_what_is_in_the_way_is_reported_in_one_line(self, machine: Machine) -> None:
        machine.lab.record(name="www", content=ADDRESS, comment="the old load balancer")
        code, _, err = machine.rollcall("join")
        assert code == 1 and err.count("\n") == 1
        assert err.startswith(f"rollcall join: reason=foreign-record name={HOST} content={ADDRESS}")
        assert err.endswith(f"log={machine.log}\n") and "the old load balancer" in err

    def test_a_wrong_token_is_reported_in_one_line_without_it(self, machine: Machine) -> None:
        machine.secret = "wrong-" + "x" * 40
        machine.describe()
        code, out, err = machine.rollcall("join")
        assert code == 1 and err.startswith("rollcall join: reason=refused api=cloudflare status=40")
        assert err.count("\n") == 1 and machine.secret not in out + err + machine.log.read_text()
        assert machine.rollcall("leave")[0] == 1

    def test_a_membership_can_be_given_as_words(self, machine: Machine) -> None:
        words = [f"{key}={value}" for key, value in {**machine.join_keys, "host": f"blog.{ZONE}"}.items()]
        assert machine.rollcall("join", "cloudflare", *words)[0] == 0
        assert machine.lab.names() == ["blog"]
        assert machine.rollcall("leave", "cloudflare", *words)[0] == 0
        assert machine.lab.names() == []

    def test_whoami_is_one_line_of_words(self, machine: Machine) -> None:
        assert machine.rollcall("whoami") == (0, f"file {INSTANCE} the-service\n", "")

    def test_status_before_anything_ran_says_where_to_look(self, machine: Machine) -> None:
        expected = "rollcall status: reason=not-running fix='systemctl status rollcall'\n"
        assert machine.rollcall("status") == (1, "", expected)


class TestMistakes:
    @pytest.mark.parametrize("command", ["join", "leave", "whoami"])
    def test_settings_that_lack_something_are_reported_in_one_line(self, machine: Machine, command: str) -> None:
        machine.write({"keys": {"rollcall-stack": "local"}, "instance": INSTANCE, "addresses": []})
        code, _, err = machine.rollcall(command)
        assert code == 1
        assert err == f"rollcall {command}: the machine's tags or metadata lack rollcall-fleet log={machine.log}\n"

    def test_an_instance_that_dns_could_not_name_is_reported_in_one_line(self, machine: Machine) -> None:
        machine.write({"keys": {"rollcall-stack": "s", "rollcall-fleet": "f"}, "instance": "my host", "addresses": []})
        code, _, err = machine.rollcall("join")
        assert code == 1 and err.startswith("rollcall join: instance 'my host' does not fit") and err.count("\n") == 1

    @pytest.mark.parametrize("word", ["cloudflare", "gopher", "ttl=soon"])
    def test_an_invalid_membership_is_reported_in_one_line(self, machine: Machine, word: str) -> None:
        code, _, err = machine.rollcall("join", "cloudflare", word)
        assert code == 1 and err.startswith("rollcall join: join") and err.count("\n") == 1

    @pytest.mark.parametrize("words", [(), ("dance",), ("run", "away")])
    def test_wrong_usage_is_2(self, machine: Machine, words: tuple[str, ...]) -> None:
        code, out, err = machine.rollcall(*words)
        assert (code, out) == (2, "") and err.startswith("usage: rollcall")
        assert not machine.log.exists()

    def test_a_log_that_cannot_be_written_is_reported_and_stops_nothing(self, machine: Machine) -> None:
        machine.log.mkdir()
        with machine.start("join") as process:
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, f"rollcall: reason=log-not-writable file={machine.log}\n")
        assert machine.registered() == [(ADDRESS, OWNER)]


def test_a_join_by_hand_on_a_machine_on_hold_names_the_hold(machine: Machine) -> None:
    known = json.loads((machine.root / "etc" / "rollcall.json").read_text())
    machine.write({**known, "keys": {**known["keys"], HOLD: "2026-11-30T19:00:00Z disk errors"}})
    code, _, err = machine.rollcall("join")
    assert code == 1 and "reason=on-hold fix='rollcall release-hold'" in err and machine.registered() == []


class TestRun:
    @pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("system", ["running", "stopping"])
    def test_it_joins_and_where_the_system_stops_it_leaves_at_a_signal_and_systemd_is_reported(
        self, machine: Machine, tmp_path: Path, ended_by: signal.Signals, system: str
    ) -> None:
        machine.systemd_says(system)
        leaves = system == "stopping"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(20)
            systemd.bind(str(tmp_path / "notify"))
            with machine.start("run", NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
                try:
                    membership = [systemd.recv(300).decode(), systemd.recv(300).decode()]
                    assert machine.registered() == [(ADDRESS, OWNER)]
                    code, out, _ = machine.rollcall("status")
                    assert code == 0 and json.loads(out)["step"] == "registered"
                    began = time.monotonic()
                    process.send_signal(ended_by)
                    out, _ = process.communicate(timeout=30)
                finally:
                    process.kill()
            while membership[-1] != "STOPPING=1":
                membership.append(systemd.recv(300).decode())
        assert (process.returncode, machine.registered()) == (0, [] if leaves else [(ADDRESS, OWNER)])
        assert list(dict.fromkeys(membership)) == ["READY=1", "STATUS=registered ", "STOPPING=1"]
        assert time.monotonic() - began < 20, "it waited for its next tick"
        assert ("waiting for caches: seconds=0" in machine.log.read_text()) == leaves
        assert json.loads(machine.status.read_text())["step"] == ("left" if leaves else "registered")
        machine.write({"keys": {}})  # what left must not ask for anything
        assert machine.rollcall("leave", "--at-shutdown")[0] == (0 if leaves else 1)
        assert OPERATOR not in out + machine.log.read_text() + machine.status.read_text()

    def test_leave_beside_a_running_agent_lasts(self, machine: Machine, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(20)
            systemd.bind(str(tmp_path / "notify"))
            with machine.start("run", NOTIFY_SOCKET=str(tmp_path / "notify"), TICK="0.2") as process:
                try:
                    systemd.recv(300)
                    assert systemd.recv(300).decode() == "STATUS=registered "
                    assert machine.rollcall("leave")[0] == 0
                    while "left" not in systemd.recv(300).decode():
                        pass
                    assert machine.registered() == []
                    assert machine.rollcall("join")[0] == 0
                    while "registered" not in systemd.recv(300).decode():
                        pass
                    assert machine.registered() == [(ADDRESS, OWNER)]
                    process.terminate()
                    process.communicate(timeout=30)
                finally:
                    process.kill()

    def test_a_leave_that_fails_is_not_0(self, machine: Machine, tmp_path: Path, front: Front) -> None:
        machine.systemd_says("stopping")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(20)
            systemd.bind(str(tmp_path / "notify"))
            with machine.start("run", NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
                try:
                    systemd.recv(300)
                    systemd.recv(300)
                    # Another cloud behind the same address: neither the zone nor the record is there.
                    assert Lab(front).zone != machine.lab.zone
                    process.terminate()
                    out, _ = process.communicate(timeout=30)
                finally:
                    process.kill()
        assert process.returncode == 1 and "leave failed" in out
        assert json.loads(machine.status.read_text())["step"] == "leave failed"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"step": "left"}, 0),
        ({"step": "left", "memberships": [{"join": "a"}]}, 0),
        ({"step": "left", "memberships": [{"hosts": ["b"]}]}, 3),
        ({"step": "on hold"}, 0),
        ({"step": "registered"}, 3),
        (None, 3),
    ],
    ids=["left", "without hosts", "with hosts", "on hold", "registered", "no status"],
)
def test_a_shutdown_after_the_agent_has_left_waits_for_no_import(
    tmp_path: Path, status: dict[str, Any] | None, code: int
) -> None:
    """Of the agent and what it needs; only then is there something to do."""
    file = tmp_path / "status.json"
    if status:
        file.write_text(json.dumps(status))
    program = """
import sys, types
from pathlib import Path
from rollcall.__main__ import main
assert not {"requests", "rollcall.agent", "rollcall.cli"} & {*sys.modules}
sys.modules["rollcall.cli"] = types.SimpleNamespace(main=lambda words: 3)
sys.exit(main(["leave", "--at-shutdown"], Path(sys.argv[1])))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], cwd=USERDATA, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr


def test_a_booting_machine_prints_its_identity_before_it_has_dnspython_or_boto3() -> None:
    program = "import sys; sys.modules.update(dns=None, boto3=None, botocore=None); import rollcall.cli"
    done = subprocess.run([sys.executable, "-c", program], cwd=USERDATA, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
