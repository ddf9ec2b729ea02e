"""Define what every dynamic provider here shares.

A provider in an importable module is stored in the state by reference (module and class), so those names are part of
the state's format: `components.joyent.machine.MachineProvider` and similar names are never changed. No provider
contains a secret.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pulumi.dynamic import CheckFailure, ConfigureRequest, ResourceProvider
from pulumi.runtime import rpc

from components.joyent.errors import ConfigurationError, NotFoundError
from components.joyent.session import Session, session_of

# The input of every resource for its data centre, if it is not the configured one.
DATACENTER = "datacenter"


class JoyentProvider(ResourceProvider):  # type: ignore[misc]
    """The base of the providers.

    Credentials come from the environment first, and from the config key `rollcall:joyent`, or else the project's key
    `joyent`, second. The engine gives a provider the config of the last `up`, so rotate keys by the environment.
    """

    serialize_as_secret_always = False
    # Class attributes, so that what is stored in the state stays a bare reference.
    settings: Mapping[str, Any] = {}
    fixed_session: Session | None = None

    def configure(self, req: ConfigureRequest) -> None:
        self.settings = read_settings(configured(req.config.get))

    @property
    def session(self) -> Session:
        """Return the session of the configured data centre. Raises ConfigurationError naming what is not configured."""
        return self.session_for({})

    def session_for(self, props: Mapping[str, Any]) -> Session:
        """Return the session of the data centre that a resource's `datacenter` names, or else of the configured one.

        Raises ConfigurationError naming what is not configured, or NotFoundError for a data centre that does not exist.
        """
        return self.fixed_session or session_of(self.settings, str(props.get(DATACENTER) or ""))

    def location_faults(self, inputs: Mapping[str, Any]) -> list[CheckFailure]:
        """Return what is wrong with `datacenter`, so that a preview reports it on this input."""
        wanted = inputs.get(DATACENTER)
        if wanted is None or unknown(wanted):
            return []
        try:
            self.session_for(inputs)
        except (NotFoundError, ConfigurationError) as fault:
            return [CheckFailure(DATACENTER, str(fault))]
        return []


def configured(get: Callable[[str], Any]) -> Any:
    """Return the settings in a configuration: those of Rollcall's program, in whatever project it runs, or else the project's."""
    found = get("rollcall:joyent")
    return get("joyent") if found is None else found


_OBJECT = "{url: …, account: …, keyId: …}"


def read_settings(value: Any) -> Mapping[str, Any]:
    """Read the config key `joyent`, an object or its JSON. Raises ConfigurationError."""
    if value is None:
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as wrong:
        raise ConfigurationError(f"joyent: is not an object ({wrong}). Write it as {_OBJECT}.") from wrong
    if not isinstance(found, Mapping):
        raise ConfigurationError(f"joyent: is not an object. Write it as {_OBJECT}.")
    return found


def unknown(value: Any) -> bool:
    """Return whether a value, or something in it, is not known before `up` has created its source."""
    if isinstance(value, Mapping):
        return any(unknown(each) for each in value.values())
    if isinstance(value, list):
        return any(unknown(each) for each in value)
    return isinstance(value, str) and value == rpc.UNKNOWN
