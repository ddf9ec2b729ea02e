#!/usr/bin/env python3
"""Calls theService as a client does that knows nothing but its name: browse, choose an incarnation and a machine, call it.

    python3 docs/examples/the_service_client.py --domain unilans.net --incarnation v1 --resolver 127.0.0.1:41553

It needs the package (`pip install .` in the checkout) and any resolver; no AWS, no credentials.
"""

from __future__ import annotations

import argparse
import socket
import sys

from rollcall.errors import RollcallError
from rollcall.resolve import Client


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Calls a service that speaks as theService does, and says which instance answered."
    )
    parser.add_argument("--service", default="theService")
    parser.add_argument("--domain", default="unilans.net")
    parser.add_argument("--incarnation", default="", help="as v1; needed where there are several")
    parser.add_argument("--resolver", action="append", default=[], help="HOST:PORT; the system's unless told")
    parser.add_argument("--calls", type=int, default=1, help="how often; each call chooses anew")
    parser.add_argument("--each", action="store_true", help="call every live machine once, in the order chosen")
    chosen = parser.parse_args()
    try:
        client = Client(chosen.resolver)
        print("incarnations:", *client.browse(chosen.service, chosen.domain))
        for _ in range(chosen.calls):
            # Asked for again at each call: the client keeps answers for their TTL, so it costs a query seldom, and machines
            # that came or went are seen as soon as DNS allows.
            service = client.discover(chosen.service, chosen.domain, chosen.incarnation)
            if not chosen.each:
                with service.connect(timeout=5) as connection:
                    print("answered:", call(connection, "hello"))
                continue
            for target in service.order():
                for address in client.addresses(target.host)[:1]:
                    with socket.create_connection((address, target.port), timeout=5) as connection:
                        print(f"{target.host}:{target.port} answered:", call(connection, "hello"))
    except (RollcallError, OSError) as fault:
        print(f"{chosen.service}: {fault}", file=sys.stderr)
        return 1
    return 0


def call(connection: socket.socket, line: str) -> str:
    """theService's own protocol: a line there, a line back that starts with the instance's name."""
    connection.sendall(f"{line}\n".encode())
    with connection.makefile(encoding="utf-8", newline="\n") as answers:
        return answers.readline().rstrip("\n")


if __name__ == "__main__":
    sys.exit(main())
