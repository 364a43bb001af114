"""The calls of the Runs service that begin runs.

The request goes to the worker, and the response to the caller, as the bytes they arrived in: a
large tensor is parsed here once, to be validated, and never serialised again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import secrets
from collections.abc import Sequence
from typing import Any

import grpc.aio

from pipelined.core.deployment import Deployment
from pipelined.core.durable_runs import DurableRuns
from pipelined.core.errors import InvalidRequest
from pipelined.core.run import Delivery, Run
from pipelined.core.run_execution import RunExecution
from pipelined.core.runs import Runs
from pipelined.rpc.caller import caller
from pipelined.rpc.messages import checked_key
from pipelined.rpc.run_inputs import LARGE, RunInputs
from pipelined.rpc.run_messages import run_info
from pipelined.rpc.sending import sender
from pipelined.rpc.status import RUN_ID_METADATA, unary
from pipelined.rpc.trace_headers import trace_of_call
from pipelined_api.limits import LEAST_PRIORITY, MOST_PRIORITY
from pipelined_api.v1 import runs_pb2

Context = grpc.aio.ServicerContext[Any, Any]
# A year: what is beyond it is a mistake, and timers have their limits.
_NOTHING_HELD = contextlib.nullcontext()
MAX_SECONDS = 366 * 86400.0


class RunCalls:
    """Run, Stream and Submit on serialised messages; the .proto file says what each does.

    Args:
        inputs: Checks what is to be run.
        runs: Remembers it.
        execution: Carries it out.
        durable: Carries it out if nobody waits for it.
    """

    def __init__(
        self, inputs: RunInputs, runs: Runs, execution: RunExecution, durable: DurableRuns
    ) -> None:
        self._durable = durable
        self._inputs = inputs
        self._runs = runs
        self._execution = execution

    @unary
    async def run(self, request: bytes, context: Context) -> bytes:
        """Validate the inputs, run, and return a serialised RunResponse."""
        message = await self._inputs.parsed(request, runs_pb2.RunRequest)
        priority = _checked_priority(message.priority)
        deployment, references = await self._inputs.validated(message, request)
        with contextlib.ExitStack() if references else _NOTHING_HELD as held:
            files = () if held is None else self._inputs.hold(references, held)
            run = self._created(deployment, context, priority=priority)
            result = await self._execution.run(
                run, deployment, request, context.time_remaining(), files
            )
        return bytes(result.response)

    @unary
    async def stream(self, request: bytes, context: Context) -> None:
        """Validate the inputs, run, and send serialised StreamResponses.

        No generator: what cancels the call reaches the run wherever it waits.
        """
        message = await self._inputs.parsed(request, runs_pb2.RunRequest)
        priority = _checked_priority(message.priority)
        deployment, references = await self._inputs.validated(message, request)
        with contextlib.ExitStack() as held:
            files = self._inputs.hold(references, held)
            run = self._created(deployment, context, priority=priority)
            await self._execution.stream(
                run, deployment, request, sender(context), context.time_remaining(), files
            )

    @unary
    async def submit(self, request: bytes, context: Context) -> bytes:
        """Validate the inputs, accept the run, and return a serialised SubmitResponse."""
        message = await self._inputs.parsed(request, runs_pb2.SubmitRequest)
        key = checked_key(message.idempotency_key)
        timeout = checked_seconds("timeout_seconds", message.timeout_seconds)
        priority = _checked_priority(message.priority)
        delivery = _checked_delivery(message.delivery)
        digest = await _digest(message, len(request)) if key else ""
        # Before the inputs are validated: the deployment may be another one by now.
        if key and (run := self._runs.with_key(caller().id, key, digest)) is not None:
            await self._durable.accepted(run)
            return _submitted(run)
        deployment, references = await self._inputs.validated(message, request)
        # Nobody else gets in between this and `create`.
        if key and (run := self._runs.with_key(caller().id, key, digest)) is not None:
            await self._durable.accepted(run)
            return _submitted(run)
        with contextlib.ExitStack() as stack:
            files = self._inputs.hold(references, stack)
            held = stack.pop_all()
        run = self._created(
            deployment,
            context,
            priority=priority,
            submitted=True,
            key=key,
            digest=digest,
            delivery=delivery,
            timeout=timeout or None,
            files=[file.sha256 for file in files],
        )
        # A SubmitRequest has the fields of a RunRequest.
        await self._durable.submit(run, deployment, request, files, held)
        return _submitted(run)

    def _created(
        self,
        deployment: Deployment,
        context: Context,
        *,
        priority: int,
        submitted: bool = False,
        key: str = "",
        digest: str = "",
        delivery: Delivery = Delivery.AT_MOST_ONCE,
        timeout: float | None = None,
        files: Sequence[str] = (),
    ) -> Run:
        specification = deployment.specification
        run = self._runs.create(
            secrets.token_hex(8),
            specification.name,
            specification.version,
            submitted=submitted,
            key=key,
            digest=digest,
            owner=caller().id,
            priority=priority,
            delivery=delivery,
            timeout=timeout,
            files=files,
            trace=trace_of_call(),
            cold=not deployment.instances.any_warm,
        )
        context.set_trailing_metadata(((RUN_ID_METADATA, run.id),))
        return run


def checked_seconds(field: str, seconds: float) -> float:
    """Return a number of seconds, 0 included. Raises InvalidRequest if it is none."""
    if math.isnan(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise InvalidRequest(field, f"{seconds:g} is not between 0 and {MAX_SECONDS:g}")
    return seconds


def _checked_priority(priority: int) -> int:
    if not LEAST_PRIORITY <= priority <= MOST_PRIORITY:
        raise InvalidRequest(
            "priority", f"{priority} is not between {LEAST_PRIORITY} and {MOST_PRIORITY}"
        )
    return priority


def _checked_delivery(number: int) -> Delivery:
    try:
        return Delivery(number or Delivery.AT_MOST_ONCE.value)
    except ValueError:
        raise InvalidRequest("delivery", f"there is no delivery {number}") from None


def _submitted(run: Run) -> bytes:
    return runs_pb2.SubmitResponse(run=run_info(run)).SerializeToString()


async def _digest(message: runs_pb2.SubmitRequest, size: int) -> str:
    """What an idempotency key stands for: the deployment's name and the inputs."""
    if size <= LARGE:
        return _digest_of(message)
    return await asyncio.to_thread(_digest_of, message)


def _digest_of(message: runs_pb2.SubmitRequest) -> str:
    digest = hashlib.sha256()
    parts = [message.deployment.encode()]
    for name, values in (("inputs", message.inputs), ("named", message.named_inputs)):
        parts.append(name.encode())
        parts.extend(value.SerializeToString(deterministic=True) for value in values)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()
