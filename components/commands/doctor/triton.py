"""Check Triton: the account, the key, and what the API shows of a sub-user's roles.

https://apidocs.tritondatacenter.com/cloudapi/#rbac-users-roles--policies
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from components.commands.doctor.engine import STACK
from components.commands.doctor.environment import Environment
from components.commands.doctor.points import Check, Finding, not_proven, ok, wrong
from components.joyent.client import CloudApi
from components.joyent.errors import CloudApiError, NotFoundError, TransientError
from components.preflight import checks as preflight
from components.preflight.credentials import triton

AREA = "Triton"
ACCOUNT = "Triton account and key"
# What the program reads. A sub-user without one of these rights cannot deploy.
_READS = ("/machines?limit=1", "/images?name=debian-12", "/packages", "/networks", "/fwrules", "/datacenters")


def checks(env: Environment) -> list[Check]:
    return [
        Check(area=AREA, name=ACCOUNT, run=lambda: account(env), needs=(STACK,)),
        Check(area=AREA, name="Triton roles", run=lambda: roles(env), needs=(ACCOUNT,)),
        Check(area=AREA, name="Triton limits", run=lambda: limits(env), needs=(ACCOUNT,)),
    ]


def account(env: Environment) -> Iterator[Finding]:
    """Ask each data centre that fleets name for the account, with a signature of the key."""
    if not env.settings.fleets_of("joyent"):
        yield ok("Triton is not used")
        return
    for datacenter, fleets in env.settings.by_region("joyent").items():
        name = f"{ACCOUNT} in {datacenter}" if datacenter else ""
        try:
            api = triton(env.settings, datacenter)
            found = api.get_account()
        except TransientError as failing:
            yield not_proven(f"rollcall:joyent: {failing}", name)
        except NotFoundError as unknown:
            yield from (wrong(f"rollcall:fleets.{fleet.name}.region: {unknown}", name) for fleet in fleets)
        except CloudApiError as fault:
            yield wrong(f"rollcall:joyent: {fault}", name)
        else:
            yield ok(f"account {found.get('login')} ({found.get('id')}), {_key(env, api)}", name)


def _key(env: Environment, api: CloudApi) -> str:
    """Return the key that signs, and where the account's name comes from if two sources differ."""
    used = api.transport.credentials
    other = env.settings.joyent.account
    beside = f"; TRITON_ACCOUNT comes before {other} of rollcall:joyent" if other and other != used.account else ""
    return f"key {api.transport.signer.md5}{beside}"


def roles(env: Environment) -> Iterator[Finding]:
    """Check what a sub-user may read. What it may change, only its account can see."""
    if not env.settings.fleets_of("joyent"):
        yield ok("Triton is not used")
        return
    api = triton(env.settings)
    user = api.transport.credentials.user
    if not user:
        yield ok("the account's own key may do everything")
        return
    for path in _READS:
        try:
            api.get(path.partition("?")[0])
        except TransientError as failing:
            yield not_proven(f"TRITON_USER: {failing}")
            return
        except CloudApiError as refused:
            problem = f"{user} may not read {path.partition('?')[0]} ({str(refused).rstrip('.')})"
            yield wrong(f"TRITON_USER: {problem}. Let the owner of the account add it to the user's role.")
            return
    yield not_proven(
        f"TRITON_USER: the roles of {user} let it read. CloudAPI does not tell a sub-user what it may change. Ask the owner of the account "
        "for `triton rbac role list`."
    )


def limits(env: Environment) -> Iterator[Finding]:
    """Check networks, images, packages and limits of the fleets, as `up` does."""
    only = tuple(replace(each, adopt={}) for each in env.settings.fleets_of("joyent") if each.count)
    if not only:
        yield ok("no Triton machines are wanted")
        return
    settings, networks = preflight.networked(preflight.located(replace(env.settings, fleets=only)))
    found = networks + (preflight.quotas_found(settings) if not networks.faults else networks)
    yield from (wrong(each) for each in dict.fromkeys(found.faults))
    yield from (not_proven(each) for each in dict.fromkeys(found.warnings))
    if not found.faults and not found.warnings:
        yield ok(
            f"there is room for {sum(each.count for each in only)} Triton machines, as far as CloudAPI shows limits"
        )
