"""Find the machines that an operator names, and what the commands about machines need.

A machine is named by FLEET/NUMBER, by the name that `rollcall status` shows, or by the id that its cloud gave it.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from components.aws import api_errors
from components.commands import census, status
from components.compute.locations import Location
from components.compute.registry import cloud_of
from components.config.errors import ConfigurationError
from components.config.models import FleetSettings, Settings
from components.joyent.errors import CloudApiError
from components.model import DesiredState, Instance, Member, describe
from components.preflight import zone_names
from components.registration.inventory import Registries
from components.registration.props import desired_of, registries_of
from components.registration.roll_call import drain_delay
from components.remote.base import RemoteError, Shell
from components.remote.ssh import SshShell
from components.remote.ssm import SsmShell
from rollcall.errors import RollcallError
from rollcall.escaping import escaped_lines
from rollcall.settings import SettingsError


class MachinesError(Exception):
    """A command about machines cannot do what it was asked for. The message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine of the stack's state. `instance` is how its cloud lists it."""

    member: Member
    instance: Instance

    @property
    def name(self) -> str:
        """Return the name of the member, `web-1`."""
        return self.member.name

    @property
    def described(self) -> str:
        return describe(self.member)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A fleet as it is deployed. `settings` are those of the program; None: the program does not declare it any more.

    `drain_delay` is for how many seconds a machine serves after its records are gone.
    """

    name: str
    settings: FleetSettings | None
    location: Location
    desired: DesiredState
    registries: Registries
    config: Mapping[str, str]
    drain_delay: float = 0.0

    def machines(self, members: Sequence[Member]) -> list[Machine]:
        """Return these members with how their cloud lists them now. Raises MachinesError for one that it does not list."""
        listed = {each.instance: each for stack in self.desired.stacks for each in self.registries.instances(stack)}
        missing = [describe(each) for each in members if each.instance not in listed]
        if missing:
            raise MachinesError(f"{', '.join(missing)}: its cloud does not list it. Run `rollcall status`.")
        return [Machine(member=each, instance=listed[each.instance]) for each in members]

    def shell(self, machine: Machine) -> Shell:
        """Return what runs commands on a machine: SSH where the fleet has `ssh`, SSM on EC2. Raises RemoteError."""
        ssh = self.settings.ssh if self.settings else None
        if ssh is not None:
            return SshShell(ssh.user, address_of(machine))
        if cloud_of(machine.instance.instance) == "aws":
            from components.aws.session import session_of

            return SsmShell(session_of(self.config.get).client("ssm", self.location.region), machine.instance.instance)
        raise RemoteError(
            f"{self.name}: Triton runs commands by SSH only. Set `ssh: {{}}` of the fleet, and run `pulumi up`."
        )


def address_of(machine: Machine) -> str:
    """Return the public address of a machine, or else its private one. Raises RemoteError if it has none."""
    address = next(iter((*machine.instance.addresses, *machine.instance.private_addresses)), "")
    if not address:
        raise RemoteError(f"{machine.described}: has no address. Read its state with `rollcall status`.")
    return address


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What a stack has deployed, by the state, and what its program says."""

    state: status.State
    settings: Settings
    config: Mapping[str, str]

    def members(self, fleet: str) -> list[Member]:
        """Return the machines of a fleet that stay, sorted by number, as its roll call names them."""
        listed = [each for each in self.state.machines if each.member.fleet == fleet]
        props = status.roll_call_props(fleet, listed, self.state) or {}
        found = [each.member for each in listed if not each.going]
        found = [replace(each, stack="") if each.stack == props.get("stack") else each for each in found]
        return sorted(found, key=lambda each: (len(each.machine), each.machine))

    def named(self, text: str) -> list[Member]:
        """Return the machines that `text` names: a whole fleet, or one machine. Raises MachinesError."""
        everything = [each for fleet in self.state.fleets for each in self.members(fleet)]
        if text in self.state.fleets and not any(text == each.name for each in everything):
            return self.members(text)
        found = [each for each in everything if text in (each.name, f"{each.fleet}/{each.machine}", each.instance)]
        if found:
            return found
        known = ", ".join(f"{each.fleet}/{each.machine}" for each in everything) or "none"
        raise MachinesError(f"{text}: the stack has no such fleet or machine. Its machines are {known}.")

    def machine(self, text: str) -> Member:
        """Return the one machine that `text` names. Raises MachinesError."""
        found = self.named(text)
        if len(found) != 1:
            raise MachinesError(f"{text}: names a fleet. Name one machine of it, as {text}/0.")
        return found[0]

    def fleet(self, name: str) -> Fleet:
        """Return a fleet. Raises MachinesError if no `up` has finished for it."""
        machines: list[census.StateMachine] = [each for each in self.state.machines if each.member.fleet == name]
        props = status.roll_call_props(name, machines, self.state)
        if props is None:
            raise MachinesError(f"{name}: the state has no roll call of it. Run `pulumi up` first.")
        registries = registries_of(props, self.config)
        return Fleet(
            name=name,
            settings=next((each for each in self.settings.fleets if each.name == name), None),
            location=Location.from_inputs(props["cloud"]),
            desired=desired_of(props),
            registries=registries,
            config=self.config,
            drain_delay=drain_delay(registries, props),
        )

    def fewest(self) -> dict[str, int]:
        """Return how many machines each record set must keep (`minRegistered`), by its name."""
        found = {site.fqdn: site.min_registered for site in self.settings.sites}
        directory = self.settings.service_discovery
        if directory is None:
            return found
        for service in directory.services:
            names = [f"{service.label}.{directory.zone}"]
            for each in service.incarnations:
                names.append(f"{service.label}.{each.name}.{directory.zone}")
                names += [f"{one}.{service.label}.{directory.zone}" for one in each.sets]
            found.update(dict.fromkeys(names, service.min_registered))
        return found


def deployed(stack: str) -> Deployed:
    """Return what a stack has deployed; an empty `stack` is the selected one. Raises StatusError, ConfigurationError."""
    resources, config = status.exported(stack)
    state = status.state_in(resources)
    settings = status.program(next(iter(state.stacks), "stack"), config, zone_names.ids_from_apis(config.get))
    return Deployed(state=state, settings=settings, config=config)


def guarded(command: str, act: Callable[[], int]) -> int:
    """Run a command. Return its exit code: 1 or 2, with the reason on stderr, if it fails. A SIGTERM ends it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return act()
    except (MachinesError, RemoteError, SettingsError) as fault:
        print(escaped_lines(f"rollcall {command}: {fault}"), file=sys.stderr)
        return 1
    except (status.StatusError, ConfigurationError, RollcallError, CloudApiError) as fault:
        print(escaped_lines(f"rollcall {command}: {fault}"), file=sys.stderr)
        return 2
    except api_errors.failures() as failed:
        print(escaped_lines(f"rollcall {command}: {api_errors.message_of(failed)}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
