"""What unit tests share."""

from __future__ import annotations

import pytest

from tests.unit.graphs import Graphs, graphs_of


@pytest.fixture(scope="session")
def graphs(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """The resource graph and the calls of every configuration of resource_graph.py."""
    return graphs_of(pytestconfig, tmp_path_factory)
