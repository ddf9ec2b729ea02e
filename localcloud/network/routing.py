"""One router for the local clouds' HTTP APIs, by werkzeug.routing: the endpoint of a method and a path."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Generic, TypeVar

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule

T = TypeVar("T")


class NoRouteError(Exception):
    """No endpoint has this path."""


class WrongMethodError(Exception):
    """The path has other methods: `allowed`, in the table's order."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__(", ".join(allowed))
        self.allowed = allowed


class Router(Generic[T]):
    """A table of endpoints: method, path with `<name>` for a variable, endpoint. HEAD is answered where GET is.

    A path with a final slash is the same as without it, and nothing is redirected.
    """

    def __init__(self, table: Iterable[tuple[str, str, T]]) -> None:
        self._table = tuple(table)
        self._map = _map_of(tuple((method, path) for method, path, _ in self._table))
        self._methods = list(dict.fromkeys(method for method, _, _ in self._table))

    def match(self, method: str, path: str) -> tuple[T, dict[str, str]]:
        """Return the endpoint of a request and the variables in its path. Raises NoRouteError and WrongMethodError."""
        try:
            index, variables = self._map.bind("localhost").match(path, method=method)
        except MethodNotAllowed as wrong:
            valid = wrong.valid_methods or ()
            raise WrongMethodError([each for each in self._methods if each in valid]) from wrong
        except HTTPException as unknown:
            raise NoRouteError(path) from unknown
        return self._table[int(index)][2], dict(variables)


@functools.cache
def _map_of(table: tuple[tuple[str, str], ...]) -> Map:
    """Return the map of methods and paths, with the place in the table for the endpoint. A cloud that is made again has the same."""
    rules = [Rule(path, methods=[method], endpoint=index) for index, (method, path) in enumerate(table)]
    return Map(rules, strict_slashes=False, redirect_defaults=False, merge_slashes=False)
