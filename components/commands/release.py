"""`rollcall release export`: the files of a mirror, for a web server that the operator fills.

    rollcall release export FOLDER [--stack prod]    (the same as python -m components.commands.release; default: every stack with a file)

It packs the releases that machines may fetch, the same bytes as `pulumi up` does, and writes each as
`FOLDER/releases/DIGEST.tar.bz2`. Files of former releases stay there. It needs neither the engine nor a network, and
decrypts no secret. Upload the folder before `pulumi up`.

Exit code 0: written; 1: the configuration has errors; 2: a file cannot be read or written (why, on stderr).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.commands.check import checked, chosen_stacks
from components.config.models import Settings
from components.config.stack_file import StackFileError
from components.resources import release_files, userdata
from components.workloads.definitions import packed, releases_of
from components.workloads.packing import PackingError
from components.workloads.release import Release
from rollcall.escaping import escaped_lines


def exported(settings: Settings, root: Path) -> tuple[dict[str, Release], list[str]]:
    """Return the releases of a stack by what they are, and the reasons why one cannot be packed.

    Workloads of Triton fleets are among them, whether they fit a user-script or not.
    """
    settings, faults = packed(settings, root)
    found = {"the agent": userdata.release()} if settings.fleets_of("aws") else {}
    for name in sorted({name for fleet in settings.fleets for name in fleet.digests}):
        found[name] = releases_of(settings, [name], root)[0]
    return found, faults


def shown(found: Mapping[str, Release], folder: Path) -> str:
    """Return a line for each file that was written."""
    paths = {name: folder / release_files.key_of(each.digest) for name, each in found.items()}
    return "\n".join(f"  {path}  {path.stat().st_size} bytes  {name}" for name, path in paths.items())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall release", description=(__doc__ or "").partition("\n")[0])
    export = parser.add_subparsers(dest="command", required=True).add_parser(
        "export", help="write the files of a mirror"
    )
    export.add_argument("folder", type=Path, help="where to write them")
    export.add_argument("--stack", default="", help="every stack that has a file unless named")
    chosen = parser.parse_args(arguments)

    root = Path.cwd()
    names = chosen_stacks(root, chosen.stack, "rollcall release")
    if not names:
        return 2
    code = 0
    for name in names:
        try:
            settings, faults = checked(root, name)
            found, unpacked = exported(settings, root)
            if not (faults := [*faults, *unpacked]):
                release_files.write(chosen.folder, found.values())
        except (StackFileError, PackingError, OSError) as wrong:
            print(escaped_lines(f"rollcall release: {wrong}."), file=sys.stderr)
            return 2
        if faults:
            code = 1
            lines = "\n".join(f"  - {each}" for each in faults)
            print(escaped_lines(f"{name}: nothing was written.\n{lines}"), file=sys.stderr)
        else:
            print(f"{name}:\n{shown(found, chosen.folder)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
