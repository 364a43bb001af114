"""Channels to a daemon, with calls that raise our errors, and the one that blocks.

The client is written once, in coroutines (``_operations``, ``_files``). On the blocking channel no
coroutine is ever suspended: each call has been answered when it returns, so that :func:`drive` runs
the coroutine to its end in one go, in the caller's thread. On the other (``_aio_transport``) they
are awaited.

What is sent and what comes back is made and read by pure functions in ``_requests`` and
``_responses``; this module only carries it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any, Protocol, TypeVar, cast

import grpc
import grpc.aio

from pipeline import errors
from pipeline._checks import check_seconds, check_text
from pipeline._credentials import Credentials
from pipeline._errors_wire import from_call
from pipeline._tracing import traced
from pipelined_api.address import Address, InvalidAddress, default_address, parse_address
from pipelined_api.limits import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from pipelined_api.v1 import (
    daemon_pb2_grpc,
    deployments_pb2_grpc,
    environments_pb2_grpc,
    files_pb2_grpc,
    runs_pb2_grpc,
)
from pipelined_api.versions import API_VERSION, API_VERSION_KEY

__all__ = [
    "OPTIONS",
    "BlockingTransport",
    "Channel",
    "Stubs",
    "Transport",
    "drive",
    "iterate",
    "limit",
]

# The daemon answers a client that pings more often with GOAWAY (too_many_pings).
_KEEPALIVE_SECONDS = 60
_MOST_SECONDS = 1e9
_KEEPALIVE_TIMEOUT_SECONDS = 20
_METADATA_BYTES = 256 * 1024
_NO_CREDENTIALS = Credentials()

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + MAX_ENVELOPE_BYTES),
    # A remote traceback travels in the metadata, where gRPC's own limit is 8 KiB.
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
    # Pings find a dead daemon during a long run; an idle channel needs none.
    ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted daemon is found again within what `Calls.retrying` waits, not after minutes. Less
    # than 100 ms is not taken.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Retries are ours: only where a second execution does no harm.
    ("grpc.enable_retries", 0),
    # Connections, and back-offs, of other clients in this process are not shared.
    ("grpc.use_local_subchannel_pool", 1),
    # A daemon is reached directly; a proxy for web pages does not know it.
    ("grpc.enable_http_proxy", 0),
)

Request = TypeVar("Request")
Response = TypeVar("Response")
Result = TypeVar("Result")
_Metadata = tuple[tuple[str, str], ...]


class Stubs:
    """The services of a daemon on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.deployments = deployments_pb2_grpc.DeploymentsStub(channel)
        self.files = files_pb2_grpc.FilesStub(channel)
        self.runs = runs_pb2_grpc.RunsStub(channel)
        self.daemon = daemon_pb2_grpc.DaemonStub(channel)
        self.environments = environments_pb2_grpc.EnvironmentsStub(channel)


class Transport(Protocol):
    """One channel to one daemon. It connects with the first call, and again when it has to.

    Every call raises :class:`pipeline.errors.PipelineError` or one of its subclasses; a timeout of
    None is no deadline.
    """

    @property
    def address(self) -> str:
        """Where the daemon is."""

    @property
    def stubs(self) -> Stubs:
        """Has the methods that the calls take."""

    async def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """Call and wait. Whatever interrupts the wait cancels the call."""

    async def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float | None,
    ) -> Response:
        """Send a stream of messages, taken from another thread, and wait for the one answer."""

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> AsyncGenerator[Response, None]:
        """Call and yield the answers as they come. Closing the generator cancels the call."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def work(self, call: Callable[[], Result]) -> Result:
        """Do what takes long, such as hashing a file, where it holds nobody up."""


class Channel:
    """What both kinds know of their daemon.

    Args:
        address: ``unix:/path``, ``/path`` or ``host:port``; None for the default.
        credentials: of the client.

    Raises:
        errors.InvalidInput: the address is none, or the credentials do not suit it.

    """

    def __init__(
        self, address: str | None = None, credentials: Credentials = _NO_CREDENTIALS
    ) -> None:
        if address is not None:
            check_text(address, "address", "the address")
        try:
            self._parsed: Address = parse_address(address or default_address())
        except InvalidAddress as error:
            raise errors.InvalidInput(str(error), field="address") from None
        self.address = str(self._parsed)
        self._metadata: _Metadata = ((API_VERSION_KEY, API_VERSION),)
        token, self._credentials = credentials.for_address(self._parsed)
        if token:
            self._metadata += (("authorization", f"Bearer {token}"),)
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise errors.PipelineError("the client is closed")


class BlockingTransport(Channel):
    """Calls that have been answered when they return. Any number of threads may call at once."""

    def __init__(
        self, address: str | None = None, credentials: Credentials = _NO_CREDENTIALS
    ) -> None:
        super().__init__(address, credentials)
        target = self._parsed.target
        if self._credentials is not None:
            self._channel = grpc.secure_channel(target, self._credentials, options=OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=OPTIONS)
        self.stubs = Stubs(self._channel)

    async def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """See Transport."""
        return self._result(
            lambda: method.future(request, timeout=limit(timeout), metadata=traced(self._metadata))
        )

    async def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float | None,
    ) -> Response:
        """See Transport."""
        return self._result(
            lambda: method.future(requests, timeout=limit(timeout), metadata=traced(self._metadata))
        )

    async def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> AsyncGenerator[Response, None]:
        """See Transport."""
        self._check_open()
        call = method(request, timeout=limit(timeout), metadata=traced(self._metadata))
        try:
            for answer in call:
                yield answer
        except grpc.RpcError as error:
            self._check_cancelled(error)
            raise from_call(error, self.address) from None
        finally:
            call.cancel()

    async def sleep(self, seconds: float) -> None:
        """See Transport."""
        time.sleep(seconds)  # noqa: ASYNC251

    async def work(self, call: Callable[[], Result]) -> Result:
        """See Transport."""
        return call()

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._closed = True
        self._channel.close()

    def _check_cancelled(self, error: grpc.RpcError) -> None:
        """Tell a call that ended with its channel from one that the daemon has ended."""
        if self._closed and error.code() == grpc.StatusCode.CANCELLED:
            raise errors.Cancelled("the call was cancelled: its client was closed") from None

    def _result(self, begin: Callable[[], grpc.Future[Response]]) -> Response:
        self._check_open()
        call: grpc.Future[Response] | None = None
        try:
            call = begin()
            return call.result()
        except grpc.FutureCancelledError:
            raise errors.Cancelled("the call was cancelled: its client was closed") from None
        except grpc.RpcError as error:
            self._check_cancelled(error)
            raise from_call(error, self.address) from None
        except BaseException:
            if call is not None:
                call.cancel()
            raise


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end that nothing suspends: one of those on a blocking channel."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(Result, end.value)
    coroutine.close()
    raise RuntimeError("a coroutine on a blocking channel was suspended")


def iterate(items: AsyncGenerator[Result, None]) -> Generator[Result, None, None]:
    """Iterate over what an asynchronous generator on a blocking channel yields; closes it."""
    try:
        while True:
            try:
                item = drive(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        drive(items.aclose())


def limit(timeout: float | None) -> float | None:
    """Return a timeout as gRPC takes it.

    Raises:
        errors.InvalidInput: it is no number.
        errors.DeadlineExceeded: it is over. gRPC would begin the call, and may well end it.

    """
    check_seconds(timeout)
    if timeout is not None and timeout <= 0:
        raise errors.DeadlineExceeded("the deadline passed before the call began")
    # gRPC counts deadlines in 64 bits of nanoseconds: one beyond them would have passed already.
    return None if timeout is None or timeout > _MOST_SECONDS else timeout
