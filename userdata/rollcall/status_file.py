"""The agent's status on the disk. The command of a shutdown reads it before it imports what the agent needs."""

from __future__ import annotations

import json
from pathlib import Path

# The steps of an agent that has left DNS.
OUT = ("left", "on hold")
STATUS_FILE = Path("/run/rollcall/status.json")


def has_left(status_file: Path) -> bool:
    """Return whether the agent's last status says that this machine and its hosts are out of DNS."""
    try:
        status = json.loads(status_file.read_text())
        return bool(status["step"] in OUT and not any("hosts" in each for each in status.get("memberships", ())))
    except (OSError, ValueError, KeyError, TypeError):
        return False
