"""The stand-in for the command plugin: `local.Command` and `remote.Command`, the latter by the machine's own ssh."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from localcloud.plugins.resource import Input, PluginError, Type, Values, mapping, several, text
from localcloud.plugins.server import Plugin

_SHELL = ("/bin/sh", "-c")


class _Command(Type):
    """`create` runs when the resource is made, `update` (or `create` again) when an input changes, `delete` at its end."""

    _common = {
        "create": text(),
        "update": text(),
        "delete": text(),
        "stdin": text(),
        "environment": mapping(),
        "triggers": several(replaces=True),
        "logging": Input(),
        "addPreviousOutputInEnv": Input(),
    }

    def create(self, given: Values) -> tuple[str, dict[str, Any]]:
        return secrets.token_hex(16), self._run("create", given, {})

    def read(self, identity: str, state: Values) -> tuple[dict[str, Any], dict[str, Any]]:
        """A command has nothing to look at: the state is what there is."""
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
            f"PULUMI_COMMAND_{key.upper()}": str(before[key]) for key in ("stdout", "stderr") if before.get(key)
        }
        done = self.execute(str(script), given, {**previous, **(given.get("environment") or {})})
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
        "archivePaths": several(),
        "assetPaths": several(),
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
    token = "command:remote:Command"
    inputs = {**_Command._common, "connection": mapping(required=True)}

    def execute(self, script: str, given: Values, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        to = given["connection"]
        limit = int(to.get("perDialTimeout") or 15)
        options = [
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=accept-new",
            "-oUserKnownHostsFile=/dev/null",
            f"-oConnectTimeout={limit}",
        ]
        with tempfile.NamedTemporaryFile("w", prefix="rollcall-key-") as key:
            key.write(str(to.get("privateKey") or "").rstrip() + "\n")
            key.flush()
            words = [
                "ssh",
                *options,
                "-p",
                str(int(to.get("port") or 22)),
                "-i",
                key.name,
                f"{to.get('user', 'root')}@{to['host']}",
                script,
            ]
            env = {**os.environ, **environment}
            return subprocess.run(
                words, env=env, input=given.get("stdin", ""), capture_output=True, text=True, check=False
            )


class Command(Plugin):
    name = "command"
    types = (LocalCommand, RemoteCommand)
    functions: Mapping[str, Any] = {}
    settings = ()

    def client(self, settings: Mapping[str, Any]) -> None:
        return None


PLUGIN = Command()
