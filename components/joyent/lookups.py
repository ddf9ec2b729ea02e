"""Look up existing objects for programs. Each function refuses an ambiguous answer and names the candidates.

They run in the program itself, at preview and at `up`, with the same credentials as the resources. `datacenter` is the
name or URL of another data centre of the same account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.joyent.client import CloudApi
from components.joyent.errors import AmbiguousError, NotFoundError
from components.joyent.records import ImageRecord, NetworkRecord, PackageRecord
from components.joyent.session import Session, session_of


@dataclass(frozen=True)
class Account:
    id: str
    login: str
    email: str
    cns_enabled: bool


@dataclass(frozen=True)
class Datacenter:
    name: str
    url: str


def get_image(image: str, *, datacenter: str = "", settings: Mapping[str, Any] | None = None) -> ImageRecord:
    """Return an image by id, `name@version`, the first 8 characters of an id, or the newest with that name; active ones only."""
    return _session(settings, datacenter).catalogue.image(image)


def get_package(
    package: str | None = None,
    *,
    memory: int | None = None,
    group: str | None = None,
    datacenter: str = "",
    settings: Mapping[str, Any] | None = None,
) -> PackageRecord:
    """Return a package by name or id, or the only one with that `memory` (MiB) and `group`.

    Raises AmbiguousError where several fit.
    """
    catalogue = _session(settings, datacenter).catalogue
    if package is not None:
        return catalogue.package(package)
    fitting = [each for each in catalogue.packages() if memory in (None, each.memory) and group in (None, each.group)]
    if len(fitting) > 1:
        raise AmbiguousError(
            f"package: {len(fitting)} packages fit: {', '.join(map(str, fitting))}. Give the name of one."
        )
    if not fitting:
        raise NotFoundError(
            f"package: none has {memory} MiB in group {group}. Choose from {', '.join(map(str, catalogue.packages()))}."
        )
    return fitting[0]


def get_network(network: str, *, datacenter: str = "", settings: Mapping[str, Any] | None = None) -> NetworkRecord:
    """Return a network by name or id; also a fabric network or a pool."""
    return _session(settings, datacenter).catalogue.network(network)


def get_datacenter(name: str | None = None, *, settings: Mapping[str, Any] | None = None) -> Datacenter:
    """Return the data centre of that name, or the one with our URL. Raises NotFoundError naming the existing ones."""
    session = _session(settings)
    url = session.api.transport.credentials.url
    known = session.api.list_datacenters()
    wanted = own_datacenter(session.api, known) if name is None else name
    if wanted in known:
        return Datacenter(wanted, known[wanted])
    names = ", ".join(f"{each} ({address})" for each, address in sorted(known.items())) or "none at all"
    raise NotFoundError(f"data centre {name or url}: does not exist. Name one of {names}.")


def own_datacenter(api: CloudApi, known: Mapping[str, str] | None = None) -> str:
    """Return the name of the data centre with the client's URL; an empty text where CloudAPI lists none.

    `known` is what it lists.
    """
    url = api.transport.credentials.url
    listed = api.list_datacenters() if known is None else known
    return next((name for name, address in listed.items() if address.rstrip("/") == url), "")


def get_account(*, datacenter: str = "", settings: Mapping[str, Any] | None = None) -> Account:
    """Return the account of the key that signs."""
    body = _session(settings, datacenter).api.get_account()
    return Account(
        str(body["id"]), str(body["login"]), str(body.get("email", "")), bool(body.get("triton_cns_enabled"))
    )


def _session(settings: Mapping[str, Any] | None, datacenter: str = "") -> Session:
    if settings is None:
        import pulumi

        from components.joyent.provider import configured, read_settings

        own = pulumi.Config()
        settings = read_settings(configured(lambda key: pulumi.runtime.get_config(key) if ":" in key else own.get(key)))
    return session_of(settings, datacenter)
