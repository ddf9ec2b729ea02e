"""rollcall hold, release-hold, logs, exec and patch, on a state, a cloud and DNS in memory, with a clock that only sleeps move."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from components.commands import exec as exec_command
from components.commands import hold, logs, machines, patch, release_hold, status
from components.commands.machines import Deployed, Fleet, MachinesError
from components.commands.several import Output
from components.config.models import Settings
from components.config.reader import read
from components.model import DnsRecord, Instance, RecordKey
from components.patching.transitions import Reboot
from components.registration import props as registration_props
from components.remote.base import Line, RemoteError
from rollcall.in_place import HOLD, PATCH
from rollcall.ownership import Owner

HOST = "www.scalability.expert"
KEY = RecordKey(HOST, "A")
LEAVES_S, JOINS_S = 10.0, 12.0
PLACE = {"zone": "z", "domain": "scalability.expert", "host": HOST, "ttl": 60, "proxied": False, "kind": "cloudflare"}


def instance_id(number: int) -> str:
    return f"i-{number:017x}"


class World:
    """Machines that leave ten seconds after a hold, and join again after its release. What `Registries` offers."""

    longest_ttl = 60.0

    def __init__(self, count: int = 3) -> None:
        self.now = 0.0
        self.machines = {
            instance_id(each): Instance(
                instance=instance_id(each),
                fleet="web",
                machine=str(each),
                generation=f"{each:06x}",
                running=True,
                addresses=(f"198.51.100.{each}",),
                state="running",
                note="registered",
            )
            for each in range(count)
        }
        self.live: dict[str, dict[str, str]] = {each: {} for each in self.machines}
        self.changed = dict.fromkeys(self.machines, -1000.0)
        self.stuck: set[str] = set()
        self.consoles: dict[str, str | None] = {}

    def resources(self) -> list[dict[str, Any]]:
        """The stack's state, as `pulumi stack export` has it: the roll call has no stack of its members, their tags have it."""
        inputs = [
            {"machine": each.machine, "generation": each.generation, "instance": key}
            for key, each in self.machines.items()
        ]
        outputs = {
            "stack": "local", "fleet": "web", "fleets": ["web"], "members": inputs, "places": [PLACE],
            "cloud": {"cloud": "aws", "region": "us-west-2"}, "drain_delay": 5, "timeout": 60,
        }  # fmt: skip
        urn = "urn:pulumi:local::rollcall::pulumi-python:dynamic/rollcall:RollCall::web"
        found: list[dict[str, Any]] = [
            {"type": "pulumi-python:dynamic/rollcall:RollCall", "urn": urn, "outputs": outputs}
        ]
        for key, each in self.machines.items():
            tags = {
                "rollcall-stack": "local", "rollcall-fleet": "web", "rollcall-machine": each.machine,
                "rollcall-generation": each.generation,
            }  # fmt: skip
            found.append({"type": "aws:ec2/instance:Instance", "urn": urn, "id": key, "outputs": {"tags": tags}})
        return found

    def is_in_dns(self, instance: str) -> bool:
        if instance in self.stuck:
            return True
        since = self.now - self.changed[instance]
        return since < LEAVES_S if HOLD in self.live[instance] else since >= JOINS_S

    def dns_records(self) -> tuple[DnsRecord, ...]:
        here = [each for key, each in self.machines.items() if self.is_in_dns(key)]
        return tuple(
            DnsRecord(
                key=KEY,
                value=each.addresses[0],
                owner=Owner("local", "web", each.machine, each.generation, each.instance),
                id=each.instance,
            )
            for each in here
        )

    def still_answered(self, records: Iterable[DnsRecord]) -> list[DnsRecord]:
        return []

    def answers(self) -> Mapping[RecordKey, frozenset[str] | None]:
        return {KEY: frozenset(each.value for each in self.dns_records())}

    def instances(self, stack: str) -> tuple[Instance, ...]:
        return tuple(replace(each, live=dict(self.live[key])) for key, each in self.machines.items())

    def set_settings(self, stack: str, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        assert stack == "local"
        for instance, change in changes.items():
            for key, value in change.items():
                if key == HOLD:
                    self.changed[instance] = self.now
                if value is None:
                    self.live[instance].pop(key, None)
                else:
                    self.live[instance][key] = value

    def steps(self, members: Collection[Any], instances: Collection[Any]) -> dict[str, str]:
        return {each.instance: "workload unhealthy: reason=x" for each in members}

    def console(self, machine: Instance) -> str | None:
        return self.consoles.get(machine.instance)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


CONFIG: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert", "minRegistered": 2}},
    "workloads": {
        "shop": {"files": ".", "run": "./start"},
        "pages": {"files": ".", "nginx": {}},
    },
    "fleets": {
        "web": {
            "cloud": "aws", "count": 3, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["shop"],
            "ssh": {"user": "admin", "keyName": "k", "from": ["203.0.113.0/24"]},
        }
    },
}  # fmt: skip


def settings(**fleet: Any) -> Settings:
    found = json.loads(json.dumps(CONFIG))
    found["fleets"]["web"].update(fleet)
    found["fleets"]["web"] = {key: each for key, each in found["fleets"]["web"].items() if each is not None}
    return read("local", found)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(registration_props, "Registries", lambda *_: made)
    return made


def stack_of(world: World, **fleet: Any) -> Deployed:
    return Deployed(state=status.state_in(world.resources()), settings=settings(**fleet), config={})


@pytest.fixture
def messages() -> list[str]:
    return []


class TestNames:
    @pytest.mark.parametrize("text", ["web/1", "web-1", instance_id(1)])
    def test_a_machine_has_three_names(self, world: World, text: str) -> None:
        assert stack_of(world).machine(text).instance == instance_id(1)

    def test_a_fleet_is_all_of_its_machines_by_number(self) -> None:
        assert [each.machine for each in stack_of(World(12)).named("web")] == [str(each) for each in range(12)]

    def test_a_fleet_is_not_one_machine(self, world: World) -> None:
        with pytest.raises(MachinesError, match=r"web: names a fleet\. Name one machine of it, as web/0\."):
            stack_of(world).machine("web")

    @pytest.mark.parametrize("text", ["web/9", "shop", "i-0", "", "web/"])
    def test_another_name_is_refused_with_those_that_there_are(self, world: World, text: str) -> None:
        with pytest.raises(MachinesError, match=r"no such fleet or machine. Its machines are web/0, web/1, web/2\."):
            stack_of(world).named(text)

    def test_a_machine_that_is_to_be_deleted_is_not_meant(self, world: World) -> None:
        resources = world.resources()
        resources.append({**resources[-1], "id": instance_id(8), "delete": True})
        stack = Deployed(state=status.state_in(resources), settings=settings(), config={})
        assert stack.machine("web/2").instance == instance_id(2)


class TestHold:
    def hold(self, world: World, messages: list[str], text: str = "web/1", **given: Any) -> int:
        clocks = {"clock": world.clock, "sleep": world.sleep, "say": messages.append}
        return hold.hold(stack_of(world), text, given.pop("reason", "disk errors"), **{**clocks, **given})

    def release(self, world: World, messages: list[str], text: str = "web/1") -> int:
        return release_hold.release_hold(
            stack_of(world), text, 60.0, say=messages.append, clock=world.clock, sleep=world.sleep
        )

    def test_it_ends_when_the_machine_is_out_of_dns(self, world: World, messages: list[str]) -> None:
        assert self.hold(world, messages) == 0 and world.now >= LEAVES_S
        assert world.live[instance_id(1)][HOLD].endswith("Z disk errors") and not world.is_in_dns(instance_id(1))
        assert (
            "web-1" in messages[0] and "for 60 s more" in messages[0] and "rollcall release-hold web/1" in messages[0]
        )

    def test_a_release_ends_when_the_name_servers_answer_with_it(self, world: World, messages: list[str]) -> None:
        self.hold(world, messages)
        began = world.now
        assert self.release(world, messages) == 0
        assert world.now >= began + JOINS_S and world.live[instance_id(1)] == {} and world.is_in_dns(instance_id(1))

    def test_a_machine_that_does_not_join_is_named_with_its_step(self, world: World, messages: list[str]) -> None:
        self.hold(world, messages)
        world.changed[instance_id(1)] = 1e9
        with pytest.raises(
            MachinesError, match=r"web-1 .* does not answer after 60 s: web-1 .* is not at www.*unhealthy"
        ):
            world.set_settings = lambda *_: world.live[instance_id(1)].pop(HOLD)  # type: ignore[method-assign,assignment]
            self.release(world, messages)

    def test_a_release_of_a_machine_that_is_not_on_hold_changes_nothing(
        self, world: World, messages: list[str]
    ) -> None:
        assert self.release(world, messages) == 0 and messages == [f"web-1 ({instance_id(1)}): is not on hold"]

    def test_a_second_hold_keeps_the_first_reason(self, world: World, messages: list[str]) -> None:
        self.hold(world, messages)
        assert self.hold(world, messages, reason="another") == 0
        assert world.live[instance_id(1)][HOLD].endswith("disk errors") and "is on hold already since 2" in messages[1]

    def test_fewer_than_min_registered_are_refused_without_force(self, world: World, messages: list[str]) -> None:
        self.hold(world, messages)
        with pytest.raises(
            MachinesError, match=r"cannot be put on hold:\n  - www\S+ A would have 1 .* keep 2\nUse --force"
        ):
            self.hold(world, messages, "web/0")
        assert HOLD not in world.live[instance_id(0)]
        assert self.hold(world, messages, "web/0", force=True) == 0 and HOLD in world.live[instance_id(0)]

    def test_a_machine_that_stays_in_dns_is_an_error(self, world: World, messages: list[str]) -> None:
        world.stuck.add(instance_id(1))
        with pytest.raises(
            MachinesError, match=r"is on hold, and it is still at www\.scalability\.expert A after 90 s"
        ):
            self.hold(world, messages)

    def test_a_machine_that_its_cloud_does_not_list_is_an_error(self, world: World, messages: list[str]) -> None:
        stack = stack_of(world)
        del world.machines[instance_id(1)]
        with pytest.raises(MachinesError, match="its cloud does not list it"):
            hold.hold(stack, "web/1", "x", say=messages.append, clock=world.clock, sleep=world.sleep)

    def test_the_default_reason_fits_a_tag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("getpass.getuser", lambda: "EXAMPLE\\ada%")
        assert hold.default_reason() == "by EXAMPLEada"


class FakeShell:
    """Runs nothing: `answers` has the output and the exit code for each machine."""

    def __init__(self, answer: Callable[[str], tuple[list[str], int]]) -> None:
        self._answer = answer

    def run(self, command: str, line: Line) -> int:
        lines, code = self._answer(command)
        for each in lines:
            line(each, code != 0)
        return code

    def stop(self) -> None:
        pass


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[list[str], int]]]:
    """What a command gives on each machine, by name; the command is kept under an empty name."""
    found: dict[str, tuple[list[str], int]] = {}

    def shell(fleet: Fleet, machine: machines.Machine) -> FakeShell:
        def answer(command: str) -> tuple[list[str], int]:
            found[""] = ([command], 0)
            return found.get(machine.name, (["ok"], 0))

        return FakeShell(answer)

    monkeypatch.setattr(Fleet, "shell", shell)
    return found  # type: ignore[return-value]


class TestExec:
    def run(self, world: World, *words: str, text: str = "web") -> tuple[int, list[str], list[str]]:
        out, err = io.StringIO(), io.StringIO()
        code = exec_command.execute(stack_of(world), text, words, 2, Output(out, err))
        return code, sorted(out.getvalue().splitlines()), sorted(err.getvalue().splitlines())

    def test_each_line_has_its_machine_and_the_worst_exit_code_is_the_commands(
        self, world: World, commands: dict[str, tuple[list[str], int]]
    ) -> None:
        commands["web-1"], commands["web-2"] = (["bad"], 3), (["worse"], 4)
        assert self.run(world, "true") == (4, ["web-0 | ok"], ["web-1 | bad", "web-2 | worse"])

    def test_one_word_is_for_the_shell_and_several_are_quoted(
        self, world: World, commands: dict[str, tuple[list[str], int]]
    ) -> None:
        self.run(world, "df | wc -l")
        assert commands[""][0] == ["df | wc -l"]
        self.run(world, "echo", "a b", "$HOME")
        assert commands[""][0] == ["echo 'a b' '$HOME'"]

    def test_what_a_machine_prints_cannot_command_a_terminal(
        self, world: World, commands: dict[str, tuple[list[str], int]]
    ) -> None:
        commands["web-0"] = (["\x1b[2J"], 0)
        assert self.run(world, "x", text="web/0")[1] == ["web-0 | \\x1b[2J"]

    def test_a_machine_that_is_not_reached_is_255(
        self, world: World, commands: dict[str, tuple[list[str], int]]
    ) -> None:
        commands["web-1"] = ([], 255)
        code, _, err = self.run(world, "true")
        assert code == 255 and err == ["web-1 | exit code 255: it was not reached, or the command ended so"]

    def test_triton_without_ssh_is_named_with_the_fix(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machines, "cloud_of", lambda _: "joyent")
        code, _, err = self.run_without_ssh(world)
        assert code == 255 and "Triton runs commands by SSH only. Set `ssh: {}` of the fleet" in err[0]

    def run_without_ssh(self, world: World) -> tuple[int, list[str], list[str]]:
        out, err = io.StringIO(), io.StringIO()
        code = exec_command.execute(stack_of(world, ssh=None), "web", ["true"], 1, Output(out, err))
        return code, out.getvalue().splitlines(), err.getvalue().splitlines()

    def test_the_command_comes_after_two_dashes(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            exec_command.main(["web", "uptime"])
        with pytest.raises(SystemExit):
            exec_command.main(["web", "--"])
        assert "COMMAND is missing. Write it after `--`" in capsys.readouterr().err


class TestLogs:
    def test_the_journal_of_the_agent_and_all_workloads_is_asked_for(self, world: World) -> None:
        stack = stack_of(world)
        fleet = stack.fleet("web")
        assert logs.units_of(stack.settings, fleet, "shop") == ["workload-shop"]
        assert logs.units_of(stack.settings, fleet, "pages") == ["nginx"]
        assert {"rollcall", "workload-*", "nginx"} <= {*logs.units_of(stack.settings, fleet, "")}
        command = logs.command_for(["rollcall", "workload-*"], 20, follow=True)
        assert "-n 20 -f -u 'rollcall.service' -u 'workload-*.service'" in command

    def test_another_workload_is_refused_with_those_of_the_fleet(self, world: World) -> None:
        stack = stack_of(world)
        with pytest.raises(MachinesError, match=r"nope: the stack has no such workload\. The fleet web runs shop\."):
            logs.units_of(stack.settings, stack.fleet("web"), "nope")

    def show(self, world: World, *, follow: bool = False) -> tuple[list[str], list[str]]:
        out, err = io.StringIO(), io.StringIO()
        stack = stack_of(world, ssh=None)
        assert logs.logs(stack, "web/0", "", 2, follow=follow, output=Output(out, err)) == 0
        return out.getvalue().splitlines(), err.getvalue().splitlines()

    def test_without_ssh_it_is_the_console_and_says_so(self, world: World) -> None:
        world.consoles[instance_id(0)] = "boot\nrollcall: registered\n\x1b[2Jend\n"
        out, err = self.show(world)
        assert out == ["web-0 | rollcall: registered", "web-0 | \\x1b[2Jend"]
        assert "the console of EC2 has the boot" in err[0] and "Set `ssh` of rollcall:fleets.web" in err[0]

    def test_without_ssh_and_console_it_is_the_last_status(self, world: World) -> None:
        out, err = self.show(world)
        assert out == ["web-0 | registered"] and "Triton gives no log without SSH" in err[0]

    def test_without_ssh_nothing_is_followed(self, world: World) -> None:
        with pytest.raises(RemoteError, match="web: -f needs SSH"):
            self.show(world, follow=True)


class TestPatch:
    def answers(self, world: World, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> dict[str, int]:
        boots = dict.fromkeys(("web-0", "web-1", "web-2"), 1)

        def shell(_: Fleet, machine: machines.Machine) -> FakeShell:
            def answer(command: str) -> tuple[list[str], int]:
                part, name = command.rsplit(" ", 1)[1], machine.name
                if part == "reboot":
                    assert not world.is_in_dns(machine.instance.instance)
                    boots[name] += 1
                    return [], 255
                if part == "upgrade" and name == fails:
                    return ["E: broken"], 100
                report = f"packages=0 reboot=no boot=b{boots[name]}"
                healthy = json.dumps({"memberships": [{"join": "a", "healthy": True}]})
                return [report, healthy] if part == "state" else ["x", report], 0

            return FakeShell(answer)

        monkeypatch.setattr(Fleet, "shell", shell)
        return boots

    def run(self, world: World, messages: list[str], **given: Any) -> int:
        options: dict[str, Any] = {"batch": 1, "reboot": Reboot.ALWAYS, "clock": world.clock, "sleep": world.sleep}
        return patch.patch(stack_of(world), "web", say=messages.append, **{**options, **given})

    def test_all_machines_are_patched_and_nothing_is_left(
        self, world: World, messages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        boots = self.answers(world, monkeypatch)
        assert self.run(world, messages) == 0 and set(boots.values()) == {2}
        assert set(map(len, world.live.values())) == {0} and all(map(world.is_in_dns, world.machines))
        assert (
            messages.index("web-0: done") < messages.index("web-1: inspecting")
            and messages[-1] == "web: 3 machines are patched"
        )

    def test_a_failure_names_the_machine_and_the_next_run_continues(
        self, world: World, messages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(world, monkeypatch, fails="web-1")
        with pytest.raises(MachinesError) as stopped:
            self.run(world, messages)
        assert (
            "web: stopped, and 1 machines were not begun:\n  - web-1: the upgrade failed: exit code 100; E: broken."
            in str(stopped.value)
        )
        assert [HOLD in each for each in world.live.values()] == [False, True, False]
        boots = self.answers(world, monkeypatch)
        assert self.run(world, messages, reboot=Reboot.NEVER) == 0
        assert "web: continues: web-0 (done), web-1 (leaving), web-2 (todo)" in messages
        assert boots == {"web-0": 1, "web-1": 2, "web-2": 2} and set(map(len, world.live.values())) == {0}

    def test_a_batch_that_would_leave_too_few_is_not_put_on_hold(
        self, world: World, messages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(world, monkeypatch)
        with pytest.raises(
            MachinesError, match=r"web-1: web-1 .* cannot be put on hold: .* must keep 2 .*It is as before"
        ):
            self.run(world, messages, batch=2)
        assert [HOLD in each for each in world.live.values()] == [False] * 3

    def test_an_abandoned_patch_leaves_the_holds(
        self, world: World, messages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(world, monkeypatch, fails="web-0")
        with pytest.raises(MachinesError):
            self.run(world, messages)
        assert patch.abandon(stack_of(world), "web", say=messages.append) == 0
        assert [sorted(each) for each in world.live.values()] == [[HOLD], [], []] and "is ended" in messages[-1]

    def test_another_fleet_is_refused(self, world: World, messages: list[str]) -> None:
        with pytest.raises(MachinesError, match=r"nope: the stack has no such fleet\. Its fleets are web\."):
            patch.patch(stack_of(world), "nope", batch=1, reboot=Reboot.NEEDED, say=messages.append)

    def test_what_is_left_to_do_is_in_the_settings_from_the_beginning(
        self, world: World, messages: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(world, monkeypatch, fails="web-0")
        with pytest.raises(MachinesError):
            self.run(world, messages)
        assert [each[PATCH].split()[0] for each in world.live.values()] == ["step=failed", "step=todo", "step=todo"]


class TestExitCodes:
    def test_an_error_is_one_line_with_the_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fail(_: Sequence[str] = ()) -> int:
            raise MachinesError("web/9: the stack has no such machine.")

        assert machines.guarded("hold", fail) == 1
        assert capsys.readouterr().err == "rollcall hold: web/9: the stack has no such machine.\n"

    def test_a_state_that_cannot_be_read_is_2(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fail() -> int:
            raise status.StatusError("pulumi: cannot be started")

        assert machines.guarded("hold", fail) == 2 and "pulumi: cannot be started" in capsys.readouterr().err

    def test_an_interruption_is_130(self) -> None:
        def interrupted() -> int:
            raise KeyboardInterrupt

        assert machines.guarded("logs", interrupted) == 130


def test_each_record_set_keeps_its_min_registered(world: World) -> None:
    found = replace(stack_of(world), settings=read("local", {
        **CONFIG,
        "serviceDiscovery": {
            "zone": "unilans.net",
            "services": {"cart": {"port": 80, "minRegistered": 3, "incarnations": {"v1": {}, "v2": {"shards": 2}}}},
        },
    })).fewest()  # fmt: skip
    assert found[HOST] == 2
    names = ["_cart._tcp", "v1._cart._tcp", "_cart._tcp.v1", "v2-1._cart._tcp", "v2-2._cart._tcp"]
    assert {found[f"{each}.unilans.net"] for each in names} == {3}
