"""Which version of the API a request asks for: semver ranges as npm's semver reads them."""

from __future__ import annotations

import re

from localcloud.triton.errors import ApiError

Version = tuple[int, int, int]
# sdc-cloudapi lib/app.js
OFFERED: tuple[Version, ...] = ((9, 0, 0), (8, 0, 0), (7, 3, 0), (7, 2, 0), (7, 1, 0), (7, 0, 0))
_COMPARATOR = re.compile(
    r"(?P<op>\^|~>?|>=|<=|>|<|=)?\s*v?(?P<major>[0-9]+|[xX*])(?:\.(?P<minor>[0-9]+|[xX*]))?(?:\.(?P<patch>[0-9]+|[xX*]))?"
)


def chosen(wanted: str) -> Version:
    """The newest offered version in the range `wanted`. Raises ApiError 400 InvalidVersion."""
    for version in OFFERED:
        if any(_fits(version, part) for part in wanted.split("||")):
            return version
    raise ApiError(400, "InvalidVersion", f"{wanted} is not supported")


def text(version: Version) -> str:
    return ".".join(str(part) for part in version)


def _fits(version: Version, part: str) -> bool:
    if not part.strip():
        return True
    joined = re.sub(r"([\^~<>=])\s+", r"\1", part.strip())
    return all(_fits_one(version, word) for word in joined.split())


def _fits_one(version: Version, word: str) -> bool:
    found = _COMPARATOR.fullmatch(word)
    if found is None:
        return False
    given = [int(found[name]) for name in ("major", "minor", "patch") if found[name] and found[name].isdecimal()]
    if not given:
        return True
    low = (*given, 0, 0)[:3]
    operator = found["op"] or ""
    if operator.startswith("~") or operator in ("", "="):
        # ~8 and 8 leave minor and patch open, ~8.1 and 8.1 the patch; ~8.1.2 the patch from 2 on.
        digits = min(len(given), 2) if operator.startswith("~") else len(given)
        return version[:digits] == low[:digits] and version >= low
    if operator == "^":
        return version[0] == low[0] and version >= low
    high = version[: len(given)]
    return {
        ">=": version >= low,
        "<": version < low,
        ">": high > tuple(given),
        "<=": high <= tuple(given),
    }[operator]
