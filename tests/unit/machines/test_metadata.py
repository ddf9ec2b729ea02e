"""Both sides of the Joyent metadata protocol, over a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.machines.hypervisor.metadata import FrameError, MetadataServer, answer, frame, parse
from localcloud.machines.image import ROOTFS
from tests.integration.cloud_stubs import Metadata


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Metadata]:
    side = Metadata(**{"sdc:alias": "web-0", "greeting": "grüß dich\nzwei", "empty": ""})
    server = MetadataServer(tmp_path, lambda: side)
    yield side
    server.close()


def tool(folder: Path, name: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run a guest's tool: exit code, output, errors."""
    done = subprocess.run(
        [str(ROOTFS / "usr/sbin" / name), *arguments],
        input=stdin, capture_output=True, text=True, check=False,
        env={**os.environ, "MDATA_SOCKET": str(folder / "metadata.sock")},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_get_prints_the_value_and_ends_the_line(metadata: Metadata, tmp_path: Path) -> None:
    assert tool(tmp_path, "mdata-get", "greeting") == (0, "grüß dich\nzwei\n", "")
    assert tool(tmp_path, "mdata-get", "sdc:alias")[1] == "web-0\n"
    assert tool(tmp_path, "mdata-get", "empty") == (0, "", "")


def test_get_of_an_absent_key_exits_with_1_and_says_so(metadata: Metadata, tmp_path: Path) -> None:
    assert tool(tmp_path, "mdata-get", "absent") == (1, "", "No metadata for 'absent'\n")


def test_put_takes_its_value_as_argument_or_from_standard_input(metadata: Metadata, tmp_path: Path) -> None:
    assert tool(tmp_path, "mdata-put", "one", "a b") == (0, "", "")
    assert tool(tmp_path, "mdata-put", "two words", stdin="ä\n") == (0, "", "")
    assert metadata.values["one"] == "a b"
    assert metadata.values["two words"] == "ä\n"


@pytest.mark.parametrize("length", [*range(1, 9), 44, 45, 46, 59, 60, 61, 90, 72_001])
def test_a_value_of_any_length_arrives_as_it_was_sent(metadata: Metadata, tmp_path: Path, length: int) -> None:
    value = "".join(chr(32 + (number * 7) % 95) for number in range(length))
    assert tool(tmp_path, "mdata-put", "sent", stdin=value) == (0, "", "")
    assert metadata.values["sent"] == value
    assert tool(tmp_path, "mdata-get", "sent") == (0, f"{value}\n", "")


def test_a_refused_put_exits_with_2_and_gives_the_reason(metadata: Metadata, tmp_path: Path) -> None:
    code, _, errors = tool(tmp_path, "mdata-put", "sdc:alias", "mine")
    assert code == 2
    assert "sdc:alias is read-only" in errors
    assert metadata.values["sdc:alias"] == "web-0"


def test_list_shows_the_keys_that_a_guest_may_change(metadata: Metadata, tmp_path: Path) -> None:
    assert tool(tmp_path, "mdata-list") == (0, "greeting\nempty\n", "")


def test_delete_removes_a_key_and_accepts_a_missing_one(metadata: Metadata, tmp_path: Path) -> None:
    assert tool(tmp_path, "mdata-delete", "greeting")[0] == 0
    assert "greeting" not in metadata.values
    assert tool(tmp_path, "mdata-delete", "greeting")[0] == 0


@pytest.mark.parametrize(("name", "arguments"), [("mdata-get", ()), ("mdata-list", ("x",)), ("mdata-put", ())])
def test_wrong_usage_exits_with_3(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    code, _, errors = tool(tmp_path, name, *arguments)
    assert code == 3
    assert errors.startswith("usage: ")


def test_without_the_service_a_tool_exits_with_2_and_names_the_socket(tmp_path: Path) -> None:
    code, _, errors = tool(tmp_path, "mdata-get", "user-script")
    assert code == 2
    assert "metadata.sock" in errors


def test_one_connection_serves_many_requests_and_survives_rubbish(metadata: Metadata, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "metadata.sock"))
        with connection.makefile("rw", encoding="ascii", newline="\n") as stream:
            replies = []
            for line in ("NEGOTIATE V2", "V2 5 00000000 abc GET", frame("00c0ffee", "GET", "sdc:alias")):
                stream.write(line + "\n")
                stream.flush()
                replies.append(stream.readline().rstrip("\n"))
    assert replies[:2] == ["V2_OK", "invalid command"]
    assert parse(replies[2]) == ("00c0ffee", "SUCCESS", "web-0")


def test_a_socket_path_may_be_longer_than_an_address_of_the_family(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    server = MetadataServer(folder, lambda: None)
    assert (folder / "metadata.sock").is_socket()
    server.close()


def test_without_metadata_the_answer_is_a_failure_and_not_an_absence() -> None:
    assert parse(answer(None, frame("1", "GET", "user-script")))[1] == "FAILURE"


def test_length_and_checksum_are_those_of_what_follows_them() -> None:
    assert frame("dc4fae17", "SUCCESS") == "V2 16 " + f"{_crc('dc4fae17 SUCCESS'):08x} dc4fae17 SUCCESS"


@given(st.text(), st.sampled_from(["GET", "PUT", "SUCCESS"]))
def test_what_is_framed_is_parsed_to_the_same(payload: str, code: str) -> None:
    assert parse(frame("0badcafe", code, payload)) == ("0badcafe", code, payload)


@given(st.binary(max_size=60))
def test_no_line_of_a_guest_brings_the_service_down(line: bytes) -> None:
    assert answer(Metadata(), line.decode("ascii", "replace")).startswith(("invalid command", "V2"))


@given(st.integers(0, 40), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_damaged_frame_is_refused(position: int, character: str) -> None:
    whole = frame("0badcafe", "GET", "user-script")
    damaged = whole[: position % len(whole)] + character + whole[position % len(whole) + 1 :]
    if damaged.lower() == whole.lower():
        return
    with pytest.raises(FrameError):
        parse(damaged)


def _crc(text: str) -> int:
    """CRC-32 bit by bit, so that the test does not trust what it tests."""
    crc = 0xFFFFFFFF
    for byte in text.encode():
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
