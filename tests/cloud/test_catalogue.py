"""`rollcall catalogue` on the local clouds: every line names what a fleet may say, and the clouds take it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from components.commands import catalogue
from components.commands.catalogue import Offer, chosen, of_ec2, of_triton
from components.config.models import EC2_IMAGES
from components.joyent.client import CloudApi
from localcloud.machines.compute import InstantHypervisor
from localcloud.triton import Names
from tests.cloud.aws_cloud import Cloud, debian, running
from tests.cloud.cloudapi_server import ACCOUNT, RSA_KEY, Front, Lab, private_text

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running(hypervisor=InstantHypervisor()) as made:
        yield made


@pytest.fixture(scope="module")
def ec2(cloud: Cloud) -> list[Offer]:
    return of_ec2(cloud.client)


@pytest.fixture(scope="module")
def triton() -> Iterator[CloudApi]:
    front = Front()
    lab = Lab(front, {"networks": Names(fabrics={"My-Fabric-Network": "192.168.128.0/22"})})
    given_settings = {
        "url": lab.url,
        "account": ACCOUNT,
        "keyId": lab.fingerprint,
        "keyMaterial": private_text(RSA_KEY).decode(),
    }
    yield CloudApi.from_settings(given_settings, environ={})
    front.stop()


def test_every_image_with_a_name_is_there_with_the_ami_that_it_means_now(cloud: Cloud, ec2: list[Offer]) -> None:
    images = {each.name: each.note for each in ec2 if each.kind == "image"}
    assert set(images) == set(EC2_IMAGES)
    assert images["debian-12"].startswith(f"now {debian(cloud)}, ")


def test_sizes_have_cores_and_memory_and_run_the_images(cloud: Cloud, ec2: list[Offer]) -> None:
    sizes = {each.name: each for each in ec2 if each.kind == "size"}
    assert (sizes["t3.micro"].vcpus, sizes["t3.micro"].memory) == (2, 1024)
    assert (sizes["t3.micro"].note, sizes["t4g.micro"].note) == ("", "arm64")
    assert not [name for name in sizes if name.startswith("mac")]
    cloud.run(InstanceType="t3.micro")
    arm = next(each for each in ec2 if each.name == "debian-12").note.rpartition(" ")[2]
    cloud.run(InstanceType="t4g.micro", ImageId=arm)


def test_of_triton_the_names_are_those_that_a_fleet_takes(triton: CloudApi) -> None:
    found = of_triton(triton)
    packages = {each.name for each in found if each.kind == "size"}
    images = {each.name for each in found if each.kind == "image"}
    assert packages == {each.name for each in triton.list_packages()} and "g1.micro" in packages
    assert any(each.startswith("debian-12@") for each in images)
    networks = {each.name: each.note.partition(",")[0] for each in found if each.kind == "network"}
    assert networks == {
        "Joyent-SDC-Public": "public",
        "Joyent-SDC-Private": "private",
        "My-Fabric-Network": "fabric 192.168.128.0/22",
    }


def test_each_word_must_be_part_of_a_line() -> None:
    small = Offer(cloud="aws", kind="size", vcpus=2, memory=1024, name="t3.micro")
    large = Offer(cloud="aws", kind="size", vcpus=2, memory=8192, name="t3.large")
    assert chosen([large, small], []) == [small, large]
    assert chosen([large, small], ["AWS", "micro"]) == [small]
    assert str(small).split() == ["aws", "size", "t3.micro", "2", "vCPU", "1", "GiB"]


def test_as_json_and_without_a_cloud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    offer = Offer(cloud="aws", kind="image", name="debian-12", note="now ami-1")
    monkeypatch.setattr(catalogue, "list_offers", lambda *_: ([offer], ["joyent is left out: no key"]))
    assert catalogue.main(["--json"]) == 0
    given_settings = capsys.readouterr()
    assert json.loads(given_settings.out)[0]["name"] == "debian-12" and "joyent is left out" in given_settings.err
    monkeypatch.setattr(
        catalogue, "list_offers", lambda *_: ([], ["aws is left out: no region", "joyent is left out: no key"])
    )
    assert catalogue.main([]) == 2


@pytest.mark.parametrize(
    "words",
    [["aws", "size"], ["--region", "r", "aws", "size"], ["aws", "--region", "r", "size"], ["aws", "size", "--json"]],
)
def test_words_are_on_both_sides_of_options(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    requested: list[list[str]] = []
    monkeypatch.setattr(catalogue, "list_offers", lambda *_: ([Offer(cloud="aws", kind="size", name="t3.micro")], []))

    def kept(found: list[Offer], given: list[str]) -> list[Offer]:
        requested.append(given)
        return found

    monkeypatch.setattr(catalogue, "chosen", kept)
    assert catalogue.main(words) == 0
    assert requested == [["aws", "size"]]
