"""`rollcall rollback`: go back to a release that the machines still have on their disks.

    rollcall rollback FLEET [DIGEST] [--stack prod]     (the same as python -m components.commands.rollback; default: the selected stack)

Without DIGEST (at least its first 7 digits) the fleet goes back to the release before. The machines change batch by batch, and need no
store. After that, `pulumi up` with the same program does not roll the left release out again until `rollcall promote`.

Exit code 0: all machines are back; 1: some are not; 2: the command cannot do it (why, on stderr).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from components.commands import roll_outs


def act(fleet: roll_outs.DeployedFleet, chosen: argparse.Namespace) -> int:
    seen = fleet.seen()
    record = roll_outs.record_of(fleet, seen)
    return roll_outs.went_back(fleet, roll_outs.rolled_back(fleet.name, record, seen, chosen.digest))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall rollback", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("fleet", help="the name of a fleet with `release: in-place`")
    parser.add_argument("digest", nargs="?", default="", help="default: the release before")
    return roll_outs.run("rollback", parser, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
