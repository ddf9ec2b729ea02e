"""Ask the engine's AWS provider which account it works in: start its plugin as the engine does, and stop it again.

The engine starts a plugin with the address of its own server, reads the port from the plugin's first line, and speaks gRPC with it
(https://www.pulumi.com/docs/iac/guides/building-extending/providers/implementers/). A plugin ends when the engine's server no longer
answers its health checks (Healthcheck in sdk/go/common/util/rpcutil of pulumi/pulumi, for which "not implemented" is an answer). So there
is a server without any service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.aws.account_settings import AWS_KEYS
from components.aws.session import Identity
from components.commands.doctor.environment import Environment

_TIMEOUT_S = 5.0
_URN = "urn:pulumi:doctor::rollcall::pulumi:providers:aws::default"
_FUNCTION = "aws:index/getCallerIdentity:getCallerIdentity"


class ProviderError(Exception):
    """The provider did not answer. The message says why."""


def aws_identity(env: Environment, plugin: Path) -> Identity:
    """Return the identity of the engine's default AWS provider. Raises ProviderError."""
    import grpc

    engine = grpc.server(ThreadPoolExecutor(1))
    address = f"127.0.0.1:{engine.add_insecure_port('127.0.0.1:0')}"
    engine.start()
    try:
        process = env.processes.start([str(plugin), address], cwd=env.root)
    except OSError as failed:
        engine.stop(None)
        raise ProviderError(f"{plugin} cannot be started: {failed.strerror or failed}") from failed
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        if not port.isdecimal():
            raise ProviderError(f"{plugin} printed no port")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            return _queried(channel, settings_of(env))
    except grpc.RpcError as refused:
        raise ProviderError(str(refused.details() or refused.code())) from refused  # type: ignore[attr-defined]
    finally:
        process.kill()
        process.communicate()
        engine.stop(None)


def settings_of(env: Environment) -> dict[str, Any]:
    """Return what the engine gives its default provider: the `aws:` keys of the stack's configuration, each as text."""
    return {key.partition(":")[2]: value for key in AWS_KEYS if (value := env.get(key)) is not None}


def _queried(channel: Any, settings: Mapping[str, Any]) -> Identity:
    from google.protobuf import struct_pb2
    from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

    stub, given = provider_pb2_grpc.ResourceProviderStub(channel), struct_pb2.Struct()
    given.update(settings)
    checked = stub.CheckConfig(
        provider_pb2.CheckRequest(urn=_URN, olds=struct_pb2.Struct(), news=given), timeout=_TIMEOUT_S
    )
    if checked.failures:
        raise ProviderError("; ".join(f"{each.property}: {each.reason}" for each in checked.failures))
    stub.Configure(
        provider_pb2.ConfigureRequest(args=checked.inputs, acceptSecrets=True, acceptResources=True), timeout=_TIMEOUT_S
    )
    reply = stub.Invoke(provider_pb2.InvokeRequest(tok=_FUNCTION, args=struct_pb2.Struct()), timeout=_TIMEOUT_S)
    if reply.failures:
        raise ProviderError("; ".join(each.reason for each in reply.failures))
    found = getattr(reply, "return").fields
    if "accountId" not in found:
        raise ProviderError(f"it answered without an account ({json.dumps(sorted(found))})")
    return Identity(account=found["accountId"].string_value, arn=found["arn"].string_value)
