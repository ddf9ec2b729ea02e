"""`rollcall abort`: undo a canary, or a roll-out that is under way.

    rollcall abort FLEET [--stack prod]        (the same as python -m components.commands.abort; default: the selected stack)

The machines go back to the former release, batch by batch. After that, `pulumi up` does not roll the release out again until
`rollcall promote`. A `pulumi up` that rolls it out at the same time goes back too.

Exit code 0: all machines are back; 1: some are not; 2: the command cannot do it (why, on stderr).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from components.commands import roll_outs


def act(fleet: roll_outs.DeployedFleet, _: argparse.Namespace) -> int:
    record = roll_outs.record_of(fleet, fleet.seen())
    return roll_outs.went_back(fleet, roll_outs.aborted(fleet.name, record))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall abort", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("fleet", help="the name of a fleet with `release: in-place`")
    return roll_outs.run("abort", parser, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
