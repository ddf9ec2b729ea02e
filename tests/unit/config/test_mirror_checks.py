"""components.config.mirror_checks and the model of mirrors: a wrong value is one error with its fix, and no error has a key in it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from components.config.errors import ConfigurationError
from components.config.mirror_checks import KEY, faults, words
from components.config.reader import read
from components.config.stack_file import StackFile

GOOD: dict[str, Any] = {
    "sites": {"www": {"zone": "scalability.expert"}},
    "fleets": {"web": {"cloud": "aws", "size": "t3.micro", "image": "debian-12", "joins": ["site/www"]}},
    "mirrors": {
        "r2": {
            "endpoint": "https://x.r2.cloudflarestorage.com/",
            "bucket": "rollcall-releases",
            "accessKey": "hush-id",
            "secretKey": "hush-secret",
            "upload": {"accessKey": "hush-writer", "secretKey": "hush-written"},
        },
        "web": {"https": "https://mirror.example.net:8443/a/b/"},
    },
}
NAME = "is not the name of a mirror. Use 1 to 20 of a-z, 0-9 and inner hyphens."
FOLDER = "is not the https address of a folder. Write it as https://HOST/PATH, without a user, a query or a fragment."


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    *above, last = path.split("/")
    place = config["mirrors"]
    for name in above:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


def errors(config: dict[str, Any], stack: str = "local") -> tuple[str, ...]:
    try:
        read(stack, config)
    except ConfigurationError as wrong:
        return wrong.faults
    return ()


def test_what_the_manual_shows_is_read_and_becomes_a_setting() -> None:
    r2, web = read("local", GOOD).mirrors
    assert words(web, "") == "https url=https://mirror.example.net:8443/a/b"
    assert words(r2, "mirror-r2") == (
        "s3 endpoint=https://x.r2.cloudflarestorage.com bucket=rollcall-releases region=auto key=mirror-r2"
    )
    assert not r2.is_in_aws and not web.is_in_aws
    in_aws = read("local", changed("web/https", "https://d111.cloudfront.net/x")).mirrors[1]
    assert in_aws.is_in_aws


@pytest.mark.parametrize(
    ("path", "value", "where", "message"),
    [
        ("Web", {"https": "https://a.example/"}, "Web", NAME),
        ("a" * 21, {"https": "https://a.example/"}, "a" * 21, NAME),
        ("web/https", "http://a.example/x", "web.https", FOLDER),
        ("web/https", "https://user@a.example/x", "web.https", FOLDER),
        ("web/https", "https://a.example/x?y=1", "web.https", FOLDER),
        ("web/https", "https://a.example/x y", "web.https", FOLDER),
        (
            "r2/endpoint",
            "https://a.example/bucket",
            "r2.endpoint",
            "is not the https address of a store. Write it as https://HOST, without the bucket.",
        ),
        ("r2/bucket", "A", "r2.bucket", "is not the name of a bucket. Use 3 to 63 of a-z, 0-9 and inner . and -."),
        (
            "r2/bucket",
            None,
            "r2.bucket",
            "is missing. Name the bucket with the releases, as rollcall-releases.",
        ),
        (
            "r2/secretKey",
            None,
            "r2.secretKey",
            "is missing. Run `pulumi config set --secret --path 'rollcall:mirrors.r2.secretKey'`.",
        ),
        (
            "r2/upload/accessKey",
            None,
            "r2.upload.accessKey",
            "is missing. Run `pulumi config set --secret --path 'rollcall:mirrors.r2.upload.accessKey'`.",
        ),
        (
            "r2/secretKey",
            "hush hush",
            "r2.secretKey",
            "is not a key of 1 to 200 printable characters without blanks. Set it again.",
        ),
        (
            "web/endpoint",
            "https://a.example",
            "web",
            "has not one of https and endpoint. Write one, as {https: https://mirror.example.net/x}.",
        ),
        ("web/bucket", "abc", "web.bucket", "is for a mirror with endpoint. Take it out."),
        ("web/secretKey", "hush", "web.secretKey", "is for a mirror with endpoint. Take it out."),
        (
            "web/upload",
            {"accessKey": "a", "secretKey": "b"},
            "web.upload",
            "is for a mirror with endpoint. Take it out.",
        ),
        (
            "web",
            {},
            "web",
            "has not one of https and endpoint. Write one, as {https: https://mirror.example.net/x}.",
        ),
    ],
)
def test_a_wrong_value_is_an_error_with_its_fix(path: str, value: object, where: str, message: str) -> None:
    found = errors(changed(path, value))
    assert found[0].startswith(f"{KEY}.{where}: ") and found[0].endswith(message)
    assert "hush" not in "".join(found)


def test_a_key_of_another_type_is_not_shown() -> None:
    (found,) = errors(changed("r2/secretKey", 4711))
    assert found.startswith(f"{KEY}.r2.secretKey: ") and "4711" not in found


def test_a_machine_asks_four_mirrors_at_most() -> None:
    config = copy.deepcopy(GOOD)
    config["mirrors"] = {f"m{number}": {"https": "https://a.example/"} for number in range(5)}
    assert errors(config) == (f"{KEY}: has 5 mirrors, and a machine asks 4 at most. Remove some.",)
    del config["mirrors"]["m4"]
    assert errors(config) == ()


def test_a_setting_that_does_not_fit_a_tag_is_an_error() -> None:
    (found,) = errors(changed("web/https", f"https://a.example/{'x' * 300}"))
    assert found.startswith(f"{KEY}.web: takes 3") and "a tag has 256" in found
    # The name of the secret counts, which has the names of the stack and of the fleet.
    long = changed("r2/bucket", "b" * 63)
    long["mirrors"]["r2"]["endpoint"] = f"https://{'x' * 60}.{'y' * 30}.example"
    (found,) = errors(long, "s" * 30)
    assert errors(long) == () and found.startswith(f"{KEY}.r2: takes ")


SECURE = {"accessKey": None, "secretKey": None}
PATHS = [(KEY, "r2", *way, name) for way in ((), ("upload",)) for name in SECURE]


def file(*secrets: tuple[str | int, ...], **r2: Any) -> StackFile:
    return StackFile(project="rollcall", texts={KEY: json.dumps({"r2": r2})} if r2 else {}, secrets=secrets)


@pytest.mark.parametrize(
    ("given", "is_secret", "message"),
    [
        (file(*PATHS, **SECURE, upload=SECURE), True, []),
        # An environment or another file has it.
        (None, True, []),
        (
            None,
            False,
            [
                f"{KEY}.r2.{key}: is in plain text. Run `pulumi config set --secret --path '{KEY}.r2.{key}'` with another key than "
                "this one."
                for key in ("accessKey", "upload.accessKey", "secretKey", "upload.secretKey")
            ],
        ),
        (
            file(*PATHS[:3], **SECURE, upload={"accessKey": None, "secretKey": "hush-written"}),
            True,
            [
                f"{KEY}.r2.upload.secretKey: is in plain text. Run `pulumi config set --secret --path '{KEY}.r2.upload.secretKey'` with "
                "another key than this one."
            ],
        ),
        (
            file(*PATHS, (KEY, "r2", "bucket"), **SECURE, upload=SECURE, bucket=None),
            True,
            [
                f"{KEY}.r2.bucket: is a secret, and everybody who may read a machine's tags can read it. Encrypt accessKey and secretKey "
                "only."
            ],
        ),
        (
            file((KEY,)),
            True,
            [
                f"{KEY}: is a secret, and everybody who may read a machine's tags can read it. Encrypt accessKey and secretKey only."
            ],
        ),
    ],
)
def test_the_keys_are_encrypted_and_nothing_else_is(
    given: StackFile | None, is_secret: bool, message: list[str]
) -> None:
    found = faults(read("local", GOOD), given, is_secret=is_secret)
    assert found == message and "hush" not in str(found)
