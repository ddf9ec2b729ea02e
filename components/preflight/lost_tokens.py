"""Find tokens of this stack's machines that no state has, because the answer to their creation was lost.

Cloudflare's provider sends a request again when its connection breaks, and a token's name need not be unique. Then
there are two tokens that may edit the zone, and the value of one of them was lost. That token was never used. A token
that was used may be from a rotation that was interrupted, and machines may have it, so it stays.
https://developers.cloudflare.com/api/resources/user/subresources/tokens/
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from components.dns.cloudflare_api import ApiRefusedError, CloudflareApi
from components.preflight.cloudflare_tokens import TYPES as TYPES
from components.preflight.state import PriorState
from components.resources.dns_credentials import is_token_name


@dataclass(frozen=True, kw_only=True)
class LostToken:
    """A token. `owner` is the path of its owner in the API; `issued_on` is a time as the API writes it."""

    id: str
    name: str
    issued_on: str
    owner: str

    def __str__(self) -> str:
        return (
            f"Cloudflare: the token {self.id} ({self.name!r}, made {self.issued_on}) may edit a site's zone, was never used, and is in "
            f"no state: the answer to its creation was lost"
        )


def known_to(state: PriorState) -> set[str] | None:
    """Return the ids of the tokens in a state; None if the state does not have all ids."""
    found = [outputs.get("id") for kind in TYPES for outputs in state.outputs_of(kind)]
    return {str(each) for each in found} if all(found) else None


def lost(api: CloudflareApi, owner: str, stack: str, known: Collection[str] | None) -> list[LostToken]:
    """Return the tokens with this stack's token names that are not `known`, and that were never used.

    `owner` is the path of their owner. An operator's token that may not list tokens finds none. Raises the errors of
    CloudflareApi.
    """
    if known is None:
        return []
    try:
        listed = api.all(f"{owner}/tokens")
    except ApiRefusedError as refused:
        if not refused.permission:
            raise
        return []
    return [
        LostToken(id=each["id"], name=each["name"], issued_on=each["issued_on"], owner=owner)
        for each in listed
        if is_token_name(each["name"], stack) and each["id"] not in known and not each.get("last_used_on")
    ]
