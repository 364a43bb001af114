"""Requests as our own API has them, for servers that take any."""

from __future__ import annotations

from pathlib import Path

import serving
from pipelined_api.v1 import runs_pb2
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value

METHOD = "/pipelined.v1.Runs/Run"


def tensor(size: str) -> Value:
    """The tensor of that size."""
    return Value(
        tensor_value=Tensor(
            dtype=DataType.DATA_TYPE_FLOAT32,
            shape=[serving.ELEMENTS[size]],
            data=serving.data(size),
            container=Tensor.CONTAINER_NUMPY,
        )
    )


def request(size: str) -> bytes:
    """A RunRequest for a deployment called echo."""
    return runs_pb2.RunRequest(deployment="echo", inputs=[tensor(size)]).SerializeToString()


def requests(folder: Path) -> None:
    """Leave a request of each size."""
    for size in serving.ELEMENTS:
        serving.leave(folder, size, request(size))


def tell(folder: Path, port: int) -> None:
    """Say that Run is served there."""
    serving.wait_until_open(port)
    serving.ready(folder, "grpc", f"127.0.0.1:{port}", METHOD)
