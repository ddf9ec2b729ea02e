"""Wait until a workload is healthy: `wait_healthy.py http:8080:/healthz SECONDS`. The exit code is 1 if it is not healthy in time.

It runs in the workload's sandbox, which cannot see the agent's package. So it uses only the standard library.
"""

from __future__ import annotations

import http.client
import socket
import sys
import time

TIMEOUT_S = 3.0


def why_unhealthy(check: str) -> str:
    """Return why a check failed; empty if it succeeded."""
    kind, port, path = (*check.split(":", 2), "")[:3]
    try:
        if kind == "tcp":
            socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT_S).close()
            return ""
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException) as failed:
        return f"error={type(failed).__name__}"
    return "" if 200 <= status < 400 else f"status={status}"


def main(check: str, seconds: float) -> int:
    until = time.monotonic() + seconds
    while problem := why_unhealthy(check):
        if time.monotonic() > until:
            print(f"reason=workload-unhealthy seconds={seconds:.0f} check={check} {problem}", file=sys.stderr)
            return 1
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
