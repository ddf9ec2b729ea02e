"""`python3 -m rollcall`."""

import sys

from rollcall.cli import main

if __name__ == "__main__":
    sys.exit(main())
