"""What a machine is once it has booted: its userdata, its network, its trust, its packages."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.machines.hypervisor import HypervisorError
from localcloud.network.namespace import NETWORKS
from localcloud.runtime.daemon import files
from tests.integration.cloud_stubs import Metadata, Visits, serve_wsgi
from tests.integration.machine_room import ON_AWS, ON_JOYENT, Room, open_room, until

pytestmark = [pytest.mark.machines, pytest.mark.skipif(os.geteuid() != 0, reason="machines take root")]
WEB_SERVER = "#!/bin/sh\nset -e\necho ran >>/var/log/ran\nsystemctl start nginx\n"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as opened:
        yield opened


def test_a_joyent_machine_runs_its_user_script_at_every_boot_under_its_own_name(room: Room) -> None:
    metadata = Metadata(**{"user-script": f"{WEB_SERVER}mdata-put booted yes\n", "sdc:hostname": "web-0"})
    room.metadata[ON_JOYENT.id] = metadata
    heard = room.boot(ON_JOYENT)
    assert until(lambda: room.answers(ON_JOYENT.address))
    assert until(lambda: metadata.get("booted") == "yes")
    assert room.run(ON_JOYENT, "hostname") == "web-0"
    room.hypervisor.reboot(ON_JOYENT.id)
    heard.wait("running", "running")
    assert until(lambda: room.run(ON_JOYENT, "wc -l </var/log/ran") == "2")


def test_a_joyent_machine_without_a_user_script_is_a_healthy_machine(room: Room) -> None:
    room.metadata[ON_JOYENT.id] = Metadata()
    room.boot(ON_JOYENT)
    assert room.settled(ON_JOYENT) == "running"


def test_a_user_script_that_fails_shows_as_a_failed_unit(room: Room) -> None:
    room.metadata[ON_JOYENT.id] = Metadata(user_script="echo went wrong\nexit 3\n")
    room.boot(ON_JOYENT)
    assert room.settled(ON_JOYENT) == "degraded"
    assert "went wrong" in room.run(ON_JOYENT, "cat /var/log/user-script.log; journalctl -u joyent-user-script | cat")


def test_an_ec2_machine_gets_its_user_data_with_a_token_from_its_own_address(room: Room) -> None:
    room.imds.user_data[ON_AWS.address] = WEB_SERVER.encode()
    room.boot(ON_AWS)
    assert until(lambda: room.answers(ON_AWS.address))
    assert set(room.imds.seen_from) == {ON_AWS.address}
    assert room.run(ON_AWS, "hostname") == "web-0"
    assert room.settled(ON_AWS) == "running"


def test_only_ec2_machines_reach_ec2_metadata_and_the_others_learn_it_at_once(room: Room) -> None:
    for machine in (ON_AWS, ON_JOYENT):
        room.boot(machine)
        room.settled(machine)
    ask = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/latest/meta-data/"]
    assert room.hypervisor.exec(ON_AWS.id, ask).stdout == b"401"
    started = time.monotonic()
    assert room.hypervisor.exec(ON_JOYENT.id, ask).returncode == 7
    assert time.monotonic() - started < 2


def test_a_bare_machine_installs_nginx_from_the_packages_of_the_namespace(room: Room) -> None:
    with serve_wsgi(room.namespace, NETWORKS["aws"].gateway, 80, files(room.image.repository)):
        bare = replace(ON_JOYENT, image="debian-12-bare")
        room.boot(bare)
        room.settled(bare)
        assert room.run(bare, "command -v nginx || echo none") == "none"
        room.run(bare, "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install nginx >/dev/null")
        assert until(lambda: room.answers(bare.address))


def test_a_machine_trusts_the_run_time_ca_with_whatever_it_speaks_tls(room: Room) -> None:
    visits = Visits()
    with serve_wsgi(room.namespace, "203.0.113.1", 443, visits, room.tls):
        room.boot(ON_JOYENT)
        room.settled(ON_JOYENT)
        url = "https://route53.amazonaws.com"
        room.run(ON_JOYENT, "echo 203.0.113.1 route53.amazonaws.com >>/etc/hosts")
        room.run(ON_JOYENT, f"curl -sSf {url}/curl")
        room.run(ON_JOYENT, f"python3 -c 'import requests; requests.get(\"{url}/requests\")'")
        room.run(ON_JOYENT, f"python3 -c 'import urllib.request as u; u.urlopen(\"{url}/urllib\")'")
        room.run(ON_JOYENT, "openssl s_client -verify_return_error -connect route53.amazonaws.com:443 </dev/null")
        # As the agent asks AWS: only the certificate that is needed, by its hash.
        by_hash = f'import requests; requests.get("{url}/by-hash", verify="/etc/ssl/certs")'
        room.run(ON_JOYENT, f"python3 -c '{by_hash}'")
        room.run(ON_JOYENT, f"update-ca-certificates >/dev/null && curl -sSf {url}/again")
    assert visits.paths == ["/curl", "/requests", "/urllib", "/by-hash", "/again"]


def test_sshd_runs_only_where_a_user_has_a_key(room: Room) -> None:
    room.boot(replace(ON_JOYENT, ssh_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNvbW1lbnQ operator",)))
    assert until(lambda: room.answers(ON_JOYENT.address, 22))
    room.boot(ON_AWS)
    room.settled(ON_AWS)
    assert not room.answers(ON_AWS.address, 22)


def test_a_command_inside_gets_its_input_and_its_exit_code_comes_back(room: Room) -> None:
    room.boot(ON_AWS)
    done = room.hypervisor.exec(ON_AWS.id, ["sh", "-c", "pwd; cat; exit 7"], stdin=b"hello")
    assert (done.returncode, done.stdout) == (7, b"/\nhello")
    with pytest.raises(subprocess.TimeoutExpired):
        room.hypervisor.exec(ON_AWS.id, ["sleep", "4321"], timeout=0.5)
    assert until(lambda: room.run(ON_AWS, "pgrep -f 'sleep 432[1]' || echo gone") == "gone")
    with pytest.raises(HypervisorError, match="i-none: does not exist"):
        room.hypervisor.exec("i-none", ["true"])
