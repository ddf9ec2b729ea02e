"""components.config.reader: every error of a run at once, each as `WHERE: PROBLEM. FIX.`, and never a secret or a traceback."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_snake as snake

from components.config.errors import ConfigurationError, at
from components.config.models import KEYS
from components.config.reader import decoded, plain, read, read_whole, rollcall_keys

ROOT = Path(__file__).parents[3]
FLEET: dict[str, Any] = {"cloud": "aws", "count": 2, "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}
GOOD: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert"}},
    "serviceDiscovery": {
        "zone": "unilans.net",
        "services": {"theService": {"port": 4218, "incarnations": {"v1": {"txt": {"path": "/"}}}}},
    },
    "fleets": {
        "web": {**FLEET, "ssh": {"user": "admin", "keyName": "operators", "from": ["203.0.113.0/24"]}},
        "api": {**FLEET, "cloud": "joyent", "joins": ["theService/v1"], "adopt": {"0": "old"}, "networks": ["a"]},
    },
    "joyent": {"url": "https://cloudapi.example"},
    "drainDelay": 5,
    "safeDeletes": True,
    "rotationTrigger": "2026-11",
    "resolvers": ["192.0.2.53"],
}
# `WHERE: PROBLEM. FIX.`
SHAPE = re.compile(r"rollcall:.*?: .+\. [A-Z`].*\.")
V1 = "serviceDiscovery/services/theService/incarnations/v1"


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *above, last = path.split("/")
    place: Any = config
    for name in above:
        place = place[name]
    place[last] = value
    return config


def faults(config: Any, hidden: tuple[str, ...] = ()) -> list[str]:
    return read_whole("local", config, hidden)[1]


def test_errors_of_every_section_are_named_at_once() -> None:
    config = copy.deepcopy(GOOD)
    config["sites"]["www"].update(zone="X", ttl=5, prxied=True, create="yes")
    config["serviceDiscovery"]["services"]["theService"].update(port="4218", protocol="sctp")
    config["serviceDiscovery"]["services"]["theService"]["incarnations"]["v1"].update(shards=1.0, txt=["a"])
    config["fleets"]["web"].update(count=-1, cloud="gcp", joins="site/www", ssh={"usr": "admin"})
    config["fleets"]["api"] = []
    config["joyent"]["url"] = "us-east-1"
    config.update(drainDelay=None, drainDelai=5, safeDeletes="off", resolvers=["x", 5])
    assert sorted(each.partition(": ")[0].removeprefix("rollcall:") for each in faults(config)) == sorted(
        [
            *(f"sites.www.{each}" for each in ("zone", "ttl", "prxied", "create")),
            *(f"serviceDiscovery.services.theService.{each}" for each in ("port", "protocol")),
            *(f"serviceDiscovery.services.theService.incarnations.v1.{each}" for each in ("shards", "txt")),
            *(f"fleets.web.{each}" for each in ("count", "cloud", "joins", "ssh.usr")),
            *("fleets.api", "joyent.url", "drainDelai", "safeDeletes", "resolvers[0]", "resolvers[1]"),
            # What the cloud asks for: the example of a wrong cloud is EC2.
            *("fleets.web.ssh.user", "fleets.web.ssh.keyName", "fleets.web.ssh.from"),
        ]
    )
    with pytest.raises(ConfigurationError, match="has 21 errors, nothing was changed"):
        read("local", config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("fleets/web/count", -1, "-1 is out of range (0 to 1000). Set a number in this range."),
        ("fleets/web/count", "2", "'2' is not a whole number. Set one from 0 to 1000, without quotes."),
        ("fleets/web/count", 1.0, "1.0 is not a whole number. Set one from 0 to 1000."),
        ("fleets/web/count", True, "true is not a whole number. Set one from 0 to 1000."),
        ("fleets/web/count", [2], "a list is not a whole number. Set one from 0 to 1000."),
        ("fleets/web/count", 10**200, "the number is out of range (0 to 1000). Set a number in this range."),
        ("fleets/web/timeout", 5, "5 is out of range (10 to 3600 seconds). Set a number in this range."),
        ("sites/www/proxied", "yes", "'yes' is not a boolean. Set true or false, without quotes."),
        ("sites/www/proxied", 1, "1 is not a boolean. Set true or false, without quotes."),
        ("sites/www/zone", None, "is missing. Set it, as scalability.expert."),
        ("sites/www/zone", 5, "5 is not a text. Put it in quotes (`--type string` of `pulumi config set`)."),
        ("sites/www/zone", {"a": "b"}, "a mapping is not a text. Write one text."),
        (
            "sites/www/protection",
            "hihg",
            "'hihg' is not one of off, low, medium, high, under_attack (did you mean high?). Set one of these.",
        ),
        ("sites/www/protection", ["high"], "a list is not one of off, low, medium, high, under_attack. Set one of these."),
        ("fleets/web", ["a"], "a list is not a mapping. Write it as {key: value, …}."),
        ("fleets", ["web"], "a list is not a mapping. Write it as {key: value, …}."),
        ("fleets/web/joins", "site/www", "'site/www' is not a list. Set it to a list, as [site/www]."),
        ("fleets/web/joins", {"site/www": 1}, "a mapping is not a list. Set it to a list, as [site/www]."),
        (f"{V1}/txt", [], "a list is not a mapping. Write it as {key: value, …}."),
        ("sites", "scalability.expert", "'scalability.expert' is not a mapping. Write it as {key: value, …}."),
        ("sites", False, "false is not a mapping. Write it as {key: value, …}."),
        ("serviceDiscovery/services", None, "is missing. Set it, as {theService: {incarnations: {v1: {}}, port: 4218}}."),
        ("resolvers", [f"192.0.2.{at}" for at in range(9)], "names 9. Name 8 at the most."),
    ],
)  # fmt: skip
def test_a_wrong_type_or_value_is_one_message_with_the_fix(path: str, value: object, message: str) -> None:
    assert faults(changed(path, value)) == [f"rollcall:{path.replace('/', '.')}: {message}"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("drainDelai", "drainDelay"),
        ("machinToken", "machineToken"),
        ("sites/www/zoneID", "zoneId"),
        ("sites/www/zone_id", "zoneId"),
        ("joyent/key_id", "keyId"),
        ("serviceDiscovery/servces", "services"),
        ("serviceDiscovery/services/theService/incarnation", "incarnations"),
        (f"{V1}/shard", "shards"),
        ("fleets/web/weigth", "weight"),
        ("fleets/web/ssh/keyname", "keyName"),
    ],
)
@pytest.mark.parametrize("value", [5, None])
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(path: str, near: str, value: object) -> None:
    (fault,) = faults(changed(path, value))
    assert fault.startswith(f"rollcall:{path.replace('/', '.')}: is not a setting (did you mean {near}?). Use one of ")


@pytest.mark.parametrize("path", ["fleets/web/name", "stack", "network_ids", f"{V1}/name"])
def test_a_value_that_the_program_fills_in_is_not_a_setting(path: str) -> None:
    (fault,) = faults(changed(path, "x"))
    assert ": is not a setting" in fault


@pytest.mark.parametrize(
    "path", ["fleets/web/count", "fleets/web/ipv6", "sites/www/ttl", "drainDelay", "joyent", f"{V1}", "resolvers"]
)
def test_null_is_the_default(path: str) -> None:
    assert faults(changed(path, None)) == []


def test_null_where_only_a_value_means_something_is_missing() -> None:
    assert faults(changed(f"{V1}/txt", {"path": None})) == [
        "rollcall:serviceDiscovery.services.theService.incarnations.v1.txt.path: is missing. Set it, or take the key out."
    ]
    assert "adopt.0: is missing" in faults(changed("fleets/api/adopt", {"0": None}))[0]


def test_ssh_without_a_value_is_ssh_with_all_defaults() -> None:
    assert [each.partition(": ")[0] for each in faults(changed("fleets/web/ssh", None))] == [
        f"rollcall:fleets.web.ssh.{key}" for key in ("user", "keyName", "from")
    ]
    fleet = read("local", changed("fleets/api/ssh", None)).fleets[1]
    assert fleet.ssh is not None and fleet.ssh.user == "root"


def test_a_key_with_special_characters_is_shown_as_pulumi_writes_its_path() -> None:
    assert at("rollcall:fleets", "web", "joins", 0) == "rollcall:fleets.web.joins[0]"
    (fault,) = faults(changed("fleets/a.b c", {**FLEET}))
    assert fault.startswith('rollcall:fleets["a.b c"]: is not the name of a fleet. Use 1 to 30')


# What `pulumi config set` and `pulumi config set --path` write, as the engine hands it over (pulumi 3.259): a whole key is a text, and in
# it booleans and integers have their types. https://www.pulumi.com/docs/iac/cli/commands/pulumi_config_set/
@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("drainDelay", "5", 5),
        ("safeDeletes", "false", False),
        ("rotationTrigger", "2026", "2026"),
        ("rotationTrigger", "true", "true"),
        ("resolvers", '["192.0.2.53"]', ("192.0.2.53",)),
    ],
)
def test_a_whole_key_is_read_as_the_engine_hands_it_over(key: str, text: str, value: object) -> None:
    assert getattr(read("local", {**GOOD, **decoded({key: text})}), snake(key)) == value


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("drainDelay", "5.0", "5.0 is not a whole number"),
        ("drainDelay", "", "'' is not a whole number"),
        ("drainDelay", "five", "'five' is not a whole number"),
        ("drainDelay", "five " * 1000, "a text of 5000 characters is not a whole number"),
        ("safeDeletes", "yes", "'yes' is not a boolean"),
        ("sites", "scalability.expert", "'scalability.expert' is not a mapping"),
        ("sites", '{"zone": ', "'{\"zone\": ' is not a mapping"),
        ("fleets", "[" * 100_000, "a text of 100000 characters is not a mapping"),
    ],
)
def test_a_text_that_is_not_of_its_key_is_an_error(key: str, text: str, shown: str) -> None:
    (fault,) = faults({**GOOD, **decoded({key: text})})
    assert fault.startswith(f"rollcall:{key}: {shown}. ")


@pytest.mark.parametrize(
    ("path", "text", "refused"),
    [
        ("fleets/web/count", "1", False),
        ("fleets/web/count", "1001", True),
        ("fleets/web/count", "1.0", True),
        ("fleets/web/count", "one", True),
        ("fleets/web/ipv6", "true", False),
        ("fleets/web/ipv6", "True", True),
        ("drainDelay", "5", False),
    ],
)
def test_a_secret_number_or_boolean_is_a_text_as_pulumi_writes_it(path: str, text: str, refused: bool) -> None:
    """`pulumi config set --secret --path rollcall:fleets.web.count 1`: the engine decrypts it to a text."""
    key = path.partition("/")[0]
    assert bool(faults(changed(path, text), (key,))) == refused
    assert faults(changed(path, text)) != []


SECRET = "hunter2"
TOKEN = "v1Q9bX0Zk3Jd8Lw2Pq7Rt5Ys1Uc4Ve6Xf0Ag9BhMn"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(
            (key, SECRET)
            for key in ("sites", "serviceDiscovery", "fleets", "joyent", "drainDelay", "safeDeletes", "resolvers")
        ),
        ("sites/www/zone", SECRET),
        ("sites/www/check", SECRET),
        ("sites/www/protection", SECRET),
        ("sites/www/ttl", SECRET),
        ("sites/www/proxied", SECRET),
        ("fleets/web/image", SECRET),
        ("fleets/web/region", SECRET),
        ("fleets/web/joins", [SECRET]),
        ("fleets/web/joins", ["site/www", SECRET, SECRET]),
        ("fleets/web/ssh/from", [SECRET]),
        ("fleets/api/region", f"{SECRET}_"),
        ("fleets/api/adopt", {"0": SECRET, "1": SECRET}),
        ("fleets/api/networks", [SECRET, SECRET]),
        ("joyent/url", SECRET),
        ("resolvers", [SECRET]),
        (f"{V1}/txt", {"k": f"password={SECRET}"}),
        ("sites/www/check", f"command:/{'x' * 240}{SECRET}"),
        ("serviceDiscovery/services/theService/check", f"command:/{'x' * 240}{SECRET}"),
    ],
)
def test_the_value_of_a_secret_key_is_in_no_message_and_no_traceback(path: str, value: object) -> None:
    """`pulumi config set --secret` makes the whole key a secret, wherever in it the value is."""
    key = path.partition("/")[0]
    with pytest.raises(ConfigurationError) as refused:
        read("local", changed(path, value), (key,))
    given_settings = "".join(traceback.format_exception(refused.value)) + str(refused.value) + repr(refused.value.args)
    assert SECRET not in given_settings and refused.value.__cause__ is None and refused.value.__context__ is None
    if not isinstance(value, dict) and "xx" not in str(value):
        assert SECRET in str(faults(changed(path, value))), "the message shows what is no secret"


@pytest.mark.parametrize(
    "path",
    ["sites/www/zone", "sites/www/protection", "drainDelay", "fleets/web/count", "fleets/web/image", "safeDeletes"],
)
def test_what_looks_like_a_token_is_not_shown_wherever_it_is(path: str) -> None:
    (fault,) = faults(changed(path, TOKEN))
    assert TOKEN not in fault and "the value (not shown) is not" in fault


def test_the_examples_of_the_models_are_right() -> None:
    """They stand in for what is wrong, so that one run finds the rest."""
    schema = rollcall_keys().schema
    for name, model in schema["$defs"].items():
        for key in model.get("required", ()):
            node = model["properties"][key]
            assert node["examples"], f"{name}.{key}"
    whole, _ = read_whole("local", {"sites": {}, "serviceDiscovery": {}, "fleets": {"web": {}}})
    assert whole.sites == ()
    whole, found = read_whole(
        "local", {"sites": {"www": {"host": "www"}}, "serviceDiscovery": {"ttl": 5}, "fleets": {"web": {}}}
    )
    assert len(whole.sites) == 1 and whole.service_discovery is not None and whole.fleets[0].joins == ("site/www",)
    assert len(found) == 7 and all(": is missing. Set it, as " in each for each in found)


KEY = st.sampled_from([*KEYS, "drainDelai", "web", "count", "zone", "", "a b", "\x00", "ſ", "\ud800", "[0]", 'q"'])
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["site/www", "aws", "192.0.2.1", "\ud800", "x" * 300, "tcp:80"])
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3), max_leaves=6
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a configuration where something can be put."""
    found = [path] if path else []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += paths(item, (*path, key))
    return found


SCHEMA_KEYS = sorted({name for model in rollcall_keys().schema["$defs"].values() for name in model["properties"]})


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_value_at_any_key_is_read_or_named_by_its_key(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(GOOD)))
    if isinstance(path[-1], str) and data.draw(st.booleans()):
        path = (*path[:-1], data.draw(st.sampled_from(SCHEMA_KEYS) | KEY))
    value = data.draw(VALUE)
    config = copy.deepcopy(GOOD)
    place: Any = config
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    found = faults(config)
    for each in ConfigurationError(found).faults:
        assert SHAPE.fullmatch(each), each
    # A mistake in a service may be reported for a fleet that joins it, and too many machines of a fleet for the service.
    named = {
        plain(str(path[0])).replace("\x00", r"\0"),
        *(("fleets",) if path[0] in ("sites", "serviceDiscovery") else ()),
        *(("sites",) if path[0] in ("fleets", "serviceDiscovery") else ()),
        *(("serviceDiscovery",) if path[0] == "fleets" else ()),
    }
    assert all(each.startswith(tuple(f"rollcall:{name}" for name in named)) for each in found), (path, found)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(KEYS), st.text(max_size=50) | VALUE.map(lambda value: json.dumps(value, default=str))
    )
)
def test_any_text_that_an_engine_could_hand_over_is_read_or_named(texts: dict[str, str]) -> None:
    for each in ConfigurationError(faults(decoded(texts))).faults:
        assert SHAPE.fullmatch(each), each


_HOST = """
import sys
import components.registration.providers
from components.aws.account_settings import read
read({"aws:region": "us-west-2", "aws:profile": "shop"}.get)
loud = [each for each in sys.modules if each.startswith("pydantic")]
sys.exit(f"imported {loud}" if loud else 0)
"""


def test_the_hosts_of_dynamic_providers_do_without_pydantic() -> None:
    """There are several for each `up`, and each would take a tenth of a second and ten megabytes more."""
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'userdata'}", "PATH": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", _HOST], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_imports_nothing_of_the_program() -> None:
    """It is read by commands and by tools that start no SDK, and everything else may import it."""
    ours = ("components.config", "rollcall")
    allowed = (*ours, "pydantic", "pydantic_core", "yaml")
    for file in (ROOT / "components" / "config").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = (
                    [f"components.{each.name}" for each in node.names]
                    if node.module == "components"
                    else [str(node.module)]
                )
            for name in names:
                inside = name in allowed or name.startswith(tuple(f"{each}." for each in allowed))
                assert inside or name.partition(".")[0] in sys.stdlib_module_names, f"{file.name} imports {name}"
