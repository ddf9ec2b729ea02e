"""What the checks share: the stack, its configuration and settings, and how to run the engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pulumi

from components.commands.check import checked
from components.commands.doctor.points import Processes
from components.commands.status import Configuration, program
from components.config import stack_file
from components.config.errors import ConfigurationError
from components.config.models import Settings, stack_id
from components.config.stack_file import StackFile, StackFileError
from components.preflight import zone_names
from rollcall.console import program_of

# One command of the engine.
ENGINE_LIMIT_S = 5.0


class EngineError(Exception):
    """A command of the engine failed; the message is the last line that it printed, or why it did not run."""


@dataclass
class Environment:
    """The environment of an operator. `root` is the folder of Pulumi.yaml; an empty `stack` is the selected one.

    The checks fill in what they find: `config` is the stack's configuration with its secrets, once they are decrypted. Before that it has
    what the stack's file says.
    """

    root: Path
    stack: str
    processes: Processes = field(default_factory=Processes)
    config: Configuration = field(default_factory=lambda: Configuration({}))
    settings: Settings = field(default_factory=Settings)
    faults: tuple[str, ...] = ()

    @cached_property
    def program(self) -> Path:
        """The folder of Rollcall's program."""
        return program_of(self.root)

    @property
    def get(self) -> Callable[[str], str | None]:
        """Give a key of the configuration, as `pulumi.runtime.get_config` does in the program."""
        return lambda key: dict.get(self.config, key)

    def engine(self, *words: str, limit_s: float | None = None) -> str:
        """Return what `pulumi WORDS` prints. Raises EngineError."""
        limit_s = limit_s or ENGINE_LIMIT_S
        try:
            process = self.processes.start(["pulumi", *words], cwd=self.root)
        except OSError as missing:
            raise EngineError(missing.strerror or str(missing)) from missing
        try:
            printed, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired as late:
            process.kill()
            process.communicate()
            raise EngineError(f"did not end within {limit_s:g} s") from late
        if process.returncode:
            lines = errors.strip().splitlines() or [f"exit code {process.returncode}"]
            raise EngineError(lines[-1].removeprefix("error: "))
        return printed

    def file(self) -> StackFile | None:
        """Return the stack's file; None where there is none that can be read."""
        try:
            return stack_file.read(self.root, self.short_name) if self.stack else None
        except StackFileError:
            return None

    @property
    def short_name(self) -> str:
        """The stack's name without its organization and project."""
        return self.stack.rpartition("/")[2]

    def prepare(self) -> None:
        """Let the checks before `up` read the configuration as they do in the program."""
        pulumi.runtime.set_all_config({**self.config}, sorted(self.config.secrets))

    def use(self, config: Configuration) -> None:
        """Take this configuration, and the settings in it.

        With `faults`, the settings have defaults in place of the wrong values.
        """
        self.config = config
        self.prepare()
        file = self.file()
        named = stack_id(file.project if file else "", self.short_name)
        try:
            self.settings = program(named, {**config}, zone_names.ids_from_apis(self.get))
        except ConfigurationError as wrong:
            self.settings = checked(self.root, self.short_name)[0] if file else Settings()
            self.faults = tuple(wrong.faults)


def of_file(file: StackFile | None) -> Configuration:
    """Return the configuration that a stack's file shows without the engine. Encrypted values are not in it."""
    if file is None:
        return Configuration({})
    sealed = [str(path[0]) for path in file.secrets]
    return Configuration(file.texts, sealed, "the engine was not asked", sealed)


def of_engine(printed: str) -> Configuration:
    """Return the configuration in the output of `pulumi config --json --show-secrets`."""
    found: Mapping[str, Mapping[str, object]] = json.loads(printed or "{}")
    values = {key: str(each["value"]) for key, each in found.items() if "value" in each}
    return Configuration(
        values, found.keys() - values.keys(), "", [key for key, each in found.items() if each.get("secret")]
    )
