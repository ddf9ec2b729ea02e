"""Which calls of the clouds' APIs the program and the machines make, found in the source: `ec2 RunInstances`, `cloudflare GET /zones`.

AWS: what is called on a client by the names of boto3, by the operations of the services that clients are made for, and what a request
names as its target. Cloudflare and CloudAPI: method and
path of each use of the HTTP helpers; `{}` is the place of what is put in.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import botocore.session
from botocore import xform_name

from tests.syntax import nodes_of

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    ROOT / "__main__.py",
    *sorted((ROOT / "components").rglob("*.py")),
    *sorted((ROOT / "userdata").rglob("*.py")),
]
_SIGNED = tuple(f"userdata/rollcall/{each}.py" for each in ("aws", "clouds", "role_credentials", "route53api"))
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# The helpers: by the method that they use, and those that take the method as their first argument.
_VERBS = {"get": "GET", "all": "GET", "_get": "GET", "_pages": "GET", "post": "POST", "put": "PUT", "delete": "DELETE"}
_TAKE_METHOD = ("call", "_call", "send")
# The header that names an operation of a JSON protocol, and the services behind its prefixes.
_TARGET = re.compile(r"(AmazonSSM)\.(\w+)")
_PREFIXES = {"AmazonSSM": "ssm"}


def calls() -> dict[str, list[str]]:
    """Each call, with the files that make it."""
    found: dict[str, list[str]] = {}
    services = _services()
    for path in SOURCES:
        tree, name = ast.parse(path.read_text()), str(path.relative_to(ROOT))
        # What a machine asks AWS by HTTP is named as the operations that it is.
        api = "cloudapi" if "joyent" in path.parts else "cloudflare"
        for each in (*_aws(tree, services), *(() if name in _SIGNED else _http(tree, api))):
            if name not in found.setdefault(each, []):
                found[each].append(name)
    return found


# AWS


def _services() -> list[str]:
    """The services for which a client is made anywhere, by boto3's names."""
    known, found = botocore.session.get_session().get_available_services(), set[str]()
    for path in SOURCES:
        for node in nodes_of(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "client":
                found |= {str(each.value) for each in node.args[:1] if isinstance(each, ast.Constant)}
    assert found <= set(known), found
    return sorted(found)


@functools.cache
def _operations(service: str) -> Mapping[str, str]:
    """A service's operations by the names of boto3's methods."""
    model = botocore.session.get_session().get_service_model(service)
    return {xform_name(each): each for each in model.operation_names}


def _aws(tree: ast.AST, services: list[str]) -> Iterator[str]:
    for node in nodes_of(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := _TARGET.fullmatch(node.value)):
            yield f"{_PREFIXES[match[1]]} {match[2]}"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method = node.func.attr
        if method in ("get_paginator", "get_waiter") and node.args:
            method = str(ast.literal_eval(node.args[0]))
        for service in services:
            if method in _operations(service):
                yield f"{service} {_operations(service)[method]}"


# HTTP


def _http(tree: ast.Module, api: str) -> Iterator[str]:
    texts = _Texts(tree)
    for node in nodes_of(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        name, first = node.func.attr, node.args[0]
        if name in _TAKE_METHOD and isinstance(first, ast.Constant) and first.value in _METHODS and len(node.args) > 1:
            method, path = str(first.value), texts.of(node.args[1])
        elif name in _VERBS:
            method, path = _VERBS[name], texts.of(first)
        else:
            continue
        # A whole address has its host put in; what the helpers pass on is another's path.
        path = re.sub(r"^\{\}(?=/ips$)", "", path).partition("?")[0]
        if path.startswith("{}/latest/"):
            # A machine's own metadata service.
            continue
        if path.startswith(("/", "{}/")) or (path == "" and name == "_get"):
            yield f"{api} {method} {path or '/'}"


class _Texts:
    """What an expression is as a text, as far as the module says it."""

    def __init__(self, tree: ast.Module) -> None:
        self._named: dict[str, ast.expr] = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._named[node.targets[0].id] = node.value
            if isinstance(node, ast.FunctionDef):
                returned = [each.value for each in nodes_of(node) if isinstance(each, ast.Return)]
                if len(returned) == 1 and returned[0] is not None:
                    self._named[f"{node.name}()"] = returned[0]

    def of(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else "{}"
        if isinstance(node, ast.JoinedStr):
            return "".join(self.of(each) for each in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.of(node.value) if isinstance(node.value, ast.Name | ast.Call) else "{}"
        name = ast.unparse(node.func) + "()" if isinstance(node, ast.Call) else ast.unparse(node)
        if name in self._named:
            found = self.of(self._named[name])
            return found if found.startswith("/") else "{}"
        return "{}"
