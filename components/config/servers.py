"""Convert the address of a name server from the configuration to machine settings.

The hosts of dynamic resources import this module, so it does not import pydantic.
"""

from __future__ import annotations


def at_port(server: str) -> str:
    """Return a server as machine settings have it, `ADDRESS@PORT`: a tag of EC2 takes no brackets."""
    if server.startswith("["):
        host, _, port = server[1:].partition("]:")
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    else:
        host, port = server, "53"
    return f"{host}@{port}"
