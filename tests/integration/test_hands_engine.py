"""What operators do with running machines: hold, logs, exec and patch, by the real engine on booted machines of both clouds.

The tests share one deployment and run in their order.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.runtime.prepare import ROOT
from tests.integration.conftest import sandboxed, wait_until
from tests.integration.instep import SERVICE, InStep
from tests.integration.log_inspection import Prober, config_file

pytestmark = [pytest.mark.machines, pytest.mark.engine]
TTL_S = 5
CONFIG = f"""\
config:
  aws:region: us-west-2
  rollcall:drainDelay: {TTL_S}
  rollcall:serviceDiscovery:
    {{ zone: unilans.net, services: {{ theService: {{ port: 4218, ttl: {TTL_S}, incarnations: {{ v1: {{}} }} }} }} }}
  rollcall:fleets:
    web-aws:
      {{ cloud: aws, count: 2, size: t3.micro, image: debian-12, joins: [theService/v1],
        ssh: {{ user: root, keyName: operators, from: [198.51.100.0/24] }} }}
    web-joyent: {{ cloud: joyent, count: 1, size: g1.micro, image: debian-12, joins: [theService/v1] }}
"""
REASON = "disk errors: OPS-12"


class Operated(InStep):
    def command(self, *words: str) -> subprocess.Popen[str]:
        """`rollcall WORDS`, as an operator in the program's folder."""
        code = "import sys; from rollcall.console import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=self.sandbox.work,
            env={**self.env, "HOME": str(self.sandbox.state), "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def rollcall(self, *words: str, code: int = 0, timeout: float = 300) -> str:
        """What `rollcall WORDS` prints. It must end with this exit code."""
        process = self.command(*words)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert process.returncode == code, out + err
        return out + err

    def id_of(self, name: str) -> str:
        return str(self.machine(name)["id"])

    def in_service(self) -> set[str]:
        return self.owners()["service"]

    def booted(self, instance: str) -> str:
        """The id of the machine's boot; empty while it does not answer."""
        with contextlib.suppress(AssertionError, Exception):
            return self.inside(instance, "cat", "/proc/sys/kernel/random/boot_id").strip()
        return ""

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.rollcall("status", "--stack", "local", "--json"))
        return found


class Remembering:
    """Asks a machine of the service, each in turn, by answers that are kept for the TTL."""

    def __init__(self, stack: Operated) -> None:
        self._stack = stack
        self._kept: dict[tuple[str, str], tuple[float, list[str]]] = {}
        self._turn = 0

    def _dig(self, name: str, rtype: str) -> list[str]:
        at, found = self._kept.get((name, rtype), (0.0, []))
        if time.monotonic() - at >= TTL_S:
            at, found = time.monotonic(), self._stack.dig(name, rtype)
            self._kept[name, rtype] = at, found
        return found

    def ask(self) -> str:
        try:
            targets = self._dig(SERVICE, "SRV")
            self._turn += 1
            (address,) = self._dig(targets[self._turn % len(targets)].split()[3], "A")
            with contextlib.closing(self._stack._namespace.connect((address, 4218), timeout=3)) as call:
                call.settimeout(3)
                call.sendall(b"hello\n")
                return call.makefile("rb").readline().split(b" ")[0].decode() or "hung up"
        except (OSError, ValueError, ZeroDivisionError) as failed:
            return f"{type(failed).__name__} {failed}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    config = config_file(tmp_path_factory.mktemp("hands"), CONFIG)
    with sandboxed("hands", config) as sandbox:
        made = Operated(sandbox)
        made.up()
        assert made.in_service() == made.in_state() and len(made.in_state()) == 3
        yield made


def test_a_hold_outlives_an_up_and_a_reboot(stack: Operated) -> None:
    everybody = stack.in_state()
    on_hold = {name: stack.id_of(name) for name in ("web-aws-1", "web-joyent-0")}
    with Prober(Remembering(stack).ask, 0.1).running() as prober:
        shown = stack.rollcall("hold", "web-aws/1", "--reason", REASON)
        assert "web-aws-1" in shown and "out of DNS" in shown
        assert "out of DNS" in stack.rollcall("hold", on_hold["web-joyent-0"])
        assert stack.in_service() == everybody - {*on_hold.values()}
        output = stack.up("--expect-no-changes")
        notice = f"web-aws-1 ({on_hold['web-aws-1']}): on hold since "
        assert notice in output and REASON in output and "web-joyent-0" in output
        assert (
            "unchanged"
            in stack.sandbox.pulumi("preview", "--stack", "local", "--expect-no-changes", capture=True).stdout
        )
        found = stack.status()
        holds = {each["name"]: each["hold"] for fleet in found["fleets"] for each in fleet["machines"]}
        assert found["in_step"] and REASON in holds["web-aws-1"] and holds["web-aws-0"] == ""
        before = {each: stack.booted(each) for each in on_hold.values()}
        for each in on_hold.values():
            stack.inside(each, "systemctl", "--no-block", "reboot")
        wait_until(
            "both have rebooted", lambda: all(stack.booted(each) not in ("", was) for each, was in before.items()), 90
        )
        wait_until("their agents are on hold", lambda: {_step(stack, each) for each in before} == {"on hold"}, 60)
    assert stack.in_service() == everybody - {*on_hold.values()}
    refused = stack.rollcall("hold", "web-aws/0", code=1)
    assert "cannot be put on hold" in refused and "must keep 1" in refused and "--force" in refused
    assert prober.failures(everybody.__contains__) == [] and len(prober.answers) > 100
    for each in ("web-aws/1", on_hold["web-joyent-0"]):
        assert "the name servers answer with it" in stack.rollcall("release-hold", each)
    assert stack.in_service() == everybody and "unchanged" in stack.up("--expect-no-changes")


def _step(stack: Operated, instance: str) -> str:
    with contextlib.suppress(AssertionError, ValueError):
        return str(json.loads(stack.inside(instance, "rollcall", "status"))["step"])
    return ""


def test_logs_and_commands_have_the_name_of_each_machine(stack: Operated) -> None:
    shown = stack.rollcall("logs", "web-aws", "-n", "20")
    for name in ("web-aws-0 | ", "web-aws-1 | "):
        assert [each for each in shown.splitlines() if each.startswith(name) and "registered" in each], shown
    assert all(each.startswith("web-aws-") for each in shown.splitlines())
    followed = stack.command("logs", "web-aws/0", "-f", "the-service")
    time.sleep(5)
    followed.send_signal(signal.SIGTERM)
    assert followed.communicate(timeout=20) and followed.returncode == 130
    shown = stack.rollcall("exec", "web-aws", "--", "sh", "-c", 'echo "on $(hostname)"; exit 3', code=3)
    assert sum(" | on " in each for each in shown.splitlines()) == 2
    assert stack.rollcall("exec", "web-aws/1", "--", "echo one | tr o 0") == "web-aws-1 | 0ne\n"
    shown = stack.rollcall("logs", "web-joyent")
    assert "web-joyent-0 | Triton gives no log without SSH" in shown and "web-joyent-0 | registered" in shown
    assert "Set `ssh: {}`" in stack.rollcall("exec", "web-joyent", "--", "true", code=255)


def test_a_patch_reboots_one_machine_after_the_other_and_no_request_fails(stack: Operated) -> None:
    everybody = stack.in_state()
    pair = [stack.id_of("web-aws-0"), stack.id_of("web-aws-1")]
    before = {each: stack.booted(each) for each in pair}
    with Prober(Remembering(stack).ask, 0.1).running() as prober:
        # Killed in the first reboot.
        killed = stack.command("patch", "web-aws", "--reboot")
        assert killed.stdout is not None
        for line in killed.stdout:
            if "web-aws-0: rebooting" in line:
                break
        killed.kill()
        killed.communicate(timeout=20)
        began = time.monotonic()
        shown = stack.rollcall("patch", "web-aws", timeout=400)
        print(f"\n{shown}{time.monotonic() - began:.0f} s")
    assert "web-aws: continues: web-aws-0 (rebooting), web-aws-1 (todo)" in shown
    assert shown.index("web-aws-0: done") < shown.index("web-aws-1: leaving")
    # The system's timers upgrade nothing in between.
    assert stack.inside(pair[0], "apt-config", "dump", "APT::Periodic::Enable") == 'APT::Periodic::Enable "0";\n'
    assert {each for each in pair if stack.booted(each) not in ("", before[each])} == {*pair}
    assert prober.failures(everybody.__contains__) == [] and len(prober.answers) > 200
    assert stack.in_service() == everybody and "unchanged" in stack.up("--expect-no-changes")
    assert {stack.status()["in_step"]} == {True} and "on hold" not in stack.rollcall("status")
    # Nothing to upgrade and no reboot needed: no machine leaves DNS.
    assert "leaving" not in (again := stack.rollcall("patch", "web-aws")), again


def test_a_machine_that_cannot_be_patched_stays_on_hold_and_the_next_is_not_begun(stack: Operated) -> None:
    everybody, broken = stack.in_state(), stack.id_of("web-aws-0")
    # The update fails once the machine is on hold.
    hook = 'APT::Update::Pre-Invoke { "! rollcall status | grep -q on.hold"; };'
    stack.inside(broken, "sh", "-c", f"echo '{hook}' >/etc/apt/apt.conf.d/99broken")
    shown = stack.rollcall("patch", "web-aws", "--reboot", code=1)
    assert "web-aws-0: the upgrade failed: exit code 100" in shown and "It is on hold" in shown
    assert "1 machines were not begun" in shown and "web-aws-1: " not in shown
    assert stack.in_service() == everybody - {broken}
    stack.inside(broken, "rm", "/etc/apt/apt.conf.d/99broken")
    assert "the patch is ended" in stack.rollcall("patch", "web-aws", "--abandon")
    assert stack.in_service() == everybody - {broken}
    stack.rollcall("release-hold", broken)
    assert stack.in_service() == everybody
