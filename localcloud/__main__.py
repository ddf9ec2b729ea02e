"""`python -m localcloud`."""

import os
import sys

from localcloud.runtime.cli import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Python takes a third of a second to tear down what a daemon has imported, and a caller of `stop` waits for that.
os._exit(code)
