"""What the contract suite needs: where it runs, and two hands that do the same by other means, our client and npm's `triton`.

It runs on a local CloudAPI unless ROLLCALL_CONTRACT=real and TRITON_URL, TRITON_ACCOUNT and TRITON_KEY_ID point at a data centre.
There it makes only what bears its mark, and deletes that again, whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from components.joyent.client import CloudApi
from components.joyent.errors import CloudApiError, NotFoundError
from tests.cloud.triton_client import Resident, installed
from tests.patience import Deadline

MARK = "rollcall-contract"
T = TypeVar("T")
Body = dict[str, Any]


class Gone(Exception):
    """There is no such thing, or no longer."""


class Refused(Exception):
    """CloudAPI refused it; the text has its code or its words."""


class Hand(Protocol):
    """The verbs of the suite. Each raises Gone or Refused; none waits for what CloudAPI does after it has answered."""

    def account(self) -> Body: ...
    def images(self) -> list[Body]: ...
    def packages(self) -> list[Body]: ...
    def networks(self) -> list[Body]: ...
    def create(
        self, name: str, image: str, package: str, *, tags: Mapping[str, Any], metadata: Mapping[str, str], script: str
    ) -> str: ...
    def machine(self, machine: str) -> Body: ...
    def named(self, name: str) -> list[Body]: ...
    def power(self, machine: str, action: str) -> None: ...
    def rename(self, machine: str, name: str) -> None: ...
    def resize(self, machine: str, package: str) -> None: ...
    def switch(self, machine: str, what: str, on: bool) -> None: ...
    def delete(self, machine: str) -> None: ...
    def set_tags(self, machine: str, tags: Mapping[str, Any]) -> None: ...
    def drop_tag(self, machine: str, key: str) -> None: ...
    def set_metadata(self, machine: str, values: Mapping[str, str]) -> None: ...
    def drop_metadata(self, machine: str, key: str) -> None: ...
    def nics(self, machine: str) -> list[Body]: ...
    def add_nic(self, machine: str, network: str) -> str: ...
    def drop_nic(self, machine: str, mac: str) -> None: ...
    def snapshots(self, machine: str) -> list[Body]: ...
    def snap(self, machine: str, name: str) -> None: ...
    def drop_snapshot(self, machine: str, name: str) -> None: ...
    def make_image(self, machine: str, name: str, version: str) -> str: ...
    def image(self, image: str) -> Body: ...
    def drop_image(self, image: str) -> None: ...
    def public_keys(self) -> list[Body]: ...
    def add_key(self, name: str, text: str) -> None: ...
    def drop_key(self, fingerprint: str) -> None: ...
    def rule(self, rule: str) -> Body: ...
    def add_rule(self, text: str, description: str) -> str: ...
    def switch_rule(self, rule: str, on: bool) -> None: ...
    def drop_rule(self, rule: str) -> None: ...
    def vlans(self) -> list[Body]: ...
    def add_vlan(self, number: int, name: str) -> None: ...
    def drop_vlan(self, number: int) -> None: ...
    def add_network(self, vlan: int, name: str, net: str) -> str: ...
    def network(self, network: str) -> Body: ...
    def drop_network(self, vlan: int, network: str) -> None: ...


@contextlib.contextmanager
def _contract_errors() -> Iterator[None]:
    try:
        yield
    except NotFoundError as gone:
        raise Gone(str(gone)) from gone
    except CloudApiError as refused:
        raise Refused(str(refused)) from refused


class Ours:
    """By components.joyent.client."""

    def __init__(self, api: CloudApi) -> None:
        self.api = api

    def _get(self, path: str) -> Any:
        with _contract_errors():
            return self.api.get(path)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        with _contract_errors():
            return self.api.post(path, body)

    def _delete(self, path: str) -> None:
        with _contract_errors():
            self.api.delete(path)

    def account(self) -> Body:
        return dict(self._get(""))

    def images(self) -> list[Body]:
        return list(self._get("/images"))

    def packages(self) -> list[Body]:
        return list(self._get("/packages"))

    def networks(self) -> list[Body]:
        return list(self._get("/networks"))

    def create(
        self, name: str, image: str, package: str, *, tags: Mapping[str, Any], metadata: Mapping[str, str], script: str
    ) -> str:
        flat = {f"tag.{key}": value for key, value in tags.items()}
        flat |= {f"metadata.{key}": value for key, value in metadata.items()}
        with _contract_errors():
            body = {"name": name, "image": image, "package": package, **flat, "metadata.user-script": script}
            return self.api.create_machine(body).id

    def machine(self, machine: str) -> Body:
        return dict(self._get(f"/machines/{machine}"))

    def named(self, name: str) -> list[Body]:
        with _contract_errors():
            return [{"id": found.id, "name": found.name} for found in self.api.list_machines(name=name)]

    def power(self, machine: str, action: str) -> None:
        with _contract_errors():
            self.api.act(machine, action)

    def rename(self, machine: str, name: str) -> None:
        with _contract_errors():
            self.api.act(machine, "rename", name=name)

    def resize(self, machine: str, package: str) -> None:
        with _contract_errors():
            self.api.act(machine, "resize", package=package)

    def switch(self, machine: str, what: str, on: bool) -> None:
        with _contract_errors():
            self.api.act(machine, f"{'enable' if on else 'disable'}_{what}")

    def delete(self, machine: str) -> None:
        with _contract_errors():
            self.api.delete_machine(machine)

    def set_tags(self, machine: str, tags: Mapping[str, Any]) -> None:
        with _contract_errors():
            self.api.merge_tags(machine, tags)

    def drop_tag(self, machine: str, key: str) -> None:
        with _contract_errors():
            self.api.delete_tag(machine, key)

    def set_metadata(self, machine: str, values: Mapping[str, str]) -> None:
        with _contract_errors():
            self.api.merge_metadata(machine, values)

    def drop_metadata(self, machine: str, key: str) -> None:
        with _contract_errors():
            self.api.delete_metadata(machine, key)

    def nics(self, machine: str) -> list[Body]:
        with _contract_errors():
            return [dict(nic) for nic in self.api.list_nics(machine)]

    def add_nic(self, machine: str, network: str) -> str:
        with _contract_errors():
            return str(self.api.add_nic(machine, network)["mac"])

    def drop_nic(self, machine: str, mac: str) -> None:
        with _contract_errors():
            self.api.remove_nic(machine, mac)

    def snapshots(self, machine: str) -> list[Body]:
        return list(self._get(f"/machines/{machine}/snapshots"))

    def snap(self, machine: str, name: str) -> None:
        self._post(f"/machines/{machine}/snapshots", {"name": name})

    def drop_snapshot(self, machine: str, name: str) -> None:
        self._delete(f"/machines/{machine}/snapshots/{name}")

    def make_image(self, machine: str, name: str, version: str) -> str:
        return str(self._post("/images", {"machine": machine, "name": name, "version": version})["id"])

    def image(self, image: str) -> Body:
        return dict(self._get(f"/images/{image}"))

    def drop_image(self, image: str) -> None:
        self._delete(f"/images/{image}")

    def public_keys(self) -> list[Body]:
        return list(self._get("/keys"))

    def add_key(self, name: str, text: str) -> None:
        self._post("/keys", {"name": name, "key": text})

    def drop_key(self, fingerprint: str) -> None:
        self._delete(f"/keys/{quote(fingerprint, safe='')}")

    def rule(self, rule: str) -> Body:
        return dict(self._get(f"/fwrules/{rule}"))

    def add_rule(self, text: str, description: str) -> str:
        return str(self._post("/fwrules", {"rule": text, "enabled": True, "description": description})["id"])

    def switch_rule(self, rule: str, on: bool) -> None:
        self._post(f"/fwrules/{rule}/{'enable' if on else 'disable'}", {})

    def drop_rule(self, rule: str) -> None:
        self._delete(f"/fwrules/{rule}")

    def vlans(self) -> list[Body]:
        return list(self._get("/fabrics/default/vlans"))

    def add_vlan(self, number: int, name: str) -> None:
        self._post("/fabrics/default/vlans", {"vlan_id": number, "name": name})

    def drop_vlan(self, number: int) -> None:
        self._delete(f"/fabrics/default/vlans/{number}")

    def add_network(self, vlan: int, name: str, net: str) -> str:
        body = {"name": name, "internet_nat": False, **_range(net)}
        return str(self._post(f"/fabrics/default/vlans/{vlan}/networks", body)["id"])

    def network(self, network: str) -> Body:
        return dict(self._get(f"/networks/{network}"))

    def drop_network(self, vlan: int, network: str) -> None:
        self._delete(f"/fabrics/default/vlans/{vlan}/networks/{network}")


class Official:
    """By npm's `triton`; `environ` says where and who. `resident` runs its commands; without it each has a process."""

    def __init__(self, environ: Mapping[str, str], resident: Resident | None = None) -> None:
        self._environ = environ
        self._command = resident.run if resident else self._in_a_process

    def _in_a_process(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", str(installed()), *words],
            env=dict(self._environ), capture_output=True, text=True, timeout=180, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _run(self, *words: str) -> str:
        done = self._command(*words)
        if done.returncode == 0:
            return done.stdout.strip()
        output = done.stderr.strip() or done.stdout.strip()
        missing = ("ResourceNotFound", "InstanceDeleted", "NotFound", "not found", "no instance with", "no image with")
        raise (Gone if any(text in output for text in missing) else Refused)(output)

    def _one(self, *words: str) -> Body:
        body: Body = json.loads(self._run(*words))
        return body

    def _many(self, *words: str) -> list[Body]:
        printed = self._run(*words)
        if printed.startswith("["):
            bodies: list[Body] = json.loads(printed)
            return bodies
        return [json.loads(line) for line in printed.splitlines()]

    def account(self) -> Body:
        return self._one("account", "get", "-j")

    def images(self) -> list[Body]:
        return self._many("image", "list", "-j")

    def packages(self) -> list[Body]:
        return self._many("package", "list", "-j")

    def networks(self) -> list[Body]:
        return self._many("network", "list", "-j")

    def create(
        self, name: str, image: str, package: str, *, tags: Mapping[str, Any], metadata: Mapping[str, str], script: str
    ) -> str:
        words = [word for key, value in tags.items() for word in ("-t", f"{key}={_typed(value)}")]
        words += [
            word for key, value in {**metadata, "user-script": script}.items() for word in ("-m", f"{key}={value}")
        ]
        return str(self._one("instance", "create", "-j", f"--name={name}", *words, image, package)["id"])

    def machine(self, machine: str) -> Body:
        return self._one("instance", "get", "-j", machine)

    def named(self, name: str) -> list[Body]:
        return self._many("instance", "list", "-j", f"name={name}")

    def power(self, machine: str, action: str) -> None:
        self._run("instance", action, machine)

    def rename(self, machine: str, name: str) -> None:
        self._run("instance", "rename", machine, name)

    def resize(self, machine: str, package: str) -> None:
        self._run("instance", "resize", machine, package)

    def switch(self, machine: str, what: str, on: bool) -> None:
        self._run("instance", f"{'enable' if on else 'disable'}-{what.replace('_', '-')}", machine)

    def delete(self, machine: str) -> None:
        self._run("instance", "delete", "-f", machine)

    def set_tags(self, machine: str, tags: Mapping[str, Any]) -> None:
        self._run("instance", "tag", "set", machine, *(f"{key}={_typed(value)}" for key, value in tags.items()))

    def drop_tag(self, machine: str, key: str) -> None:
        self._run("instance", "tag", "delete", machine, key)

    def set_metadata(self, machine: str, values: Mapping[str, str]) -> None:
        self._run("instance", "metadata", "set", machine, *(f"{key}={value}" for key, value in values.items()))

    def drop_metadata(self, machine: str, key: str) -> None:
        self._run("instance", "metadata", "delete", "-f", machine, key)

    def nics(self, machine: str) -> list[Body]:
        return self._many("instance", "nic", "list", "-j", machine)

    def add_nic(self, machine: str, network: str) -> str:
        return str(self._one("instance", "nic", "create", "-j", machine, network)["mac"])

    def drop_nic(self, machine: str, mac: str) -> None:
        self._run("instance", "nic", "delete", "-f", machine, mac)

    def snapshots(self, machine: str) -> list[Body]:
        return self._many("instance", "snapshot", "list", "-j", machine)

    def snap(self, machine: str, name: str) -> None:
        self._run("instance", "snapshot", "create", "-n", name, machine)

    def drop_snapshot(self, machine: str, name: str) -> None:
        self._run("instance", "snapshot", "delete", "-f", machine, name)

    def make_image(self, machine: str, name: str, version: str) -> str:
        return str(self._one("image", "create", "-j", machine, name, version)["id"])

    def image(self, image: str) -> Body:
        return self._one("image", "get", "-j", image)

    def drop_image(self, image: str) -> None:
        self._run("image", "delete", "-f", image)

    def public_keys(self) -> list[Body]:
        return self._many("key", "list", "-j")

    def add_key(self, name: str, text: str) -> None:
        path = Path(self._environ["HOME"]) / f"{name}.pub"
        path.write_text(f"{text}\n")
        try:
            self._run("key", "add", "-n", name, str(path))
        finally:
            path.unlink()

    def drop_key(self, fingerprint: str) -> None:
        self._run("key", "delete", "-y", fingerprint)

    def rule(self, rule: str) -> Body:
        return self._one("fwrule", "get", "-j", rule)

    def add_rule(self, text: str, description: str) -> str:
        # It prints a sentence whether it is asked for JSON or not.
        return self._run("fwrule", "create", "-D", description, text).split()[-1]

    def switch_rule(self, rule: str, on: bool) -> None:
        self._run("fwrule", "enable" if on else "disable", rule)

    def drop_rule(self, rule: str) -> None:
        self._run("fwrule", "delete", "-f", rule)

    def vlans(self) -> list[Body]:
        return self._many("vlan", "list", "-j")

    def add_vlan(self, number: int, name: str) -> None:
        self._run("vlan", "create", "-n", name, str(number))

    def drop_vlan(self, number: int) -> None:
        self._run("vlan", "delete", str(number))

    def add_network(self, vlan: int, name: str, net: str) -> str:
        each = _range(net)
        words = [f"--subnet={each['subnet']}", f"--start-ip={each['provision_start_ip']}"]
        words += [f"--end-ip={each['provision_end_ip']}", "-x", str(vlan)]
        return str(self._one("network", "create", "-j", "-n", name, *words)["id"])

    def network(self, network: str) -> Body:
        return self._one("network", "get", "-j", network)

    def drop_network(self, vlan: int, network: str) -> None:
        self._run("network", "delete", network)


@dataclass
class Place:
    """A data centre and what the suite uses of it. `mark` is this run's own."""

    real: bool
    environ: Mapping[str, str]
    api: CloudApi
    image: str
    package: Body
    larger: Body | None
    patience: float
    mark: str = field(default_factory=lambda: f"{MARK}-{os.urandom(3).hex()}")

    def left(self) -> list[str]:
        """What bears this run's mark and is still there."""
        found = [f"machine {each.id}" for each in self.api.list_machines() if each.tags.get(MARK) == self.mark]
        found += [f"image {each.id}" for each in self.api.list_images(state="all") if each.name.startswith(self.mark)]
        found += [f"key {each['fingerprint']}" for each in self.api.get("/keys") if each["name"].startswith(self.mark)]
        rules = self.api.get("/fwrules")
        found += [f"rule {each['id']}" for each in rules if str(each.get("description", "")).startswith(self.mark)]
        return found + [f"vlan {each['vlan_id']}" for each in self._vlans()]

    def _vlans(self) -> list[Body]:
        try:
            return [each for each in self.api.get("/fabrics/default/vlans") if each["name"].startswith(self.mark)]
        except CloudApiError:
            return []  # A data centre without fabrics.

    def clean(self) -> None:
        """Delete what bears this run's mark, and wait until it is gone."""
        for found in self.left():
            kind, _, id_ = found.partition(" ")
            with contextlib.suppress(NotFoundError):
                self._remove(kind, id_)
        until(lambda: True if not self.left() else None, self.patience)

    def _remove(self, kind: str, id_: str) -> None:
        if kind == "vlan":
            for network in self.api.get(f"/fabrics/default/vlans/{id_}/networks"):
                self.api.delete(f"/fabrics/default/vlans/{id_}/networks/{network['id']}")
            self.api.delete(f"/fabrics/default/vlans/{id_}")
        elif kind == "machine":
            if self.api.get_machine(id_).deletion_protection:
                self.api.act(id_, "disable_deletion_protection")
                until(lambda: True if not self.api.get_machine(id_).deletion_protection else None, self.patience)
            self.api.delete_machine(id_)
        else:
            path = {"image": "/images", "key": "/keys", "rule": "/fwrules"}[kind]
            self.api.delete(f"{path}/{quote(id_, safe='')}")


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the suite is to run on a real data centre. Raises ValueError when it is requested without the data centre's name."""
    mode = environ.get("ROLLCALL_CONTRACT", "")
    if mode not in ("", "local", "real"):
        raise ValueError(f"ROLLCALL_CONTRACT is {mode!r}; set it to real, or leave it out")
    if mode != "real":
        return False
    lacking = [name for name in ("TRITON_URL", "TRITON_ACCOUNT", "TRITON_KEY_ID") if not environ.get(name)]
    if lacking:
        raise ValueError(f"ROLLCALL_CONTRACT=real needs {', '.join(lacking)}: the data centre, the account and its key")
    return True


def place(environ: Mapping[str, str], *, real: bool) -> Place:
    """The data centre that `environ` names, with the smallest package and the newest image that fit each other, or those
    of ROLLCALL_CONTRACT_PACKAGE and ROLLCALL_CONTRACT_IMAGE. Raises ValueError where there is none."""
    api = CloudApi.from_environment(environ)
    packages = sorted(api.get("/packages"), key=lambda each: (each["memory"], each["name"]))
    plain = [each for each in packages if not each.get("brand") and each["memory"] >= 256]
    named = environ.get("ROLLCALL_CONTRACT_PACKAGE")
    usable = [each for each in (packages if named else plain) if named in (None, each["name"], each["id"])]
    if not usable:
        raise ValueError(
            "there is no such package, or none without a brand; set ROLLCALL_CONTRACT_PACKAGE to one there is"
        )
    package = usable[0]
    larger = next(
        (each for each in plain if each["memory"] > package["memory"] and each.get("group") == package.get("group")),
        None,
    )
    images = [each for each in api.list_images() if each.type in ("lx-dataset", "zone-dataset")]
    fitting = [each for each in images if each.min_memory <= package["memory"]]
    image = environ.get("ROLLCALL_CONTRACT_IMAGE")
    if not image:
        if not fitting:
            raise ValueError(f"no container image fits {package['name']}; set ROLLCALL_CONTRACT_IMAGE to an image's id")
        image = max(fitting, key=lambda each: (each.os == "linux", each.published_at)).id
    return Place(real, environ, api, image, package, larger, 600.0 if real else 20.0)


def until(probe: Callable[[], T | None], patience: float) -> T:
    """What `probe` gives as soon as it is not None."""
    deadline = Deadline(patience)
    while (found := probe()) is None:
        assert not deadline.passed, f"not within {patience:g} s"
        time.sleep(min(2.0, patience / 300))
    return found


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _range(net: str) -> Body:
    return {"subnet": f"{net}.0/24", "provision_start_ip": f"{net}.10", "provision_end_ip": f"{net}.20"}
