"""The channel to a daemon for asyncio; see ``_transport``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TypeVar, cast

import grpc
import grpc.aio

from pipeline import errors
from pipeline._errors_wire import from_call
from pipeline._tracing import traced
from pipeline._transport import OPTIONS, Channel, Stubs, limit

__all__ = ["AioTransport"]

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")


class AioTransport(Channel):
    """Calls that are awaited. Belongs to the event loop in which the first call is made."""

    _channel: grpc.aio.Channel | None = None
    _stubs: Stubs | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    @property
    def stubs(self) -> Stubs:
        """See Transport. The channel is made here, in a running loop."""
        if self._stubs is None:
            self._loop = asyncio.get_running_loop()
            # For a channel that is closed there is nothing to make: each call checks that first.
            target = self._parsed.target
            if self._credentials is not None:
                self._channel = grpc.aio.secure_channel(target, self._credentials, options=OPTIONS)
            else:
                self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
            # The stubs' methods have the types of the blocking channel's: one set of operations.
            self._stubs = Stubs(cast(grpc.Channel, self._channel))
        return self._stubs

    async def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """See Transport."""
        call = cast("grpc.aio.UnaryUnaryMultiCallable[Request, Response]", method)
        self._check_open()
        return await self._result(
            call(request, timeout=limit(timeout), metadata=traced(self._metadata))
        )

    async def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float | None,
    ) -> Response:
        """See Transport."""
        call = cast("grpc.aio.StreamUnaryMultiCallable[Request, Response]", method)
        self._check_open()
        return await self._result(
            call(_taken(requests), timeout=limit(timeout), metadata=traced(self._metadata))
        )

    async def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> AsyncGenerator[Response, None]:
        """See Transport."""
        begin = cast("grpc.aio.UnaryStreamMultiCallable[Request, Response]", method)
        self._check_open()
        call = begin(request, timeout=limit(timeout), metadata=traced(self._metadata))
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise from_call(error, self.address) from None
        except asyncio.CancelledError:
            self._check_cancelled()
            raise
        finally:
            call.cancel()

    def _check_open(self) -> None:
        super()._check_open()
        if self._loop is not asyncio.get_running_loop():
            raise errors.PipelineError(
                "the client belongs to the event loop of its first call; make one for each loop"
            )

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        await asyncio.sleep(seconds)

    async def work(self, call: Callable[[], Result]) -> Result:
        """See Transport."""
        return await asyncio.to_thread(call)

    async def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def _result(self, call: Awaitable[Response]) -> Response:
        try:
            return await call
        except grpc.RpcError as error:
            raise from_call(error, self.address) from None
        except asyncio.CancelledError:
            self._check_cancelled()
            raise

    def _check_cancelled(self) -> None:
        """Tell a call that ended with its channel from one whose task was cancelled."""
        # Before Python 3.11 a task does not know that it has been asked to end.
        cancelling = getattr(asyncio.current_task(), "cancelling", int)
        if self._closed and not cancelling():
            raise errors.Cancelled("the call was cancelled: its client was closed") from None


async def _taken(requests: Iterator[Request]) -> AsyncGenerator[Request, None]:
    """Take the items of an iterator that may read files, in another thread."""
    end = object()
    while (item := await asyncio.to_thread(next, requests, end)) is not end:
        yield cast(Request, item)
