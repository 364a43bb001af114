"""The Daemon service."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import grpc.aio

from pipelined.rpc.messages import timestamp
from pipelined.rpc.status import unary
from pipelined_api.v1 import daemon_pb2, daemon_pb2_grpc
from pipelined_api.versions import API_VERSION

# What came after the first API, by name.
FEATURES = ("stream", "versions", "pointers", "cool", "submit", "logs")


class DaemonServicer(daemon_pb2_grpc.DaemonServicer):
    """Implements pipelined.v1.Daemon.

    Args:
        version: Of the distribution.
        nursery: Says what the nursery is doing.
        max_message_bytes: The largest message that the server takes.
    """

    def __init__(
        self, version: str, nursery: Callable[[], daemon_pb2.Nursery], max_message_bytes: int
    ) -> None:
        self._version = version
        self._nursery = nursery
        self._max_message_bytes = max_message_bytes
        self._started_at = time.time()

    @unary
    async def Info(
        self, request: daemon_pb2.InfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> daemon_pb2.InfoResponse:
        """Describe the daemon."""
        return daemon_pb2.InfoResponse(
            version=self._version,
            api_version=API_VERSION,
            features=FEATURES,
            started_at=timestamp(self._started_at),
            pid=os.getpid(),
            python_version=platform.python_version(),
            nursery=self._nursery(),
            max_message_bytes=self._max_message_bytes,
        )
