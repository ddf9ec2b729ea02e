"""The key `tls` of a site: what is accepted, and what is refused with its key and fix."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from components.config.reader import read, read_whole

SITE: dict[str, Any] = {"zone": "example.com", "tls": {"acme": {}}}
WEB = {"cloud": "aws", "count": 1, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
GOOD: dict[str, Any] = {"sites": {"www": SITE}, "fleets": {"web": WEB}}
API = {"api": {"run": "./api"}, "page": {"files": "page", "nginx": {}}}
KEY = "rollcall:sites.www"


def with_(path: str, value: Any) -> dict[str, Any]:
    found = copy.deepcopy(GOOD)
    *above, last = path.split(".")
    at = found
    for each in above:
        at = at.setdefault(each, {})
    at[last] = value
    return found


def test_letsencrypt_is_the_default_and_the_fleets_that_join_know_it() -> None:
    settings = read("prod", GOOD)
    (site,) = settings.sites
    assert site.tls is not None
    assert site.tls.acme.url == "https://acme-v02.api.letsencrypt.org/directory" and site.tls.acme.email is None
    assert [each.secured for each in settings.fleets] == [True]
    plain = read("prod", with_("sites.www", {"zone": "example.com"}))
    assert plain.sites[0].tls is None and [each.secured for each in plain.fleets] == [False]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
        ("https://acme.example.com:8443/acme/dir", "https://acme.example.com:8443/acme/dir"),
    ],
)
def test_another_authority_is_named_or_given_by_its_directory(given: str, url: str) -> None:
    found = read("prod", with_("sites.www.tls.acme.directory", given)).sites[0].tls
    assert found is not None and found.acme.url == url


_TLS = f"{KEY}.tls"
# what is wrong, the key, the value, the error
REFUSED: list[tuple[str, str, Any, str]] = [
    (
        "no https",
        "sites.www.tls.acme.directory",
        "http://ca/dir",
        f"{_TLS}.acme.directory: 'http://ca/dir' is not a cert",
    ),
    ("a word", "sites.www.tls.acme.directory", "zerossl", f"{_TLS}.acme.directory: 'zerossl' is not a cert"),
    ("no email address", "sites.www.tls.acme.email", "ops", f"{_TLS}.acme.email: "),
    ("a proxied site", "sites.www.proxied", True, f"{_TLS}: is set, and visitors of a proxied site see"),
    (
        "a port",
        "sites.www.port",
        8080,
        f"{KEY}.port: is set, and a site with tls is served at 443 and 80. Leave it out.",
    ),
    ("no ACME", "sites.www.tls", {"acmee": {}}, f"{_TLS}.acmee: "),
]


@pytest.mark.parametrize(("path", "value", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_wrong_is_refused_with_its_key(path: str, value: Any, error: str) -> None:
    _, faults = read_whole("prod", with_(path, value))
    assert any(each.startswith(error) for each in faults), faults


@pytest.mark.parametrize(("runs", "fits"), [((), True), (["site"], True), (["api"], False), (["api", "page"], True)])
def test_a_fleet_needs_a_workload_with_nginx(runs: list[str], fits: bool) -> None:
    given = with_("workloads", API)
    given["fleets"]["web"]["runs"] = runs
    _, faults = read_whole("prod", given)
    needed = [each for each in faults if each.startswith("rollcall:fleets.web.joins: has site/www, which has tls")]
    assert bool(needed) is not fits, faults
