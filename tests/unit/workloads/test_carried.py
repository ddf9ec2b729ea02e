"""What a Triton machine has no room for is an error beforehand, with its numbers and the fix."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from components.config.models import FleetSettings, Settings
from components.config.reader import read
from components.joyent.machine_checks import LARGEST_BODY
from components.preflight import checks, policy_sizes, single_stores
from components.preflight.quotas import Found
from components.resources import triton_cargo, userdata
from components.resources.origin_tls import OriginKeyProvider
from components.workloads import definitions
from localcloud.cloudflare.certificates import OriginCa
from rollcall.in_place import CARRIED


def test_files_that_do_not_fit_are_an_error_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/a").write_bytes(os.urandom(3000))
    monkeypatch.setattr(checks, "project_folder", lambda: tmp_path)
    fleet = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["www"]}
    given = {
        "sites": {"www": {"zone": "s.example"}},
        "workloads": {"www": {"files": "www", "nginx": {}}},
        "fleets": {"web": fleet},
    }
    settings, faults = definitions.packed(read("local", given), tmp_path)
    assert faults == [] and checks.carried_faults(settings, 10_000) == []
    (found,) = checks.carried_faults(settings, 2000)
    assert found.startswith("rollcall:fleets.web.runs: www take ") and "2000 are left of the request" in found
    assert found.endswith("name it by artifact and sha256, or exclude what no machine needs.")


def closed_sites(count: int, cloud: str = "joyent") -> Settings:
    names = [f"shop-number-{each}" for each in range(count)]
    sites = {
        name: {"zone": "scalability.expert", "host": name, "proxied": True, "apex": name == names[0]} for name in names
    }
    fleet = {"cloud": cloud, "size": "s", "image": "debian-12", "joins": [f"site/{name}" for name in names]}
    return read("local", {"sites": sites, "fleets": {"web": fleet}})


def test_closed_sites_fit_the_request_that_makes_a_triton_machine_or_are_refused_beforehand() -> None:
    assert checks.size_faults(closed_sites(5)) == []
    settings, fleet = _of(closed_sites(10))
    fits = triton_cargo.origins_size(settings, fleet) <= triton_cargo.room(fleet)
    assert bool(checks.size_faults(closed_sites(10))) is not fits


def test_closed_sites_that_do_not_fit_are_an_error_with_what_is_left() -> None:
    """Each has a key and a certificate in the machine's metadata."""
    ten, one = triton_cargo.origins_size(*_of(closed_sites(10))), triton_cargo.origins_size(*_of(closed_sites(1)))
    assert 9 * one < ten < 10 * one
    assert checks.closed_sites_faults(closed_sites(10), ten) == []
    assert checks.closed_sites_faults(closed_sites(10), ten - 1) == [
        f"rollcall:fleets.web.joins: the keys and certificates of 10 proxied sites take up to {ten} bytes, and {ten - 1} are left of the "
        "request that makes a Triton machine. Let it join fewer of them, or split the fleet."
    ]
    # EC2 has them in SSM.
    assert checks.closed_sites_faults(closed_sites(10, "aws"), 0) == []


def secured(**more: str) -> Settings:
    sites = {"www": {"zone": "scalability.expert", "host": "www", "tls": {"acme": {"email": "ops@scalability.expert"}}}}
    fleet = {"cloud": "joyent", "size": "s", "image": "debian-12", "joins": ["site/www"], **more}
    return read("local", {"sites": sites, "fleets": {"web": fleet}})


def test_a_site_with_tls_fits_a_triton_machine_without_settings_of_its_system() -> None:
    assert checks.size_faults(secured()) == []
    plain, zoned = (triton_cargo.room(each.fleets[0]) for each in (secured(), secured(timezone="Europe/Zurich")))
    with_steps, without = (
        len(json.dumps(userdata.build(in_place=False, system=each, dynamic=False))) for each in (True, False)
    )
    assert plain - zoned == with_steps - without > 1000
    (found,) = checks.closed_sites_faults(secured(timezone="Europe/Zurich"), 0)
    assert found.endswith("or split the fleet, or leave timezone, proxy, aptMirror and logs out.")


def test_a_key_and_a_certificate_take_no_more_than_is_counted() -> None:
    """The local Origin CA leaves out the place of its issuer and the address of its CRL, which take up to 400 bytes."""
    hosts = ["shop.scalability.expert", "scalability.expert"]
    made = OriginKeyProvider().create({"hostnames": hosts, "days": 365}).outs or {}
    requested = {"csr": made["csr"], "hostnames": hosts, "request_type": "origin-ecc", "requested_validity": 365}
    pem = made["private_key"] + OriginCa(time.time()).sign(requested, time.time()).pem
    counted = userdata.settings_room(["".join(hosts)]) - userdata.settings_room()
    assert 1000 < len(json.dumps(pem)) < counted - 400


def _of(settings: Settings) -> tuple[Settings, FleetSettings]:
    return settings, settings.fleets[0]


def test_a_folder_that_is_not_there_is_an_error_of_its_key(tmp_path: Path) -> None:
    fleet = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["www"]}
    given = {
        "sites": {"www": {"zone": "s.example"}},
        "workloads": {"www": {"files": "www", "nginx": {}}},
        "fleets": {"web": fleet},
    }
    _, faults = definitions.packed(read("local", given), tmp_path)
    assert faults == [
        "rollcall:workloads.www.files: www is not a folder. Name one that is there, relative to the project's folder."
    ]


def test_secrets_take_room_beside_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "project_folder", lambda: tmp_path)
    fleet = {"cloud": "joyent", "size": "g1.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["shop"]}
    shop: dict[str, object] = {"run": "python3 -m shop"}
    given = {"sites": {"www": {"zone": "s.example"}}, "workloads": {"shop": shop}, "fleets": {"web": fleet}}
    settings, _ = definitions.packed(read("local", given), tmp_path)
    assert checks.carried_faults(settings, 1000) == []
    shop["secrets"] = {"DATABASE_URL": "v" * 1000}
    settings, _ = definitions.packed(read("local", given), tmp_path)
    (found,) = checks.carried_faults(settings, 1000)
    assert "1000 are left of the request" in found and "vvv" not in found
    # EC2 has them in SSM.
    fleet["cloud"] = "aws"
    assert checks.carried_faults(definitions.packed(read("local", given), tmp_path)[0], 0) == []


class TestStores:
    """What does not fit is fetched, if the fleet has a store: a mirror, or the stack's bucket by the key of its IAM user."""

    R2 = {"endpoint": "https://x.r2.example", "bucket": "releases", "accessKey": "a", "secretKey": "b"}

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for name, size in (("large", 5000), ("small", 500)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a").write_bytes(os.urandom(size))
        for module in (checks, policy_sizes):
            monkeypatch.setattr(module, "project_folder", lambda: tmp_path)
        return tmp_path

    def settings(self, root: Path, *, joins: str = "site/www", release: str = "replace", **more: object) -> Settings:
        fleet = {
            "release": release,
            "cloud": "joyent",
            "size": "g1.micro",
            "image": "debian-12",
            "joins": [joins],
            "runs": ["large", "small"],
        }
        given = {
            **({"sites": {"www": {"zone": "s.example"}}} if joins == "site/www" or "fleets" in more else {}),
            "serviceDiscovery": {
                "zone": "u.example",
                "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}},
            },
            "workloads": {name: {"files": name, "run": "./a"} for name in ("large", "small")},
            "fleets": {"web": fleet},
            **more,
        }
        settings, faults = definitions.packed(read("local", given), root)
        assert faults == []
        return settings

    def names(self, settings: Settings, root: Path, room: int) -> tuple[list[str], list[str]]:
        cargo = triton_cargo.cargo(settings, settings.fleets[0], root, room)
        by_digest = {digest: name for name, digest in settings.fleets[0].digests.items()}
        return [by_digest[each.digest] for each in cargo.carried], [by_digest[each.digest] for each in cargo.fetched]

    def test_all_that_fits_is_carried_and_no_store_is_needed(self, root: Path) -> None:
        mirrored = self.settings(root, mirrors={"r2": self.R2})
        for each in (self.settings(root), mirrored, self.settings(root, joins="theService/v1")):
            assert self.names(each, root, 10_000) == (["large", "small"], [])
            assert checks.carried_faults(each, 10_000) == []

    def test_without_a_store_what_does_not_fit_is_refused(self, root: Path) -> None:
        (found,) = checks.carried_faults(self.settings(root), 4000)
        assert found.startswith("rollcall:fleets.web.runs: large and small take ")
        assert (
            "and 4000 are left of the request that makes a Triton machine. Add a mirror (rollcall:mirrors), publish "
            in found
        )

    @pytest.mark.parametrize(
        "store",
        [
            pytest.param({"mirrors": {"web": {"https": "https://m.example/x"}}}, id="a web server"),
            pytest.param({"mirrors": {"r2": R2}}, id="another store"),
            pytest.param({"joins": "theService/v1"}, id="the bucket"),
        ],
    )
    def test_with_a_store_the_smallest_are_carried_and_the_others_are_fetched(
        self, root: Path, store: dict[str, object]
    ) -> None:
        settings = self.settings(root, **store)  # type: ignore[arg-type]
        assert checks.carried_faults(settings, 4000) == []
        assert self.names(settings, root, 4000) == (["small"], ["large"])
        # The settings and keys of the stores take room too.
        least = triton_cargo.stores_size(settings.mirrors)
        assert self.names(settings, root, least) == ([], ["large", "small"])
        assert checks.carried_faults(settings, least) == [] and len(checks.carried_faults(settings, least - 1)) == 1

    def delivered(self, settings: Settings, root: Path, room: int = 10_000) -> tuple[list[str], list[str]]:
        """What a roll-out writes into the metadata of machines that change in place, and what they can fetch."""
        cargo = triton_cargo.cargo(settings, settings.fleets[0], root, room)
        by_digest = {digest: name for name, digest in settings.fleets[0].digests.items()}
        assert cargo.carried == ()
        return [by_digest[each.digest] for each in cargo.delivered], [by_digest[each.digest] for each in cargo.fetched]

    def test_machines_that_change_in_place_carry_nothing(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whether there is a store decides what they know, and not the sizes: a larger file must not change a setting."""
        plain = self.settings(root, release="in-place")
        stored = self.settings(root, release="in-place", joins="theService/v1")
        mirrored = self.settings(root, release="in-place", mirrors={"r2": self.R2})
        assert self.delivered(plain, root) == (["large", "small"], [])
        for each in (stored, mirrored):
            assert self.delivered(each, root) == (["large", "small"], ["large", "small"])
        assert [checks.carried_faults(each, 2000) for each in (plain, stored, mirrored)] == [[], [], []]
        assert single_stores.found(stored, root, "us-west-2").warnings == ()
        monkeypatch.setattr(triton_cargo, "DELIVERED_BYTES", 4000)
        for each in (stored, mirrored):
            assert self.delivered(each, root) == (["small"], ["large", "small"])
            assert checks.carried_faults(each, 2000) == []
        (warning,) = single_stores.found(stored, root, "us-west-2").warnings
        assert "its machines fetch large from AWS only" in warning
        (fault,) = checks.carried_faults(plain, 2000)
        assert fault == (
            "rollcall:fleets.web.runs: the release of large does not fit the 4000 bytes that Triton takes for metadata in one request, "
            "and the fleet has no store. Add a mirror (rollcall:mirrors), or publish the files at an https address and name it by "
            "artifact and sha256."
        )

    def test_secrets_of_machines_that_change_in_place_must_fit_the_request_that_makes_one(self, root: Path) -> None:
        shop = {"files": "small", "run": "./a", "secrets": {"KEY": "v" * 1000}}
        both = {"large": {"files": "large", "run": "./a"}, "small": shop}
        settings = self.settings(root, release="in-place", workloads=both, mirrors={"r2": self.R2})
        least = triton_cargo.stores_size(settings.mirrors) + triton_cargo.secrets_size(settings.workloads[1])
        assert checks.carried_faults(settings, least) == []
        (fault,) = checks.carried_faults(settings, least - 1)
        assert "the secrets of large and small take " in fault and "vvv" not in fault
        assert fault.endswith(f"and {least - 1} are left of the request that makes a Triton machine. Shorten them.")

    def test_a_release_that_fits_one_request_is_delivered(self, root: Path) -> None:
        """The whole request has no more bytes than CloudAPI takes."""
        (root / "large/a").write_bytes(os.urandom(78_000))
        settings = self.settings(root, release="in-place")
        assert self.delivered(settings, root) == (["large", "small"], [])
        (large, _) = triton_cargo.cargo(settings, settings.fleets[0], root, 10_000).delivered
        body = {f"{CARRIED}{large.digest}": base64.b85encode(large.packed).decode()}
        assert 96_000 < len(json.dumps(body)) <= LARGEST_BODY

    def test_a_zone_of_the_operators_own_gives_no_key_for_the_bucket(self, root: Path) -> None:
        directory = {
            "zone": "u.example",
            "provider": "rfc2136",
            "server": "192.0.2.53",
            "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}},
        }
        settings = self.settings(root, joins="theService/v1", serviceDiscovery=directory)
        assert len(checks.carried_faults(settings, 4000)) == 1

    def test_settings_and_keys_of_stores_take_at_most_what_is_counted_for_them(self, root: Path) -> None:
        settings = self.settings(root, mirrors={"r2": {**self.R2, "accessKey": "a" * 90, "secretKey": "b" * 90}})
        words = "s3 endpoint=https://x.r2.example bucket=releases region=auto key=mirror-r2"
        own = {"metadata.rollcall-mirror-r2": words, "metadata.mirror-r2": f"{'a' * 90} {'b' * 90}"}
        bucket = f"s3 endpoint=https://{'b' * 63}.s3.ap-southeast-4.amazonaws.com region=ap-southeast-4 key=route53-key"
        own["metadata.rollcall-store"] = bucket
        assert len(json.dumps(own)) <= triton_cargo.stores_size(settings.mirrors)

    def test_a_preview_names_the_stores_that_have_no_mirror(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_cargo, "room", lambda _: 4000)
        ec2 = {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"], "runs": ["small"]}
        by_key = self.settings(root, joins="theService/v1")
        found = single_stores.found(by_key, root, "us-west-2")
        assert found.notes == () and found.warnings == (
            "rollcall:fleets.web.runs: its machines fetch large from AWS only (the stack's bucket in us-west-2). Add a mirror outside AWS "
            "(rollcall:mirrors, docs/workloads.md), so that new machines start while AWS does not answer.",
        )
        in_aws = {"https": "https://bucket.s3.eu-west-1.amazonaws.com/x"}
        (warning,) = single_stores.found(self.settings(root, mirrors={"a": in_aws}), root, "us-west-2").warnings
        assert "from AWS only (the mirror a)." in warning
        for mirrors in ({"b": self.R2}, {"a": in_aws, "b": {"https": "https://m.example/x"}}):
            settings = self.settings(root, joins="theService/v1", mirrors=mirrors, fleets={"web": ec2})
            assert single_stores.found(settings, root, "us-west-2") == Found()
        (note,) = single_stores.found(self.settings(root, fleets={"b": ec2, "a": ec2}), root, "us-west-2").notes
        assert note == (
            "rollcall:mirrors: machines of b and a fetch releases from the stack's bucket in us-west-2 only, which has no mirror. Add one "
            "(rollcall:mirrors, docs/workloads.md), so that new machines start while S3 does not answer there."
        )
        monkeypatch.setattr(triton_cargo, "room", lambda _: 20_000)
        assert single_stores.found(by_key, root, "us-west-2") == Found()
