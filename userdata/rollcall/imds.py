"""EC2's instance metadata service, version 2 only.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
"""

from __future__ import annotations

import time

import requests

from rollcall.errors import TransientError

IMDS = "http://169.254.169.254"
_METADATA_TIMEOUT_S = 3.0
_TOKEN_LIFETIME_S = 21600


class InstanceMetadata:
    """A client that reads one value at a time. It renews its token before the token expires."""

    def __init__(self, url: str = IMDS) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._token, self._token_until = "", 0.0

    def get(self, path: str, missing: str | None = None) -> str:
        """Return the value at `path`, or `missing` if the service has none. Raises TransientError."""
        try:
            token = {"X-aws-ec2-metadata-token": self._current_token()}
            reply = self._session.get(
                f"{self._url}/latest/meta-data/{path}", headers=token, timeout=_METADATA_TIMEOUT_S
            )
        except requests.RequestException as failed:
            raise TransientError(f"reason=no-metadata error={type(failed).__name__}") from failed
        if reply.status_code == 404 and missing is not None:
            return missing
        if reply.status_code == 401:
            self._token_until = 0.0
        if not reply.ok:
            raise TransientError(f"reason=no-metadata path={path} status={reply.status_code}")
        return reply.text

    def _current_token(self) -> str:
        if time.monotonic() > self._token_until:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_LIFETIME_S)}
            reply = self._session.put(f"{self._url}/latest/api/token", headers=lifetime, timeout=_METADATA_TIMEOUT_S)
            reply.raise_for_status()
            self._token, self._token_until = reply.text, time.monotonic() + _TOKEN_LIFETIME_S / 2
        return self._token
