"""Containers in the configuration: a wrong value is one error with its fix, and the right one none."""

from __future__ import annotations

from typing import Any

import pytest

from components.config.models import WorkloadSettings, without_tag
from components.config.reader import read_whole
from components.workloads.definitions import definition

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
IMAGE = f"ghcr.io/acme/cart@{DIGEST}"
W = "rollcall:workloads.cart"
GOOD: dict[str, Any] = {
    "container": IMAGE,
    "ports": [8080],
    "args": ["--port", "8080"],
    "env": {"A": "b"},
    "secrets": {"DATABASE_URL": "hush-hush"},
    "registry": {"user": "acme", "password": "hush-too"},
    "check": {"http": ":8080/healthz", "grace": 60},
    "before": {"run": "./migrate"},
    "memory": "512M",
    "cpu": "50%",
    "user": "1000:1000",
    "capabilities": ["CHOWN"],
    "readOnly": True,
}


def faults(cart: dict[str, Any], **others: dict[str, Any]) -> list[str]:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["cart", *others]}
    workloads = {"cart": cart, **others}
    given = {"sites": {"www": {"zone": "s.example"}}, "workloads": workloads, "fleets": {"web": fleet}}
    return read_whole("local", given)[1]


def test_what_the_manual_shows_is_read() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "image",
    [
        f"docker.io/library/nginx@{DIGEST}",
        f"localhost:5000/cart@{DIGEST}",
        f"registry:5000/a/b/c__d/e-f@{DIGEST}",
        f"ghcr.io/acme/cart:1.4@{DIGEST}",
    ],
)
def test_names_of_images_with_their_registry(image: str) -> None:
    assert faults({"container": image}) == []


@pytest.mark.parametrize(
    "image",
    [f"nginx@{DIGEST}", f"acme/cart@{DIGEST}", f"ghcr.io/Acme@{DIGEST}", "ghcr.io/a@sha256:abc", "ghcr.io/a b", ""],
)
def test_other_names_are_refused(image: str) -> None:
    (fault,) = faults({"container": image})
    assert (
        fault.startswith(f"{W}.container: ") and "is not the image of a container. Write it with its registry" in fault
    )


@pytest.mark.parametrize("image", ["ghcr.io/acme/cart", "ghcr.io/acme/cart:1.4", "localhost:5000/cart"])
def test_an_image_without_a_digest_is_refused_with_what_finds_the_digest(image: str) -> None:
    (fault,) = faults({"container": image})
    assert fault == (
        f"{W}.container: {image} has no digest, so machines could run different images. Add the digest, as {image}@sha256:…. "
        "`pulumi preview` shows the one that the registry has now. So does `skopeo inspect --format '{{.Digest}}' "
        f"docker://{image}`."
    )


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"run": "python3 -m cart"}, f"{W}.container: is there beside run. Keep one of the two."),
        ({"files": "workloads/cart"}, f"{W}.files: is there beside container. Put it into the image."),
        ({"packages": ["curl"]}, f"{W}.packages: is there beside container. Put it into the image."),
        ({"ports": [8080, 8080]}, f"{W}.ports[1]: '8080' is in it twice. Name each once."),
        ({"ports": [0]}, f"{W}.ports[0]: 0 is out of range (1 to 65535)."),
        (
            {"ports": [8081]},
            f"{W}.check: asks port 8080, which is not in ports. Add 8080 to ports, or correct the check.",
        ),
        ({"check": {"command": "./healthy"}}, f"{W}.check.command: would not run in the container. Use http or tcp."),
        ({"args": ["a\nb"]}, f"{W}.args[0]: 'a\\nb' is not one line."),
        ({"registry": {"user": "a:b", "password": "x"}}, f"{W}.registry.user: 'a:b' is not the name of a user."),
        ({"registry": {"user": "acme"}}, f"{W}.registry.password: is empty. Run `pulumi config set --secret --path"),
        ({"capabilities": ["SYS_ADMIN"]}, f"{W}.capabilities[0]: 'SYS_ADMIN' is not"),
    ],
)
def test_a_wrong_value_is_one_error_with_its_fix(more: dict[str, Any], fault: str) -> None:
    (found,) = faults({**GOOD, **more})
    assert found.startswith(fault)
    assert "hush" not in found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("registry", GOOD["registry"]),
        ("ports", [80]),
        ("args", ["a"]),
        ("capabilities", ["CHOWN"]),
        ("readOnly", True),
    ],
)
def test_keys_of_a_container_are_refused_elsewhere(key: str, value: object) -> None:
    (fault,) = faults({"run": "python3 -m cart", key: value})
    assert fault == f"{W}.{key}: is for a workload with container. Take it out."


def test_a_numeric_user_is_for_a_container() -> None:
    (fault,) = faults({"run": "python3 -m cart", "user": "1000"})
    assert fault == f"{W}.user: is a number. Name a user of the machine, as www-data."


def test_workloads_of_a_machine_listen_on_different_ports() -> None:
    where = "rollcall:fleets.web.runs"
    (fault,) = faults({"container": IMAGE, "ports": [8080]}, shop={"container": IMAGE, "ports": [9090, 8080]})
    assert fault == f"{where}: has shop and cart, which listen on port 8080. Change the port of one."
    (fault,) = faults({"container": IMAGE, "ports": [80]}, www={"files": "www", "nginx": {}})
    assert fault == f"{where}: has cart and nginx, which listen on port 80. Change the port of one."
    assert faults({"container": IMAGE, "ports": [8080]}, shop={"container": IMAGE, "ports": [8081]}) == []


@pytest.mark.parametrize(
    ("image", "name"),
    [("ghcr.io/a/b:1", "ghcr.io/a/b"), ("host:5000/a", "host:5000/a"), ("host:5000/a:2", "host:5000/a")],
)
def test_the_port_of_a_registry_is_not_a_tag(image: str, name: str) -> None:
    assert without_tag(image) == name


def test_a_definition_has_the_image_by_its_digest_only_and_no_default() -> None:
    found = definition(WorkloadSettings(name="cart", container=f"ghcr.io/acme/cart:1.4@{DIGEST}"))
    assert found == {"name": "cart", "container": {"image": IMAGE}, "format": 3}
