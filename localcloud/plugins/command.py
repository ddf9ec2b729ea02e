"""The stand-in for the command plugin: `local.Command` and `remote.Command`, the latter by the machine's own ssh."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from localcloud.plugins.resource import PluginError, Type, Values, flag, mapping, several, text
from localcloud.plugins.server import Plugin

_SHELL = ("/bin/sh", "-c")
_DIAL_FAILED = 255
# What a connection may have; the rest (passwords, proxies, host keys) takes the real plugin.
_CONNECTION = ("host", "user", "port", "privateKey", "perDialTimeout", "dialErrorLimit")
_PAUSE = 1.0


class _Command(Type):
    """`create` runs when the resource is made, `update` (or `create` again) when an input changes, `delete` at its end."""

    _common = {
        "create": text(),
        "update": text(),
        "delete": text(),
        "stdin": text(),
        "environment": mapping(),
        "triggers": several(replaces=True),
        "logging": text(choices=("stdout", "stderr", "stdoutAndStderr", "none")),
        "addPreviousOutputInEnv": flag(),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        return secrets.token_hex(16), self._run("create", given, {})

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state: there is no object in a cloud that could be read."""
        if not state:
            raise PluginError("command: a command cannot be imported")
        return {key: state[key] for key in ("stdout", "stderr") if key in state}, {}

    def update(self, identity: str, old: Values, new: Values) -> dict[str, Any]:
        return self._run("update" if new.get("update") else "create", new, old)

    def delete(self, identity: str, state: Values) -> None:
        self._run("delete", state, state)

    def _run(self, verb: str, given: Values, before: Values) -> dict[str, Any]:
        script = given.get(verb)
        if not script:
            return {"stdout": before.get("stdout", ""), "stderr": before.get("stderr", "")}
        previous = {
            f"PULUMI_COMMAND_{key.upper()}": str(before[key])
            for key in ("stdout", "stderr")
            if before.get(key) and given.get("addPreviousOutputInEnv", True)
        }
        try:
            done = self.execute(str(script), given, {**previous, **(given.get("environment") or {})})
        except OSError as failed:
            raise PluginError(f"command: {verb} cannot be run: {failed}") from failed
        if done.returncode:
            raise PluginError(f"command: {verb} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return {"stdout": done.stdout.rstrip("\n"), "stderr": done.stderr.rstrip("\n")}

    def execute(self, script: str, given: Values, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        raise NotImplementedError


class LocalCommand(_Command):
    token = "command:local:Command"
    inputs = {
        **_Command._common,
        "dir": text(),
        "interpreter": several(),
    }

    def execute(self, script: str, given: Values, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        words = [*(given.get("interpreter") or _SHELL), script]
        env = {**os.environ, **environment}
        return subprocess.run(
            words,
            env=env,
            cwd=given.get("dir"),
            input=given.get("stdin", ""),
            capture_output=True,
            text=True,
            check=False,
        )


class RemoteCommand(_Command):
    """A command by the machine's own ssh. If a host does not answer, it is tried `dialErrorLimit` times (default 10, 0 for ever)."""

    token = "command:remote:Command"
    inputs = {**_Command._common, "connection": mapping(required=True)}

    def faults(self, given: Values) -> list[tuple[str, str]]:
        found, to = super().faults(given), given.get("connection")
        if isinstance(to, Mapping):
            found += [
                (
                    f"connection.{key}",
                    f"the stand-in for command connects without {key}; PLUGINS=real takes the vendor's",
                )
                for key in to
                if key not in _CONNECTION and to[key] is not None
            ]
            if to.get("host") is None:
                found.append(("connection.host", "needs the host to connect to"))
        return found

    def execute(self, script: str, given: Values, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        to = given["connection"]
        limit = int(to.get("dialErrorLimit") if to.get("dialErrorLimit") is not None else 10)
        tried = 0
        while True:
            done = self._once(to, script, given.get("stdin", ""), environment)
            tried += 1
            unreachable = done.returncode == _DIAL_FAILED and "ssh: " in done.stderr
            if not unreachable or (limit and tried >= limit):
                return done
            time.sleep(_PAUSE)

    @staticmethod
    def _once(to: Values, script: str, stdin: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        options = [
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=accept-new",
            "-oUserKnownHostsFile=/dev/null",
            f"-oConnectTimeout={int(to.get('perDialTimeout') or 15)}",
            # Pass only the name: all users could see a value in the list of processes. The server must accept it (AcceptEnv).
            *(f"-oSendEnv={name}" for name in sorted(environment)),
        ]
        with tempfile.NamedTemporaryFile("w", prefix="rollcall-key-") as key:
            if to.get("privateKey"):
                key.write(str(to["privateKey"]).rstrip() + "\n")
                key.flush()
                options += ["-oIdentitiesOnly=yes", "-i", key.name]
            where = f"{to.get('user') or 'root'}@{to['host']}"
            return subprocess.run(
                ["ssh", *options, "-p", str(int(to.get("port") or 22)), where, script],
                env={**os.environ, **environment},
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )


class Command(Plugin):
    name = "command"
    types = (LocalCommand, RemoteCommand)
    functions: Mapping[str, Any] = {}
    settings = ()

    def client(self, settings: Mapping[str, Any]) -> None:
        return None


PLUGIN = Command()
