"""The operator's own access to Cloudflare: from the environment first and from the stack's config second."""

from __future__ import annotations

import os
from collections.abc import Callable

# What providers that run beside the program are told of the stack's config.
CLOUDFLARE_KEYS = ("cloudflare:apiToken", "cloudflare:baseUrl")
_URL = "https://api.cloudflare.com/client/v4"
Get = Callable[[str], str | None]


def cloudflare_token(config: Get) -> str:
    """The API token; "" where there is none. `config` gives a key's value (`dict.get`, `pulumi.runtime.get_config`)."""
    return os.environ.get("CLOUDFLARE_API_TOKEN") or config(CLOUDFLARE_KEYS[0]) or ""


def cloudflare_url(config: Get) -> str:
    """Where the API is, without a slash at its end."""
    return (os.environ.get("CLOUDFLARE_BASE_URL") or config(CLOUDFLARE_KEYS[1]) or _URL).rstrip("/")
