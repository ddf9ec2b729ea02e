"""Check versions, plugins, the backend and the secrets provider."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import yaml

from components.commands.doctor.environment import EngineError, Environment, of_engine, of_file
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.config import stack_file

AREA, STATE_AREA = "Versions", "State"
LEAST_PYTHON, BELOW_PYTHON = (3, 11), (3, 15)
LEAST_ENGINE = (3, 259, 0)
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.M)
_LANGUAGE_HOST = "pulumi-language-python"
_SHOWN = 3
_TRIAL = "rollcall:doctorTrial"
STACK, CONFIGURATION, BACKEND = "stack", "configuration", "backend"


def checks(env: Environment) -> list[Check]:
    return [
        Check(area=AREA, name="Python", run=lambda: python(env)),
        Check(area=AREA, name="packages", run=lambda: packages(env)),
        Check(area=AREA, name="pulumi", run=lambda: engine(env)),
        Check(area=AREA, name="plugins", run=lambda: plugins(env), needs=(STACK,)),
        Check(area=STATE_AREA, name=BACKEND, run=lambda: backend(env)),
        Check(area=STATE_AREA, name="secrets provider", run=lambda: secrets(env), needs=(BACKEND,)),
        Check(area=STATE_AREA, name=STACK, run=lambda: stack(env)),
        Check(area=STATE_AREA, name=CONFIGURATION, run=lambda: configuration(env), needs=(STACK,)),
    ]


def python(env: Environment) -> Iterator[Finding]:
    """Check the version of the Python that runs the program: that of the project's virtual environment."""
    folder, own = _virtualenv(env), sys.version_info[:2]
    if folder is not None:
        text = _version_of(folder)
        if text is None:
            fix = f"Run `python3 -m venv {folder}` and `{folder}/bin/pip install -r requirements.txt`"
            yield wrong(f"{folder}: is not a virtual environment, and Pulumi.yaml names it as one. {fix}.")
            return
        own = (int(text[1]), int(text[2]))
    known = f"{own[0]}.{own[1]}"
    if not LEAST_PYTHON <= own < BELOW_PYTHON:
        least, most = ".".join(map(str, LEAST_PYTHON)), f"3.{BELOW_PYTHON[1] - 1}"
        yield wrong(
            f"Python: is {known}, and {least} to {most} are supported. Make {folder or '.venv'} with one of these."
        )
        return
    yield ok(known if folder is not None else f"{known} ({platform.python_implementation()})")


def _virtualenv(env: Environment) -> Path | None:
    """Return the folder of the virtual environment that Pulumi.yaml names."""
    with contextlib.suppress(OSError, yaml.YAMLError, TypeError, KeyError):
        runtime = yaml.safe_load((env.root / "Pulumi.yaml").read_text())["runtime"]
        return env.root / str(runtime["options"]["virtualenv"])
    return None


def _version_of(folder: Path) -> re.Match[str] | None:
    """https://docs.python.org/3/library/venv.html : pyvenv.cfg has the version."""
    with contextlib.suppress(OSError):
        return re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", (folder / "pyvenv.cfg").read_text(), re.M)
    return None


def packages(env: Environment) -> Iterator[Finding]:
    """Compare the packages of the virtual environment with requirements.txt."""
    folder, file = _virtualenv(env), env.program / "requirements.txt"
    try:
        wanted = {_plain(name): version for name, version in _PIN.findall(file.read_text())}
    except OSError as missing:
        yield not_proven(f"{file}: cannot be read ({missing.strerror}). Run it in a complete checkout.")
        return
    paths = [str(each) for each in folder.glob("lib/python*/site-packages")] if folder else sys.path
    there = {_plain(each.metadata["Name"]): each.version for each in metadata.distributions(path=paths)}
    apart = [
        f"{name} is {there[name]} and not {version}" if name in there else f"{name} {version} is missing"
        for name, version in sorted(wanted.items())
        if there.get(name) != version
    ]
    if apart:
        more = f", and {len(apart) - _SHOWN} more" if len(apart) > _SHOWN else ""
        fix = f"Run `{folder or sys.prefix}/bin/pip install -r {file}`"
        yield wrong(f"{folder or sys.prefix}: {', '.join(apart[:_SHOWN])}{more}. {fix}.")
        return
    yield ok(f"{len(wanted)} packages as in requirements.txt")


def _plain(name: str) -> str:
    """https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def engine(env: Environment) -> Iterator[Finding]:
    """Check the version of the engine on the PATH, and its language host."""
    least = ".".join(map(str, LEAST_ENGINE))
    path = shutil.which("pulumi")
    if path is None:
        yield wrong(f"pulumi: is not on the PATH. Install {least} or newer (https://www.pulumi.com/docs/install).")
        return
    try:
        printed = env.engine("version").strip()
    except EngineError as failed:
        yield wrong(f"pulumi: {path} does not work ({failed}). Install {least} or newer.")
        return
    found = _VERSION.match(printed)
    if found is None:
        problem = (
            f"{path} has no version, as a build from source" if not printed else f"{path} has the version {printed!r}"
        )
        yield not_proven(f"pulumi: {problem}. Check that it is {least} or newer.")
    elif tuple(map(int, found.groups())) < LEAST_ENGINE:
        yield wrong(
            f"pulumi: {path} is {printed}, and {least} or newer is needed. Install a newer one, or correct the PATH."
        )
    else:
        yield ok(f"{printed} ({path})")
    if shutil.which(_LANGUAGE_HOST) is None:
        fix = "Put the folder of the whole installation on the PATH"
        yield wrong(f"{_LANGUAGE_HOST}: is not on the PATH, so the engine cannot run Python. {fix}.", "language host")


def plugins(env: Environment) -> Iterator[Finding]:
    """Check that each plugin that the stack uses is installed, in the version of its SDK."""
    found, missing = [], []
    for name in used_plugins(env):
        version = _sdk_version(env, name)
        if version is None:
            missing.append(f"pulumi-{name} is not installed")
        elif plugin_file(name, version) is None:
            missing.append(f"resource {name} {version}")
        else:
            found.append(f"{name} {version}")
    if not missing:
        yield ok(", ".join(found) or "none is needed")
        return
    commands = " and ".join(f"`pulumi plugin install {each}`" for each in missing if each.startswith("resource"))
    fix = f"Run {commands}" if commands else "Install requirements.txt"
    yield wrong(f"plugins: {_home() / 'plugins'} lacks {', '.join(missing)}. {fix}.")


def used_plugins(env: Environment) -> list[str]:
    settings = env.settings.without_dynamic_zones()
    sites, ssh = bool(settings.sites), any(each.ssh for each in settings.fleets)
    used = {"aws": settings.uses_aws, "cloudflare": sites, "command": ssh}
    return [name for name, is_used in used.items() if is_used]


def _sdk_version(env: Environment, name: str) -> str | None:
    folder = _virtualenv(env)
    paths = [str(each) for each in folder.glob("lib/python*/site-packages")] if folder else sys.path
    return next((each.version for each in metadata.distributions(name=f"pulumi-{name}", path=paths)), None)


def sdk_plugin(env: Environment, name: str) -> Path | None:
    """Return the executable of the plugin that the engine would start."""
    version = _sdk_version(env, name)
    return plugin_file(name, version) if version else None


def plugin_file(name: str, version: str) -> Path | None:
    """Return the executable of a plugin. One on the PATH comes first.

    https://www.pulumi.com/docs/iac/concepts/plugins/ , sdk/go/common/workspace/plugins.go (GetPluginPath) of pulumi/pulumi.
    """
    program = f"pulumi-resource-{name}"
    ambient = shutil.which(program)
    if ambient and not os.environ.get("PULUMI_IGNORE_AMBIENT_PLUGINS"):
        return Path(ambient)
    installed = _home() / "plugins" / f"resource-{name}-v{version}" / program
    return installed if os.access(installed, os.X_OK) else None


def _home() -> Path:
    return Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def backend(env: Environment) -> Iterator[Finding]:
    """Check that the engine reaches its backend, and is signed in."""
    try:
        found = json.loads(env.engine("whoami", "--json", "--non-interactive"))
    except (EngineError, ValueError) as failed:
        fix = "Correct PULUMI_BACKEND_URL or `backend` in Pulumi.yaml, or run `pulumi login`"
        problem = f"backend: cannot be used ({failed}). {fix}."
        yield not_proven(problem) if "did not end" in str(failed) else wrong(problem)
        return
    yield ok(f"{found.get('url')} as {found.get('user')}")


def stack(env: Environment) -> Iterator[Finding]:
    """Read the configuration of the stack: with the engine if that works, otherwise what the stack's file shows."""
    reason = _choose_stack(env)
    chosen = ("--stack", env.stack) if env.stack else ()
    config = of_file(env.file())
    with contextlib.suppress(EngineError, ValueError):
        config = of_engine(env.engine("config", "--json", "--show-secrets", "--non-interactive", *chosen))
    env.use(config)
    yield wrong(reason) if reason else ok(env.stack)


def configuration(env: Environment) -> Iterator[Finding]:
    """Show the errors of the configuration. A wrong value does not prevent the other checks: its default is in its place."""
    yield from (wrong(each) for each in env.faults)
    if not env.faults:
        yield ok(f"{len(env.settings.fleets)} fleets")


def _choose_stack(env: Environment) -> str:
    """Find the selected stack if none is named. Return why there is none."""
    if not env.stack:
        with contextlib.suppress(EngineError):
            env.stack = env.engine("stack", "--show-name", "--non-interactive").strip()
    names = stack_file.stacks(env.root)
    if not env.stack and len(names) == 1:
        env.stack = names[0]
    if not env.stack:
        return f"--stack: no stack is selected. Name one of {', '.join(names) or 'yours'}, or run `pulumi stack select NAME`."
    if env.file() is None:
        return f"--stack: the stack {env.stack} has no file that can be read. Correct the name, or run `pulumi stack init {env.stack}`."
    return ""


def secrets(env: Environment) -> Iterator[Finding]:
    """Check that the secrets of the configuration can be decrypted; without any, that the provider can encrypt.

    Only a file of its own is written, which is deleted.
    """
    chosen = ("--stack", env.stack) if env.stack else ()
    try:
        config = of_engine(env.engine("config", "--json", "--show-secrets", "--non-interactive", *chosen))
        if config.secrets:
            yield ok(f"decrypted {len(config.secrets)} secrets of the configuration")
            return
        with tempfile.TemporaryDirectory(prefix="rollcall-doctor-") as folder:
            copy = Path(folder) / "Pulumi.trial.yaml"
            original = stack_file.stack_file(env.root, env.short_name)
            copy.write_text(original.read_text() if original.is_file() else "")
            env.engine(
                "config", "set", "--secret", _TRIAL, "x", "--config-file", str(copy), "--non-interactive", *chosen
            )
    except EngineError as failed:
        yield _secrets_fault(str(failed))
        return
    yield ok("encrypts")


def _secrets_fault(reason: str) -> Finding:
    if "did not end" in reason:
        return not_proven(f"secrets provider: {reason}. Check the network, and run it again.")
    if "passphrase" in reason:
        fix = "Set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE to the passphrase of this stack"
        return wrong(f"PULUMI_CONFIG_PASSPHRASE: does not open the secrets of the stack ({reason}). {fix}.")
    if "no stack named" in reason or "not found" in reason:
        return wrong(f"--stack: {reason}. Correct the name, or PULUMI_BACKEND_URL.")
    fix = "Get the right to use its key, or correct `secretsprovider` in the stack's file"
    return wrong(f"secrets provider: does not work ({reason}). {fix}.")
