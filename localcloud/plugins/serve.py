"""`python -m localcloud.plugins.serve NAME [ENGINE]`: one stand-in, as the engine starts it with its own address."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from localcloud.plugins import STAND_INS
from localcloud.plugins.server import serve

# boto3's models and grpc are permanent objects. Without this the garbage collector scans them repeatedly, which takes a tenth of a start.
gc.set_threshold(50_000, 20, 20)


def run(name: str, arguments: Sequence[str]) -> int:
    """Serve until the engine ends us. Return the exit code."""
    if name not in STAND_INS:
        print(f"usage: serve {'|'.join(STAND_INS)}", file=sys.stderr)
        return 2
    engine = next((each for each in arguments if not each.startswith("-")), "")
    # An engine interrupts its plugins when it is interrupted or has failed.
    with contextlib.suppress(KeyboardInterrupt):
        serve(import_module(f"localcloud.plugins.{name}").PLUGIN, version(f"pulumi-{name}"), engine)
    return 0


def main() -> None:
    code = run(sys.argv[1] if len(sys.argv) > 1 else "", sys.argv[2:])
    # The engine waits for its plugins one after the other, and Python takes a while to tear boto3's models down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
