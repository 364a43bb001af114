"""Request messages, made from what callers of the client give. Pure: nothing is sent here."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline import errors
from pipeline._arguments import without_schemas
from pipeline._checks import check_plain_name, check_whole
from pipeline._values import IntegerTooLarge, Stored, encode, thin_out
from pipelined_api.limits import (
    CODE_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_RUNS_LISTED,
)
from pipelined_api.schema import SchemaViolation, validate_inputs, validate_value
from pipelined_api.v1 import deployments_pb2, runs_pb2, schema_pb2, values_pb2
from pipelined_api.wire_values import plain

if TYPE_CHECKING:
    from pipeline._graph.graph import Graph
    from pipeline._graph.packages import Package

DELIVERIES: Mapping[str, runs_pb2.Delivery.ValueType] = {
    "at_most_once": runs_pb2.DELIVERY_AT_MOST_ONCE,
    "at_least_once": runs_pb2.DELIVERY_AT_LEAST_ONCE,
}


def deploy_header(
    graph: Graph,
    code: bytes,
    packages: Sequence[Package],
    name: str,
    *,
    environment: Mapping[str, str] | None,
    options: deployments_pb2.Options,
    secrets: Mapping[str, str],
    requirements: Sequence[str],
    allow_differing: bool,
    idempotency_key: str,
) -> deployments_pb2.DeployHeader:
    """Describe a graph and its pickled code to the daemon."""
    return deployments_pb2.DeployHeader(
        name=name,
        digest=graph.digest(),
        schema=graph.schema(),
        code_format=deployments_pb2.DeployHeader.CODE_FORMAT_CLOUDPICKLE,
        code_size=len(code),
        code_sha256=hashlib.sha256(code).digest(),
        python_version=platform.python_version(),
        packages=[
            deployments_pb2.Package(
                module=package.module, distribution=package.distribution, version=package.version
            )
            for package in packages
        ],
        environment=environment,
        options=options,
        secrets=secrets,
        requirements=requirements,
        allow_differing=allow_differing,
        idempotency_key=idempotency_key,
    )


def deploy_stream(
    header: deployments_pb2.DeployHeader, code: bytes
) -> Iterator[deployments_pb2.DeployRequest]:
    """Yield the header, then the code in chunks."""
    yield deployments_pb2.DeployRequest(header=header)
    view = memoryview(code)
    for start in range(0, len(code), CODE_CHUNK_BYTES):
        yield deployments_pb2.DeployRequest(code=bytes(view[start : start + CODE_CHUNK_BYTES]))


def run_request(
    schema: schema_pb2.Schema,
    name: str,
    inputs: Sequence[object],
    named: Mapping[str, object],
    stored: Stored | None = None,
) -> runs_pb2.RunRequest:
    """Encode the inputs of a run, and validate them as the daemon will.

    Of several that are wrong the first in the order of the schema is named, as ``Graph.run`` does.
    Defaults are not filled in: that is the worker's, so that there is one place for it. ``stored``
    takes the Files that are to be uploaded before.

    Raises:
        errors.InvalidInput: they do not fit the schema, cannot cross the wire, or exceed the
            message limit.

    """
    encoded: dict[str, values_pb2.Value] = {}

    def prepare(parameter: schema_pb2.Parameter, value: object) -> object:
        wire = _encoded(parameter, value, stored)
        encoded[parameter.name] = wire
        return plain(wire, parameter.name)

    try:
        validate_inputs(schema, inputs, named, prepare=prepare)
    except SchemaViolation as violation:
        raise errors.InvalidInput(
            str(violation), field=violation.field, bound=violation.bound
        ) from None
    names = [parameter.name for parameter in schema.inputs[: len(inputs)]]
    request = runs_pb2.RunRequest(
        deployment=name,
        inputs=[encoded[each] for each in names],
        named_inputs=[values_pb2.MapEntry(key=key, value=encoded[key]) for key in named],
    )
    if stored is not None and request.ByteSize() > MAX_MESSAGE_BYTES:
        for value, field in zip(request.inputs, names, strict=True):
            thin_out(value, field, stored)
        for entry in request.named_inputs:
            thin_out(entry.value, entry.key, stored)
    _check_size(request, names)
    return request


def stream_request(request: runs_pb2.RunRequest) -> runs_pb2.StreamRequest:
    """Make the same request for a stream."""
    return runs_pb2.StreamRequest(
        deployment=request.deployment,
        inputs=request.inputs,
        named_inputs=request.named_inputs,
        priority=request.priority,
    )


def submit_request(
    request: runs_pb2.RunRequest, idempotency_key: str, timeout: float | None, delivery: str
) -> runs_pb2.SubmitRequest:
    """Make the same request for a run that goes on by itself.

    Raises:
        errors.InvalidInput: the timeout is not above 0, or there is no such delivery.

    """
    if delivery not in DELIVERIES:
        raise errors.InvalidInput(
            f"{delivery!r} is no delivery; those are {', '.join(DELIVERIES)}", field="delivery"
        )
    if timeout is not None and not timeout > 0:
        raise errors.InvalidInput(
            f"timeout {timeout} is not above 0 seconds", field="timeout", bound="gt=0"
        )
    return runs_pb2.SubmitRequest(
        deployment=request.deployment,
        inputs=request.inputs,
        named_inputs=request.named_inputs,
        idempotency_key=idempotency_key,
        timeout_seconds=0.0 if timeout is None or math.isinf(timeout) else timeout,
        priority=request.priority,
        delivery=DELIVERIES[delivery],
    )


def runs_list(name: str | None, states: Sequence[str], limit: int) -> runs_pb2.RunsListRequest:
    """Ask for runs.

    Raises:
        errors.InvalidInput: the name is a reference, there is no such state, or the limit is out of
            its bounds.

    """
    if name is not None:
        check_plain_name(name)
    if isinstance(states, str):
        raise errors.InvalidInput("states has to be a list of states, not a str", field="states")
    known = {
        name.removeprefix("RUN_STATE_").lower(): number
        for name, number in runs_pb2.RunState.items()
        if number
    }
    for state in states:
        if state not in known:
            raise errors.InvalidInput(
                f"{state!r} is no state of a run; those are {', '.join(known)}", field="states"
            )
    check_whole(limit, "limit")
    if not 1 <= limit <= MAX_RUNS_LISTED:
        raise errors.InvalidInput(
            f"limit {limit} is not between 1 and {MAX_RUNS_LISTED}",
            field="limit",
            bound=f"le={MAX_RUNS_LISTED}" if limit > 1 else "ge=1",
        )
    return runs_pb2.RunsListRequest(
        deployment=name or "", states=[known[state] for state in states], limit=limit
    )


def _encoded(
    parameter: schema_pb2.Parameter, value: object, stored: Stored | None
) -> values_pb2.Value:
    try:
        return encode(value, parameter.name, stored=stored)
    except errors.SerialisationError as error:
        # Something else may be wrong in front of what cannot be encoded.
        validate_value(parameter.type, without_schemas(value), parameter.name)
        bound = error.bound if isinstance(error, IntegerTooLarge) else None
        raise errors.InvalidInput(str(error), field=error.subject, bound=bound) from error


def _check_size(request: runs_pb2.RunRequest, names: Sequence[str]) -> None:
    if request.ByteSize() <= MAX_MESSAGE_BYTES:
        return
    sizes = {name: value.ByteSize() for name, value in zip(names, request.inputs, strict=False)}
    sizes |= {entry.key: entry.value.ByteSize() for entry in request.named_inputs}
    largest = max(sizes, key=lambda field: sizes[field])
    raise errors.InvalidInput(
        f"the inputs have {request.ByteSize()} bytes, more than the message limit of "
        f"{MAX_MESSAGE_BYTES}; the largest is {largest} with {sizes[largest]}",
        field=largest,
        bound=f"max_bytes={MAX_MESSAGE_BYTES}",
    )
