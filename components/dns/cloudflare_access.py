"""Read the operator's access to Cloudflare: from the stack's config first and from the environment second, as its provider does.

Configure in internal/provider.go of https://github.com/cloudflare/terraform-provider-cloudflare, which the plugin uses:
what the configuration has counts, and only what it does not have is looked up in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable

# The keys of the stack's config that providers that run beside the program get.
CLOUDFLARE_KEYS = ("cloudflare:apiToken", "cloudflare:baseUrl")
_URL = "https://api.cloudflare.com/client/v4"
# The provider's other credentials. It sends each beside a token if it is there.
_OTHERS = {
    "cloudflare:apiKey": "CLOUDFLARE_API_KEY",
    "cloudflare:apiUserServiceKey": "CLOUDFLARE_API_USER_SERVICE_KEY",
}
# Never in plain text: the state contains the whole configuration for the provider of a dynamic resource.
CLOUDFLARE_SECRETS = (CLOUDFLARE_KEYS[0], *_OTHERS)
Get = Callable[[str], str | None]


def cloudflare_token(config: Get) -> str:
    """Return the API token; an empty text: there is none.

    `config` gives a key's value (`dict.get`, `pulumi.runtime.get_config`).
    """
    return config(CLOUDFLARE_KEYS[0]) or os.environ.get("CLOUDFLARE_API_TOKEN") or ""


def cloudflare_url(config: Get) -> str:
    """Return the URL of the API, without a slash at its end."""
    return (config(CLOUDFLARE_KEYS[1]) or os.environ.get("CLOUDFLARE_BASE_URL") or _URL).rstrip("/")


def cloudflare_token_key(config: Get) -> str:
    """Return the name of the key or variable that the token comes from, or must be set in."""
    return CLOUDFLARE_KEYS[0] if config(CLOUDFLARE_KEYS[0]) else "CLOUDFLARE_API_TOKEN"


def cloudflare_faults(config: Get) -> list[str]:
    """Return an error for each setting with which the provider would ask in another way than we do."""
    found = []
    for key, variable in _OTHERS.items():
        where = key if config(key) else variable if os.environ.get(variable) else ""
        if where:
            fix = f"Give an API token (CLOUDFLARE_API_TOKEN or {CLOUDFLARE_KEYS[0]}) and take this out"
            found.append(
                f"{where}: the provider would use it, and the rest of Rollcall works with API tokens only. {fix}."
            )
    return found
