"""Zone settings: their values at the start, what they accept, and which of them a plan lets one edit.

https://developers.cloudflare.com/api/resources/zones/subresources/settings/ . Taken away by
https://developers.cloudflare.com/fundamentals/api/reference/deprecations/ are `brotli` and `server_side_exclude` (June 2024),
`minify` (August 2024) and `mirage` (January 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.cloudflare import errors
from localcloud.cloudflare.model import Plan, stamp

_ALL = ("free", "pro", "business", "enterprise")
_PAID = _ALL[1:]
_ENTERPRISE = _ALL[3:]
_CHALLENGE = (300, 900, 1800, 2700, 3600, 7200, 10800, 14400, 28800, 57600, 86400, 604800, 2592000, 31536000)
_BROWSER = (
    *(0, 30, 60, 120, 300, 1200, 1800, 3600, 7200, 10800, 14400, 18000, 28800, 43200, 57600, 72000, 86400),
    *(172800, 259200, 345600, 432000, 691200, 1382400, 2073600, 2678400, 5356800, 16070400, 31536000),
)
_NO_HSTS = {
    "strict_transport_security": {
        "enabled": False,
        "max_age": 0,
        "include_subdomains": False,
        "preload": False,
        "nosniff": False,
    }
}


@dataclass(frozen=True)
class Setting:
    """`start` is the value of a new zone; `plans` those that may edit it; `only` narrows values by plan."""

    start: Any
    accepts: Callable[[Any], bool]
    plans: tuple[str, ...] = _ALL
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _switch(start: str, plans: tuple[str, ...] = _ALL) -> Setting:
    return Setting(start, _one_of("on", "off"), plans)


def _is_hsts(value: Any) -> bool:
    hsts = value.get("strict_transport_security") if isinstance(value, Mapping) and len(value) == 1 else None
    kinds = {"enabled": bool, "max_age": int, "include_subdomains": bool, "preload": bool, "nosniff": bool}
    return (
        isinstance(hsts, Mapping)
        and set(hsts) <= set(kinds)
        and all(type(each) is kinds[key] for key, each in hsts.items())
    )


def _is_nel(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"enabled"} and isinstance(value["enabled"], bool)


def _is_timeout(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 6000


SETTINGS: Mapping[str, Setting] = {
    "0rtt": _switch("off"),
    "advanced_ddos": _switch("on", ()),
    "always_online": _switch("off"),
    "always_use_https": _switch("off"),
    "automatic_https_rewrites": _switch("on"),
    "browser_cache_ttl": Setting(14400, _one_of(*_BROWSER)),
    "browser_check": _switch("on"),
    "cache_level": Setting("aggressive", _one_of("aggressive", "basic", "simplified")),
    "challenge_ttl": Setting(1800, _one_of(*_CHALLENGE)),
    "ciphers": Setting([], lambda value: isinstance(value, list) and all(isinstance(e, str) for e in value), _PAID),
    "cname_flattening": Setting(
        "flatten_at_root", _one_of("flatten_at_root", "flatten_all"), only={"flatten_all": _PAID}
    ),
    "development_mode": _switch("off"),
    "early_hints": _switch("off"),
    "email_obfuscation": _switch("on"),
    "h2_prioritization": Setting("off", _one_of("on", "off", "custom"), _PAID),
    "hotlink_protection": _switch("off"),
    "http2": _switch("on", _PAID),
    "http3": _switch("on"),
    "image_resizing": Setting("off", _one_of("on", "off", "open"), _PAID),
    "ip_geolocation": _switch("on"),
    "ipv6": _switch("on"),
    "max_upload": Setting(100, _one_of(*range(100, 501, 25)), _ENTERPRISE),
    "min_tls_version": Setting("1.0", _one_of("1.0", "1.1", "1.2", "1.3")),
    "nel": Setting({"enabled": True}, _is_nel),
    "opportunistic_encryption": _switch("on"),
    "opportunistic_onion": _switch("on"),
    "origin_error_page_pass_thru": _switch("off", _ENTERPRISE),
    "polish": Setting("off", _one_of("off", "lossless", "lossy"), _PAID),
    "prefetch_preload": _switch("off", _ENTERPRISE),
    "privacy_pass": _switch("on"),
    "proxy_read_timeout": Setting(100, _is_timeout, _ENTERPRISE),
    "pseudo_ipv4": Setting("off", _one_of("off", "add_header", "overwrite_header")),
    "replace_insecure_js": _switch("on"),
    "response_buffering": _switch("off", _ENTERPRISE),
    "rocket_loader": _switch("off"),
    "security_header": Setting(_NO_HSTS, _is_hsts),
    "security_level": Setting(
        "medium",
        _one_of("off", "essentially_off", "low", "medium", "high", "under_attack"),
        only={"off": _ENTERPRISE},
    ),
    "sort_query_string_for_cache": _switch("off", _ENTERPRISE),
    "ssl": Setting("full", _one_of("off", "flexible", "full", "strict")),
    "ssl_recommender": Setting(True, lambda value: isinstance(value, bool)),
    "tls_1_3": Setting("on", _one_of("on", "off", "zrt")),
    "tls_client_auth": _switch("off"),
    "true_client_ip_header": _switch("off", _ENTERPRISE),
    "waf": _switch("off", _PAID),
    "webp": _switch("off", _PAID),
    "websockets": _switch("on"),
}
# The only setting that has no `value` (types/zones/ssl_recommender.py of the SDK).
_WITH_ENABLED = "ssl_recommender"


class ZoneSettings:
    """The settings of one zone. Not thread-safe: its zone's lock guards it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan.legacy_id
        self._values: dict[str, Any] = {name: setting.start for name, setting in SETTINGS.items()}
        self._moved: dict[str, float] = {}

    def values(self) -> dict[str, Any]:
        return dict(self._values)

    def body(self, name: str) -> dict[str, Any]:
        """A setting as the API shows it. Raises ApiError for an unknown one."""
        if name not in SETTINGS:
            raise errors.unknown_setting(name)
        moved = self._moved.get(name)
        return {
            "id": name,
            "enabled" if name == _WITH_ENABLED else "value": self._values[name],
            "modified_on": stamp(moved) if moved is not None else None,
            "editable": self._plan in SETTINGS[name].plans,
        }

    def bodies(self) -> list[dict[str, Any]]:
        return [self.body(name) for name in SETTINGS]

    def check(self, name: str, body: Mapping[str, Any]) -> Any:
        """The value that `body` asks for. Raises ApiError where it is none, or the plan does not have it."""
        setting = SETTINGS.get(name)
        if setting is None:
            raise errors.unknown_setting(name)
        if self._plan not in setting.plans:
            raise errors.setting_not_editable(name)
        field_name = "enabled" if name == _WITH_ENABLED else "value"
        if field_name not in body or not setting.accepts(body[field_name]):
            raise errors.bad_setting(name)
        value = body[field_name]
        if isinstance(value, str) and self._plan not in setting.only.get(value, _ALL):
            raise errors.setting_not_editable(name)
        return value

    def edit(self, name: str, body: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Set it; `modified_on` moves only when the value does. Raises ApiError."""
        value = self.check(name, body)
        if value != self._values[name]:
            self._values[name] = value
            self._moved[name] = now
        return self.body(name)
