"""Calls to a daemon: what is tried again, and what is said of a daemon that lacks a call."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from pipeline import errors
from pipeline._checks import check_seconds
from pipelined_api.v1 import daemon_pb2
from pipelined_api.versions import API_VERSION, major

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from pipeline._transport import Transport

__all__ = ["STATE_CALL_SECONDS", "Calls", "deadline_in", "seconds_left"]

# Calls that only read or write the daemon's state; a daemon that takes longer hangs.
STATE_CALL_SECONDS = 30.0

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response")
Result = TypeVar("Result")


class Calls:
    """The calls that the client is made of, on a channel of either kind."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self.transport.address

    async def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """Call once."""
        try:
            return await self.transport.unary(method, request, timeout)
        except errors.NotServed as error:
            raise await self._explained(error, request) from None

    async def state(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """Ask for something, or bring about what is the same if it is done twice."""
        return await self.retrying(lambda: self.unary(method, request, STATE_CALL_SECONDS))

    async def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float | None,
    ) -> Response:
        """Send a stream of messages and wait for the answer."""
        return await self.transport.upload(method, requests, timeout)

    async def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> AsyncGenerator[Response, None]:
        """Call and yield the answers as they come. Closing the generator cancels the call."""
        answers = self.transport.stream(method, request, timeout)
        try:
            async for answer in answers:
                yield answer
        except errors.NotServed as error:
            raise await self._explained(error, request) from None
        finally:
            await answers.aclose()

    async def retrying(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Call again while the daemon cannot be reached, about half a second in all.

        Only for calls that a second execution does not hurt. A daemon that answers, be it with
        UNAVAILABLE, has been reached: that is not tried again.
        """

        async def attempt() -> Result:
            return await call()

        attempts = AsyncRetrying(
            sleep=self.transport.sleep,
            stop=stop_after_attempt(4),
            wait=wait_exponential(multiplier=0.07, max=0.5) + wait_random(0, 0.05),
            retry=retry_if_exception(_unreached),
            reraise=True,
        )
        return await attempts(attempt)

    async def _explained(self, error: errors.NotServed, request: Message) -> errors.PipelineError:
        """Say which two versions do not fit, as far as the daemon tells its own."""
        try:
            info = await self.transport.unary(
                self.transport.stubs.daemon.Info, daemon_pb2.InfoRequest(), STATE_CALL_SECONDS
            )
        except errors.PipelineError:
            return error
        what = request.DESCRIPTOR.name.removesuffix("Request")
        message = (
            f"the daemon at {self.address} does not serve {what}: it is pipelined "
            f"{info.version or 'of an unknown version'} with API {info.api_version or 'unknown'}, "
            f"and this client has API {API_VERSION}"
        )
        if info.api_version and major(info.api_version) != major(API_VERSION):
            return errors.Incompatible(
                message,
                subject="API",
                client_version=API_VERSION,
                daemon_version=info.api_version,
            )
        return errors.NotServed(message)


def deadline_in(seconds: float | None) -> float | None:
    """Return when so many seconds will be over, as time.monotonic() has it.

    Raises:
        errors.InvalidInput: they are no number.

    """
    check_seconds(seconds)
    return None if seconds is None else time.monotonic() + seconds


def seconds_left(deadline: float | None, most: float | None = None) -> float | None:
    """Seconds until the deadline, at most so many."""
    if deadline is None:
        return most
    left = deadline - time.monotonic()
    return left if most is None else min(left, most)


def _unreached(error: BaseException) -> bool:
    return isinstance(error, errors.Unavailable) and not error.reason
