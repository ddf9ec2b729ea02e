"""`python -m localcloud.plugins.serve NAME [ENGINE]`: one stand-in, as the engine starts it with its own address."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from importlib import import_module
from importlib.metadata import version

from localcloud.plugins import STAND_INS
from localcloud.plugins.server import serve

# boto3's models and grpc are objects that stay: looked through again and again, they take a tenth of a start.
gc.set_threshold(50_000, 20, 20)


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in STAND_INS:
        print(f"usage: serve {'|'.join(STAND_INS)}", file=sys.stderr)
        return 2
    engine = next((each for each in sys.argv[2:] if not each.startswith("-")), "")
    # An engine that is interrupted, or that has failed, interrupts its plugins.
    with contextlib.suppress(KeyboardInterrupt):
        serve(import_module(f"localcloud.plugins.{name}").PLUGIN, version(f"pulumi-{name}"), engine)
    # The engine waits for its plugins one after the other, and Python takes a while to tear boto3's models down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
