"""The few names of Cloudflare's SDK that the program uses, without the 700 others, and none of them without a site.

`import pulumi_cloudflare` runs every module of it: over a second and 70 MB at each preview. The modules that we use do not
need it to have run, and are imported when one is first asked for; with what they share they still take half a second. Should
another import of the package have come first, or come later, it finds and gives the same classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulumi_cloudflare import AccountToken as AccountToken
    from pulumi_cloudflare import ApiToken as ApiToken
    from pulumi_cloudflare import DnsRecord as DnsRecord
    from pulumi_cloudflare import OriginCaCertificate as OriginCaCertificate
    from pulumi_cloudflare import Zone as Zone
    from pulumi_cloudflare import ZoneSetting as ZoneSetting
    from pulumi_cloudflare import (
        get_account_api_token_permission_groups_list_output as get_account_api_token_permission_groups_list_output,
    )
    from pulumi_cloudflare import get_accounts_output as get_accounts_output
    from pulumi_cloudflare import (
        get_api_token_permission_groups_list_output as get_api_token_permission_groups_list_output,
    )
    from pulumi_cloudflare import get_ip_ranges as get_ip_ranges
    from pulumi_cloudflare import get_zone_output as get_zone_output

_PACKAGE = "pulumi_cloudflare"
# Each name and its module.
NAMES = {
    "AccountToken": "account_token",
    "ApiToken": "api_token",
    "DnsRecord": "dns_record",
    "OriginCaCertificate": "origin_ca_certificate",
    "Zone": "zone",
    "ZoneSetting": "zone_setting",
    "get_account_api_token_permission_groups_list_output": "get_account_api_token_permission_groups_list",
    "get_accounts_output": "get_accounts",
    "get_api_token_permission_groups_list_output": "get_api_token_permission_groups_list",
    "get_ip_ranges": "get_ip_ranges",
    "get_zone_output": "get_zone",
}


def __getattr__(name: str) -> Any:
    """https://peps.python.org/pep-0562/"""
    if name not in NAMES:
        raise AttributeError(f"components.cloudflare has no {name!r}")
    with _unopened():
        return getattr(importlib.import_module(f"{_PACKAGE}.{NAMES[name]}"), name)


@contextmanager
def _unopened() -> Iterator[None]:
    """The package's place on the path without its `__init__`; whoever imports it afterwards runs that."""
    if _PACKAGE in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
