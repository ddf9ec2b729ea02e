"""Make the settings with which machines join the site, from the configuration. `checks.py` measures them, and machines get them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

from components.config.models import SiteSettings
from rollcall.settings import SiteJoin

J = TypeVar("J", bound=SiteJoin)


def site_join(kind: Callable[..., J], site: SiteSettings, *, ipv6: bool, floors: tuple[int, int], **own: Any) -> J:
    """Return the settings of a provider's `kind`.

    `floors` are those of the A and the AAAA records; `own` is what only `kind` has.
    """
    floor, floor6 = floors
    return kind(
        host=site.fqdn,
        ttl=site.ttl,
        ipv6=ipv6,
        labels=site.host.count(".") + 1,
        floor=floor,
        floor6=floor6 if ipv6 else 1,
        **asdict(site.health),
        **own,
    )
