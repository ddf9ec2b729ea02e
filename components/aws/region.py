"""Find the stack's AWS region."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from components.aws.account_settings import Get, region_around


def own_region(config: Get) -> str:
    """Return the stack's region: from the configuration, the environment, or else the profile.

    An empty text: none of them has one.
    """
    configured = config("aws:region") or region_around()
    if configured:
        return configured
    from botocore.exceptions import BotoCoreError

    from components.aws.session import session_of

    try:
        return session_of(config).region
    except BotoCoreError:
        # The profile does not exist. The check of the credentials reports it.
        return ""
