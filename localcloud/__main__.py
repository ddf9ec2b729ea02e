"""`python -m localcloud`."""

import sys

from localcloud.runtime.cli import main

sys.exit(main())
