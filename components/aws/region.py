"""The stack's own AWS region."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from components.aws.account_settings import Get, region_around


def own_region(config: Get) -> str:
    """The stack's own region: told, in the environment, or else the profile's; an empty text where nothing says any."""
    told = config("aws:region") or region_around()
    if told:
        return told
    from botocore.exceptions import BotoCoreError

    from components.aws.session import session_of

    try:
        return session_of(config).region
    except BotoCoreError:
        # A profile that is not there, which the check of the credentials says.
        return ""
