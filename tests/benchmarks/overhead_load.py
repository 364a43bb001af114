"""Calls a server with prepared bytes, as fast as it answers: the same for every arm.

Nothing is serialised or parsed here. gRPC goes through grpc.aio without stubs, HTTP through a
connection per caller that is kept open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

import grpc
import grpc.aio

WARM_UP_SECONDS = 0.3
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)
Call = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True)
class Target:
    """Where a server is.

    Attributes:
        transport: "grpc" or "http".
        address: as gRPC takes it, or host:port.
        method: the full name of the method, or the path.
    """

    transport: str
    address: str
    method: str


@dataclass
class Sample:
    """One measurement: seconds of each call, and of all of them together."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def percentiles(self) -> tuple[float, float]:
        """The median and the 99th percentile."""
        cuts = quantiles(self.latencies, n=100)
        return cuts[49], cuts[98]

    @property
    def rate(self) -> float:
        """Calls per second."""
        return len(self.latencies) / self.seconds


async def measure(
    target: Target, request: bytes, expected: bytes, callers: int, seconds: float
) -> Sample:
    """Call from so many callers at once, for so many seconds after a warm-up.

    Raises:
        RuntimeError: What comes back does not have the bytes that are expected in it.
        grpc.RpcError, OSError: A call failed.
    """
    async with AsyncExitStack() as stack:
        calls = [await _call(target, stack) for _ in range(callers)]
        if expected not in await calls[0](request):
            raise RuntimeError(f"{target.address} answers with something else")
        await _loop(calls, request, WARM_UP_SECONDS)
        return await _loop(calls, request, seconds)


async def _loop(calls: list[Call], request: bytes, seconds: float) -> Sample:
    sample = Sample()
    began = time.perf_counter()
    end = began + seconds

    async def caller(call: Call) -> None:
        now = time.perf_counter()
        while now < end:
            await call(request)
            before, now = now, time.perf_counter()
            sample.latencies.append(now - before)

    await asyncio.gather(*map(caller, calls))
    sample.seconds = time.perf_counter() - began
    return sample


async def _call(target: Target, stack: AsyncExitStack) -> Call:
    if target.transport == "http":
        connection = await _Connection.open(target)
        stack.callback(connection.close)
        return connection.post
    channel = await stack.enter_async_context(
        grpc.aio.insecure_channel(target.address, options=_OPTIONS)
    )
    method: Any = channel.unary_unary(target.method)
    call: Call = method
    return call


class _Connection:
    """HTTP/1.1 as far as these servers speak it."""

    def __init__(
        self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = (
            f"POST {target.method} HTTP/1.1\r\nHost: {target.address}\r\n"
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        )
        self.close = writer.close

    @classmethod
    async def open(cls, target: Target) -> _Connection:
        host, _, port = target.address.rpartition(":")
        return cls(target, *await asyncio.open_connection(host, int(port)))

    async def post(self, body: bytes) -> bytes:
        self._writer.write(self._head.format(len(body)).encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        answer = await self._reader.readexactly(int(fields["content-length"]))
        if status.split()[1] != "200":
            raise RuntimeError(f"{status}: {answer[:200]!r}")
        return answer
