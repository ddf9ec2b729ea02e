"""`rollcall check`: every error that a stack's configuration shows by itself.

    rollcall check [--stack prod] [--json]        (the same as python -m components.commands.check; default: every stack with a file)

Needs neither the engine nor a network, and decrypts no secret: it reads Pulumi.yaml and `Pulumi.<stack>.yaml` of this
folder. What only a cloud knows (zones, images, quotas, …) `pulumi preview` checks as well.

Exit code 0: no error; 1: errors; 2: a file cannot be read (why, on stderr).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.aws import account_settings
from components.config import mirror_checks, namespaces, stack_file, workload_secrets
from components.config.checks import NO_FLEET
from components.config.errors import ConfigurationError, at
from components.config.models import KEYS, SECRET_KEYS, Settings, stack_id
from components.config.reader import decoded, read_whole
from components.config.stack_file import StackFile, StackFileError
from components.dns.cloudflare_access import CLOUDFLARE_SECRETS
from rollcall.escaping import escaped_lines


def errors(root: Path, stack: str) -> list[str]:
    """Return every error of a stack's configuration, in the words of `pulumi preview`. Raises StackFileError."""
    return checked(root, stack)[1]


def checked(root: Path, stack: str) -> tuple[Settings, list[str]]:
    """Return the settings of a stack, with defaults instead of faulty values, and every error. Raises StackFileError."""
    file = stack_file.read(root, stack)
    keys = sorted({*file.texts, *(str(path[0]) for path in file.secrets)})
    settings, found = _settings(file, keys, stack)
    found = [*stack_file.faults(root, stack), *namespaces.misspelt(keys), *found]
    if not file.is_partial and "aws:region" not in keys and settings.uses_aws:
        found.append(namespaces.region_missing(keys))
    return settings, list(dict.fromkeys([*found, *_of_providers(file)]))


def chosen_stacks(root: Path, named: str, command: str) -> list[str]:
    """Return the named stack, or every stack that has a file. If none has one, say so on stderr."""
    names = [named.rpartition("/")[2]] if named else stack_file.stacks(root)
    if not names:
        print(f"{command}: no stack has a file here. `pulumi stack init NAME` makes one.", file=sys.stderr)
    return names


def _settings(file: StackFile, keys: Sequence[str], stack: str) -> tuple[Settings, list[str]]:
    ours = {key: text for key in KEYS if (text := file.texts.get(f"rollcall:{key}")) is not None}
    others = {key: "" for key in namespaces.ours(keys) if key not in (*KEYS, *SECRET_KEYS)}
    hidden = [key for key in KEYS if file.is_secret(f"rollcall:{key}")]
    settings, found = read_whole(stack_id(file.project, stack), {**decoded(ours), **others}, hidden)
    if file.is_partial or any(path == ("rollcall:fleets",) for path in file.secrets):
        found = [each for each in found if not each.startswith(NO_FLEET)]
    # Encrypted values are not known.
    sealed = [at(str(key), *rest) for key, *rest in file.secrets]
    found = [each for each in found if not each.startswith(tuple(f"{key}:" for key in sealed))]
    exposed = workload_secrets.faults(settings, file, is_secret="workloads" in hidden)
    exposed += mirror_checks.faults(settings, file, is_secret="mirrors" in hidden)
    return settings, [*found, *exposed]


def _of_providers(file: StackFile) -> list[str]:
    """Return the errors of the AWS provider's keys, and the secrets that are in plain text."""
    plain = {key: text for key, text in file.texts.items() if not file.is_secret(key)}
    known: Mapping[str, str] = {**file.texts, **{str(path[0]): "…" for path in file.secrets if len(path) == 1}}
    keys = (*account_settings.secrets(known.get), *CLOUDFLARE_SECRETS, *(f"rollcall:{each}" for each in SECRET_KEYS))
    found = namespaces.in_plain_text(keys, lambda key: bool(plain.get(key)))
    structured = {key: text for key, text in known.items() if not file.is_secret(key) or text == "…"}
    try:
        account_settings.read(structured.get)
    except ConfigurationError as wrong:
        found += wrong.faults
    return found


def shown(found: Mapping[str, Sequence[str]]) -> str:
    """Return the errors of each stack for people."""
    lines = []
    for stack, faults in found.items():
        count = "no error" if not faults else "1 error" if len(faults) == 1 else f"{len(faults)} errors"
        lines += [f"{stack}: {count}", *(f"  - {each}" for each in faults)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--stack", default="", help="every stack that has a file unless named")
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)

    root = Path.cwd()
    names = chosen_stacks(root, chosen.stack, "rollcall check")
    if not names:
        return 2
    try:
        found = {name: errors(root, name) for name in names}
    except StackFileError as unreadable:
        print(escaped_lines(f"rollcall check: {unreadable}."), file=sys.stderr)
        return 2
    print(json.dumps(found) if chosen.json else escaped_lines(shown(found)))
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
