"""Rollcall's program: settings -> Deployment -> exports."""

from __future__ import annotations

import asyncio

import pulumi

from components.dns.rfc2136 import machine_tsig_key
from components.preflight.checks import checked
from components.preflight.cloudflare_tokens import machine_token
from components.preflight.stack_config import config
from components.resources.deployment import Deployment
from components.resources.tags import deployment, tag_everything

settings, existing = checked(deployment())
tag_everything()
for name, value in Deployment(settings, existing, machine_token(), machine_tsig_key(config)).outputs.items():
    pulumi.export(name, value)


async def begun() -> None:
    """Let every registration begin before the SDK waits: those under way it awaits one by one. Else it waits for any of all
    outputs again whenever one of them is there, which takes a time that grows with their square (pulumi/runtime/stack.py,
    wait_for_rpcs)."""
    await asyncio.sleep(0)


pulumi.run(begun)
