"""The calls of the Runs service about runs that there are, and the service as a whole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from pipelined.core.access import Role, RoleTooLow
from pipelined.core.deployments import Deployments
from pipelined.core.durable_runs import DurableRuns
from pipelined.core.errors import InvalidRequest, RunNotFound
from pipelined.core.printed import Journal
from pipelined.core.run import Run, RunState
from pipelined.core.run_execution import RunExecution
from pipelined.core.runs import Runs
from pipelined.rpc.caller import caller
from pipelined.rpc.run_messages import get_response, line_message, run_info
from pipelined.rpc.runs import RunCalls, checked_seconds
from pipelined.rpc.status import streaming, unary
from pipelined_api.limits import MAX_RUNS_LISTED
from pipelined_api.v1 import runs_pb2

SERVICE = runs_pb2.DESCRIPTOR.services_by_name["Runs"].full_name
DEFAULT_LISTED = 100

Context = grpc.aio.ServicerContext[Any, Any]


class RunRecords:
    """Get, List, Cancel and Logs; the .proto file says what each does.

    Args:
        runs: Remembers runs.
        execution: Carries them out.
        journal: Keeps what they print.
        deployments: The deployments there are.
        durable: Has the outputs of those that were submitted.
    """

    def __init__(
        self,
        runs: Runs,
        execution: RunExecution,
        journal: Journal,
        deployments: Deployments,
        durable: DurableRuns,
    ) -> None:
        self._durable = durable
        self._runs = runs
        self._execution = execution
        self._journal = journal
        self._deployments = deployments

    @unary
    async def get(self, request: runs_pb2.RunsGetRequest, context: Context) -> bytes:
        """Describe a run, once it has ended if that is soon enough; a serialised response."""
        seconds = checked_seconds("wait_seconds", request.wait_seconds)
        run = self._visible(request.run_id)
        if seconds and not run.ended.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(run.ended.wait(), seconds)
        response = None if request.info_only else await self._durable.response(run)
        return get_response(run, response, info_only=request.info_only)

    @unary
    async def list(
        self, request: runs_pb2.RunsListRequest, context: Context
    ) -> runs_pb2.RunsListResponse:
        """Describe runs, the newest first."""
        if request.limit > MAX_RUNS_LISTED:
            raise InvalidRequest("limit", f"{request.limit} is more than {MAX_RUNS_LISTED}")
        wanted = set(request.states)
        for state in wanted.difference(state.value for state in RunState):
            raise InvalidRequest("states", f"there is no state {state}")
        states = [RunState(state) for state in wanted]
        owner = None if caller().sees_all else caller().id
        limit = request.limit or DEFAULT_LISTED
        runs = self._runs.list(request.deployment, states, limit, owner)
        return runs_pb2.RunsListResponse(runs=[run_info(run) for run in runs])

    @unary
    async def cancel(
        self, request: runs_pb2.CancelRequest, context: Context
    ) -> runs_pb2.CancelResponse:
        """End a run."""
        run = await self._execution.cancel(self._visible(request.run_id).id)
        return runs_pb2.CancelResponse(run=run_info(run))

    @streaming
    async def logs(
        self, request: runs_pb2.LogsRequest, context: Context
    ) -> AsyncIterator[runs_pb2.LogsResponse]:
        """Send lines, in batches."""
        which = request.WhichOneof("of")
        if which == "run_id":
            buffer = self._visible(request.run_id).lines
        elif which == "deployment":
            if caller().role < Role.DEPLOY:
                raise RoleTooLow("Logs of a deployment", Role.DEPLOY, caller().role)
            deployment = self._deployments.get(request.deployment)
            # A reference to one of its versions is none to what that one printed.
            buffer = self._journal.of_deployment(deployment.specification.name)
        else:
            raise InvalidRequest("of", "neither a run nor a deployment is named")
        tail = request.tail if request.HasField("tail") else None
        async with contextlib.aclosing(buffer.read(follow=request.follow, tail=tail)) as batches:
            async for lines in batches:
                yield runs_pb2.LogsResponse(lines=[line_message(line) for line in lines])

    def _visible(self, run_id: str) -> Run:
        """Return a run that the caller may know of; of others it learns no more than of none."""
        run = self._runs.get(run_id)
        if not caller().sees(run):
            raise RunNotFound(run_id)
        return run


def handlers(calls: RunCalls, records: RunRecords) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """The whole service, by the names of its methods."""
    serialised: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Run": grpc.unary_unary_rpc_method_handler(calls.run),
        "Stream": grpc.unary_stream_rpc_method_handler(calls.stream),
        "Submit": grpc.unary_unary_rpc_method_handler(calls.submit),
    }
    parsed: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Get": grpc.unary_unary_rpc_method_handler(records.get, runs_pb2.RunsGetRequest.FromString),
        "List": grpc.unary_unary_rpc_method_handler(
            records.list,
            runs_pb2.RunsListRequest.FromString,
            runs_pb2.RunsListResponse.SerializeToString,
        ),
        "Cancel": grpc.unary_unary_rpc_method_handler(
            records.cancel,
            runs_pb2.CancelRequest.FromString,
            runs_pb2.CancelResponse.SerializeToString,
        ),
        "Logs": grpc.unary_stream_rpc_method_handler(
            records.logs,
            runs_pb2.LogsRequest.FromString,
            runs_pb2.LogsResponse.SerializeToString,
        ),
    }
    return {**serialised, **parsed}
