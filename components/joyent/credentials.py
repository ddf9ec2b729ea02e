"""Read the URL of CloudAPI and our credentials: from the environment first, then from a program's settings.

The names are the official client's, `TRITON_…` before `SDC_…` (node-triton lib/config.js). `…_KEY_FILE`,
`…_KEY_MATERIAL` and `…_KEY_PASSPHRASE` are those of the Terraform provider and ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from components.joyent.errors import ConfigurationError
from components.joyent.fingerprints import Signer
from components.joyent.signing import find_signer

_TRUE, _FALSE = ("1", "true", "yes", "y", "on"), ("0", "false", "no", "n", "off", "")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Credentials of CloudAPI. `repr` does not show secrets.

    `url` has no trailing slash. `key_id` is an MD5 (`MD5:` or not) or SHA256 fingerprint, or a key's name.
    """

    url: str
    account: str
    user: str = ""
    key_id: str = ""
    key_file: str = ""
    key_material: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    insecure: bool = False

    @classmethod
    def read(
        cls, environ: Mapping[str, str] = os.environ, settings: Mapping[str, Any] | None = None, *, url: str = ""
    ) -> Credentials:
        """Read each value from the environment, or else from `settings`. Raises ConfigurationError naming every missing one.

        `settings` are `url`, `account`, `user`, `keyId`, `keyFile`, `keyMaterial`, `keyPassphrase`, `insecure`. A
        separate `url` counts before both. A key in the environment, in any form, hides every form of key in the
        settings: the two would not fit.
        """
        settings = settings or {}
        forms = ("KEY_ID", "KEY_FILE", "KEY_MATERIAL", "KEY_PASSPHRASE")
        own = {} if any(_environment(environ, name) for name in forms[:3]) else settings
        usual, account = (
            _environment(environ, name) or str(settings.get(name.lower()) or "") for name in ("URL", "ACCOUNT")
        )
        url = url or usual
        lacking = [name for name, value in (("URL", url), ("ACCOUNT", account)) if not value]
        if lacking:
            raise ConfigurationError(f"TRITON_{lacking[0]}: is not set. Set {_shown(lacking)} to reach CloudAPI.")
        key_id, key_file, key_material, passphrase = (
            _environment(environ, form) or str(own.get(setting) or "")
            for form, setting in zip(forms, ("keyId", "keyFile", "keyMaterial", "keyPassphrase"), strict=True)
        )
        return cls(
            url=_checked_url(url),
            account=account,
            user=_environment(environ, "USER") or str(settings.get("user") or ""),
            key_id=key_id,
            key_file=key_file,
            key_material=key_material,
            passphrase=passphrase,
            insecure=_insecure(environ, settings),
        )

    def at(self, url: str) -> Credentials:
        """Return the same account and key at another URL. Raises ConfigurationError for a text that is not a URL."""
        return replace(self, url=_checked_url(url))

    def signer(self, environ: Mapping[str, str] = os.environ) -> Signer:
        """Return the signer of the key. Raises ConfigurationError when the key cannot be used."""
        return find_signer(
            key_id=self.key_id,
            key_file=self.key_file,
            key_material=self.key_material,
            passphrase=self.passphrase,
            environ=environ,
        )


def _environment(environ: Mapping[str, str], name: str) -> str:
    return environ.get(f"TRITON_{name}") or environ.get(f"SDC_{name}") or ""


def _insecure(environ: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    for name in ("TRITON_TLS_INSECURE", "SDC_TLS_INSECURE"):
        if environ.get(name):
            return _truth(environ[name], name)
    if environ.get("SDC_TESTING"):  # Any text counts, as with the old smartdc tools.
        return True
    return _truth(str(settings.get("insecure") or ""), "insecure")


def _shown(names: Iterable[str]) -> str:
    return " and ".join(f"TRITON_{each} (config: {each.lower()})" for each in names)


def _truth(text: str, name: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ConfigurationError(f"{name}: {text!r} is not a boolean. Set true or false.")
    return text.lower() in _TRUE


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"TRITON_URL: {url!r} is not the URL of a CloudAPI. Write it as https://us-central-1.api.example.com."
        )
    return url.rstrip("/")
