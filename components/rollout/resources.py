"""Release: the dynamic resource that rolls releases through the machines of a fleet (docs/decisions/0020 and 0022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import Resource

from components.rollout.providers import ReleaseProvider


@dataclass(frozen=True, kw_only=True)
class ReleaseArgs:
    """The inputs of a Release.

    - `members`, `places`, `cloud`, `fleets`, `peers` and `elsewhere` are those of the fleet's RollCall.
    - `releases` are the digests that the program wants, by workload. `files` are their manifests (components/workloads/manifest.py).
    - `batch`: how many machines change at the same time, a number or a share as `25%`. `healthy`, `deadline` and `timeout` are
      seconds. `canary`: stop after this number of machines. `undrained` are the workloads that change without leaving DNS.
    - `drain_delay`: for how many seconds a machine serves after its records are gone.
    - `sharing`: the other fleets with in-place releases that join one of the same sites or services, as `{fleet, cloud}`.
    """

    stack: str
    fleet: str
    fleets: Sequence[str]
    members: pulumi.Input[Sequence[pulumi.Input[Mapping[str, pulumi.Input[str]]]]]
    places: pulumi.Input[Sequence[pulumi.Input[Mapping[str, Any]]]]
    cloud: pulumi.Input[Mapping[str, Any]]
    releases: Mapping[str, str]
    files: Mapping[str, str]
    batch: str
    healthy: int
    deadline: int
    canary: int
    timeout: int
    drain_delay: int
    undrained: Sequence[str] = ()
    peers: Sequence[str] = ()
    elsewhere: Sequence[Mapping[str, Any]] = ()
    sharing: Sequence[Mapping[str, Any]] = ()


class Release(Resource, module="rollcall", name="Release"):  # type: ignore[call-arg]
    """Succeed when every machine of a fleet has the releases that the program wants.

    `releases` and `differing` (lines about machines) are what a refresh found. The program declares `differing` empty, so a preview shows
    it as a change.
    """

    members: pulumi.Output[Sequence[Mapping[str, str]]]
    releases: pulumi.Output[Mapping[str, str]]
    differing: pulumi.Output[Sequence[str]]

    def __init__(self, name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self.fleet_name = args.fleet
        props: dict[str, Any] = {
            "stack": args.stack,
            "fleet": args.fleet,
            "fleets": list(args.fleets),
            "members": args.members,
            "places": args.places,
            "cloud": args.cloud,
            "peers": list(args.peers),
            "drain_delay": args.drain_delay,
            "releases": dict(args.releases),
            "files": dict(args.files),
            "policy": {
                "batch": args.batch,
                "healthy": args.healthy,
                "deadline": args.deadline,
                "canary": args.canary,
                "timeout": args.timeout,
                **({"undrained": list(args.undrained)} if args.undrained else {}),
            },
            **({"elsewhere": list(args.elsewhere)} if args.elsewhere else {}),
            **({"sharing": list(args.sharing)} if args.sharing else {}),
            "differing": [],
        }
        super().__init__(ReleaseProvider(), name, props, opts)
