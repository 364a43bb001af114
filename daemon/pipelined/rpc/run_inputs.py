"""What a request wants run: checked against the schema of its deployment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError

from pipelined.core.deployment import Deployment
from pipelined.core.deployments import Deployments
from pipelined.core.errors import InvalidInput, InvalidRequest
from pipelined.core.files import StoredFile
from pipelined.rpc.owned_files import OwnedFiles
from pipelined_api.limits import MAX_DIRECTORY_ENTRIES, MAX_FILES_PER_RUN
from pipelined_api.schema import validate_inputs
from pipelined_api.v1 import runs_pb2, schema_pb2, values_pb2
from pipelined_api.wire_values import SchemaViolation, plain, stored_files

# Schemas that are kept parsed; one for each version of a deployment that runs.
SCHEMAS_KEPT = 256
# Requests of more bytes are parsed and validated on another thread than the event loop's.
LARGE = 256 * 1024
# References that the inputs of one run may have, also if all are to one content: the worker gives
# each a name of its own.
MAX_REFERENCES = 2 * MAX_DIRECTORY_ENTRIES

References = dict[str, values_pb2.File]
# A StreamRequest has the fields of a RunRequest, and nothing else.
Request = TypeVar("Request", runs_pb2.RunRequest, runs_pb2.SubmitRequest)


class RunInputs:
    """Parses and validates requests.

    Args:
        deployments: Whose inputs they have.
        files: What they may refer to.
    """

    def __init__(self, deployments: Deployments, files: OwnedFiles) -> None:
        self._deployments = deployments
        self._files = files
        self._schemas: dict[bytes, schema_pb2.Schema] = {}

    async def parsed(self, request: bytes, kind: type[Request]) -> Request:
        """Parse a request.

        Raises:
            InvalidRequest: It is no message of that kind.
        """
        if len(request) <= LARGE:
            return _parsed(request, kind)
        # Seconds, if it has millions of values: the others shall not wait for it.
        return await asyncio.to_thread(_parsed, request, kind)

    async def validated(
        self, message: runs_pb2.RunRequest | runs_pb2.SubmitRequest, size: int
    ) -> tuple[Deployment, References]:
        """Return the deployment whose inputs a request has, and the files that they refer to.

        Args:
            message: The request.
            size: Of it, in bytes.

        Raises:
            DeploymentNotFound: There is no such deployment.
            InvalidInput: An input does not fit.
        """
        while True:
            deployment = self._deployments.get(message.deployment)
            schema = deployment.specification.schema
            if size <= LARGE:
                return deployment, self._validate(schema, message)
            references = await asyncio.to_thread(self._validate, schema, message)
            # Unless another version has been deployed meanwhile.
            if self._deployments.get(message.deployment) is deployment:
                return deployment, references

    def hold(self, references: References, held: contextlib.ExitStack) -> Sequence[StoredFile]:
        """Return what inputs refer to, each content once, to be held until ``held`` is closed.

        Raises:
            FileMissing: It is not here.
            InvalidInput: It is not as the input says, or there are too many.
        """
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

    def _validate(
        self, serialised: bytes, message: runs_pb2.RunRequest | runs_pb2.SubmitRequest
    ) -> References:
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
        references: References = {}
        for field, value in values:
            for path, file in stored_files(value, field):
                if len(references) == MAX_REFERENCES:
                    bound = f"max_references={MAX_REFERENCES}"
                    what = f"more than {MAX_REFERENCES} references to uploaded contents"
                    raise InvalidInput(path, what, bound)
                references[path] = file
        return references

    def _schema(self, serialised: bytes) -> schema_pb2.Schema:
        schema = self._schemas.get(serialised)
        if schema is None:
            if len(self._schemas) >= SCHEMAS_KEPT:
                self._schemas.clear()
            schema = schema_pb2.Schema.FromString(serialised)
            self._schemas[serialised] = schema
        return schema


def _parsed(request: bytes, kind: type[Request]) -> Request:
    try:
        return kind.FromString(request)
    except DecodeError:
        raise InvalidRequest("request", f"is not a {kind.DESCRIPTOR.full_name}") from None
