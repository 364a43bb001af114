"""The Runs service.

The request goes to the worker, and the response to the caller, as the bytes they arrived in: a
large tensor is parsed here once, to be validated, and never serialised again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.errors import InvalidInput, InvalidRequest
from pipelined.core.files import FileStore, StoredFile
from pipelined.rpc.status import unary
from pipelined_api.limits import MAX_FILES_PER_RUN
from pipelined_api.schema import validate_inputs
from pipelined_api.v1 import runs_pb2, schema_pb2, values_pb2
from pipelined_api.wire_values import SchemaViolation, plain, stored_files

SERVICE = runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name
# Schemas that are kept parsed; one for each version of a deployment that runs.
SCHEMAS_KEPT = 256
# Requests of more bytes are parsed and validated on another thread than the event loop's.
LARGE = 256 * 1024


class RunsService:
    """Implements pipelined.v1.Runs; the .proto file says what each method does."""

    def __init__(self, deployments: Deployments, files: FileStore) -> None:
        self._deployments = deployments
        self._files = files
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
        deployment, references = await self._validated(request)
        with contextlib.ExitStack() as held:
            files = self._hold(references, held)
            result = await deployment.run(
                secrets.token_hex(8), request, context.time_remaining(), files
            )
        return bytes(result.response)

    @unary
    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Validate the inputs, run, and send serialised StreamResponses.

        No generator: what cancels the call reaches the run wherever it waits.
        """
        # A StreamRequest has the fields of a RunRequest.
        deployment, references = await self._validated(request)
        with contextlib.ExitStack() as held:
            files = self._hold(references, held)
            run_id = secrets.token_hex(8)
            await deployment.stream(run_id, request, context.write, context.time_remaining(), files)

    def _hold(
        self, references: dict[str, values_pb2.File], held: contextlib.ExitStack
    ) -> Sequence[StoredFile]:
        """Return what the inputs refer to, each content once."""
        files: dict[str, StoredFile] = {}
        for field, reference in references.items():
            sha256 = reference.sha256.hex()
            if sha256 not in files:
                if len(files) == MAX_FILES_PER_RUN:
                    bound = f"max_files={MAX_FILES_PER_RUN}"
                    raise InvalidInput(
                        field, f"more than {MAX_FILES_PER_RUN} uploaded files", bound
                    )
                files[sha256] = held.enter_context(self._files.hold(sha256, reference.name))
            # Who knows a content by its digest alone leaves the size open.
            if reference.size not in (0, files[sha256].size):
                raise InvalidInput(field, f"the file has {files[sha256].size} bytes")
        return list(files.values())

    async def _validated(self, request: bytes) -> tuple[Deployment, dict[str, values_pb2.File]]:
        """Return the deployment whose inputs the request has, and the files that they refer to."""
        if len(request) <= LARGE:
            message = _parsed(request)
            deployment = self._deployments.get(message.deployment)
            return deployment, self._validate(deployment.specification.schema, message)
        # Seconds, if it has millions of values: the others shall not wait for it.
        message = await asyncio.to_thread(_parsed, request)
        while True:
            deployment = self._deployments.get(message.deployment)
            references = await asyncio.to_thread(
                self._validate, deployment.specification.schema, message
            )
            # Unless another version has been deployed meanwhile.
            if self._deployments.get(message.deployment) is deployment:
                return deployment, references

    def _validate(
        self, serialised: bytes, message: runs_pb2.RunRequest
    ) -> dict[str, values_pb2.File]:
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
        values = [(f"inputs[{i}]", value) for i, value in enumerate(message.inputs)]
        values += [(entry.key, entry.value) for entry in message.named_inputs]
        return {path: file for field, value in values for path, file in stored_files(value, field)}

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
