"""A stand-in plugin as the engine sees it: its Servicer behind a real gRPC channel in this process."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import grpc
from google.protobuf import struct_pb2
from pulumi._types import resource_types
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from localcloud.plugins.server import Plugin, Servicer
from localcloud.plugins.values import received, sent


class RefusedError(Exception):
    """The error that the plugin returned instead of an answer. `partial` is the ErrorResourceInitFailed it sent along."""

    def __init__(self, why: str, partial: Any = None) -> None:
        super().__init__(why)
        self.partial = partial


@dataclass
class Resource:
    """What the engine keeps of a resource: `inputs` as checked, `outputs` as the plugin returned them, `raw` as on the wire."""

    token: str
    name: str
    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    raw: struct_pb2.Struct

    @property
    def urn(self) -> str:
        return urn(self.token, self.name)


def sdk_class(token: str, suffix: str = "") -> Any:
    """The SDK's class of `aws:ec2/instance:Instance` or `command:local:Command`; with `Args` that of its arguments."""
    package, path, name = token.split(":")
    module = path.partition("/")[0]
    home = f"pulumi_{package}" if module == "index" else f"pulumi_{package}.{module}"
    sdk = import_module(home)
    # Where a type of the same name is an input of another resource, the SDK calls the arguments otherwise.
    return getattr(sdk, f"{name}Init{suffix}", None) or getattr(sdk, f"{name}{suffix}")


@functools.cache
def outputs_of(token: str) -> frozenset[str]:
    """The names of the outputs that the SDK has."""
    return frozenset(resource_types(sdk_class(token)))


def as_the_sdk_has_them(token: str, outputs: dict[str, Any]) -> dict[str, Any]:
    """Return a plugin's outputs. The vendor's own plugin must be able to go on from them: it finds a resource by `id`, and knows no
    others than the SDK's."""
    assert outputs.get("id"), f"{token}: no id among the outputs"
    if not token.startswith("fake:"):
        assert outputs.keys() - {"id"} <= outputs_of(token), f"{token}: the SDK has no such outputs"
    return outputs


def urn(token: str, name: str = "one") -> str:
    return f"urn:pulumi:trial::rollcall::rollcall:index:Parent${token}::{name}"


def secrets_in(made: Resource) -> set[str]:
    """The outputs that the engine would encrypt."""
    signature = "4dabf18193072939515e22adb298388d"
    return {key for key, value in made.raw.fields.items() if signature in value.struct_value.fields}


class Host:
    """The engine's verbs, in the order in which the engine says them."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = provider_pb2_grpc.ResourceProviderStub(channel)

    def configure(self, **settings: Any) -> None:
        self._call(self.stub.Configure, provider_pb2.ConfigureRequest(args=sent(settings), acceptSecrets=True))

    def faults(self, token: str, inputs: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Each property with a fault, and why."""
        return {each.property: each.reason for each in self._check(token, inputs, old or {}).failures}

    def checked(
        self, token: str, inputs: Mapping[str, Any], old: Mapping[str, Any] | None = None, name: str = "one"
    ) -> dict[str, Any]:
        found = self._check(token, inputs, old or {}, name)
        assert not found.failures, found.failures
        return received(found.inputs)

    def diff(self, made: Resource, inputs: Mapping[str, Any]) -> Any:
        news = self.checked(made.token, inputs, made.inputs, made.name)
        request = provider_pb2.DiffRequest(
            id=made.id, urn=made.urn, olds=sent(made.outputs), old_inputs=sent(made.inputs), news=sent(news)
        )
        return self._call(self.stub.Diff, request)

    def create(self, token: str, inputs: Mapping[str, Any], name: str = "one", preview: bool = False) -> Resource:
        news = self.checked(token, inputs, name=name)
        request = provider_pb2.CreateRequest(urn=urn(token, name), properties=sent(news), preview=preview)
        done = self._call(self.stub.Create, request)
        outputs = received(done.properties) if preview else as_the_sdk_has_them(token, received(done.properties))
        return Resource(token, name, done.id, news, outputs, done.properties)

    def update(self, made: Resource, inputs: Mapping[str, Any], preview: bool = False) -> Resource:
        news = self.checked(made.token, inputs, made.inputs, made.name)
        request = provider_pb2.UpdateRequest(
            id=made.id,
            urn=made.urn,
            olds=sent(made.outputs),
            old_inputs=sent(made.inputs),
            news=sent(news),
            preview=preview,
        )
        done = self._call(self.stub.Update, request)
        outputs = received(done.properties) if preview else as_the_sdk_has_them(made.token, received(done.properties))
        return Resource(made.token, made.name, made.id, news, outputs, done.properties)

    def refresh(self, made: Resource) -> Resource | None:
        """The resource as it is now; None once it is gone."""
        request = provider_pb2.ReadRequest(
            id=made.id, urn=made.urn, properties=sent(made.outputs), inputs=sent(made.inputs)
        )
        return self._read(made.token, made.name, request)

    def imported(self, token: str, identity: str, name: str = "one") -> Resource | None:
        """What `pulumi import` finds; None where there is nothing."""
        return self._read(token, name, provider_pb2.ReadRequest(id=identity, urn=urn(token, name)))

    def delete(self, made: Resource) -> None:
        request = provider_pb2.DeleteRequest(
            id=made.id, urn=made.urn, properties=sent(made.outputs), old_inputs=sent(made.inputs)
        )
        self._call(self.stub.Delete, request)

    def invoke(self, token: str, **given: Any) -> dict[str, Any]:
        answer = self._call(self.stub.Invoke, provider_pb2.InvokeRequest(tok=token, args=sent(given)))
        return received(getattr(answer, "return"))

    def _check(self, token: str, inputs: Mapping[str, Any], old: Mapping[str, Any], name: str = "one") -> Any:
        request = provider_pb2.CheckRequest(urn=urn(token, name), olds=sent(old), news=sent(inputs))
        return self._call(self.stub.Check, request)

    def _read(self, token: str, name: str, request: Any) -> Resource | None:
        found = self._call(self.stub.Read, request)
        if not found.id:
            return None
        outputs = as_the_sdk_has_them(token, received(found.properties))
        return Resource(token, name, found.id, received(found.inputs), outputs, found.properties)

    @staticmethod
    def _call(method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=60)
        except grpc.RpcError as refused:
            raise RefusedError(refused.details(), _partial(refused)) from refused


def _partial(refused: Any) -> Any:
    from google.rpc import status_pb2
    from pulumi.runtime.proto import errors_pb2  # noqa: F401 - registers what a detail may be

    for key, value in refused.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                found = provider_pb2.ErrorResourceInitFailed()
                if detail.Unpack(found):
                    return found
    return None


@contextmanager
def hosted(plugin: Plugin) -> Iterator[Host]:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(plugin, "1.2.3"), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Host(channel)
    finally:
        server.stop(None).wait()
