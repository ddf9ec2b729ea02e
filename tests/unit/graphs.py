"""The resource graphs of tests.unit.resource_graph, each built once in a test run; in their own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from tests.once import made_once, run_folder
from tests.unit.resource_graph import CONFIGS

ROOT = Path(__file__).resolve().parents[2]
Graphs = dict[str, dict[str, Any]]


def built(configs: Collection[str], seed: str) -> str:
    """What resource_graph.py prints, from a new process with this hash seed."""
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}",
        "PYTHONHASHSEED": seed,
        "PYTHONWARNINGS": "ignore",
    }
    program = [sys.executable, str(ROOT / "tests/unit/resource_graph.py"), *configs]
    done = subprocess.run(program, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def graphs_of(config: pytest.Config, factory: pytest.TempPathFactory) -> Graphs:
    """Return the `graph` and the `calls` of every configuration."""
    text = made_once(run_folder(config, factory), "resource-graphs.json", lambda: built(CONFIGS, "0"))
    found: Graphs = json.loads(text)
    return found
