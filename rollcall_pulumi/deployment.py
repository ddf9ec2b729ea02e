"""Deployment: the sites, the service directory and the fleets of a stack, in a program with resources of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pulumi
from pulumi.runtime.settings import get_root_resource
from pydantic.alias_generators import to_camel

from components.config.models import Settings
from components.dns.rfc2136 import machine_tsig_key
from components.preflight.checks import checked
from components.preflight.cloudflare_tokens import machine_token
from components.preflight.stack_config import config
from components.resources import deployment as parts
from components.resources.fleets.inputs import FleetInputs
from components.resources.fleets.registry import FLEETS
from components.resources.tags import deployment, tagging

_ONLY = "_rollcall_deployment"


@dataclass(frozen=True, kw_only=True)
class DeploymentArgs:
    """The inputs of a Deployment.

    Each of the first eight is a key of docs/configuration.md, with the values that a stack file has. None: the value is in the stack's
    configuration (`rollcall:fleets`), which has all other keys and all secrets too. Their values must be known at preview, so they
    contain no outputs. `inputs` are outputs of the program, by the names of EC2 fleets.
    """

    sites: Mapping[str, Any] | None = None
    service_discovery: Mapping[str, Any] | None = None
    fleets: Mapping[str, Any] | None = None
    workloads: Mapping[str, Any] | None = None
    drain_delay: int | None = None
    keep_releases: int | None = None
    safe_deletes: bool | None = None
    rotation_trigger: str | None = None
    inputs: Mapping[str, FleetInputs] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Return the values that are given, by the keys of the configuration. Raises pulumi.RunError if one contains an output."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "inputs"}
        found = {to_camel(name): value for name, value in given.items() if value is not None}
        late = [where for key, value in found.items() for where in _outputs(value, f"rollcall:{key}")]
        if late:
            raise pulumi.RunError(
                "\n".join(
                    f"{each}: is an output, and its value must be known at preview. Give a plain value; FleetInputs takes outputs."
                    for each in late
                )
            )
        return found

    def faults(self, settings: Settings) -> list[str]:
        """Return what is wrong with `inputs`, for the settings of the stack."""
        known = {each.name: each for each in settings.fleets}
        found, roles = [], list[Any]()
        for name, each in self.inputs.items():
            where = f"DeploymentArgs.inputs[{name!r}]"
            if name not in known:
                found.append(
                    f"{where}: no fleet has this name. Give one of {', '.join(sorted(known)) or 'rollcall:fleets'}."
                )
            elif not FLEETS[known[name].cloud].instance_role:
                found.append(f"{where}: is for a fleet on {known[name].cloud}. Only EC2 fleets take inputs.")
            if fault := each.fault():
                found.append(f"{where}: {fault}.")
            if each.role is not None and any(each.role is other for other in roles):
                found.append(
                    f"{where}: has the role of another fleet. Give each fleet a role, because each has other rights."
                )
            roles.append(each.role)
        return found


class Deployment(pulumi.ComponentResource):
    """The sites, the service directory, the fleets and their roll calls. A program has one.

    It is checked as a whole, and asks the clouds, before any part of it is created: any error ends the program with one message.
    `fleets`, `sites` and `directory` are what Rollcall's own program exports. `addresses` maps the id of each machine to its public
    address, by fleet.

    A stack that Rollcall's own program deployed keeps all of its resources when it changes to this component.
    """

    addresses: pulumi.Output[Mapping[str, Mapping[str, str]]]

    def __init__(
        self, name: str, args: DeploymentArgs | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        _only_one(name)
        args = args or DeploymentArgs()
        settings, existing = checked(
            deployment(),
            args.settings(),
            given_networks=[fleet for fleet, each in args.inputs.items() if each.vpc is not None],
            faults_of_program=args.faults,
        )
        ours = pulumi.ResourceOptions(transformations=[tagging(), self._adopting])
        super().__init__("rollcall:index:Deployment", name, None, pulumi.ResourceOptions.merge(opts, ours))
        made = parts.Deployment(
            settings, existing, machine_token(), machine_tsig_key(config), inputs=args.inputs, parent=self
        )
        found = made.outputs
        self.addresses = pulumi.Output.all(**{each.name: each.addresses for each in made.fleets})
        self.fleets: Mapping[str, Any] = found["fleets"]
        self.sites: Mapping[str, Any] = found.get("sites", {})
        self.directory: Mapping[str, Any] = found.get("directory", {})
        self.register_outputs({"addresses": self.addresses})

    def _adopting(self, made: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        """Let a resource directly below this one take over the same resource of Rollcall's own program, which has no parent."""
        if made.opts.parent is not self:
            return None
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)])
        return pulumi.ResourceTransformationResult(made.props, pulumi.ResourceOptions.merge(made.opts, former))


def _only_one(name: str) -> None:
    """Refuse a second Deployment: each treats the machines of fleets that it does not have as removed."""
    root: Any = get_root_resource()
    other = getattr(root, _ONLY, None)
    if other is not None:
        raise pulumi.RunError(
            f"rollcall_pulumi.Deployment {name!r}: the program has {other!r} already, and each would remove the machines of the other. "
            "Put all fleets and sites into one, or into two stacks."
        )
    setattr(root, _ONLY, name)


def _outputs(value: Any, where: str) -> Iterator[str]:
    """Yield where a value contains an output."""
    if isinstance(value, pulumi.Output):
        yield where
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _outputs(each, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from _outputs(each, f"{where}[{index}]")
