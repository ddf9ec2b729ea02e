"""Write the systemd units of a workload (https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from rollcall import before, confinement, containers
from rollcall.command_checks import OUTPUT, unit_of
from rollcall.unit_files import UnitFile
from rollcall.wait_healthy import checks_of
from rollcall.workload_secrets import HOME as SECRETS

# The program, beside the releases, that waits for the check when the workload starts.
WAIT = "wait_healthy.py"
DEFINITION = "workload.json"
_LONGEST_USER = 31
_OUTPUT_BYTES = 1 << 16


def units(
    name: str, definition: dict[str, Any], instance: str, own: UnitFile | None = None, digest: str = ""
) -> dict[str, str]:
    """Return the texts of a workload's units by their file names. `own` is its unit file, if it has one.

    The hook of a release in place runs before `current` leads to that release, so its unit names the `digest`.
    """
    confined = _confined(name, definition, instance, own)
    found = {f"workload-{name}.service": _workload(name, definition, instance, own, confined)}
    if "before" in definition:
        hook = _before(name, definition, instance, confined)
        release = f"releases/{digest}" if digest else "current"
        found[before.unit_of(name)] = hook.replace(_files(name), _files(name, release))
    for number, each in enumerate(checks_of(definition)):
        if each["check"].startswith("command:"):
            found[unit_of(name, number)] = _check(name, number, each, confined)
    return found


def _workload(name: str, definition: dict[str, Any], instance: str, own: UnitFile | None, confined: str) -> str:
    lines = own.service if own else _start(name, definition, instance)
    commands = "".join(f"{_line(each, _files(name))}\n" for each in lines)
    if "grace" in definition:
        home = f"/opt/rollcall/workloads/{name}"
        commands += f"ExecStartPost=/usr/bin/python3 {home}/{WAIT} {home}/current/{DEFINITION}\n"
        commands += f"TimeoutStartSec={definition['grace'] + 90}\n"
    more = "".join(f"{each}\n" for each in own.unit) if own else ""
    # The agent starts a workload with secrets or a hook, when it has fetched them and the hook has succeeded.
    install = "" if agent_starts(definition) else "\n[Install]\nWantedBy=multi-user.target\n"
    return f"""[Unit]
Description=Rollcall: the workload {name}
After=network-online.target
Wants=network-online.target
# Stopping runs in the reverse order: the machine leaves DNS first.
Before=rollcall.service rollcall-leave.service
StartLimitIntervalSec=0
{more}
[Service]
Type=exec
Restart=always
RestartSec=1
UMask=0077
{commands}# What follows is the same for each workload, and comes last, so it has the last word.
{confined}{install}"""


def _start(name: str, definition: dict[str, Any], instance: str) -> list[str]:
    if "container" in definition:
        return containers.lines(f"workload-{name}", definition, instance)
    return [f"ExecStart={_literal(definition['run'])}"]


def _wait(name: str, definition: dict[str, Any]) -> str:
    """Return the lines that wait for the check, if it has a grace."""
    if "grace" not in definition:
        return ""
    home = f"/opt/rollcall/workloads/{name}"
    wait = f"ExecStartPost=/usr/bin/python3 {home}/{WAIT} {home}/current/{DEFINITION}\n"
    return f"{wait}TimeoutStartSec={definition['grace'] + 90}\n"


def agent_starts(definition: dict[str, Any]) -> bool:
    """Return whether the agent starts the workload, and not systemd at boot."""
    return bool(definition.get("secrets")) or "before" in definition or "container" in definition


def _before(name: str, definition: dict[str, Any], instance: str, confined: str) -> str:
    """Return the unit of a hook. It stays active after a success, so the agent can see how it ended."""
    hook = definition["before"]
    command = _literal(hook["run"])
    lines = [f"ExecStart={command}"]
    if "container" in definition:
        # systemd does not have the variables of the container.
        lines = containers.lines(f"before-workload-{name}", definition, instance, command.replace("$", "$$"))
    commands = "\n".join(_line(each, _files(name)) for each in lines)
    return f"""[Unit]
Description=Rollcall: before the workload {name}
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec={hook["timeout"]}
UMask=0077
{commands}
{confined}"""


def _check(name: str, number: int, check: dict[str, Any], confined: str) -> str:
    """Return the unit of a command check. It sees the workload's /tmp, and its output is limited because it is in memory."""
    output = OUTPUT / unit_of(name, number).removesuffix(".service")
    command = _line(f"ExecStart={_literal(check['check'].partition(':')[2])}", _files(name))
    return f"""[Unit]
Description=Rollcall: check {number + 1} of the workload {name}
JoinsNamespaceOf=workload-{name}.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
{command}
TimeoutStartSec={check["timeout"]}
StandardOutput=truncate:{output}
StandardError=inherit
LimitFSIZE={_OUTPUT_BYTES}
# systemd has three lines for each run otherwise, and more for a bad one, which the agent reports.
LogLevelMax=crit
UMask=0077
{confined}"""


def _confined(name: str, definition: dict[str, Any], instance: str, own: UnitFile | None) -> str:
    """Return the lines that say what a process of the workload has, and what it may reach."""
    limits = {"MemoryMax": definition.get("memory"), "CPUQuota": definition.get("cpu")}
    lines = "".join(f"{key}={value}\n" for key, value in limits.items() if value)
    # The agent writes these files to memory (workload_secrets.py): https://systemd.io/CREDENTIALS/
    lines += "".join(f"LoadCredential={each}:{SECRETS}/{name}/{each}\n" for each in definition.get("secrets", ()))
    if "container" in definition:
        return f"{lines}{confinement.addresses()}\n"
    env = {"ROLLCALL_INSTANCE": instance, **containers.credentials_env(definition), **definition.get("env", {})}
    if containers.credentials_env(definition):
        # Until the agent has written it, the unit does not start, and systemd tries again each second.
        lines += f"BindReadOnlyPaths={containers.AWS}/{name}:{containers.AWS_INSIDE}\n"
    lines += "".join(f"Environment={_quoted(f'{key}={value}')}\n" for key, value in sorted(env.items()))
    user = definition.get("user") or (own.user if own else "")
    return f"""{lines}WorkingDirectory={_files(name)}
{f"User={user}" if user else f"User={dynamic_user(name)}{chr(10)}DynamicUser=yes"}
StateDirectory=workload-{name}
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
ProtectSystem=strict
InaccessiblePaths=-/etc/nginx/rollcall-origins
{confinement.lines(f"/opt/rollcall/workloads/{name}")}"""


def dynamic_user(name: str) -> str:
    """Return the name of a workload's user. All units of the workload name it, so they have the same one."""
    user = f"workload-{name}"
    return user if len(user) <= _LONGEST_USER else f"workload-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _files(name: str, release: str = "current") -> str:
    return f"/opt/rollcall/workloads/{name}/{release}/files"


def _line(line: str, files: str) -> str:
    """Return a line for a unit. In a command, `./start` is a file of the workload. systemd replaces `${NAME}` by the value from env."""
    return re.sub(r"^(Exec\w+=[-@:]*)\./", rf"\g<1>{files}/", line)


def _literal(command: str) -> str:
    return command.replace("%", "%%").replace(" ; ", " \\; ")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'
