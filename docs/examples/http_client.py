#!/usr/bin/env python3
"""Get the first page of an HTTP service that is known by its name only: from each live machine once, or from one.

    python3 docs/examples/http_client.py shop services.example.com --resolver 127.0.0.1:41553

It needs the package (`pip install .` in the checkout) and any resolver; no AWS, no credentials.
"""

from __future__ import annotations

import argparse
import http.client
import sys

from rollcall.errors import RollcallError
from rollcall.resolve import Client


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask an HTTP service that is known by its name only.")
    parser.add_argument("service", help="as shop")
    parser.add_argument("domain", help="the zone of the service, as services.example.com")
    parser.add_argument("--incarnation", default="", help="as v1; needed if there are several")
    parser.add_argument("--resolver", action="append", default=[], help="HOST:PORT; default: those of the system")
    parser.add_argument("--each", action="store_true", help="ask every live machine once")
    chosen = parser.parse_args()
    try:
        client = Client(chosen.resolver)
        service = client.discover(chosen.service, chosen.domain, chosen.incarnation)
        if not chosen.each:
            # Choose a machine by priority and weight, and try another one if it accepts no connection.
            with service.connect(timeout=5) as connection:
                print(answer(connection.getpeername()[0], connection.getpeername()[1]))
            return 0
        for target in service.order():
            print(answer(client.addresses(target.host)[0], target.port))
    except (RollcallError, OSError, http.client.HTTPException) as fault:
        print(f"{chosen.service}: {fault}", file=sys.stderr)
        return 1
    return 0


def answer(address: str, port: int) -> str:
    """Return what `GET /` of an address answers."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
