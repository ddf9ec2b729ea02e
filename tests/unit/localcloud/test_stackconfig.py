"""localcloud.runtime.stackconfig: nothing of a stack's configuration leads a sandbox to a real cloud, and what it describes stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config.reader import read
from localcloud.runtime.stackconfig import copy, sandboxed

ROOT = Path(__file__).parents[3]

# key, value, and what stays of it (None: nothing)
TABLE: list[tuple[str, Any, Any]] = [
    ("rollcall:sites", {"zone": "scalability.expert"}, {"zone": "scalability.expert"}),
    ("rollcall:safeDeletes", False, False),
    ("rollcall:drainDelay", 0, 0),
    ("aws:region", "eu-west-1", "eu-west-1"),
    ("aws:defaultTags", {"tags": {"team": "web"}}, {"tags": {"team": "web"}}),
    ("aws:profile", "production", None),
    ("aws:endpoints", [{"route53": "https://route53.amazonaws.com"}], None),
    ("aws:accessKey", {"secure": "v1:abc"}, None),
    ("aws:assumeRoles", [{"roleArn": "arn:aws:iam::1:role/x"}], None),
    ("aws:sharedCredentialsFiles", ["/etc/aws"], None),
    ("cloudflare:baseUrl", "https://api.cloudflare.com/client/v4", None),
    ("cloudflare:apiToken", {"secure": "v1:abc"}, None),
    ("pulumi:disable-default-providers", ["aws"], None),
    ("rollcall:joyent", {"url": "https://cloudapi.example", "account": "me", "keyId": "SHA256:x"}, {}),
    (
        "rollcall:mirrors",
        {
            "r2": {"endpoint": "https://x.example", "bucket": "b", "secretKey": {"secure": "v1:abc"}},
            "web": {"https": "https://m.example/x"},
        },
        {"web": {"https": "https://m.example/x"}},
    ),
    ("rollcall:token", {"secure": "v1:abc"}, None),
    ("rollcall:sites", {"zone": "z.example", "token": {"secure": "v1:abc"}}, {"zone": "z.example"}),
]


@pytest.mark.parametrize(("key", "value", "stays"), TABLE, ids=[f"{row[0]}={row[1]!r}"[:50] for row in TABLE])
def test_what_stays_of(key: str, value: Any, stays: Any) -> None:
    given, left = sandboxed(yaml.safe_dump({"config": {key: value}}))
    assert given == {"config": {} if stays is None else {key: stays}}
    assert bool(left) == (stays != value)
    assert all(key in each for each in left)


def test_the_stacks_own_secrets_provider_stays_out() -> None:
    text = "secretsprovider: awskms://alias/pulumi\nencryptedkey: abc\nencryptionsalt: v1:x\nconfig: {aws:region: us-west-2}\n"
    given, left = sandboxed(text)
    assert given == {"config": {"aws:region": "us-west-2"}}
    assert left == ["encryptedkey", "encryptionsalt", "secretsprovider"]


@pytest.mark.parametrize("text", ["- a\n", "config: [a]\n", "text\n"])
def test_an_invalid_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a mapping"):
        sandboxed(text)


def test_a_key_that_is_there_twice_is_refused_and_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "Pulumi.prod.yaml", tmp_path / "copy.yaml"
    source.write_text("config:\n  rollcall:drainDelay: 5\n  rollcall:drainDelay: 6\n")
    with pytest.raises(ValueError, match=r"Pulumi\.prod\.yaml: has a key twice\. rollcall:drainDelay: .*lines 2, 3"):
        copy(source, target)
    assert not target.exists()


WORKLOADS = """\
config:
  rollcall:workloads:
    shop: { files: ../shop, run: ./start, secrets: { KEY: { secure: v1:of-the-real-stack } } }
    api: { files: /srv/api, run: ./api }
    db: { run: /usr/bin/db }
"""


def test_files_of_workloads_are_found_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    source, target = tmp_path / "project/Pulumi.mine.yaml", tmp_path / "copy.yaml"
    source.write_text(WORKLOADS)
    copy(source, target)
    copied = yaml.safe_load(target.read_text())["config"]["rollcall:workloads"]
    assert {name: each.get("files") for name, each in copied.items()} == {
        "shop": f"{tmp_path}/project/../shop",
        "api": "/srv/api",
        "db": None,
    }


def test_secrets_that_were_set_in_the_copy_stay_while_what_they_belong_to_is_there(tmp_path: Path) -> None:
    source, target = tmp_path / "Pulumi.mine.yaml", tmp_path / "copy.yaml"
    source.write_text(WORKLOADS)
    copy(source, target)
    changed = yaml.safe_load(target.read_text())
    workloads = changed["config"]["rollcall:workloads"]
    workloads["shop"]["secrets"] = {"KEY": {"secure": "v1:local"}}
    workloads["db"]["secrets"] = {"PASSWORD": {"secure": "v1:local"}}
    workloads["api"]["secrets"] = {"TOKEN": {"secure": "v1:local"}}
    changed["config"] |= {"rollcall:machineToken": {"secure": "v1:local"}, "cloudflare:apiToken": {"secure": "v1:x"}}
    target.write_text(yaml.safe_dump(changed) + "encryptionsalt: v1:salt\n")
    source.write_text(WORKLOADS.replace("    api: { files: /srv/api, run: ./api }\n", "").replace("./start", "./other"))
    copy(source, target)
    found = yaml.safe_load(target.read_text())
    config, local = found["config"], {"secure": "v1:local"}
    assert config["rollcall:workloads"]["shop"]["secrets"] == {"KEY": local}
    assert config["rollcall:workloads"]["shop"]["run"] == "./other"
    assert config["rollcall:workloads"]["db"]["secrets"] == {"PASSWORD": local}
    assert "api" not in config["rollcall:workloads"] and "cloudflare:apiToken" not in config
    assert config["rollcall:machineToken"] == local and found["encryptionsalt"] == "v1:salt"


def test_an_empty_file_is_an_empty_configuration() -> None:
    assert sandboxed("") == ({"config": {}}, [])


@pytest.mark.parametrize("stack", ["local", "prod", "staging"])
def test_every_stack_of_the_project_is_whole_and_rehearsed_as_it_is_written(stack: str) -> None:
    text = (ROOT / f"Pulumi.{stack}.yaml").read_text()
    given, left = sandboxed(text)
    assert (given, left) == ({"config": yaml.safe_load(text)["config"]}, [])
    ours = {key.partition(":")[2]: value for key, value in given["config"].items() if key.startswith("rollcall:")}
    assert read(stack, ours).fleets


def test_production_has_protection_and_acceleration_on_and_the_default_has_them_off() -> None:
    stacks = {name: yaml.safe_load((ROOT / f"Pulumi.{name}.yaml").read_text())["config"] for name in ("local", "prod")}
    sites = {
        name: read(name, {key[9:]: value for key, value in given.items() if key.startswith("rollcall:")}).sites[0]
        for name, given in stacks.items()
    }
    prod, local = sites["prod"], sites["local"]
    assert prod is not None and (prod.proxied, prod.protection, prod.acceleration) == (True, "high", True)
    assert local is not None and (local.proxied, local.protection, local.acceleration) == (False, "off", False)
