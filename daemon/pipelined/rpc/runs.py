"""The Runs service.

The request goes to the worker, and the response to the caller, as the bytes they arrived in: a
large tensor is parsed here once, to be validated, and never serialised again.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.errors import InvalidInput, InvalidRequest
from pipelined.rpc.status import unary
from pipelined_api.schema import validate_inputs
from pipelined_api.v1 import runs_pb2, schema_pb2
from pipelined_api.wire_values import SchemaViolation, plain

SERVICE = runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name
# Schemas that are kept parsed; one for each version of a deployment that runs.
SCHEMAS_KEPT = 256
# Requests of more bytes are parsed and validated on another thread than the event loop's.
LARGE = 256 * 1024


class RunsService:
    """Implements pipelined.v1.Runs; the .proto file says what each method does."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._schemas: dict[bytes, schema_pb2.Schema] = {}

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server takes: methods on serialised messages."""
        run: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.run)
        stream: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(
            self.stream
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Run": run, "Stream": stream})

    @unary
    async def run(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        """Validate the inputs, run, and return a serialised RunResponse."""
        deployment = await self._validated(request)
        result = await deployment.run(secrets.token_hex(8), request, context.time_remaining())
        return bytes(result.response)

    @unary
    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Validate the inputs, run, and send serialised StreamResponses.

        No generator: what cancels the call reaches the run wherever it waits.
        """
        # A StreamRequest has the fields of a RunRequest.
        deployment = await self._validated(request)
        run_id = secrets.token_hex(8)
        await deployment.stream(run_id, request, context.write, context.time_remaining())

    async def _validated(self, request: bytes) -> Deployment:
        """Return the deployment whose inputs the request has."""
        if len(request) <= LARGE:
            message = _parsed(request)
            deployment = self._deployments.get(message.deployment)
            self._validate(deployment.specification.schema, message)
            return deployment
        # Seconds, if it has millions of values: the others shall not wait for it.
        message = await asyncio.to_thread(_parsed, request)
        while True:
            deployment = self._deployments.get(message.deployment)
            await asyncio.to_thread(self._validate, deployment.specification.schema, message)
            # Unless another version has been deployed meanwhile.
            if self._deployments.get(message.deployment) is deployment:
                return deployment

    def _validate(self, serialised: bytes, message: runs_pb2.RunRequest) -> None:
        schema = self._schema(serialised)
        names = [parameter.name for parameter in schema.inputs]
        try:
            positional = [
                plain(value, names[i] if i < len(names) else f"inputs[{i}]")
                for i, value in enumerate(message.inputs)
            ]
            named: dict[str, object] = {}
            for entry in message.named_inputs:
                if entry.key in named:
                    raise InvalidInput(entry.key, "is given twice")
                named[entry.key] = plain(entry.value, entry.key)
            validate_inputs(schema, positional, named)
        except SchemaViolation as error:
            raise InvalidInput(error.field, error.message, error.bound) from error

    def _schema(self, serialised: bytes) -> schema_pb2.Schema:
        schema = self._schemas.get(serialised)
        if schema is None:
            if len(self._schemas) >= SCHEMAS_KEPT:
                self._schemas.clear()
            schema = schema_pb2.Schema.FromString(serialised)
            self._schemas[serialised] = schema
        return schema


def _parsed(request: bytes) -> runs_pb2.RunRequest:
    try:
        return runs_pb2.RunRequest.FromString(request)
    except DecodeError:
        raise InvalidRequest("request", "is not a pipelined.v1.RunRequest") from None
