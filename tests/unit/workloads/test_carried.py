"""What a Triton machine has no room for is an error beforehand, with its numbers and the fix."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from components.config.models import FleetSettings, Settings
from components.config.reader import read
from components.joyent.machine_checks import LARGEST_BODY
from components.preflight import checks
from components.resources import userdata
from components.resources.origin_tls import OriginKeyProvider
from components.workloads import definitions
from localcloud.cloudflare.certificates import OriginCa


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
    room = userdata.workload_room(LARGEST_BODY, userdata.settings_room())
    fits = checks._origins_size(*_of(closed_sites(10))) <= room
    assert bool(checks.size_faults(closed_sites(10))) is not fits


def test_closed_sites_that_do_not_fit_are_an_error_with_what_is_left() -> None:
    """Each has a key and a certificate in the machine's metadata."""
    ten, one = checks._origins_size(*_of(closed_sites(10))), checks._origins_size(*_of(closed_sites(1)))
    assert 9 * one < ten < 10 * one
    assert checks.closed_sites_faults(closed_sites(10), ten) == []
    assert checks.closed_sites_faults(closed_sites(10), ten - 1) == [
        f"rollcall:fleets.web.joins: the keys and certificates of 10 proxied sites take up to {ten} bytes, and {ten - 1} are left of the "
        "request that makes a Triton machine. Let it join fewer of them, or split the fleet."
    ]
    # EC2 has them in SSM.
    assert checks.closed_sites_faults(closed_sites(10, "aws"), 0) == []


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
