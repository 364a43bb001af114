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
from pipelined.rpc.bulk import bytes_in_bulk
from pipelined.rpc.owned_files import OwnedFiles
from pipelined_api.limits import MAX_DIRECTORY_ENTRIES, MAX_FILES_PER_RUN
from pipelined_api.schema import InputsValidator
from pipelined_api.v1 import runs_pb2, schema_pb2, values_pb2
from pipelined_api.wire_values import SchemaViolation, plain, stored_files

# Schemas that are kept parsed; one for each version of a deployment that runs.
SCHEMAS_KEPT = 256
# Requests of more bytes are parsed and validated on another thread than the event loop's, not
# counting the contents of tensors: those are copied, which takes 0.1 ms for 4 MiB.
LARGE = 256 * 1024
LARGEST_AT_ONCE = 8 * 1024 * 1024
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
        self._validators: dict[bytes, InputsValidator] = {}

    async def parsed(self, request: bytes, kind: type[Request]) -> Request:
        """Parse a request.

        Raises:
            InvalidRequest: It is no message of that kind.
        """
        if _is_quick(request):
            return _parsed(request, kind)
        # Seconds, if it has millions of values: the others shall not wait for it.
        return await asyncio.to_thread(_parsed, request, kind)

    async def validated(
        self, message: runs_pb2.RunRequest | runs_pb2.SubmitRequest, request: bytes
    ) -> tuple[Deployment, References]:
        """Return the deployment whose inputs a request has, and the files that they refer to.

        Args:
            message: The request.
            request: The same, serialised.

        Raises:
            DeploymentNotFound: There is no such deployment.
            InvalidInput: An input does not fit.
        """
        while True:
            deployment = self._deployments.get(message.deployment)
            schema = deployment.specification.schema
            if _is_quick(request):
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
        validator = self._validator(serialised)
        names = validator.names
        references: References = {}
        try:
            positional = []
            for i, value in enumerate(message.inputs):
                positional.append(plain(value, names[i] if i < len(names) else f"inputs[{i}]"))
                _collect(value, f"inputs[{i}]", references)
            named: dict[str, object] = {}
            for entry in message.named_inputs:
                if entry.key in named:
                    raise InvalidInput(entry.key, "is given twice")
                named[entry.key] = plain(entry.value, entry.key)
                _collect(entry.value, entry.key, references)
            validator.validate(positional, named)
        except SchemaViolation as error:
            raise InvalidInput(error.field, error.message, error.bound) from error
        if len(references) > MAX_REFERENCES:
            bound = f"max_references={MAX_REFERENCES}"
            what = f"more than {MAX_REFERENCES} references to uploaded contents"
            raise InvalidInput([*references][MAX_REFERENCES], what, bound)
        return references

    def _validator(self, serialised: bytes) -> InputsValidator:
        validator = self._validators.get(serialised)
        if validator is None:
            if len(self._validators) >= SCHEMAS_KEPT:
                self._validators.clear()
            validator = InputsValidator(schema_pb2.Schema.FromString(serialised))
            self._validators[serialised] = validator
        return validator


def _collect(value: values_pb2.Value, field: str, references: References) -> None:
    """Note what a value refers to, up to one more than it may."""
    for path, file in stored_files(value, field):
        references[path] = file
        if len(references) > MAX_REFERENCES:
            return


def _is_quick(request: bytes) -> bool:
    """Whether a request can be parsed and validated without anybody waiting for it."""
    size = len(request)
    return size <= LARGE or (size <= LARGEST_AT_ONCE and size - bytes_in_bulk(request) <= LARGE)


def _parsed(request: bytes, kind: type[Request]) -> Request:
    try:
        return kind.FromString(request)
    except DecodeError:
        raise InvalidRequest("request", f"is not a {kind.DESCRIPTOR.full_name}") from None
