"""A resource provider over gRPC for a table of types. https://www.pulumi.com/docs/iac/concepts/providers/"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from localcloud.plugins.resource import UNKNOWN, GoneError, PartialError, PluginError, Type, type_of_urn
from localcloud.plugins.values import received, sent

_WORKERS = 32
_HEARTBEAT = 2.0
_LARGEST = 400 * 2**20
_KINDS = {
    "add": provider_pb2.PropertyDiff.ADD,
    "add_replace": provider_pb2.PropertyDiff.ADD_REPLACE,
    "delete": provider_pb2.PropertyDiff.DELETE,
    "delete_replace": provider_pb2.PropertyDiff.DELETE_REPLACE,
    "update": provider_pb2.PropertyDiff.UPDATE,
    "update_replace": provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


class Plugin:
    """A plugin: its types, its functions, its configuration keys, and the exceptions of its clients.

    If a key in `moving` changes, all resources of the provider are replaced (the bridge's ForcesProviderReplace).
    """

    name: str
    types: Sequence[type[Type]]
    functions: Mapping[str, Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]]
    settings: Sequence[str]
    moving: Sequence[str] = ()

    def preload(self) -> None:
        """Read beforehand what every process that serves this plugin would have to read."""

    def client(self, settings: Mapping[str, Any]) -> Any:
        """The client for these settings; made at first use."""
        raise NotImplementedError

    def explained(self, error: Exception) -> str | None:
        """Return the text of a client's error for a user; None for any other error."""
        return None


class Servicer(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[misc]
    """Serves one Plugin."""

    def __init__(self, plugin: Plugin, version: str) -> None:
        self._plugin, self._version = plugin, version
        self._types = {each.token: each for each in plugin.types}
        self._settings: dict[str, Any] = {}
        self._client: Any = None
        self._lock = threading.Lock()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self._version)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        known = {*self._plugin.settings, "version"}
        unknown = [key for key in request.news.fields if key not in known and not key.startswith("__")]
        failures = [
            provider_pb2.CheckFailure(property=key, reason=f"{self._plugin.name} has no setting {key!r}")
            for key in unknown
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        before = request.old_inputs if request.old_inputs.fields else request.olds
        changed = before != request.news
        changes = provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
        old, new = received(before), received(request.news)
        # All resources of a provider are replaced with it.
        replaces = [key for key in self._plugin.moving if old.get(key) != new.get(key)]
        return provider_pb2.DiffResponse(changes=changes, replaces=replaces)

    def Configure(self, request: Any, context: Any) -> Any:
        self._settings = received(request.args)
        for key, value in request.variables.items():
            self._settings.setdefault(key.rpartition(":")[2], value)
        return provider_pb2.ConfigureResponse(
            acceptSecrets=False, supportsPreview=False, acceptResources=False, acceptOutputs=False
        )

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        function = self._plugin.functions.get(request.tok)
        if function is None:
            return self._refuse(context, f"the stand-in for {self._plugin.name} has no function {request.tok}")
        result = self._guarded(context, lambda: function(self._api(), received(request.args)))
        if result is None:
            return provider_pb2.InvokeResponse()
        return provider_pb2.InvokeResponse(**{"return": sent(result)})

    def Check(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is None:
            return provider_pb2.CheckResponse()
        filled = kind.filled(request.urn, received(request.olds), received(request.news))
        failures = [provider_pb2.CheckFailure(property=key, reason=why) for key, why in kind.faults(filled)]
        return provider_pb2.CheckResponse(inputs=sent(filled), failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is None:
            return provider_pb2.DiffResponse()
        before = request.old_inputs if request.old_inputs.fields else request.olds
        found = kind.differences(received(before), received(request.news))
        found |= dict.fromkeys(kind.differs_beside(received(request.olds), received(request.news)), "update")
        replaces = [key for key, how in found.items() if how.endswith("_replace")]
        changes = provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=changes,
            diffs=list(found),
            replaces=replaces,
            deleteBeforeReplace=bool(replaces) and kind.deletes_first,
            detailedDiff={
                key: provider_pb2.PropertyDiff(kind=_KINDS[how], inputDiff=True) for key, how in found.items()
            },
            hasDetailedDiff=True,
        )

    def Create(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is None:
            return provider_pb2.CreateResponse()
        given = received(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(id="", properties=request.properties)
        try:
            made = self._guarded(context, lambda: kind.create(kind.completed(given)))
        except PartialError as partial:
            return self._half_made(context, given, {**kind.always(), **partial.outputs}, partial)
        if made is None:
            return provider_pb2.CreateResponse()
        outputs = {"id": made[0], **made[1], **kind.own(made[1], given)}
        return provider_pb2.CreateResponse(id=made[0], properties=sent({**given, **kind.always(), **outputs}))

    def Read(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is None:
            return provider_pb2.ReadResponse()
        before = received(request.inputs)
        found = self._guarded(context, lambda: _found(kind, request.id, {**received(request.properties), **before}))
        if found is None:
            return provider_pb2.ReadResponse()
        outputs, now = kind.own(found[0], before), kind.own(found[1], before)
        inputs = _refreshed(kind, before, now)
        identity = kind.identity(request.id)
        outputs = {"id": identity, **outputs}
        return provider_pb2.ReadResponse(
            id=identity, properties=sent({**inputs, **kind.always(), **outputs}), inputs=sent(inputs)
        )

    def Update(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is None:
            return provider_pb2.UpdateResponse()
        new = received(request.news)
        old = received(request.olds)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=request.news)
        outputs = self._guarded(context, lambda: kind.update(request.id, kind.known(old), kind.completed(new)))
        if outputs is None:
            return provider_pb2.UpdateResponse()
        outputs = {"id": request.id, **outputs, **kind.own(outputs, new)}
        return provider_pb2.UpdateResponse(properties=sent({**_kept(kind, old), **new, **kind.always(), **outputs}))

    def Delete(self, request: Any, context: Any) -> Any:
        kind = self._type(request.urn, context)
        if kind is not None:
            self._guarded(context, lambda: _deleted(kind, request.id, received(request.properties)))
        return empty_pb2.Empty()

    def _type(self, urn: str, context: Any) -> Type | None:
        token = type_of_urn(urn)
        if token not in self._types:
            self._refuse(
                context,
                f"the stand-in for {self._plugin.name} has no type {token}; PLUGINS=real takes the vendor's plugin",
            )
            return None
        kind: Type | None = self._guarded(context, lambda: self._types[token](self._api()))
        return kind

    def _api(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._plugin.client(self._settings)
            return self._client

    def _guarded(self, context: Any, action: Callable[[], Any]) -> Any:
        """Return what `action` returns, or None after the error is reported to the engine. PartialError passes through."""
        try:
            return action()
        except PartialError:
            raise
        except Exception as error:
            why = self._explained(error)
            if why is None:
                raise
            return self._refuse(context, why)

    def _explained(self, error: BaseException | None) -> str | None:
        if isinstance(error, PluginError):
            return str(error)
        if isinstance(error, GoneError):
            return f"{self._plugin.name}: {error} is not there any more"
        return self._plugin.explained(error) if isinstance(error, Exception) else None

    def _half_made(
        self, context: Any, given: Mapping[str, Any], outputs: Mapping[str, Any], partial: PartialError
    ) -> Any:
        """Refuse, with what the engine needs to keep the resource. The detail is how gRPC carries more than a text."""
        why = self._explained(partial.__cause__) or f"{type(partial.__cause__).__name__}: {partial.__cause__}"
        status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=why)
        detail = provider_pb2.ErrorResourceInitFailed(
            id=partial.identity,
            properties=sent({**given, "id": partial.identity, **outputs}),
            inputs=sent(given),
            reasons=[why],
        )
        status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        self._refuse(context, why)
        return provider_pb2.CreateResponse()

    @staticmethod
    def _refuse(context: Any, why: str) -> None:
        context.set_code(grpc.StatusCode.UNKNOWN)
        context.set_details(why)


def _refreshed(kind: Type, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs after a refresh: what the cloud has where that differs, for those that the user gave; all for an import,
    with the defaults of those that the cloud does not know."""
    if not before:
        found = {key: spec.default if now.get(key) is None else now[key] for key, spec in kind.inputs.items()}
        return {key: value for key, value in found.items() if value is not None}
    result = dict(before)
    for key, value in now.items():
        if key not in kind.inputs or (key not in before and kind.inputs[key].computed):
            continue
        if not kind.same(key, before.get(key), value):
            result[key] = value
    return {key: value for key, value in result.items() if value is not None}


def _kept(kind: Type, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the old state that an update keeps: the outputs, and the inputs that the cloud fills in."""
    return {key: value for key, value in old.items() if key not in kind.inputs or kind.inputs[key].computed}


def _found(kind: Type, identity: str, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    try:
        return kind.read(identity, state)
    except GoneError:
        return None


def _deleted(kind: Type, identity: str, state: Mapping[str, Any]) -> None:
    try:
        kind.delete(identity, state)
    except GoneError:
        if not kind.deletes_what_is_gone:
            raise


def serve(plugin: Plugin, version: str, engine: str = "") -> None:
    """Print the port, as the engine expects, and serve until the engine ends us or no longer answers at `engine`.

    `engine` is `HOST:PORT`, the argument with which the engine starts a plugin; without one nothing is watched.
    """
    options = [("grpc.max_receive_message_length", _LARGEST), ("grpc.max_send_message_length", _LARGEST)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=_WORKERS), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(plugin, version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while server.wait_for_termination(_HEARTBEAT):
        if engine and not _answers(engine):
            server.stop(0)
            return


def _answers(address: str) -> bool:
    """Return whether the engine answers. A killed engine cannot end its plugins, so they must end themselves."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_HEARTBEAT).close()
    except OSError:
        return False
    return True


__all__ = ["UNKNOWN", "Plugin", "serve"]
