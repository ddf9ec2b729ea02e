"""The client of the shed's compute API. `SHED_URL` in the environment says where it is."""

from __future__ import annotations

import os
from typing import Any

import requests


def ask(method: str, path: str, **sent: Any) -> Any:
    """The reply's JSON; None where there is no such machine. Raises requests.RequestException."""
    reply = requests.request(method, os.environ["SHED_URL"] + path, timeout=20, **sent)
    if reply.status_code == 404:
        return None
    reply.raise_for_status()
    return reply.json()
