"""`python3 -m localcloud.engine`: build the engine if there is none, and print its folder."""

import sys

from localcloud.engine import EngineError, ensure

try:
    print(ensure(lambda line: print(f"==> {line}", file=sys.stderr, flush=True)))
except (EngineError, OSError) as fault:
    print(f"engine: {fault}", file=sys.stderr)
    sys.exit(1)
