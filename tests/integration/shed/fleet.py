"""A fleet in the shed. There is no provider for it, so its machine is a dynamic resource; with one, that half goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

from components.compute.locations import Location
from components.resources import userdata
from components.resources.fleets.base import Fleet
from components.resources.fleets.revision import VERSION, version
from components.resources.tags import stack_tags

from .api import ask


class MachineProvider(ResourceProvider):  # type: ignore[misc]
    """`labels` and `secrets` change in place. Labels that are not among its own (a drain) are left as they are."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        given = {key: props[key] for key in ("name", "size", "image", "labels", "secrets")}
        made = ask("POST", "/machines", json={**given, "userdata": userdata.build()})
        return CreateResult(made["id"], {**props, "address": made["addresses"][0]})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        changed = [key for key in ("name", "size", "image", "labels", "secrets") if _olds.get(key) != _news.get(key)]
        replaces = [key for key in changed if key in ("name", "size", "image")]
        return DiffResult(changes=bool(changed), replaces=replaces, stables=[], delete_before_replace=False)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        labels = {**dict.fromkeys(_olds["labels"]), **_news["labels"]}
        ask("PATCH", f"/machines/{_id}", json={"labels": labels, "secrets": _news["secrets"]})
        return UpdateResult({**_news, "address": _olds["address"]})

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        found = ask("GET", f"/machines/{id_}")
        if found is None:
            return ReadResult("", {})
        labels = {key: value for key, value in found["labels"].items() if key in props["labels"]}
        return ReadResult(id_, {**props, "size": found["size"], "image": found["image"], "labels": labels})

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        ask("DELETE", f"/machines/{_id}")


class Machine(Resource, module="shed", name="Machine"):  # type: ignore[call-arg]
    """One machine. `labels` and `secrets` are what it can read of itself; `address` is its public one."""

    address: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        size: str,
        image: str,
        labels: Mapping[str, pulumi.Input[str]],
        secrets: Mapping[str, pulumi.Input[str]],
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {"name": name, "size": size, "image": image, "labels": labels, "secrets": secrets, "address": None}
        hidden = pulumi.ResourceOptions(additional_secret_outputs=["secrets"])
        super().__init__(MachineProvider(), name, props, pulumi.ResourceOptions.merge(opts, hidden))


class ShedFleet(Fleet):
    """Machines in the shed, each with its Deregistration."""

    def make(self) -> None:
        self.access = Location(cloud="shed")
        made = []
        for index in range(self.settings.count):
            deregistration = self.deregistration(index, [])
            machine = Machine(
                f"{self.name}-{index}",
                size=self.settings.size,
                image=self.settings.image,
                labels={
                    **stack_tags(),
                    VERSION: version(self.settings),
                    **self.machine_settings(index, deregistration),
                },
                secrets=self.secrets(),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[deregistration], replace_with=[deregistration]),
            )
            made.append(machine)
            self.add_member(index, deregistration, machine, machine.id)
        self.addresses = pulumi.Output.all(*(pulumi.Output.all(each.id, each.address) for each in made)).apply(dict)
