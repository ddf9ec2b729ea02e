"""docs/inputs.yaml beside what the program asks for, the SDKs and the stand-ins. `UPDATE_GOLDEN=1 pytest …` writes inputs.md."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin

import pytest
import yaml
from pulumi._types import input_type_py_to_pulumi_names, input_type_types, is_input_type, unwrap_type

from localcloud.plugins import STAND_INS
from tests.unit.api_calls import calls
from tests.unit.graphs import Graphs
from tests.unit.resource_graph import CONFIGS

ROOT = Path(__file__).resolve().parents[2]
LISTED: dict[str, Any] = yaml.safe_load((ROOT / "docs/inputs.yaml").read_text())
RESOURCES, FUNCTIONS = LISTED["resources"], LISTED["functions"]
APIS, CALLS, DYNAMIC = LISTED["apis"], LISTED["calls"], LISTED["dynamic"]
PROGRAM = [ROOT / "__main__.py", *sorted((ROOT / "components/resources").rglob("*.py"))]
_PROVIDER = "pulumi:providers:"
_SECRET = "4dabf18193072939515e22adb298388d"


# What the program asks for, in every configuration of resource_graph.py.


Values = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(graphs: Graphs) -> Values:
    """The inputs of each vendor's resource, by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for config in CONFIGS:
        for name, inputs in graphs[config]["graph"].items():
            token = name.rpartition("::")[0]
            if token and not token.startswith("pulumi-python:"):
                # A provider takes what is no text as JSON.
                flags = {"true": True, "false": False} if token.startswith(_PROVIDER) else {}
                found.setdefault(token, []).append({key: flags.get(str(each), each) for key, each in inputs.items()})
    return found


@pytest.fixture(scope="module")
def called(graphs: Graphs) -> Values:
    found: dict[str, list[dict[str, Any]]] = {}
    for config in CONFIGS:
        for token, given in graphs[config]["calls"].items():
            found.setdefault(token, []).extend(given)
    return found


# What the SDKs say of it.


def home(token: str) -> tuple[Any, str]:
    """The SDK's module of a token and the last word: `aws:ec2/instance:Instance` -> pulumi_aws.ec2, `Instance`."""
    package, path, name = token.split(":")
    if token.startswith(_PROVIDER):
        return import_module(f"pulumi_{name}"), "Provider"
    module = path.partition("/")[0]
    return import_module(f"pulumi_{package}" if module == "index" else f"pulumi_{package}.{module}"), name


def arguments(token: str) -> Any:
    module, name = home(token)
    # Where a type of the same name is an input of another resource, the SDK calls the arguments otherwise.
    return getattr(module, f"{name}InitArgs", None) or getattr(module, f"{name}Args")


def snake(word: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", word)


def camel(word: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), word)


def parameters(token: str) -> dict[str, Any]:
    """A function's inputs: the type of each, a class of arguments where there is one."""
    module, name = home(token)
    found = {}
    for key, each in inspect.signature(getattr(module, snake(name))).parameters.items():
        inner = re.search(r"ForwardRef\('(\w+Args)'\)", str(each.annotation))
        kind = getattr(module, inner[1]) if inner else each.annotation
        found[camel(key)] = GenericAlias(Sequence, (kind,)) if inner and "Sequence" in str(each.annotation) else kind
    return {key: kind for key, kind in found.items() if key != "opts"}


def within(kind: Any) -> Any:
    """The class of arguments that a type holds, also in a list; None for plain values and for mappings of the user's."""
    kind = unwrap_type(kind)
    if get_origin(kind) in (list, Sequence) and get_args(kind):
        kind = unwrap_type(get_args(kind)[0])
    return kind if inspect.isclass(kind) and is_input_type(kind) else None


def leaves(value: Any, types: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each input as a path, its value and its type; lists of objects as one."""
    for key, item in value.items():
        path = f"{where}{key}"
        assert key in types, f"the SDK has no input {path}"
        shown = item["value"] if isinstance(item, Mapping) and _SECRET in item else item
        yield path, shown, types[key]
        inner = within(types[key])
        if inner is not None:
            for each in shown if isinstance(shown, list) else [shown]:
                yield from leaves(each, input_type_types(inner), f"{path}.")


def used(values: Values, token: str) -> list[tuple[str, Any, Any]]:
    types = input_type_types(arguments(token)) if token in RESOURCES else parameters(token)
    return [found for each in values[token] for found in leaves(each, types)]


def fits(value: Any, kind: Any) -> bool:
    kind = unwrap_type(kind)
    if within(kind) is not None and not get_args(kind):
        return isinstance(value, Mapping)
    if kind is Any or kind is inspect.Parameter.empty:
        return True
    words = str(kind)
    if isinstance(value, list):
        return "Sequence" in words
    if isinstance(value, Mapping):
        return "Mapping" in words
    if isinstance(value, bool):
        return "bool" in words
    return "str" in words if isinstance(value, str) else "int" in words or "float" in words


EVERY = [*((token, RESOURCES, "made") for token in RESOURCES), *((token, FUNCTIONS, "called") for token in FUNCTIONS)]
Case = tuple[str, dict[str, Any], Values]


@pytest.fixture(params=EVERY, ids=[token for token, _, _ in EVERY])
def case(request: pytest.FixtureRequest) -> Case:
    token, listed, values = request.param
    return token, listed[token], request.getfixturevalue(values)


def test_the_types_that_are_used_are_those_that_are_listed(made: Values, called: Values) -> None:
    assert set(made) == set(RESOURCES)
    assert set(called) == set(FUNCTIONS)


def test_the_inputs_that_are_used_are_those_that_are_listed(case: Case) -> None:
    token, listed, values = case
    assert {path for path, _, _ in used(values, token)} == set(listed["inputs"])


def test_values_have_the_types_of_the_sdk_and_are_among_those_that_are_listed(case: Case) -> None:
    token, listed, values = case
    for path, value, kind in used(values, token):
        assert fits(value, kind), (path, value, kind)
        known = listed["inputs"][path].get("values")
        assert known is None or value in known, (path, value)


@pytest.mark.parametrize("token", RESOURCES)
def test_what_the_sdk_requires_is_given(made: Values, token: str) -> None:
    def check(kind: Any, given: Mapping[str, Any]) -> None:
        names = input_type_py_to_pulumi_names(kind)
        signature = inspect.signature(kind.__init__).parameters
        needed = {names[key] for key, each in signature.items() if key in names and each.default is each.empty}
        assert needed <= set(given), needed - set(given)
        for key, value in given.items():
            inner = within(input_type_types(kind)[key])
            for each in (value if isinstance(value, list) else [value]) if inner else ():
                check(inner, each)

    for given in made[token]:
        check(arguments(token), given)


def calls_in(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Each call of a vendor's SDK in a file, as `aws.ec2.Instance`, with its keywords; Cloudflare's by cloudflare_sdk too."""
    tree = ast.parse(path.read_text())
    # The program's own ways to the parts of the SDKs that it uses.
    parts = {"aws_sdk": "aws", "cloudflare_sdk": "cloudflare"}
    ours = {
        each.asname or each.name: parts[each.name]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "components.resources"
        for each in node.names
        if each.name in parts
    }
    names = ours | {
        each.asname or each.name: each.name.removeprefix("pulumi_")
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for each in node.names
        if each.name.startswith("pulumi_")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, _, rest = ast.unparse(node.func).partition(".")
            if first in names and rest:
                yield f"{names[first]}.{rest}", {each.arg for each in node.keywords if each.arg} - {"opts"}


def test_no_call_in_the_program_is_left_out_by_the_configurations() -> None:
    """Else an input that only another configuration uses would not be seen."""
    known: dict[str, tuple[str, Any]] = {}
    for token in [*RESOURCES, *FUNCTIONS]:
        package, path, name = token.split(":")
        if token.startswith(_PROVIDER):
            known[f"{name}.Provider"] = token, RESOURCES[token]
            continue
        module = path.partition("/")[0]
        where = package if module == "index" else f"{package}.{module}"
        known[f"{where}.{name if token in RESOURCES else snake(name)}"] = token, (RESOURCES | FUNCTIONS)[token]
    found = [(name.removesuffix("_output"), words) for path in PROGRAM for name, words in calls_in(path)]
    assert {name for name, _ in found} == set(known)
    for name, keywords in found:
        token, listed = known[name]
        names = input_type_py_to_pulumi_names(arguments(token)) if token in RESOURCES else {}
        given = {names.get(key, camel(key)) for key in keywords}
        assert given <= set(listed["inputs"]), name


def test_the_sdks_are_those_that_were_checked() -> None:
    assert LISTED["sdks"] == {name: version(f"pulumi-{name}") for name in STAND_INS}


def test_a_stand_in_moves_and_takes_what_its_provider_does() -> None:
    plugin = import_module("localcloud.plugins.aws").PLUGIN
    listed = RESOURCES[f"{_PROVIDER}aws"]["inputs"]
    assert set(listed) <= set(plugin.settings)
    assert {path for path, settings in listed.items() if settings["on_change"] == "replaces"} == set(plugin.moving)


@pytest.mark.parametrize("token", [each for each in RESOURCES if not each.startswith(_PROVIDER)])
def test_the_stand_ins_replace_take_and_refuse_as_listed(token: str) -> None:
    types = {
        each.token: each for name in STAND_INS for each in import_module(f"localcloud.plugins.{name}").PLUGIN.types
    }
    for path, settings in RESOURCES[token]["inputs"].items():
        assert settings["on_change"] in ("in place", "replaces", "restarts"), path
        if "." in path:
            continue
        spec = types[token].inputs[path]
        assert spec.replaces == (settings["on_change"] == "replaces"), path
        assert not spec.choices or set(spec.choices) == set(settings["values"]), path


def test_the_sdks_own_words_agree() -> None:
    """Where the SDK says that a change makes a new resource, the list does too."""
    for token, listed in RESOURCES.items():
        names = input_type_py_to_pulumi_names(arguments(token))
        text = inspect.getdoc(arguments(token).__init__) or ""
        for key, settings in re.findall(r":param [^:]*\b(\w+): (.*?)(?=\n:param|\Z)", text, re.DOTALL):
            if re.search(r"(?i)forces (?:a )?new|must be replaced", settings) and names.get(key) in listed["inputs"]:
                assert listed["inputs"][names[key]]["on_change"] == "replaces", (token, key)


def test_every_record_says_where_it_was_looked_up() -> None:
    for token, listed in (RESOURCES | FUNCTIONS).items():
        assert re.fullmatch(
            r"https://(registry\.terraform\.io/providers|www\.pulumi\.com/registry)/\S+", listed["source"]
        ), token
        assert set(listed) <= {"source", "note", "refused", "inputs"}, token
        for settings in listed["inputs"].values():
            assert set(settings) <= {"on_change", "values", "note", "refused"}, token


# What can be refused, and where that is checked before anything is made.

_DYNAMIC = "pulumi-python:dynamic/"
_CONSTANT, _MADE, _FOUND = "constant", "made by the stack", "looked up by the stack"
_LATER = "not beforehand: "
# As resource_graph.py's mocks answer: what came from a resource or a look-up of the same run.
_ANSWERS = re.compile(r"arn:|-id$|-1a2b3c4|^[az]{32}$|^Z1$|secret|hush|CSR|subnet-|vpc-1|us-west-2|ami-|dns-write")


@pytest.fixture(scope="module")
def ours(graphs: Graphs) -> Values:
    """The inputs of our own dynamic resources, by type."""
    found: dict[str, list[dict[str, Any]]] = {}
    for config in CONFIGS:
        for name, inputs in graphs[config]["graph"].items():
            if name.startswith(_DYNAMIC):
                found.setdefault(name.rpartition("::")[0], []).append(inputs)
    return found


def stated() -> Iterator[tuple[str, Any]]:
    """Whatever the list says of refusals, and of what."""
    for token, settings in (RESOURCES | FUNCTIONS).items():
        # Of a function that only looks something up by its inputs there is no more to say.
        yield token, settings.get("refused", {} if token in FUNCTIONS and settings["inputs"] else None)
        for path, each in settings["inputs"].items():
            yield f"{token} {path}", each.get("refused")
    for api, settings in APIS.items():
        yield api, settings.get("refused")
    for call, settings in CALLS.items():
        yield call, settings or None
    for token, inputs in DYNAMIC.items():
        for key, settings in inputs.items():
            yield f"{token} {key}", settings


STATED = dict(stated())


def test_the_calls_that_are_made_are_those_that_are_listed() -> None:
    assert set(CALLS) == set(calls())
    assert set(APIS) == {each.partition(" ")[0] for each in CALLS}
    for settings in APIS.values():
        assert re.fullmatch(
            r"https://(docs\.aws\.amazon\.com|developers\.cloudflare\.com|github\.com)/\S+", settings["source"]
        )


def test_the_dynamic_resources_and_their_inputs_are_those_that_are_listed(ours: Values) -> None:
    assert set(ours) == set(DYNAMIC)
    for token, made in ours.items():
        assert {key for inputs in made for key in inputs} == set(DYNAMIC[token]), token


@pytest.mark.parametrize("of", STATED)
def test_what_can_be_refused_is_reported_with_where_it_is_checked(of: str) -> None:
    """An input, a resource or a call that says nothing of refusals fails here; so does a check that is not in the source."""
    settings = STATED[of]
    assert settings is not None, "say what can be refused and where it is checked, or why that cannot be known"
    if isinstance(settings, str):
        assert " " in of and settings in (_CONSTANT, _MADE, _FOUND), settings
        return
    for what, where in settings.items():
        assert what and not what.endswith("."), what
        if where.startswith(_LATER):
            assert len(where) > len(_LATER) + 10, where
        else:
            assert is_defined(where), f"{where} is no function of the program"


def is_defined(where: str) -> bool:
    """Whether `components/preflight/quotas.py:_type_fault` is there, or `…/models.py:FleetSettings.timeout`, a checked field."""
    file, _, name = where.partition(":")
    path = ROOT / file
    if not (path.is_file() and file.startswith(("components/", "userdata/"))):
        return False
    scope: Any = ast.parse(path.read_text())
    for part in name.split("."):
        scope = next((each for each in scope.body if _name_of(each) == part), None)
        if scope is None:
            return False
    return isinstance(scope, ast.FunctionDef | ast.AnnAssign)


def _name_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return statement.name if isinstance(statement, ast.FunctionDef | ast.ClassDef) else ""


@pytest.mark.parametrize("token", [*RESOURCES, *FUNCTIONS])
def test_documented_constants_are_constant_in_every_configuration(made: Values, called: Values, token: str) -> None:
    listed, values = (RESOURCES, made) if token in RESOURCES else (FUNCTIONS, called)
    given = used(values, token)
    for path, settings in listed[token]["inputs"].items():
        here = {json.dumps(value, sort_keys=True) for where, value, _ in given if where == path}
        if settings.get("refused") == _CONSTANT:
            # One that has parts is constant in its parts, which are listed; a few of a fixed set are so as well.
            parts = [each for each in listed[token]["inputs"] if each.startswith(f"{path}.")]
            fixed = {json.dumps(value) for value in settings.get("values", ())}
            assert parts or len(here) == 1 or here <= fixed or not _varies(here), (path, here)
        if settings.get("refused") in (_MADE, _FOUND) and not path.endswith(("Groups", "filters", "assumeRolePolicy")):
            assert all(_ANSWERS.search(text.strip('"[]')) for text in here), (path, here)


def _varies(here: set[str]) -> bool:
    """Whether texts differ by more than the names of fleets, machines and stacks that are in them."""
    return (
        len(
            {
                re.sub(
                    r"\b(all|api|away|beside|far|here|home|old|own|plain|there|web|local|aws|joyent|site)\b[\w-]*",
                    "",
                    each,
                )
                for each in here
            }
        )
        > 1
    )


# docs/inputs.md


def rendered() -> str:
    sdks = ", ".join(f"pulumi-{name} {number}" for name, number in LISTED["sdks"].items())
    lines = [
        "# What the program asks of the clouds, and what they may refuse",
        "",
        "This page is for engineers who change what the program sends to a cloud. It is made from [inputs.yaml](inputs.yaml) by",
        f"`UPDATE_GOLDEN=1 pytest tests/unit/test_inputs.py`. Each line was checked against {sdks},",
        "and against the documentation and the source of the provider. A test fails if the program uses a type, an input or a call",
        "that is not on this page, or if a stand-in treats one of them differently. Each line also says what the cloud may refuse,",
        "and which function checks this before anything is created.",
        "",
        "| words | meaning |",
        "|---|---|",
        "| *not beforehand* | Rollcall does not check this before it creates anything, for the reason that follows |",
        "| *constant* | the program always gives the same value |",
        "| *made by the stack*, *looked up by the stack* | the value does not come from the configuration |",
    ]
    for title, listed in (("Resources", RESOURCES), ("Functions", FUNCTIONS)):
        lines += ["", f"## {title}"]
        for token, settings in listed.items():
            lines += described(token, settings)
    lines += ["", "## Our own dynamic resources"]
    for token, inputs in DYNAMIC.items():
        lines += ["", f"### `{token}`", "", "| input | what can be refused, and where it is checked |", "|---|---|"]
        lines += [f"| `{key}` | {refusals(settings)} |" for key, settings in inputs.items()]
    lines += ["", "## Calls of the APIs", "", "What an API may refuse of any call:"]
    for api, settings in APIS.items():
        lines += ["", f"- [{api}]({settings['source']}): {refusals(settings['refused'])}"]
    lines += ["", "| call | what else can be refused, and where it is checked |", "|---|---|"]
    lines += [f"| `{call}` | {refusals(settings)} |" for call, settings in CALLS.items()]
    return "\n".join(lines) + "\n"


def refusals(settings: Any) -> str:
    """What can be refused, each with the function that checks it, or why none does."""
    if isinstance(settings, str):
        return settings
    shown = (f"{what} ({where if where.startswith(_LATER) else f'`{where}`'})" for what, where in settings.items())
    return "; ".join(shown) or "nothing else"


def described(token: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """A type or a function: where it was looked up, and a row for each input."""
    module, name = home(token)
    is_resource = token in RESOURCES
    yield from ("", f"### `{token}`", "")
    yield f"`{module.__name__}.{name if is_resource else snake(name)}`, [{module.__name__.split('.')[0][7:]}]({settings['source']})"
    if settings.get("note"):
        yield from ("", " ".join(settings["note"].split()))
    if settings.get("refused"):
        yield from ("", f"What can be refused: {refusals(settings['refused'])}.")
    heads = ["input", *(["a change"] if is_resource else []), "values", "note", "what can be refused"]
    if settings["inputs"]:
        yield from ("", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    for path, each in settings["inputs"].items():
        values = ", ".join(f"`{value}`" for value in each.get("values", ()))
        cells = [f"`{path}`", *([each["on_change"]] if is_resource else []), values, each.get("note", "")]
        yield f"| {' | '.join(map(str, [*cells, refusals(each['refused'])]))} |"


def test_the_document_is_made_from_the_list() -> None:
    target = ROOT / "docs/inputs.md"
    if os.environ.get("UPDATE_GOLDEN"):
        target.write_text(rendered())
    assert target.read_text() == rendered()
