"""Read an operator's systemd unit file, and refuse what would lead out of the confinement.

A key is accepted only if it is in one of the lists below. A list of refused keys would be incomplete: systemd reads `EnvironmentFile=` and
`LoadCredential=` as root, gives a user the folder that `StateDirectory=` names, and adds more such keys with each version
(https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Any value of these is harmless.
_FREE = {
    "Unit": "Description Documentation StartLimitIntervalSec StartLimitBurst",
    "Service": """ExitType NotifyAccess Restart RestartSec RestartSteps RestartMaxDelaySec RestartPreventExitStatus
        RestartForceExitStatus SuccessExitStatus TimeoutSec TimeoutStartSec TimeoutStopSec TimeoutAbortSec RuntimeMaxSec WatchdogSec
        WatchdogSignal OOMPolicy KillMode KillSignal RestartKillSignal FinalKillSignal SendSIGHUP SendSIGKILL Environment
        UnsetEnvironment Nice CPUWeight CPUQuota CPUAffinity MemoryHigh MemoryMax MemorySwapMax TasksMax IOWeight UMask SyslogIdentifier
        SyslogLevel SystemCallFilter SystemCallErrorNumber RestrictAddressFamilies MemoryDenyWriteExecute ProtectClock ProtectHostname
        ProtectKernelLogs ProcSubset PrivateUsers KeyringMode RemoveIPC LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS
        LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS LimitSIGPENDING LimitMSGQUEUE""",
}
# Rollcall sets these, at least as strictly, so the file's own are left out.
_LEFT_OUT = {
    "Service": """NoNewPrivileges ProtectSystem ProtectHome PrivateTmp PrivateDevices ProtectProc ProtectKernelTunables
        ProtectKernelModules ProtectControlGroups RestrictNamespaces RestrictRealtime RestrictSUIDSGID LockPersonality DynamicUser""",
    "Install": "WantedBy",
}
_EXEC = "ExecCondition ExecStartPre ExecStart ExecStartPost ExecReload ExecStop ExecStopPost"
_UNITS = "After Wants Requires"
_TYPES = ("simple", "exec", "forking", "notify", "notify-reload", "idle")
# A target starts much more than one unit: `Wants=reboot.target` ends the machine.
_UNIT_NAME = re.compile(
    r"(?!.*rollcall)[A-Za-z0-9:@_.\\-]+\.(?:service|socket)"
    r"|(?:network|network-online|nss-lookup|time-sync|local-fs|remote-fs|basic|sysinit|syslog)\.target"
)
# `+`, `!` and `|` run a command with other rights (systemd.service, "Special executable prefixes"), also where they are quoted or escaped.
_COMMAND = re.compile(r"[-@:]*(?:\./|/)?[A-Za-z0-9_][^\s\"'\\]*(?:\s.*)?")
USER = re.compile("(?!root$)[a-z_][a-z0-9_-]{0,31}")


class UnitFileError(Exception):
    """The unit file is refused: `problem` follows its path, `fix` says what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. {fix}")


@dataclass(frozen=True, kw_only=True)
class UnitFile:
    """What a unit file adds to a workload's unit: lines of the sections, and its user if it names one."""

    unit: tuple[str, ...]
    service: tuple[str, ...]
    user: str = ""


def read_unit(text: str) -> UnitFile:
    """Return the lines of a unit file. Raises UnitFileError."""
    found: dict[str, list[str]] = {"Unit": [], "Service": [], "Install": []}
    user, section = "", ""
    for line in _lines(text):
        if line.startswith("["):
            section = line[1:-1]
            if section not in found or not line.endswith("]"):
                raise UnitFileError(f"has the section {line}", "Leave [Unit], [Service] and [Install]")
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not section or not equals:
            raise UnitFileError(f"has the line {line[:60]!r}", "Write KEY=VALUE below [Unit] or [Service]")
        if section == "Service" and key == "User":
            user = _user(value)
        elif key not in _LEFT_OUT.get(section, "").split():
            _check(section, key, value)
            found[section].append(f"{key}={value}")
    if not any(each.startswith("ExecStart=") for each in found["Service"]):
        raise UnitFileError("has no ExecStart", "Set it, as ExecStart=./start")
    return UnitFile(unit=tuple(found["Unit"]), service=tuple(found["Service"]), user=user)


def _lines(text: str) -> list[str]:
    """Return the lines without comments, and each line that a backslash continues as one."""
    found, open_line = list[str](), ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            open_line += f"{line[:-1]} "
        else:
            found.append((open_line + line).strip())
            open_line = ""
    lines = [line for line in (*found, open_line.strip()) if line]
    for line in lines:
        if any(ord(char) < 32 and char != "\t" for char in line):
            raise UnitFileError(f"has a control character in {line[:60]!r}", "Take it out")
        if line.endswith("\\"):
            raise UnitFileError(f"has a backslash at the end of {line[:60]!r}", "Take it out")
    return lines


def _user(value: str) -> str:
    if not USER.fullmatch(value):
        raise UnitFileError(
            f"has User={value}",
            "Name another user than root, or none: as root it could end the agent and ask systemd for anything",
        )
    return value


def _check(section: str, key: str, value: str) -> None:
    if section == "Service" and key in _EXEC.split():
        _check_command(key, value)
    elif section == "Service" and key == "Type":
        if value not in _TYPES:
            raise UnitFileError(
                f"has Type={value}", f"Write one of {', '.join(_TYPES)}: a workload runs until it is stopped"
            )
    elif section == "Service" and key in ("StandardOutput", "StandardError"):
        if value not in ("journal", "null", "inherit"):
            raise UnitFileError(
                f"has {key}={value}", "Write journal, null or inherit: systemd opens other files as root"
            )
    elif section == "Unit" and key in _UNITS.split():
        for name in value.split():
            if not _UNIT_NAME.fullmatch(name):
                raise UnitFileError(
                    f"has {key}={name}", "Name a service or a socket of a package, or network-online.target"
                )
    elif key not in _FREE.get(section, "").split():
        raise UnitFileError(
            f"has {key}= in [{section}], which a workload's unit may not have",
            "Take it out; Rollcall sets folders, credentials and confinement (docs/workloads.md, A systemd unit)",
        )


def _check_command(key: str, value: str) -> None:
    if value and not _COMMAND.fullmatch(value):
        raise UnitFileError(
            f"has {key}={value[:60]}",
            "Begin it with a plain path, as ./start or /usr/bin/python3; `+`, `!` and `|` would run it with other rights",
        )
    # The command after it may have another prefix.
    if re.search(r"(?:^|\s);(?:\s|$)", value):
        raise UnitFileError(f"has several commands in {key}=", "Write a line for each")
