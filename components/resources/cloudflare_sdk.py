"""Give the program the few names of Cloudflare's SDK that it uses, without the 700 others.

A program without a site imports none of them. These names and what they share still take half a second to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.resources.sdk_parts import Part

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


_PART = Part("pulumi_cloudflare", NAMES)


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (https://peps.python.org/pep-0562/)."""
    return getattr(_PART, name)
