"""The operator's own access to Cloudflare: from the stack's config first and from the environment second, as its provider has it.

Configure in internal/provider.go of https://github.com/cloudflare/terraform-provider-cloudflare, which the plugin uses: what the
configuration has counts, and only what it has not is looked up in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable

# What providers that run beside the program are told of the stack's config.
CLOUDFLARE_KEYS = ("cloudflare:apiToken", "cloudflare:baseUrl")
_URL = "https://api.cloudflare.com/client/v4"
# The provider's other ways to prove who it is, each sent beside a token if it is there.
_OTHERS = {
    "cloudflare:apiKey": "CLOUDFLARE_API_KEY",
    "cloudflare:apiUserServiceKey": "CLOUDFLARE_API_USER_SERVICE_KEY",
}
# Never in plain text, since a dynamic resource's provider has the whole configuration in the state.
CLOUDFLARE_SECRETS = (CLOUDFLARE_KEYS[0], *_OTHERS)
Get = Callable[[str], str | None]


def cloudflare_token(config: Get) -> str:
    """The API token; "" where there is none. `config` gives a key's value (`dict.get`, `pulumi.runtime.get_config`)."""
    return config(CLOUDFLARE_KEYS[0]) or os.environ.get("CLOUDFLARE_API_TOKEN") or ""


def cloudflare_url(config: Get) -> str:
    """Where the API is, without a slash at its end."""
    return (config(CLOUDFLARE_KEYS[1]) or os.environ.get("CLOUDFLARE_BASE_URL") or _URL).rstrip("/")


def cloudflare_token_key(config: Get) -> str:
    """Where the token is from, or is to be put."""
    return CLOUDFLARE_KEYS[0] if config(CLOUDFLARE_KEYS[0]) else "CLOUDFLARE_API_TOKEN"


def cloudflare_faults(config: Get) -> list[str]:
    """What would have the provider ask otherwise than we do."""
    found = []
    for key, variable in _OTHERS.items():
        where = key if config(key) else variable if os.environ.get(variable) else ""
        if where:
            fix = f"Give an API token (CLOUDFLARE_API_TOKEN or {CLOUDFLARE_KEYS[0]}) and take this out"
            found.append(
                f"{where}: the provider would use it, and the rest of Rollcall works with API tokens only. {fix}."
            )
    return found
