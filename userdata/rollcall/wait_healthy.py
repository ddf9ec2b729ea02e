"""Wait until a workload is healthy: `wait_healthy.py workload.json`. The exit code is 1 if a check is not good within its grace.

It runs in the workload's sandbox, which cannot see the agent's package. So it uses only the standard library.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMEOUT_S = 3.0


def checks_of(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of a workload's definition. One that is only an address has a short form there."""
    if "check" in definition:
        return [{key: definition[key] for key in ("check", "grace") if key in definition}]
    return list(definition.get("checks", ()))


def why_unhealthy(check: str, timeout: float = TIMEOUT_S) -> str:
    """Return why a check failed; empty if it succeeded."""
    kind, _, rest = check.partition(":")
    port, _, path = rest.partition(":")
    try:
        if kind == "command":
            done = subprocess.run(rest.split(), stdin=subprocess.DEVNULL, timeout=timeout, check=False)
            return f"status={done.returncode}" if done.returncode else ""
        if kind == "tcp":
            socket.create_connection(("127.0.0.1", int(port)), timeout=timeout).close()
            return ""
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=timeout)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as failed:
        return f"error={type(failed).__name__}"
    return "" if 200 <= status < 400 else f"status={status}"


def main(definition: Mapping[str, Any]) -> int:
    began = time.monotonic()
    for each in checks_of(definition):
        while "grace" in each and (why := why_unhealthy(each["check"], each.get("timeout", TIMEOUT_S))):
            if time.monotonic() > began + each["grace"]:
                print(
                    f"reason=workload-unhealthy seconds={each['grace']} check={each['check']!r} {why}", file=sys.stderr
                )
                return 1
            time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
