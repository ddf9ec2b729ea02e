"""`python -m localcloud.machines.image [RELEASE]`: build the image of a release if it is not there, and print where it is."""

from __future__ import annotations

import argparse
import sys

from localcloud.machines.image import SUITES, USUAL, ImageError
from localcloud.machines.image.build import ensure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", nargs="?", choices=list(SUITES), default=USUAL)
    release = parser.parse_args().release
    try:
        image = ensure(lambda line: print(line, file=sys.stderr, flush=True), release)
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(image.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
