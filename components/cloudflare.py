"""The few names of Cloudflare's SDK that the program uses, without the 700 others.

`import pulumi_cloudflare` runs every module of it: over a second and 70 MB at each preview. The modules that we use do not
need it to have run. Should another import of it have come first, or come later, it finds and gives the same classes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGE = "pulumi_cloudflare"


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


with _unopened():
    from pulumi_cloudflare.api_token import ApiToken
    from pulumi_cloudflare.dns_record import DnsRecord
    from pulumi_cloudflare.get_accounts import get_accounts_output
    from pulumi_cloudflare.get_api_token_permission_groups_list import get_api_token_permission_groups_list_output
    from pulumi_cloudflare.get_ip_ranges import get_ip_ranges
    from pulumi_cloudflare.get_zone import get_zone_output
    from pulumi_cloudflare.origin_ca_certificate import OriginCaCertificate
    from pulumi_cloudflare.zone import Zone
    from pulumi_cloudflare.zone_setting import ZoneSetting

__all__ = [
    "ApiToken",
    "DnsRecord",
    "OriginCaCertificate",
    "Zone",
    "ZoneSetting",
    "get_accounts_output",
    "get_api_token_permission_groups_list_output",
    "get_ip_ranges",
    "get_zone_output",
]
