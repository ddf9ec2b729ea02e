"""RollCall and Deregistration: the two dynamic resources that keep the stack's state and DNS in step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import (
    Resource,
)

from components.registration.providers import FINDINGS, DeregistrationProvider, RollCallProvider


@dataclass(frozen=True, kw_only=True)
class RollCallArgs:
    """The inputs of a RollCall.

    - `members`: mappings `{machine, generation, instance}`. `places`: what `Place.as_inputs` gives. `cloud`: what
      `Location.as_inputs` gives.
    - `timeout`: fail after this many seconds without progress. `drain_delay`: seconds that a machine serves after its
      records are gone.
    - `uncounted`: machines of the state that no roll call has counted, because the `up` that created them failed
      before: `{stack, fleet,
      machine, generation}`. Those that are not members leave as members do.
    - `peers`: the fleets at the same location of the same cloud. `elsewhere`: the other locations of the cloud that
      have fleets.
    - `safe_deletes`: refuse to remove many records or machines at once (the safety limit).
    - `ssh`: machines that leave are also asked by SSH after the roll call, and must run then.
    - `given_up`: the fleets of the state that the program no longer has. Their machines serve until their own RollCall
      is deleted.
    """

    stack: str
    fleet: str
    fleets: Sequence[str]
    members: pulumi.Input[Sequence[pulumi.Input[Mapping[str, pulumi.Input[str]]]]]
    places: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    cloud: pulumi.Input[Mapping[str, Any]]
    timeout: int = 300
    drain_delay: int = 120
    peers: Sequence[str] = ()
    elsewhere: Sequence[Mapping[str, Any]] = ()
    safe_deletes: bool = True
    ssh: bool = False
    given_up: Sequence[str] = ()
    uncounted: Sequence[Mapping[str, str]] = ()


class RollCall(Resource, module="rollcall", name="RollCall"):  # type: ignore[call-arg]
    """Succeed when the zone's own name servers answer with every machine of a fleet. Each fleet has one.

    `missing`, `stale`, `leftover`, `foreign`, `orphaned` and `unproven` (lists of lines) are what a refresh found. The program declares
    them empty, so a preview shows them as a change.
    """

    members: pulumi.Output[Sequence[Mapping[str, str]]]
    missing: pulumi.Output[Sequence[str]]
    stale: pulumi.Output[Sequence[str]]
    leftover: pulumi.Output[Sequence[str]]
    foreign: pulumi.Output[Sequence[str]]
    orphaned: pulumi.Output[Sequence[str]]
    unproven: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: RollCallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        props: dict[str, Any] = {
            "stack": args.stack,
            "fleet": args.fleet,
            "fleets": list(args.fleets),
            "members": args.members,
            "places": args.places,
            "cloud": args.cloud,
            "timeout": args.timeout,
            "drain_delay": args.drain_delay,
            "peers": list(args.peers),
            "safe_deletes": args.safe_deletes,
            **({"elsewhere": list(args.elsewhere)} if args.elsewhere else {}),
            **({"ssh": True} if args.ssh else {}),
            **({"given_up": list(args.given_up)} if args.given_up else {}),
            **({"uncounted": list(args.uncounted)} if args.uncounted else {}),
            **{key: [] for key in FINDINGS},
        }
        super().__init__(RollCallProvider(), name, props, opts)


class Deregistration(Resource, module="rollcall", name="Deregistration"):  # type: ignore[call-arg]
    """Give a machine its generation, and remove what it left in DNS after it is deleted. Each machine has one, which is created before it.

    `generation` (6 hex digits) is new at each create, and all records of the machine have it in their marks. A
    Deregistration depends on everything that its machine needs to register and to leave. `networks` are the ids of a
    Triton machine's networks. With others the machine is replaced, successor first. CloudAPI could add and remove NICs
    in place. But each such change reboots a machine, a fleet's machines all at once, and gives it another public
    address. `uncounted` are machines of this name that `up`s have made which failed before their roll calls: the state of a
    replaced resource cannot be read until it is deleted, so the resource that replaces it has them. `leaves` is the
    availability zone that the machine must leave, so it is replaced.
    """

    generation: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        stack: str,
        fleet: str,
        machine: str,
        places: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]],
        cloud: pulumi.Input[Mapping[str, Any]],
        networks: Sequence[str] = (),
        uncounted: Sequence[Mapping[str, str]] = (),
        leaves: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "stack": stack,
            "fleet": fleet,
            "machine": machine,
            "places": places,
            "cloud": cloud,
            "generation": None,
            **({"networks": list(networks)} if networks else {}),
            **({"uncounted": list(uncounted)} if uncounted else {}),
            **({"leaves": leaves} if leaves else {}),
        }
        super().__init__(DeregistrationProvider(), name, props, opts)
