"""components.config.workload_checks and the models of workloads: a wrong value is one error with its fix, and the right one none."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.reader import read

SHA = "0123456789abcdef" * 4
GOOD: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert"}},
    "serviceDiscovery": {"zone": "unilans.net", "services": {"theService": {"port": 4218, "incarnations": {"v1": {}}}}},
    "workloads": {
        "www": {"files": "workloads/www", "nginx": {"root": "public"}},
        "shop": {
            "files": "../shop/dist",
            "exclude": ["*.map"],
            "packages": ["python3-venv"],
            "run": "./start --port ${PORT}",
            "env": {"PORT": "8080"},
            "check": {"http": ":8080/healthz", "grace": 60},
        },
        "api": {"artifact": "https://r.example.com/api-1.4.2.tar.gz", "sha256": SHA, "run": "./api --port 4218"},
    },
    "fleets": {
        "shop": {
            "cloud": "aws",
            "size": "t3.micro",
            "image": "debian-12",
            "joins": ["site/www", "theService/v1"],
            "runs": ["shop", "www"],
        }
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *above, last = path.split("/")
    place = config
    for name in above:
        place = place.setdefault(name, {})
    place[last] = value
    return config


def faults(config: dict[str, Any], hidden: tuple[str, ...] = ()) -> tuple[str, ...]:
    try:
        read("local", config, hidden)
    except ConfigurationError as wrong:
        return wrong.faults
    return ()


def test_what_the_manual_shows_is_read() -> None:
    settings = read("local", GOOD)
    (fleet,) = settings.fleets
    assert [each.name for each in settings.workloads_of(fleet)] == ["shop", "www"]
    www, shop, api = settings.workloads
    assert www.nginx and www.nginx.root == "public" and shop.check_words == "http:8080:/healthz"
    assert (api.sha256, api.user, dict(api.env)) == (SHA, None, {})


W, F = "rollcall:workloads", "rollcall:fleets.shop.runs"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("workloads/Shop!", {"run": "python3"}, f'{W}["Shop!"]: is not the name of a workload. Use 1 to 30 of'),
        ("workloads/site", {"run": "python3"}, f"{W}.site: is the name of a sample. Rename it."),
        ("workloads/shop/run", None, f"{W}.shop: has none of run, unit, container, nginx. Set one, as run: ./start"),
        ("workloads/www/run", "python3", f"{W}.www.nginx: is there beside run. Keep one of the two."),
        ("workloads/shop/unit", "shop.service", f"{W}.shop.unit: is there beside run. Keep one of the two."),
        ("workloads/shop/unit", "shop@.service", f"{W}.shop.unit: 'shop@.service' is not a unit file of the workload."),
        ("workloads/shop/unit", "shop.socket", f"{W}.shop.unit: 'shop.socket' is not a unit file of the workload."),
        ("workloads/shop/unit", "../shop.service", f"{W}.shop.unit: '../shop.service' is not a unit file of"),
        ("workloads/x", {"unit": "shop.service"}, f"{W}.x.files: is missing. Name the folder with the unit file"),
        ("workloads/www/files", None, f"{W}.www.files: is missing. Name the folder of the site"),
        ("workloads/shop/files", "", f"{W}.shop.files: is empty. Name a folder"),
        ("workloads/api/files", "x", f"{W}.api.artifact: is there beside files. Keep one of the two."),
        ("workloads/api/sha256", None, f"{W}.api.sha256: is missing. Set it to what `sha256sum FILE` prints."),
        ("workloads/api/sha256", SHA.upper(), f"{W}.api.sha256: the value (not shown) is not a SHA-256."),
        ("workloads/shop/sha256", SHA, f"{W}.shop.sha256: is there without an artifact."),
        ("workloads/api/exclude", ["x"], f"{W}.api.exclude: is there without files."),
        (
            "workloads/api/artifact",
            "http://r.example.com/a",
            f"{W}.api.artifact: 'http://r.example.com/a' is not the https",
        ),
        ("workloads/api/artifact", "https://a:b@r.example.com/a", "is not the https address of a file"),
        ("workloads/shop/packages", ["python3 venv"], "is not the name of a Debian package"),
        ("workloads/shop/packages", ["-oDebug=1"], "is not the name of a Debian package"),
        ("workloads/shop/run", "-./start", "is not a command on one line"),
        ("workloads/shop/run", "./start\nUser=root", "is not a command on one line"),
        ("workloads/shop/run", "./start \\", "is not a command on one line"),
        ("workloads/shop/user", "root", "'root' is not the name of a user that a workload may run as"),
        ("workloads/www/nginx/root", "../x", "is not a folder of the workload"),
        ("workloads/www/nginx/root", "/etc", "is not a folder of the workload"),
        ("workloads/shop/env", {"1A": "x"}, "is not the name of a variable"),
        ("workloads/shop/env", {"A": "x\ny"}, f"{W}.shop.env.A: has a control character or more than one line."),
        (
            "workloads/shop/env",
            {"A": "AKIAABCDEFGHIJKLMNOP"},
            f"{W}.shop.env.A: looks like a secret. Move it to secrets",
        ),
        ("workloads/shop/check", {"grace": 5}, f"{W}.shop.check: has not one of http, tcp and command."),
        ("workloads/shop/check", [{"tcp": ":80"}, {}], f"{W}.shop.check[1]: has not one of http, tcp and command."),
        (
            "workloads/shop/check",
            [{"tcp": ":80", "command": "./x"}, {"tcp": ":1"}],
            f"{W}.shop.check[0]: has not one of",
        ),
        ("workloads/shop/check", {"tcp": ":80", "interval": 5}, f"{W}.shop.check.interval: is for a command."),
        (
            "workloads/shop/check",
            {"command": "./x; rm"},
            "is not a command of plain words. Write it as ./healthy --quick",
        ),
        ("workloads/shop/check", {"command": "./x $HOME"}, "is not a command of plain words."),
        ("workloads/shop/check", {"command": "+/x"}, "is not a command of plain words."),
        ("workloads/shop/check", {"command": "./x", "interval": 1}, ".interval: 1 is out of range (2 to 300 seconds)."),
        ("workloads/shop/check", "http:80:/", f"{W}.shop.check: 'http:80:/' is not a list."),
        (
            "workloads/shop/check",
            [{"tcp": f":{port}"} for port in range(1, 5)],
            f"{W}.shop.check: may take 12 seconds for http and tcp together. Set a timeout of 1 for each",
        ),
        (
            "workloads/shop/check",
            {"http": ":80/", "timeout": 11},
            f"{W}.shop.check: may take 11 seconds for http and tcp together. Set timeouts that add up to 10",
        ),
        ("workloads/www/before", {"run": "./x"}, f"{W}.www.before: is for a workload with run or unit."),
        ("workloads/shop/before", {"timeout": 10}, f"{W}.shop.before.run: is missing. Set it, as ./migrate."),
        ("workloads/shop/before", {"run": "./x", "timeout": 9}, "timeout: 9 is out of range (10 to 7200 seconds)."),
        ("workloads/www/check", {"command": "./x"}, f"{W}.www.check.command: is for a workload with run or unit."),
        ("workloads/shop/check", {"http": "8080/healthz"}, "is not a port and a path. Write it as :8080/healthz."),
        ("workloads/shop/check", {"tcp": ":70000"}, "is not a port. Write it as :8080."),
        ("workloads/www/env", {"A": "x"}, f"{W}.www.env: is for a workload with run or unit."),
        (
            "workloads/www/check",
            {"tcp": ":80", "grace": 5},
            f"{W}.www.check.grace: is for a workload with run or unit.",
        ),
        (
            "fleets/shop/runs",
            ["shoop"],
            f"{F}: 'shoop' is not a workload (did you mean shop?). Name one of www, shop, api,",
        ),
        ("fleets/shop/runs", ["www", "site"], f"{F}: has www and site, which nginx serves at the same port."),
        ("fleets/shop/runs", [], f"{F}: is an empty list."),
    ],
)
def test_a_wrong_value_is_one_error_with_its_fix(path: str, value: object, fault: str) -> None:
    assert faults(GOOD) == ()
    found = faults(changed(path, value))
    assert len(found) == 1 and fault in found[0], found


def test_a_proxied_site_needs_nginx_which_has_its_tls() -> None:
    config = changed("sites/www/proxied", True)
    assert faults(config) == ()
    config["fleets"]["shop"]["runs"] = ["shop"]
    (found,) = faults(config)
    assert found.startswith(f"{F}: has no workload with nginx, which serves a proxied site's TLS. Add one")


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("1X", "v", ".1X: is not the name of a secret. Use 1 to 64 letters"),
        ("DB-URL", "v", ".DB-URL: is not the name of a secret."),
        (
            "db_pw",
            "v",
            ".db_pw: is not the name of a secret. Use 1 to 64 letters, digits and _, no digit first and no _pw",
        ),
        ("X", "", ".X: is empty. Run `pulumi config set --secret --path 'rollcall:workloads.shop.secrets.X'`."),
        ("X", "ä" * 2049, ".X: has 4098 bytes, and an SSM parameter takes 4096. Shorten it"),
        ("X", "a{{b", ".X: has a zero byte or {{, which SSM does not take. Encode it in base64."),
        ("X", 7, ".X: the value (not shown) is not a secret. Run `pulumi config set --secret --path`"),
    ],
)
def test_a_secret_that_no_cloud_takes_is_an_error_without_its_value(name: str, value: object, fault: str) -> None:
    (found,) = faults(changed("workloads/shop/secrets", {name: value}), ("workloads",))
    assert found.startswith(f"{W}.shop.secrets{fault}")
    # In plain text it is shown as little.
    assert faults(changed("workloads/shop/secrets", {name: value})) == (found,)
    assert faults(changed("workloads/shop/secrets", {"DATABASE_URL": "v" * 4096})) == ()


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("memory", "512", "'512' is not a size. Write it as 512M, with K, M or G as systemd has them."),
        ("memory", "512m", "'512m' is not a size."),
        ("cpu", "0%", "'0%' is not a share of a processor. Write it as 50%, or 200% for two processors."),
        ("cpu", "0.5", "'0.5' is not a share of a processor."),
        ("confinement", "none", "'none' is not one of enforced, best-effort. Set one of these."),
    ],
)
def test_a_limit_has_the_form_that_systemd_takes(key: str, value: str, fault: str) -> None:
    (found,) = faults(changed(f"workloads/shop/{key}", value))
    assert found.startswith(f"{W}.shop.{key}: {fault}")
    for good in {"memory": ("512M", "1G"), "cpu": ("50%", "200%"), "confinement": ("best-effort",)}[key]:
        assert faults(changed(f"workloads/shop/{key}", good)) == ()


def test_a_site_has_no_secrets() -> None:
    (found,) = faults(changed("workloads/www/secrets", {"X": "v"}))
    assert found.startswith(f"{W}.www.secrets: is for a workload with run or unit.")


def test_no_text_of_the_settings_has_a_secret() -> None:
    settings = read("local", changed("workloads/shop/secrets", {"DATABASE_URL": "hush-hush"}))
    assert "hush" not in f"{settings} {settings!r} {settings.workloads[1]!s}"
    assert settings.workloads[1].secrets["DATABASE_URL"].get_secret_value() == "hush-hush"


def test_the_check_of_a_workload_is_that_of_each_join_that_has_none() -> None:
    config = changed("sites/www/check", "tcp:80")
    settings = read("local", config)
    (fleet,) = settings.fleets
    (site,), directory = settings.sites_of(fleet), settings.service_discovery_of(fleet)
    assert directory and site.health.check == "tcp:80"
    assert [each.health.check for each in directory.services] == ["http:8080:/healthz"]
    # Without a workload of the fleet's own all is as it was.
    del config["fleets"]["shop"]["runs"], config["sites"]["www"]["check"]
    settings = read("local", config)
    (fleet,) = settings.fleets
    (site,), directory = settings.sites_of(fleet), settings.service_discovery_of(fleet)
    assert directory and site.health.check == "http:80:/"
    assert [each.health.check for each in directory.services] == ["tcp:4218"]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"http": ":80/x"}, "http:80:/x"),
        ([{"tcp": ":80", "grace": 5}], "tcp:80"),
        ({"tcp": ":80", "timeout": 1}, "workload:shop"),
        ({"command": "./healthy --quick", "timeout": 60}, "workload:shop"),
        ([{"http": ":80/"}, {"tcp": ":81"}, {"command": "/usr/bin/pg_isready"}], "workload:shop"),
    ],
)
def test_a_join_has_all_checks_of_the_workload(check: object, words: str) -> None:
    config = changed("workloads/shop/check", check)
    assert faults(config) == ()
    settings = read("local", config)
    (fleet,) = settings.fleets
    (site,) = settings.sites_of(fleet)
    assert site.health.check == words


def test_a_roll_call_waits_longer_than_a_hook_may_take() -> None:
    config = changed("workloads/shop/before", {"run": "./migrate", "timeout": 600})
    assert faults(config) == (
        "rollcall:fleets.shop.timeout: is 300, and the hook of shop may take 600 seconds without progress."
        " Set it to 660 or more.",
    )
    config["fleets"]["shop"]["timeout"] = 660
    assert faults(config) == ()


def test_a_hook_needs_one_bucket_for_all_machines() -> None:
    config = changed("workloads/shop/before", {"run": "./migrate"})
    assert faults(config) == ()
    config["fleets"]["more"] = {**config["fleets"]["shop"], "region": "eu-west-1"}
    assert faults(config) == (
        "rollcall:fleets.more.runs: has shop. The `before` of shop runs once, and fleet shop runs it in another region."
        " Let fleets of one region run it.",
    )
    # A Triton fleet that joins a service in Route53 has a key for the bucket of the stack's region. It has no region of AWS.
    config["fleets"]["more"] = {**config["fleets"]["shop"], "cloud": "joyent", "region": "us-east-2"}
    assert faults(config) == ()
    config["fleets"]["shop"]["region"] = "eu-west-1"
    (found,) = faults(config)
    assert found.startswith(
        "rollcall:fleets.more.runs: has shop. The `before` of shop runs once, and fleet shop runs it in"
    )
    del config["fleets"]["shop"]["region"]
    config["fleets"]["more"]["joins"] = ["site/www"]
    (found,) = faults(config)
    assert found == (
        "rollcall:fleets.more.runs: has shop. The `before` of shop needs a bucket, and machines on joyent have the key of one only if "
        "their fleet joins a service in Route53. Let it join one, let fleets on aws run it, or run the command before `pulumi up` and "
        "take `before` out."
    )


def test_several_checks_leave_open_which_one_a_join_has() -> None:
    config = changed("workloads/www/check", {"tcp": ":80"})
    (found,) = faults(config)
    assert found.startswith(f"{F}: has workloads with several checks. Set check of the sites and of the services")
    config["sites"]["www"]["check"] = "tcp:80"
    config["serviceDiscovery"]["services"]["theService"]["check"] = "tcp:4218"
    assert faults(config) == ()
