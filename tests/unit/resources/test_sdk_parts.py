"""The program has the vendors' SDKs in part, and whoever wants all of one still gets all of it, with the same classes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.resources import aws_sdk
from components.resources.sdk_parts import Part

ROOT = Path(__file__).resolve().parents[3]
# Looking for garbage among the classes of the SDKs takes a third of the time.
LOAD = "import gc; gc.disable();"
USED = "from components.resources import aws_sdk as aws; found = [aws.ec2.Instance, aws.ec2.get_vpc_output, aws.ssm.Parameter];"
SAME = "assert pulumi_aws.ec2.Instance is aws.ec2.Instance; assert pulumi_aws.ec2.VpnGateway; assert pulumi_aws.ssm.Document"


def run(code: str) -> str:
    path = f"{ROOT}:{ROOT / 'userdata'}"
    done = subprocess.run(
        [sys.executable, "-c", f"{LOAD} {code}"],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        f"{USED} import pulumi_aws; {SAME}",
        f"import pulumi_aws; {USED} {SAME}",
        f"import pulumi_aws; pulumi_aws.ec2.VpnGateway; {USED} {SAME}",
        f"{USED} import pulumi_aws.ec2; {SAME}",
    ],
    ids=["all of it later", "the packages before, unused", "all of it before", "a package later"],
)
def test_all_of_it_is_there_for_others(code: str) -> None:
    run(code)


def test_the_program_runs_a_few_modules_of_each_package() -> None:
    names = [f"{part}.{name}" for part in ("ec2", "iam", "route53", "ssm") for name in getattr(aws_sdk, part)._names]
    listed = ", ".join(f"aws.{name}" for name in names)
    found = run(f"import sys; from components.resources import aws_sdk as aws; [{listed}]; print(*sys.modules)").split()
    # The packages themselves are there, unused: `pulumi_aws.accessanalyzer` and its like.
    run_of = [each for each in found if each.startswith("pulumi_aws.") and each.count(".") == 2]
    assert 15 <= len(run_of) <= 40, run_of


def test_an_unused_name_is_not_an_attribute() -> None:
    with pytest.raises(AttributeError, match=r"pulumi_aws\.ec2 that is used has no 'VpnGateway'"):
        Part("pulumi_aws.ec2", {"Instance": "instance"}).VpnGateway  # noqa: B018


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="pulumi_nowhere"):
        Part("pulumi_nowhere", {"Thing": "thing"}).Thing  # noqa: B018


# Every type of a resource, of a function's result and of its arguments, and the types within these, as Pulumi itself reads them.
TYPES = """
import inspect, json, sys, typing
from pulumi import _types, ComponentResource, CustomResource
from components.resources import aws_sdk
from components.resources import cloudflare_sdk as cloudflare

seen = {}

def walk(kind):
    for each in (kind, *typing.get_args(kind)):
        if typing.get_args(each) and each is not kind:
            walk(each)
        elif inspect.isclass(each) and "pulumi_" in each.__module__ and each.__qualname__ not in seen:
            properties = {}
            seen[each.__qualname__] = properties
            if issubclass(each, CustomResource):
                properties.update(_types.resource_types(each))
            elif _types.is_output_type(each):
                properties.update(_types.output_type_types(each))
            elif _types.is_input_type(each):
                properties.update(_types.input_type_types(each))
            for found in list(properties.values()):
                walk(found)

parts = {"pulumi_cloudflare": cloudflare._PART}
parts |= {f"pulumi_aws.{name}": getattr(aws_sdk, name) for name in ("ec2", "iam", "route53", "ssm")}
for package, part in parts.items():
    for name, module in part._names.items():
        getattr(part, name)
        for found in vars(sys.modules[f"{package}.{module}"]).values():
            if inspect.isclass(found) and found.__module__ == f"{package}.{module}":
                walk(found)
print(json.dumps({name: {key: repr(value) for key, value in found.items()} for name, found in seen.items()}, sort_keys=True))
"""


def test_the_types_within_are_those_of_the_whole_sdk() -> None:
    part = run(TYPES).replace("components.resources.sdk_parts ", "")
    assert "ZoneAccount" in part and "InstanceRootBlockDevice" in part
    whole = "pulumi_aws.ec2.VpnGateway; pulumi_aws.iam.Group; pulumi_aws.route53.HealthCheck; pulumi_aws.ssm.Document"
    assert part == run(f"import pulumi_cloudflare, pulumi_aws; {whole}; {TYPES}")


def test_code_that_is_generated_otherwise_is_imported_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "vendor"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('the package itself runs')\n")
    (package / "outputs.py").write_text("class Size:\n    pass\n")
    (package / "thing.py").write_text(
        "from . import outputs\nclass Thing:\n    size: 'outputs.Size'\n    kind = outputs.Size\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Part("vendor", {"Thing": "thing"}).Thing.kind.__name__ == "Size"
