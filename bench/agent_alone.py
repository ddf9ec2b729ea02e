"""Run `rollcall run` for a bench: `agent_alone.py SETTINGS DNS_PORT`.

It runs as on a machine, but with settings from the file SETTINGS, with the local name server instead of the zone's, and with
neighbours that answer each probe.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from rollcall.agent import Agent, run
from rollcall.clouds import File

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.disable(logging.INFO)
    os.environ["ROLLCALL_DNS"] = f"127.0.0.1:{sys.argv[2]}"
    settings = Path(sys.argv[1])
    made = Agent(File(settings), status_file=settings.with_name("status.json"), reach=lambda *_: True)
    sys.exit(run(made))
