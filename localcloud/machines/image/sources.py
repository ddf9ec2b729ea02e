"""The package sources of this machine, as far as they can build the image: its own configuration, no mirror of ours."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from localcloud.machines.image import SUITES, USUAL, ImageError


def debian_sources(suite: str = SUITES[USUAL], apt: Path = Path("/etc/apt")) -> str:
    """This machine's sources for `suite`, in the one-line format (sources.list(5)); ImageError if it has none.

    Where it has none, but some for another suite, these with the other name: a mirror of Debian has all releases that live.
    """
    for each in (suite, *SUITES.values()):
        lines = [re.sub(rf"(?<=\s){each}(?=[-/\s])", suite, line) for line in _lines(each, apt)]
        if lines:
            return "\n".join(dict.fromkeys(lines)) + "\n"
    raise ImageError(
        f"{apt}: names no source of Debian {suite}, from which the image of the machines is built. "
        f"Add a `deb` line for {suite} and run `apt-get update`, or build on a Debian machine."
    )


def _lines(suite: str, apt: Path) -> list[str]:
    lines: list[str] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            lines += _one_line_entries(path.read_text(), suite)
        elif path.suffix == ".sources" and path.is_file():
            lines += _stanzas(path.read_text(), suite)
    return lines


def apt_options(dump: str | None = None) -> list[str]:
    """This machine's settings of how to fetch (proxies, checks of dates), as lines of an apt configuration."""
    if dump is None:
        dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    wanted = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Force", "Acquire::Pr")
    return [line for line in dump.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def _ours(suites: Iterable[str], suite: str) -> list[str]:
    """`bookworm` and what belongs to it (-updates, -security); backports are another distribution."""
    return [word for word in suites if word in (suite, f"{suite}-updates", f"{suite}-security")]


def _one_line_entries(text: str, suite: str) -> list[str]:
    entries = []
    for line in text.splitlines():
        stripped = line.split("#", 1)[0].strip()
        if not stripped.startswith(("deb ", "deb\t")):
            continue
        rest = stripped.split("]", 1)[1] if "[" in stripped else stripped[4:]
        words = rest.split()
        if len(words) >= 2 and _ours([words[1].rstrip("/")], suite):
            entries.append(stripped)
    return entries


def _stanzas(text: str, suite: str) -> list[str]:
    entries = []
    for block in text.split("\n\n"):
        fields = _fields(block)
        suites = _ours(fields.get("suites", "").split(), suite)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        options = _options(fields)
        for uri in fields.get("uris", "").split():
            for one in suites:
                entries.append(" ".join(["deb", *options, uri, one, *fields.get("components", "main").split()]))
    return entries


def _options(fields: dict[str, str]) -> list[str]:
    options = [f"trusted={fields['trusted']}"] if "trusted" in fields else []
    key = fields.get("signed-by", "")
    # A key written into the stanza itself has no counterpart in the one-line format: apt's own trusted keys serve then.
    if key.startswith("/"):
        options.append(f"signed-by={key}")
    return [f"[{' '.join(options)}]"] if options else []


def _fields(block: str) -> dict[str, str]:
    """A deb822 stanza: names in lower case, comments left out, continuation lines joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0].isspace():
            fields[name] = f"{fields.get(name, '')} {line.strip()}".strip()
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        fields[name] = value.strip()
    return fields
