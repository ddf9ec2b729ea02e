"""`python -m localcloud.image`: build the image if it is not there, and print where it is."""

from __future__ import annotations

import sys

from localcloud.image import ImageError
from localcloud.image.build import ensure


def main() -> int:
    try:
        image = ensure(lambda line: print(line, file=sys.stderr, flush=True))
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(image.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
