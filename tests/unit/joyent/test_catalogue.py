from __future__ import annotations

from typing import Any

import pytest
from pulumi.runtime import rpc

from components.joyent import lookups
from components.joyent.catalogue import Catalogue
from components.joyent.errors import AmbiguousError, CloudApiError, NotFoundError, RefusedError
from components.joyent.machine import MachineProvider
from components.joyent.machine_checks import faults
from components.joyent.machine_fields import NAMES
from tests.unit.joyent import fake
from tests.unit.joyent.fake import IMAGES, NETWORKS, PACKAGES, POOL, PRIVATE, PUBLIC, FakeCloud
from tests.unit.joyent.test_machine import DECLARED


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def catalogue(cloud: FakeCloud) -> Catalogue:
    return cloud.session().catalogue


NEWEST, OLDER, OLD = IMAGES[0], IMAGES[1], IMAGES[3]


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("debian-12", NEWEST), ("debian-12@20261101", NEWEST), ("debian-12@20250101", OLDER), (OLDER["id"], OLDER),
        (str(OLDER["id"])[:8], OLDER),
    ],
)  # fmt: skip
def test_an_image_is_found_by_each_of_its_words(catalogue: Catalogue, text: str, image: dict[str, Any]) -> None:
    assert catalogue.image(text).id == image["id"]


@pytest.mark.parametrize(
    ("what", "text", "kind", "message"),
    [
        (
            "image",
            "debain-12",
            NotFoundError,
            "image 'debain-12': does not exist in this data centre. Name one of debian-12",
        ),
        ("image", "debian-12@2", NotFoundError, "Name one of debian-12"),
        ("image", "old", NotFoundError, "image 'old': does not exist"),
        ("image", OLD["id"], RefusedError, "is disabled, not active. Choose another"),
        ("package", "g1.large", NotFoundError, "Name one of g1"),
        ("package", PUBLIC, NotFoundError, "package '.*': does not exist"),
        ("network", "Joyent-SDC-Publik", NotFoundError, "Name one of Joyent-SDC-Public"),
    ],
)
def test_what_is_not_there_names_what_is_near(
    catalogue: Catalogue, what: str, text: str, kind: type[CloudApiError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        getattr(catalogue, what)(text)


def test_two_networks_with_one_name_are_ambiguous(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "NETWORKS", [*NETWORKS, {"id": POOL, "name": "Joyent-SDC-Public"}])
    with pytest.raises(AmbiguousError, match=rf"{PUBLIC}.*{POOL}.*Give the id"):
        catalogue.network("Joyent-SDC-Public")


def test_two_images_with_one_name_and_version_are_ambiguous(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "IMAGES", [*IMAGES, {**NEWEST, "id": PRIVATE}])
    for text in ("debian-12", "debian-12@20261101"):
        with pytest.raises(AmbiguousError, match=str(NEWEST["id"])):
            catalogue.image(text)


def test_of_several_packages_with_a_name_the_highest_version_counts(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = {**PACKAGES[0], "id": PRIVATE, "version": "1.0.10"}
    monkeypatch.setattr(fake, "PACKAGES", [newer, *PACKAGES, {**newer, "id": POOL, "version": "1.0.9"}])
    assert catalogue.package("g1.nano").id == PRIVATE


def test_the_catalogue_is_asked_for_once(cloud: FakeCloud, catalogue: Catalogue) -> None:
    for _ in range(50):
        catalogue.image("debian-12")
        catalogue.package("g1.nano")
        catalogue.network("pool")
    assert sorted(cloud.calls) == ["GET /images", "GET /networks", "GET /packages"]


def test_what_an_existing_machine_was_made_of_may_be_offered_no_more(cloud: FakeCloud) -> None:
    """Else nothing of the stack could be changed, not even its number of machines, before all of them were replaced."""
    provider = MachineProvider()
    provider.fixed_session = cloud.session()
    existing = {**DECLARED, "image": OLD["id"], "package": "retired", "networks": ["gone"]}

    def refused(olds: dict[str, Any], news: dict[str, Any]) -> set[str]:
        return {each.property for each in provider.check(olds, news).failures}

    assert refused(existing, {**existing, "metadata": {"a": "b"}}) == set()
    assert refused({}, existing) == {"image", "package", "networks"}, "as the engine asks before it replaces one"
    assert refused(existing, {**existing, "image": "debian-12"}) == {"package"}, "a package is chosen for its image"
    assert refused(existing, {**existing, "package": "huge"}) == {"package"}


FAULTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"machine_name": None}, "machine_name: is missing"),
    ({"machine_name": "-web"}, "machine_name: '-web' must begin with"),
    ({"machine_name": "web joyent"}, "machine_name: 'web joyent' must begin with"),
    ({"machine_name": "x" * 190}, "machine_name: is 190 characters long, and CloudAPI takes 189"),
    ({"image": "nothing"}, "image: image 'nothing': does not exist"),
    ({"image": OLD["id"]}, "image: image old"),
    ({"image": "large"}, "package: g1.nano"),
    ({"package": "huge"}, "package: package 'huge': does not exist"),
    ({"package": None}, "package: is missing"),
    ({"networks": ["nowhere"]}, "networks: network 'nowhere': does not exist"),
    ({"networks": ["Joyent-SDC-Public", PUBLIC]}, "networks: a machine can be on one public network"),
    ({"tags": {"account": "x"}}, "tags: 'account' is reserved"),
    ({"tags": {"pulumi-resource": "x"}}, "tags: 'pulumi-resource' is reserved"),
    ({"tags": {"triton.cns.service": "x"}}, "tags: 'triton.cns.service' is not one of"),
    ({"tags": {"triton.cns.disable": "true"}}, "tags: 'triton.cns.disable' must be true or false"),
    ({"tags": {"docker:label:com.docker.x": "x"}}, "tags: 'docker:label:com.docker.x' is reserved"),
    ({"tags": {"list": ["x"]}}, "tags: 'list' must be a text, a number"),
    ({"metadata": {"root_pw": "x"}}, "metadata: 'root_pw' ends in _pw, and CloudAPI drops"),
    ({"metadata": {"user-script": "x"}}, "metadata: 'user-script' is CloudAPI's own. Give it as userdata"),
    ({"metadata": {"credentials": "x"}}, "metadata: 'credentials' is reserved"),
    ({"metadata": {"n": 1}}, "metadata: 'n' must be a text"),
    ({"metadata": {"cloudflare": "x"}}, "metadata: 'cloudflare' is in secret_metadata too"),
    ({"secret_metadata": {"root_pw": "x"}}, "secret_metadata: 'root_pw' ends in _pw, and CloudAPI drops"),
    ({"power": "off"}, "power: 'off' is not one of running, stopped"),
    ({"firewall_enabled": "true"}, "firewall_enabled: must be true or false, not 'true'"),
    ({"update_timeout": 0}, "update_timeout: must be a number of seconds above 0"),
    ({"brand": "lx"}, "brand: 'lx' cannot be asked for: only kvm and bhyve"),
    ({"affinity": ["db != x"]}, "affinity: 'db != x' is not a rule"),
    ({"affinity": ["r==x"]}, "affinity: 'r==x' is not a rule"),
    ({"affinity": ["1role==x"]}, "affinity: '1role==x' is not a rule"),
    ({"affinity": ["ro:le==x"]}, "affinity: 'ro:le==x' is not a rule"),
    ({"affinity": ["role==a&b"]}, "affinity: 'role==a&b' is not a rule"),
    ({"affinity": ["role=x"]}, "affinity: 'role=x' is not a rule"),
    ({"brand": "kvm"}, "brand: kvm needs the image of a virtual machine, and debian-12@"),
    ({"delete_protected": "true"}, "delete_protected: must be true or false, not 'true'"),
    ({"volumes": [{"name": "dtaa", "mountpoint": "/d"}]}, "volumes: 'dtaa' does not exist. Name one of data"),
    (
        {"volumes": [{"name": "data", "mountpoint": "d"}]},
        "volumes: 'd' of data is not a mount point. Give a path below /",
    ),
    (
        {"volumes": [{"name": "data", "mountpoint": "/d", "mode": "rx"}]},
        "volumes: data has the mode 'rx', which is not ro or rw",
    ),
    ({"volumes": ["data"]}, "volumes: 'data' is not a volume. Write it as {name"),
    (
        {"volumes": [{"name": "data", "mountpoint": "/d"}], "brand": "kvm", "image": "vm"},
        "volumes: are not for machines of brand kvm",
    ),
    ({"locality": {"strict": "yes"}}, "locality: strict must be true or false"),
    (
        {"userdata": "x" * 100_000},
        "userdata: takes 100028 bytes of the request that makes the machine (as JSON), its tags and metadata take",
    ),
)


@pytest.mark.parametrize(("change", "message"), FAULTS, ids=[each[1][:40] for each in FAULTS])
def test_what_cloudapi_would_refuse_is_refused_at_preview(
    catalogue: Catalogue, change: dict[str, Any], message: str
) -> None:
    found = [f"{name}: {reason}" for name, reason in faults({**DECLARED, **change}, catalogue)]
    assert [each.startswith(message) for each in found] == [True], found


def test_a_good_description_has_no_fault(catalogue: Catalogue) -> None:
    tags = {"triton.cns.services": "web:80", "triton.cns.disable": False, "n": 1.5}
    good = {
        "tags": tags,
        "affinity": ["role!=db", "instance==~/web/", "ro==x", "a.b-c_d!=~x*", "role==(a|b)?[c]^$ d"],
        "networks": [PUBLIC, "pool"],
        "machine_name": "x" * 189,
        "volumes": [{"name": "data", "mountpoint": "/data", "mode": "ro"}],
    }
    assert faults({**DECLARED, **good}, catalogue) == []


def test_a_name_is_shorter_where_it_is_a_name_in_dns(cloud: FakeCloud, catalogue: Catalogue) -> None:
    cloud.cns = True
    assert faults({**DECLARED, "machine_name": "x" * 64}, catalogue)[0][1].startswith("is 64 characters long")
    assert faults({**DECLARED, "machine_name": "x" * 63}, catalogue) == []


def test_every_fault_is_reported_at_once(catalogue: Catalogue) -> None:
    wrong = {"machine_name": "-", "image": "x", "package": "y", "networks": ["z"], "power": "off"}
    assert {name for name, _ in faults({**DECLARED, **wrong}, catalogue)} == set(wrong)


def test_a_value_that_is_not_known_yet_is_not_a_fault(catalogue: Catalogue) -> None:
    assert faults({**DECLARED, **dict.fromkeys(NAMES, rpc.UNKNOWN)}, catalogue) == []


@pytest.fixture
def settings(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    session = cloud.session()
    monkeypatch.setattr(lookups, "session_of", lambda *_: session)
    return {}


def test_look_ups_find_what_is_there(settings: dict[str, str]) -> None:
    assert lookups.get_image("debian-12", settings=settings).version == "20261101"
    assert lookups.get_package("g1.micro", settings=settings).memory == 1024
    assert lookups.get_package(memory=2048, settings=settings).name == "g1.small"
    assert lookups.get_network("Joyent-SDC-Private", settings=settings).id == PRIVATE
    assert lookups.get_datacenter(settings=settings).name == "here"
    assert lookups.get_datacenter("there", settings=settings).url == "https://there.example"
    assert lookups.get_account(settings=settings).login == "rollcall"


def test_look_ups_refuse_an_ambiguous_answer(settings: dict[str, str]) -> None:
    with pytest.raises(AmbiguousError, match=r"3 packages fit: g1.nano"):
        lookups.get_package(settings=settings)
    with pytest.raises(NotFoundError, match="none has 77"):
        lookups.get_package(memory=77, settings=settings)
    with pytest.raises(NotFoundError, match=r"data centre nowhere: does not exist. Name one of here \(http"):
        lookups.get_datacenter("nowhere", settings=settings)
