"""Calls theService as the article's client does: find a live machine by DNS, connect to it, ask it something.

    python docs/examples/the_service_client.py --incarnation v1 --calls 6 [--resolver 127.0.0.1:5353] [unilans.net]

Prints for each call which machine answered, and at the end how often each did.
"""

from __future__ import annotations

import argparse
import collections
import sys

from rollcall import discover
from rollcall.errors import RollcallError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("domain", nargs="?", default="unilans.net")
    parser.add_argument("--service", default="theService")
    parser.add_argument("--incarnation", default="v1")
    parser.add_argument("--resolver", action="append", default=[], help="HOST or HOST:PORT; the system's unless told")
    parser.add_argument("--calls", type=int, default=1)
    chosen = parser.parse_args()
    answered: collections.Counter[str] = collections.Counter()
    for number in range(chosen.calls):
        try:
            # Each call asks again; within the TTL the answer comes from the client's own cache.
            found = discover(
                chosen.service, chosen.domain, incarnation=chosen.incarnation, resolvers=tuple(chosen.resolver)
            )
            with found.connect(timeout=3) as connection, connection.makefile("rw") as stream:
                stream.write(f"call {number}\n")
                stream.flush()
                line = stream.readline().strip()
        except (RollcallError, OSError) as fault:
            print(f"call {number}: {fault}", file=sys.stderr)
            return 1
        print(line)
        answered[line.partition(" ")[0]] += 1
    for instance, count in sorted(answered.items()):
        print(f"{count:>4} × {instance}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
