"""Which tests share a deployed stack, and so run one after the other on one worker."""

from __future__ import annotations

# In the order in which a group's files use its stack; the last one destroys it (tests/integration/shared_stacks.py).
SHARED = {
    "tests/integration/test_api_down.py": "two clouds",
    "tests/integration/test_crashes.py": "two clouds",
    "tests/integration/test_promises.py": "two clouds",
    # The same stack again, each on a worker of its own: these wait for ten minutes, and one after the other would be the last to end.
    "tests/integration/test_alive.py": "two clouds, alive",
    "tests/integration/test_agents.py": "two clouds, agents",
    "tests/integration/test_proxied.py": "closed site",
    "tests/integration/test_closed_origins.py": "closed site",
    "tests/integration/test_secrets.py": "closed site",
}

# Files without machines and engine that take minutes all the same.
LONG = ("tests/cloud/test_in_step_property.py",)


def group_of(node: str) -> str:
    """Return the group that a test belongs to, by its id: its shared stack, else its file."""
    file = node.partition("::")[0]
    return SHARED.get(file, file)
