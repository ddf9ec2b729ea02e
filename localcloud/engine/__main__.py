"""`python3 -m localcloud.engine`: prints the folder of the engine, which it builds when there is none."""

import sys

from localcloud.engine import EngineError, ensure

try:
    print(ensure(lambda line: print(f"==> {line}", file=sys.stderr, flush=True)))
except (EngineError, OSError) as fault:
    print(f"engine: {fault}", file=sys.stderr)
    sys.exit(1)
