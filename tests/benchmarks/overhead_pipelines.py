"""The pipelines whose overhead is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import own_messages
import serving
from pipeline import Client, InputField, InputSchema, Pipeline, Variable, pipe
from pipelined_api.v1 import runs_pb2
from pipelined_api.v1.values_pb2 import MapEntry, MapValue, Value

Array = NDArray[Any]


class Options(InputSchema):
    scale: float = InputField(default=1.0, ge=0, le=10)
    steps: int = InputField(default=1, ge=1, le=100)
    label: str = InputField(default="", max_length=64)


@pipe
def echo(values: np.ndarray) -> np.ndarray:
    return values


@pipe
def scaled(values: np.ndarray, options: Options) -> np.ndarray:
    return values * options.scale


@pipe
def summed(values: np.ndarray) -> float:
    return float(values.sum())


@pipe
def described(total: float, options: Options) -> dict[str, Any]:
    return {"label": options.label, "total": total / options.steps}


def deploy(client: Client) -> None:
    """Deploy both, and run each once."""
    with Pipeline() as builder:
        builder.output(echo(Variable(np.ndarray)))
    client.deploy(builder.get_pipeline(), "echo")
    with Pipeline() as builder:
        options = Variable(Options)
        scaled_values = scaled(Variable(np.ndarray), options)
        builder.output(described(summed(scaled_values), options), scaled_values)
    client.deploy(builder.get_pipeline(), "nodes")
    values = np.zeros(16, dtype=np.float32)
    client.run("echo", values)
    client.run("nodes", Options(), values)


def three_nodes_request() -> bytes:
    """A serialised RunRequest for the second."""
    fields = {
        "scale": Value(double_value=0.5),
        "steps": Value(int_value=3),
        "label": Value(string_value="label"),
    }
    entries = [MapEntry(key=key, value=value) for key, value in fields.items()]
    options = Value(map_value=MapValue(entries=entries))
    request = runs_pb2.RunRequest(
        deployment="nodes", inputs=[options, own_messages.tensor(serving.SMALL)]
    )
    return request.SerializeToString()
