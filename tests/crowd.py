"""Clients, each with a connection of its own, that ask a daemon for more than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pipeline import Client, Graph, Pipeline, Variable, pipe
from pipelined_api.v1 import runs_pb2, runs_pb2_grpc, values_pb2

QUEUED, CALLED = "crowd-queued", "crowd-called"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
DETAILS = "grpc-status-details-bin"
# Connections that are made at once: a socket has a backlog.
_AT_ONCE = 64
_WAIT_SECONDS = 10.0


@pipe
def echo_when(release: str, payload: str) -> int:
    """Give back the length, once a file is there."""
    import time

    while release and not Path(release).exists():
        time.sleep(0.001)
    return len(payload)


@dataclass
class Asked:
    """What became of the calls of one kind.

    Attributes:
        seconds: Of each that was answered.
        run_ids: Of those that were submitted.
        refused: With RESOURCE_EXHAUSTED and a time to wait.
        otherwise: How others failed.
    """

    seconds: list[float] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    otherwise: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a crowd has found.

    Attributes:
        submits: The runs that were submitted, all at once.
        calls: The runs that were waited for, each tried again as it was told.
        most_waits: How often one of them was refused before it was answered.
        executed_seconds: In which all that had been accepted were executed.
        succeeded: Of those.
        memory: Resident bytes of the daemon: before, with all connected, queued, and at the end.
    """

    submits: Asked
    calls: Asked
    most_waits: int
    executed_seconds: float
    succeeded: int
    memory: dict[str, int]


def graph() -> Graph:
    """Takes the path of a file that it waits for, which may be empty, and a text."""
    with Pipeline() as builder:
        builder.output(echo_when(Variable(str), Variable(str)))
    return builder.get_pipeline()


async def crowd(
    client: Client,
    pid: int,
    folder: Path,
    *,
    connections: int,
    submits: int,
    queue: int,
    payload_bytes: int,
) -> Outcome:
    """Let as many clients as there are connections ask for everything at once.

    Args:
        client: Of the daemon.
        pid: Of the daemon.
        folder: For a file.
        connections: Of which each makes its part of the submits, and then one call.
        submits: In all.
        queue: Runs that may wait for the deployment that is submitted to.
        payload_bytes: Of each request, about.
    """
    memory = {"before": resident_bytes(pid)}
    release = folder / "release"
    client.deploy(graph(), QUEUED, queue_length=queue)
    client.deploy(graph(), CALLED, queue_length=max(1, connections // 2), max_instances=2)
    client.warm(QUEUED)
    client.warm(CALLED)
    channels = [grpc.aio.insecure_channel(client.address, OPTIONS) for _ in range(connections)]
    stubs = [runs_pb2_grpc.RunsStub(channel) for channel in channels]
    try:
        await _connected(channels)
        memory["connected"] = resident_bytes(pid)
        asked = Asked()
        request = runs_pb2.SubmitRequest(
            deployment=QUEUED, inputs=_inputs(str(release), payload_bytes)
        )
        share, more = divmod(submits, connections)
        await asyncio.gather(
            *(
                _submit(stub, asked, request, share + (number < more))
                for number, stub in enumerate(stubs)
            )
        )
        memory["queued"] = resident_bytes(pid)
        calls = Asked()
        call = runs_pb2.RunRequest(deployment=CALLED, inputs=_inputs("", payload_bytes))
        waits = await asyncio.gather(*(_call(stub, calls, call) for stub in stubs))
        began = time.monotonic()
        release.touch()
        states = await _ended(stubs, asked.run_ids)
        seconds = time.monotonic() - began
        memory["at the end"] = resident_bytes(pid)
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    succeeded = states.count(runs_pb2.RUN_STATE_SUCCEEDED)
    return Outcome(asked, calls, max(waits), seconds, succeeded, memory)


def resident_bytes(pid: int) -> int:
    """Of a process, as the kernel counts them."""
    import psutil

    return int(psutil.Process(pid).memory_info().rss)


async def _connected(channels: Sequence[grpc.aio.Channel]) -> None:
    for start in range(0, len(channels), _AT_ONCE):
        await asyncio.gather(
            *(channel.channel_ready() for channel in channels[start : start + _AT_ONCE])
        )


async def _submit(
    stub: runs_pb2_grpc.RunsStub, asked: Asked, request: runs_pb2.SubmitRequest, count: int
) -> None:
    for _ in range(count):
        response = await _answered(lambda: stub.Submit(request), asked)
        if response is not None:
            asked.run_ids.append(response.run.run_id)


async def _call(stub: runs_pb2_grpc.RunsStub, asked: Asked, request: runs_pb2.RunRequest) -> int:
    """Run once, trying again for as long as the queue is full; returns how often that was."""
    waits = 0
    while True:
        before = len(asked.refused)
        if await _answered(lambda: stub.Run(request), asked) is not None:
            return waits
        if len(asked.refused) == before:
            return waits
        waits += 1
        await asyncio.sleep(min(asked.refused[-1], _WAIT_SECONDS))


async def _answered(call: Callable[[], object], asked: Asked) -> Any:
    began = time.monotonic()
    try:
        # The stubs are typed as those of blocking channels.
        response = await cast("Awaitable[object]", call())
    except grpc.aio.AioRpcError as error:
        retry = _retry_after(error)
        if retry is None:
            asked.otherwise.append(f"{error.code().name}: {error.details()}")
        else:
            asked.refused.append(retry)
        return None
    asked.seconds.append(time.monotonic() - began)
    return response


def _retry_after(error: grpc.aio.AioRpcError) -> float | None:
    """The seconds of its RetryInfo, if it is RESOURCE_EXHAUSTED and has one."""
    details = dict(error.trailing_metadata() or ()).get(DETAILS)
    if not isinstance(details, bytes):
        return None
    status = status_pb2.Status.FromString(details)
    retry = error_details_pb2.RetryInfo()
    if status.code != code_pb2.RESOURCE_EXHAUSTED or not any(
        detail.Unpack(retry) for detail in status.details
    ):
        return None
    return retry.retry_delay.ToTimedelta().total_seconds()


async def _ended(
    stubs: Sequence[runs_pb2_grpc.RunsStub], run_ids: Sequence[str]
) -> list[runs_pb2.RunState.ValueType]:
    """Wait for the end of all of them, each client for its part."""

    async def part(number: int) -> list[runs_pb2.RunState.ValueType]:
        states = []
        for run_id in run_ids[number :: len(stubs)]:
            request = runs_pb2.RunsGetRequest(run_id=run_id, wait_seconds=600, info_only=True)
            answer = cast("Awaitable[runs_pb2.RunsGetResponse]", stubs[number].Get(request))
            states.append((await answer).run.state)
        return states

    parts = await asyncio.gather(*(part(number) for number in range(len(stubs))))
    return [state for states in parts for state in states]


def _inputs(release: str, payload_bytes: int) -> list[values_pb2.Value]:
    payload = "x" * payload_bytes
    return [values_pb2.Value(string_value=release), values_pb2.Value(string_value=payload)]
