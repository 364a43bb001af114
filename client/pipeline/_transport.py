"""The synchronous channel to a daemon: options, retries, and calls that raise the library's errors.

What is sent and what comes back is made and read by pure functions in ``_requests`` and
``_responses``; this module only carries it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from pipeline import errors
from pipeline._errors_wire import from_call
from pipelined_api.address import InvalidAddress, default_address, parse_address
from pipelined_api.limits import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from pipelined_api.v1 import daemon_pb2_grpc, deployments_pb2_grpc, files_pb2_grpc, runs_pb2_grpc

# Calls that only read or write the daemon's state; a daemon that takes longer hangs.
STATE_CALL_SECONDS = 30.0
# The daemon answers a client that pings more often with GOAWAY (too_many_pings).
_KEEPALIVE_SECONDS = 60
_KEEPALIVE_TIMEOUT_SECONDS = 20
_METADATA_BYTES = 256 * 1024

_OPTIONS: tuple[tuple[str, int], ...] = (
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
    # A restarted daemon is found again within what `retrying` waits, not after minutes. Less than
    # 100 ms is not taken.
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


class Transport:
    """One channel to one daemon. It connects with the first call, and again when it has to.

    Any number of threads may call at once.

    Args:
        address: ``unix:/path``, ``/path`` or ``host:port``; None for the default.
        token: sent with every call.
        tls: True for TLS with the system's certificates, or the path of a PEM file with others.

    Raises:
        errors.InvalidInput: the address is none, or the PEM file cannot be read.

    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        tls: bool | str | Path = False,
    ) -> None:
        try:
            parsed = parse_address(address or default_address())
        except InvalidAddress as error:
            raise errors.InvalidInput(str(error), field="address") from None
        self.address = str(parsed)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if tls:
            credentials = grpc.ssl_channel_credentials(_certificates(tls))
            self._channel = grpc.secure_channel(parsed.target, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(parsed.target, options=_OPTIONS)
        self._closed = False
        self.deployments = deployments_pb2_grpc.DeploymentsStub(self._channel)
        self.files = files_pb2_grpc.FilesStub(self._channel)
        self.runs = runs_pb2_grpc.RunsStub(self._channel)
        self.daemon = daemon_pb2_grpc.DaemonStub(self._channel)

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        """Call and wait. Whatever interrupts the wait (Ctrl-C) cancels the call."""
        return self._result(
            lambda: method.future(request, timeout=_finite(timeout), metadata=self._metadata)
        )

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Iterator[Request],
        timeout: float | None,
    ) -> Response:
        """Send a stream of messages and wait for the one answer."""
        return self._result(
            lambda: method.future(requests, timeout=_finite(timeout), metadata=self._metadata)
        )

    def stream(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Generator[Response, None, None]:
        """Call and yield the answers as they come. Closing the generator cancels the call."""
        self._check_open()
        call = method(request, timeout=_finite(timeout), metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_call(error, self.address) from None
        finally:
            call.cancel()

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self._closed = True
        self._channel.close()

    def _check_open(self) -> None:
        if self._closed:
            raise errors.PipelineError("the client is closed")

    def _result(self, begin: Callable[[], grpc.Future[Response]]) -> Response:
        self._check_open()
        call: grpc.Future[Response] | None = None
        try:
            call = begin()
            return call.result()
        except grpc.FutureCancelledError:
            raise errors.Cancelled("the call was cancelled: its client was closed") from None
        except grpc.RpcError as error:
            raise from_call(error, self.address) from None
        except BaseException:
            if call is not None:
                call.cancel()
            raise


def retrying(call: Callable[[], Result]) -> Result:
    """Call again while the daemon cannot be reached, about half a second in all.

    Only for calls that a second execution does not hurt. A daemon that answers, be it with
    UNAVAILABLE, has been reached: that is not tried again.
    """
    attempts = Retrying(
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.07, max=0.5) + wait_random(0, 0.05),
        retry=retry_if_exception(_unreached),
        reraise=True,
    )
    return attempts(call)


def _unreached(error: BaseException) -> bool:
    return isinstance(error, errors.Unavailable) and not error.reason


def _finite(timeout: float | None) -> float | None:
    # gRPC cannot express an infinite deadline as a number.
    return None if timeout is None or math.isinf(timeout) else timeout


def _certificates(tls: bool | str | Path) -> bytes | None:
    if tls is True or tls is False:
        return None
    try:
        return Path(tls).read_bytes()
    except OSError as error:
        raise errors.InvalidInput(
            f"the certificates {str(tls)!r} cannot be read: {error.strerror}", field="tls"
        ) from None
