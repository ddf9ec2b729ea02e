"""Define the errors of a call to CloudAPI: one root, transient and fatal below it.

Every message has the shape `WHERE: PROBLEM. FIX.`, and is shown to the user as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollcall.escaping import escaped_lines


class CloudApiError(Exception):
    """The root.

    `status` is the HTTP status, `code` CloudAPI's error code; 0 and "" where no answer came. `retry_after` is for how
    many seconds the server asked to wait, if it did.
    """

    retry_after: float | None = None

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", details: tuple[Mapping[str, Any], ...] = ()
    ) -> None:
        super().__init__(escaped_lines(message))
        self.status = status
        self.code = code
        self.details = details


class TransientError(CloudApiError):
    """The same request may work later: throttled, read-only mode, not reachable at this moment."""


class LostReplyError(TransientError):
    """The request was sent and no answer came: it may or may not have been carried out. Check before you repeat it."""


class FatalError(CloudApiError):
    """Repeating the request changes nothing."""


class NotFoundError(FatalError):
    """404 (never existed, purged, or not yours) or 410 (deleted); both mean gone."""


class AuthenticationError(FatalError):
    """401 and 403, and the 400 for a skewed clock."""


class ConfigurationError(FatalError):
    """URL, account or key are missing, malformed or do not fit together; nothing was sent."""


class RefusedError(FatalError):
    """CloudAPI does not accept the request as it is (400, 409 and similar); 409 mostly means bad input."""


class AmbiguousError(FatalError):
    """A look-up has more than one answer."""


class WaitTimeoutError(FatalError):
    """The expected result did not come within the time allowed."""
