"""Run `rollcall run` for a bench: `agent_alone.py SETTINGS DNS_PORT`.

It runs as on a machine, but with settings from the file SETTINGS, with the local name server instead of the zone's, and with
neighbours that answer each probe. When it is ended, it leaves as on a machine that shuts down; no cache is between, so it waits for none.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from rollcall import agent
from rollcall.agent import Agent, run
from rollcall.clouds import File

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    logging.disable(logging.INFO)
    os.environ["ROLLCALL_DNS"] = f"127.0.0.1:{sys.argv[2]}"
    agent.system_is_stopping = lambda: True
    agent.finish_leaving = lambda left, *, at_shutdown: left.remove_hosts()
    settings = Path(sys.argv[1])
    made = Agent(File(settings), status_file=settings.with_name("status.json"), reach=lambda *_: True)
    sys.exit(run(made))
