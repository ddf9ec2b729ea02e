"""localcloud.network.routing: the endpoint of a method and a path; and CloudAPI's words, which may have a slash."""

from __future__ import annotations

import pytest

from localcloud.network.routing import NoRouteError, Router, WrongMethodError
from localcloud.triton.app import _route
from localcloud.triton.errors import ApiError

ROUTER = Router(
    [
        ("GET", "/--ping", "ping"),
        ("GET", "/<account>", "account"),
        ("POST", "/<account>", "change"),
        ("DELETE", "/<account>/tags/<tag>", "tag"),
        ("GET", "/<account>/tags/all", "tags"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "endpoint", "variables"),
    [
        ("GET", "/--ping", "ping", {}),
        ("GET", "/my", "account", {"account": "my"}),
        ("HEAD", "/my", "account", {"account": "my"}),
        ("GET", "/my/", "account", {"account": "my"}),
        ("POST", "/--ping", "change", {"account": "--ping"}),
        ("GET", "/my/tags/all", "tags", {"account": "my"}),
        ("DELETE", "/my/tags/all", "tag", {"account": "my", "tag": "all"}),
        ("DELETE", "/my/tags/a%2Fb", "tag", {"account": "my", "tag": "a%2Fb"}),
    ],
)
def test_a_request_has_the_endpoint_of_its_method_and_path(
    method: str, path: str, endpoint: str, variables: dict[str, str]
) -> None:
    assert ROUTER.match(method, path) == (endpoint, variables)


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("PUT", "/my", ["GET", "POST"]), ("GET", "/my/tags/x", ["DELETE"])]
)
def test_another_method_is_distinguished_from_an_unknown_path(method: str, path: str, allowed: list[str]) -> None:
    with pytest.raises(WrongMethodError) as wrong:
        ROUTER.match(method, path)
    assert wrong.value.allowed == allowed


@pytest.mark.parametrize("path", ["", "/", "/my/tags", "/my/tags/a/b", "/my//tags/a"])
def test_what_no_endpoint_has_is_unknown(path: str) -> None:
    with pytest.raises(NoRouteError):
        ROUTER.match("GET", path)


def test_a_word_of_cloudapi_may_have_a_slash_and_a_percent_sign() -> None:
    words = ["my", "machines", "0", "tags", "a/b%20c"]
    assert _route("DELETE", words)[1] == {"account": "my", "machine": "0", "tag": "a/b%20c"}
    with pytest.raises(ApiError) as refused:
        _route("PATCH", words)
    assert (refused.value.status, refused.value.headers) == (405, {"Allow": "GET, DELETE"})
    with pytest.raises(ApiError) as unknown:
        _route("GET", ["my", "nothing"])
    assert unknown.value.status == 404
