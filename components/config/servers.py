"""The address of a name server as the configuration has it, and as machines are told it. The hosts of dynamic resources import this, so
it does without pydantic."""

from __future__ import annotations


def at_port(server: str) -> str:
    """Return a server as machines are told it, `ADDRESS@PORT`: a tag of EC2 takes no brackets."""
    if server.startswith("["):
        host, _, port = server[1:].partition("]:")
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    else:
        host, port = server, "53"
    return f"{host}@{port}"
