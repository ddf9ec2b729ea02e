"""rollcall.clouds: EC2 by a strict IMDSv2 on loopback, Triton by stand-ins for its guest tools and by its host's socket, and a file."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from localcloud.machines.hypervisor import metadata
from localcloud.machines.hypervisor.metadata import MetadataServer
from rollcall.clouds import Cloud, Ec2, File, Joyent, detect, is_public
from rollcall.errors import FatalError, TransientError
from tests.unit.agent.fakes import INSTANCE, Reply, Scripted

UUID = "0f4c5b5e-7e5f-4c1a-9d3e-2f6b8a7c9d10"
NICS = [
    {"interface": "net0", "ip": "10.88.88.5", "ips": ["10.88.88.5/24", "2001:db8::7/64"]},
    {"interface": "net1", "ip": "203.0.113.9", "ips": ["203.0.113.9/24", "fe80::1/64"]},
]


class Imds:
    """Instance metadata, version 2: nothing without a token that was asked for with a lifetime and is known still."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self.issued = 0
        self.down = False
        self.leaves = {
            "instance-id": INSTANCE,
            "public-ipv4": "198.51.100.10",
            "placement/region": "us-west-2",
            "tags/instance": "Name\nrollcall-fleet\nrollcall-join-0",
            "tags/instance/Name": "web 0",
            "tags/instance/rollcall-fleet": "web-aws",
            "tags/instance/rollcall-join-0": "cloudflare zone=a host=b token=c",
        }

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        if self.down:
            return 503, {}, b""
        if (method, path) == ("PUT", "/latest/api/token"):
            if not 1 <= int(headers.get("x-aws-ec2-metadata-token-ttl-seconds", "0")) <= 21600:
                return 400, {}, b""
            self.issued += 1
            self.tokens.add(f"token-{self.issued}")
            return 200, {}, f"token-{self.issued}".encode()
        if method != "GET" or headers.get("x-aws-ec2-metadata-token") not in self.tokens:
            return 401, {}, b""
        found = self.leaves.get(path.removeprefix("/latest/meta-data/"))
        return (404, {}, b"") if found is None else (200, {}, found.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    made = Scripted(lambda method, path, headers: (500, {}, b""))
    yield made
    made.stop()


@pytest.fixture
def imds(server: Scripted) -> Imds:
    made = Imds()
    server.answer = made
    return made


@pytest.fixture
def ec2(server: Scripted, imds: Imds) -> Ec2:
    return Ec2(server.url)


class TestEc2:
    def test_it_knows_its_instance_region_and_addresses_by_one_token(self, ec2: Ec2, imds: Imds) -> None:
        assert (ec2.instance(), ec2.region(), ec2.addresses()) == (INSTANCE, "us-west-2", ("198.51.100.10",))
        assert imds.issued == 1

    def test_only_our_tags_are_read(self, ec2: Ec2, imds: Imds) -> None:
        assert ec2.keys() == {"rollcall-fleet": "web-aws", "rollcall-join-0": "cloudflare zone=a host=b token=c"}
        imds.leaves["tags/instance/rollcall-fleet"] = "another"
        assert ec2.keys()["rollcall-fleet"] == "another"

    def test_ipv4_comes_first_and_what_is_not_public_never(self, ec2: Ec2, imds: Imds) -> None:
        imds.leaves["ipv6"] = "2001:db8::7\nfe80::1"
        assert ec2.addresses() == ("198.51.100.10", "2001:db8::7")
        imds.leaves["public-ipv4"] = "10.0.0.4"
        assert ec2.addresses() == ("2001:db8::7",)

    def test_the_private_address_is_that_of_the_primary_interface(self, ec2: Ec2, imds: Imds) -> None:
        assert ec2.private_addresses() == ()
        imds.leaves["local-ipv4"] = "172.31.0.4"
        assert ec2.private_addresses() == ("172.31.0.4",)
        imds.leaves["ipv6"] = "2001:db8::7"
        assert ec2.private_addresses() == ("172.31.0.4", "2001:db8::7")

    def test_a_machine_without_addresses_or_tags_has_none(self, ec2: Ec2, imds: Imds) -> None:
        del imds.leaves["public-ipv4"], imds.leaves["tags/instance"]
        assert ec2.addresses() == () and ec2.keys() == {}

    def test_a_token_that_ended_is_replaced_at_the_next_try(self, ec2: Ec2, imds: Imds) -> None:
        ec2.instance()
        imds.tokens.clear()
        with pytest.raises(TransientError, match="status=401"):
            ec2.instance()
        assert ec2.instance() == INSTANCE and imds.issued == 2

    def test_what_must_be_there_and_is_not_is_worth_another_try(self, ec2: Ec2, imds: Imds) -> None:
        del imds.leaves["instance-id"]
        with pytest.raises(TransientError, match="reason=no-metadata path=instance-id status=404"):
            ec2.instance()

    def test_silence_is_worth_another_try(self, ec2: Ec2, imds: Imds) -> None:
        imds.down = True
        for ask in (ec2.instance, ec2.addresses, ec2.keys, ec2.region):
            with pytest.raises(TransientError, match="reason=no-metadata"):
                ask()
        imds.down = False
        assert ec2.instance() == INSTANCE

    def test_a_report_without_a_bucket_is_refused_by_the_setting(self, ec2: Ec2) -> None:
        with pytest.raises(FatalError, match="reason=no-bucket key=rollcall-store value=''"):
            ec2.report("{}")

    def test_a_report_is_written_to_the_bucket_with_the_role_and_a_refusal_is_worth_another_try(
        self, ec2: Ec2, imds: Imds, server: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t", "Expiration": "2999-01-01T00:00:00Z"}
        imds.leaves |= {
            "tags/instance/rollcall-store": "s3 bucket=rollcall-releases-1a region=us-west-2",
            "tags/instance/rollcall-report-to": "machines/web/AROAEXAMPLE",
            "iam/security-credentials/": "web-role",
            "iam/security-credentials/web-role": json.dumps(keys),
        }
        written: list[str] = []

        def answer(method: str, path: str, headers: Mapping[str, str]) -> Reply:
            if not path.startswith("/rollcall-releases-1a/"):
                return imds(method, path, headers)
            written.append(f"{method} {path.removeprefix('/rollcall-releases-1a/')} {headers['x-amz-security-token']}")
            return (200, {}, b"") if len(written) == 1 else (403, {}, b"<Error><Code>AccessDenied</Code></Error>")

        server.answer = answer
        ec2.report("{}")
        assert written == [f"PUT machines/web/AROAEXAMPLE:{INSTANCE}.json t"]
        with pytest.raises(TransientError, match="reason=report-refused code=AccessDenied"):
            ec2.report("{}")

    def test_no_proxy_of_the_environment_is_asked(self, ec2: Ec2, imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        for each in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(each, raising=False)
        assert ec2.instance() == INSTANCE


TOOL = """#!/bin/sh
# The guest tools as https://docs.tritondatacenter.com/private-cloud/instances/using-mdata has them: 1 where there is no such key.
home=@HOME@
[ ! -e "$home/down" ] || exit 2
case ${0##*/} in
    mdata-list) ls "$home/keys" ;;
    mdata-get) [ -e "$home/keys/$1" ] || { echo "No metadata for '$1'" >&2; exit 1; }; cat "$home/keys/$1" ;;
    mdata-put) printf '%s\\n' "$2" >"$home/keys/$1" ;;
esac
"""


class Zone:
    """A machine on Triton, and its metadata as the host has them: they are files."""

    def __init__(self, home: Path) -> None:
        self.keys, self.down, self.bin = home / "keys", home / "down", home / "bin"
        self.keys.mkdir()
        self.bin.mkdir()
        for each in ("mdata-get", "mdata-list", "mdata-put"):
            (self.bin / each).write_text(TOOL.replace("@HOME@", str(home)))
            (self.bin / each).chmod(0o755)
        self.put("sdc:uuid", UUID)
        self.put("sdc:nics", json.dumps(NICS))

    def put(self, key: str, value: str) -> None:
        (self.keys / key).write_text(f"{value}\n")

    def which(self, name: str) -> str | None:
        return str(self.bin / name) if (self.bin / name).exists() else None

    # The host's side of the socket.

    def get(self, key: str) -> str | None:
        return (self.keys / key).read_text() if (self.keys / key).exists() else None

    def delete(self, key: str) -> None:
        raise ValueError("no agent deletes anything")

    def listed(self) -> list[str]:
        return [each.name for each in self.keys.iterdir() if not each.name.startswith("sdc:")]


class Side:
    """The zone's metadata, as the local clouds' host offers them on the socket."""

    def __init__(self, zone: Zone) -> None:
        self.get, self.put, self.delete, self.keys = zone.get, zone.put, zone.delete, zone.listed


@pytest.fixture
def zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zone:
    made = Zone(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    return made


@pytest.fixture(params=["tools", "socket"])
def joyent(zone: Zone, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Joyent]:
    """The cloud as a virtual machine sees it, and as a zone does, which has no tool that works."""
    if request.param == "tools":
        yield Joyent()
        return
    (tmp_path / "bin/mdata-get").write_text("#!/bin/sh\nexit 2\n")
    server = MetadataServer(tmp_path, lambda: None if zone.down.exists() else Side(zone))
    yield Joyent(tmp_path / "metadata.sock")
    server.close()


@contextlib.contextmanager
def host(
    folder: Path, zone: Zone, served: list[str], damage: Callable[[str], str] = lambda line: line
) -> Iterator[Path]:
    """A host that accepts one connection and damages its answers. It writes into `served` what it was asked."""
    path = folder / "one.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            listener.close()
            with connection, connection.makefile("rwb") as stream:
                for line in stream:
                    words = line.decode().rstrip("\n").split(" ")
                    served.append(words[4] if words[0] == "V2" else words[0])
                    reply = damage(metadata.answer(Side(zone), " ".join(words)) + "\n")
                    stream.write(reply.encode())
                    stream.flush()
                    if not reply:
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join()


class TestJoyent:
    def test_it_knows_its_instance_and_its_public_addresses_ipv4_first(self, zone: Zone, joyent: Joyent) -> None:
        assert joyent.instance() == UUID and joyent.region() == ""
        assert joyent.addresses() == ("203.0.113.9", "2001:db8::7")

    @pytest.mark.parametrize(
        ("nics", "expected"), [([], ()), ([{"ip": "203.0.113.9"}], ("203.0.113.9",)), ([{"ips": ["dhcp"]}], ())]
    )
    def test_older_and_odd_network_cards(
        self, zone: Zone, joyent: Joyent, nics: list[object], expected: tuple[str, ...]
    ) -> None:
        zone.put("sdc:nics", json.dumps(nics))
        assert joyent.addresses() == expected

    @pytest.mark.parametrize(
        ("nics", "expected"),
        [
            # As CloudAPI makes them: in the order of `networks`, the first public network's the primary one.
            ([("192.168.128.7", False), ("203.0.113.9", True)], ("203.0.113.9",)),
            ([("203.0.113.9", True), ("192.168.128.7", False)], ("203.0.113.9",)),
            ([("198.51.100.7", False), ("203.0.113.9", True)], ("203.0.113.9", "198.51.100.7")),
            ([("203.0.113.9", True), ("198.51.100.7", False)], ("203.0.113.9", "198.51.100.7")),
            ([("192.168.128.7", True)], ()),
        ],
    )
    def test_the_address_of_the_primary_network_card_comes_first(
        self, zone: Zone, joyent: Joyent, nics: list[tuple[str, bool]], expected: tuple[str, ...]
    ) -> None:
        zone.put("sdc:nics", json.dumps([{"ip": ip, "ips": [f"{ip}/24"], "primary": main} for ip, main in nics]))
        assert joyent.addresses() == expected

    @pytest.mark.parametrize(
        ("nics", "private"),
        [
            ([("203.0.113.9", "external", True)], ()),
            ([("203.0.113.9", "external", True), ("192.168.128.7", "sdc_overlay/16187209", False)], ("192.168.128.7",)),
            ([("192.168.128.7", "sdc_overlay/7", False), ("203.0.113.9", "external", True)], ("192.168.128.7",)),
            # A fabric alone: its card is the primary one.
            ([("192.168.128.7", "sdc_overlay/7", True)], ("192.168.128.7",)),
            # The order of the cards decides, and not which one is primary.
            (
                [("10.88.0.7", "internal", False), ("192.168.128.7", "sdc_overlay/7", True)],
                ("10.88.0.7", "192.168.128.7"),
            ),
            # On a fabric, whatever the address is.
            ([("203.0.113.9", "external", True), ("203.0.113.230", "sdc_overlay/7", False)], ("203.0.113.230",)),
        ],
    )
    def test_private_addresses_are_those_on_fabrics_and_private_networks(
        self, zone: Zone, joyent: Joyent, nics: list[tuple[str, str, bool]], private: tuple[str, ...]
    ) -> None:
        cards = [{"ips": [f"{ip}/24"], "nic_tag": tag, "primary": main} for ip, tag, main in nics]
        zone.put("sdc:nics", json.dumps(cards))
        assert joyent.private_addresses() == private
        assert set(joyent.addresses()) == {ip for ip, _, _ in nics} - {*private}

    def test_a_card_without_an_address_is_neither_public_nor_private(self, zone: Zone, joyent: Joyent) -> None:
        zone.put("sdc:nics", json.dumps([{"ips": ["dhcp", "addrconf"]}, {}]))
        assert joyent.private_addresses() == joyent.addresses() == ()

    def test_only_our_keys_are_read_and_not_our_own_status(self, zone: Zone, joyent: Joyent) -> None:
        zone.put("user-script", "#!/bin/sh")
        zone.put("rollcall-fleet", "web-joyent")
        joyent.tell("registered")
        assert (zone.keys / "rollcall-status").read_text() == "registered\n"
        assert joyent.keys() == {"rollcall-fleet": "web-joyent"}

    def test_a_report_does_not_count_as_a_setting_and_silence_is_worth_another_try(
        self, zone: Zone, joyent: Joyent
    ) -> None:
        zone.put("rollcall-carried-9f86", "a release")
        joyent.report('{"format":1}')
        assert (zone.keys / "rollcall-report").read_text() == '{"format":1}\n'
        assert joyent.keys() == {}
        zone.down.touch()
        with pytest.raises(TransientError, match="reason=no-metadata"):
            joyent.report("{}")

    def test_a_secret_is_a_key_and_one_that_is_not_there_is_fatal(self, zone: Zone, joyent: Joyent) -> None:
        zone.put("rollcall-token", "hush")
        assert joyent.secret("rollcall-token") == "hush"
        with pytest.raises(FatalError, match="reason=no-metadata key=another"):
            joyent.secret("another")

    def test_silence_is_worth_another_try_and_telling_never_fails(self, zone: Zone, joyent: Joyent) -> None:
        zone.down.touch()
        with pytest.raises(
            TransientError, match=r"reason=no-metadata (tool=mdata-get exit=2|command=GET code=FAILURE)"
        ):
            joyent.instance()
        joyent.tell("registered")

    def test_tools_that_are_not_there_are_worth_another_try(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/no/such/place")
        with pytest.raises(TransientError, match="reason=tool-failed tool=mdata-get"):
            Joyent().instance()

    def test_a_socket_at_which_nothing_answers_is_worth_another_try(self, tmp_path: Path) -> None:
        path = tmp_path / "metadata.sock"
        with pytest.raises(TransientError, match=f"reason=no-metadata socket={path} error=FileNotFoundError"):
            Joyent(path).keys()

    def test_all_keys_are_read_over_one_connection_and_by_no_process(self, tmp_path: Path, zone: Zone) -> None:
        """A process for each key every ten seconds was a third of what an idle machine computes."""
        for each in ("rollcall-fleet", "rollcall-stack", "user-script"):
            zone.put(each, each)
        served: list[str] = []
        with host(tmp_path, zone, served) as path:
            assert Joyent(path).keys() == {"rollcall-fleet": "rollcall-fleet", "rollcall-stack": "rollcall-stack"}
        assert sorted(served) == ["GET", "GET", "KEYS", "NEGOTIATE"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda line: line.replace("V2_OK", "FAILURE"),
            lambda line: line.replace(" SUCCESS", " SUCCESt"),
            lambda line: f"{line[:-2]}\n" if "SUCCESS" in line else line,
            lambda line: metadata.frame("00000000", "SUCCESS", "other") + "\n" if "SUCCESS" in line else line,
            lambda line: "invalid command\n" if "SUCCESS" in line else line,
            lambda line: "" if "SUCCESS" in line else line,
        ],
        ids=["an old host", "another checksum", "cut short", "another request's answer", "no frame", "hung up"],
    )
    def test_an_answer_that_is_none_is_worth_another_try(
        self, tmp_path: Path, zone: Zone, damage: Callable[[str], str]
    ) -> None:
        with (
            host(tmp_path, zone, [], damage) as path,
            pytest.raises(TransientError, match=f"reason=no-metadata socket={path} error=ValueError"),
        ):
            Joyent(path).instance()


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Path]:
    """Write the settings file below a root."""

    def write(**content: object) -> Path:
        path = tmp_path / "etc" / "rollcall.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write


class TestFile:
    def test_it_says_everything_itself(self, settings: Callable[..., Path]) -> None:
        path = settings(instance="m1", addresses=["192.0.2.1"], keys={"a": 1}, secrets={"t": "hush"}, region="eu")
        file = File(path)
        assert (file.name, file.instance(), file.addresses(), file.keys()) == ("file", "m1", ("192.0.2.1",), {"a": "1"})
        assert (file.secret("t"), file.region()) == ("hush", "eu")

    def test_a_report_goes_to_the_cloud_below_it(
        self, settings: Callable[..., Path], zone: Zone, joyent: Joyent
    ) -> None:
        File(settings(keys={}), joyent).report("{}")
        assert (zone.keys / "rollcall-report").read_text() == "{}\n"
        File(settings(instance="m1")).report("{}")

    def test_what_it_lacks_the_cloud_below_it_knows(self, settings: Callable[..., Path], ec2: Ec2) -> None:
        file = File(settings(keys={"a": "b"}, secrets={"t": "hush"}), ec2)
        assert (file.name, file.instance(), file.region()) == ("aws", INSTANCE, "us-west-2")
        assert (file.addresses(), file.keys(), file.secret("t")) == (("198.51.100.10",), {"a": "b"}, "hush")

    @pytest.mark.parametrize("ask", [File.instance, File.addresses, File.keys, lambda file: file.secret("t")])
    def test_a_missing_value_is_fatal_and_names_the_file(
        self, settings: Callable[..., Path], ask: Callable[[File], object]
    ) -> None:
        path = settings(other=1)
        with pytest.raises(FatalError, match=rf"reason=no-\w+ .*file={path}"):
            ask(File(path))

    @pytest.mark.parametrize("text", ["", "{", "\xff"])
    def test_a_file_that_is_not_json_is_fatal_and_is_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "broken.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(FatalError, match=f"reason=unreadable-settings file={path}"):
            File(path).instance()

    def test_it_is_read_again(self, settings: Callable[..., Path]) -> None:
        file = File(settings(keys={"rollcall-drain": "false"}))
        file.keys()
        settings(keys={"rollcall-drain": "true"})
        assert file.keys() == {"rollcall-drain": "true"}


class TestDetect:
    @pytest.mark.parametrize("socket", ["native/.zonecontrol/metadata.sock", ".zonecontrol/metadata.sock", "dev/ttyS1"])
    def test_the_guest_tools_with_their_socket_are_triton(self, zone: Zone, tmp_path: Path, socket: str) -> None:
        assert detect(tmp_path, zone.which).name == "aws"
        (tmp_path / socket).parent.mkdir(parents=True)
        (tmp_path / socket).touch()
        assert detect(tmp_path, zone.which).name == "joyent"
        assert detect(tmp_path, lambda name: None).name == "aws"

    def test_a_serial_line_on_which_nothing_answers_is_not_triton(self, zone: Zone, tmp_path: Path) -> None:
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/ttyS1").touch()
        zone.down.touch()
        assert detect(tmp_path, zone.which).name == "aws"

    def test_a_file_that_names_the_instance_is_asked_alone(self, settings: Callable[..., Path], tmp_path: Path) -> None:
        settings(instance="m1")
        found: Cloud = detect(tmp_path, lambda name: None)
        assert (found.name, found.instance()) == ("file", "m1")

    def test_another_file_is_before_the_cloud(
        self, settings: Callable[..., Path], tmp_path: Path, zone: Zone, server: Scripted, imds: Imds
    ) -> None:
        settings(keys={"a": "b"})
        assert detect(tmp_path, lambda name: None, server.url).instance() == INSTANCE
        (tmp_path / ".zonecontrol").mkdir()
        host_side = MetadataServer(tmp_path / ".zonecontrol", lambda: Side(zone))
        found = detect(tmp_path, zone.which, server.url)
        assert (found.name, found.instance(), found.keys()) == ("joyent", UUID, {"a": "b"})
        host_side.close()


@pytest.mark.parametrize(
    "address", ["198.51.100.1", "203.0.113.1", "1.1.1.1", "2001:db8::1", "172.32.0.1", "100.63.0.1"]
)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "dhcp",
        "10.1.2.3",
        "172.31.255.1",
        "192.168.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fe80::1",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)
