"""`rollcall promote`: let a canary go on, or let a release be rolled out again after a rollback.

    rollcall promote FLEET DIGEST [--stack prod]        (the same as python -m components.commands.promote; default: the selected stack)

DIGEST are at least the first 7 digits. The command changes no machine: the next `pulumi up` rolls the release out. Another release has
to be promoted by its own digest.

Exit code 0: promoted; 2: it cannot be (why, on stderr).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from components.commands import roll_outs


def act(fleet: roll_outs.DeployedFleet, chosen: argparse.Namespace) -> int:
    seen = fleet.seen()
    before = roll_outs.record_of(fleet, seen)
    record, line = roll_outs.promoted(fleet.name, before, chosen.digest)
    if record != before:
        fleet.write(seen, record)
    print(line)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rollcall promote", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("fleet", help="the name of a fleet with `release: in-place`")
    parser.add_argument("digest", help="the first digits of the release, as `pulumi up` shows them")
    return roll_outs.run("promote", parser, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
