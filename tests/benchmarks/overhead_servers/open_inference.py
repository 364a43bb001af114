"""Requests of the Open Inference Protocol, made with a peer's own messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

import serving

_PREFIX = "/inference.GRPCInferenceService/"


def requests(folder: Path, messages: Any, shape: tuple[int, ...] = ()) -> None:
    """Leave the requests for a model called echo, with its data in raw_input_contents."""
    for size, elements in serving.ELEMENTS.items():
        message = messages.ModelInferRequest(model_name="echo")
        message.inputs.add(name="x", datatype="FP32", shape=[*shape, elements])
        message.raw_input_contents.append(serving.data(size))
        serving.leave(folder, size, message.SerializeToString())


def tell(folder: Path, port: int) -> None:
    """Wait until the model answers, and say so."""
    serving.wait_until_open(port)
    address, method = f"127.0.0.1:{port}", f"{_PREFIX}ModelInfer"
    with grpc.insecure_channel(address) as channel:
        infer: Any = channel.unary_unary(method)
        request = (folder / serving.SMALL).read_bytes()
        serving.until(lambda: infer(request, wait_for_ready=True, timeout=10), grpc.RpcError)
    serving.ready(folder, "grpc", address, method)
