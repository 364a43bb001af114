"""A pickled graph that is given values off the wire does what it does where it was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import File, Graph, InputSchema, Pipeline, Variable, pipe
from pipeline._values import decode, encode
from pipelined_api.v1.values_pb2 import Value


class Point(InputSchema):
    x: int
    label: str | None = None


@pipe
def told(value: Any) -> tuple[Any, str]:
    return value, type(value).__name__


def over_the_wire(value: object) -> Any:
    return decode(Value.FromString(encode(value).SerializeToString()))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (int, 2**62),
        (float, 3),
        (float | int, 3),
        (str, "größe"),
        (bytes, b"\0"),
        (tuple[int, str], (1, "a")),
        (list[float], [1, 2.5]),
        (dict[str, list[int]], {"a": [1]}),
        (list[Point] | None, [Point(x=1), Point(x=2, label="b")]),
        (np.ndarray, np.arange(6.0).reshape(2, 3).T),
        (torch.Tensor, torch.arange(3, dtype=torch.bfloat16)),
        (Image.Image, Image.new("RGB", (2, 3), "red")),
        (Any, {"a": (1, [None, float("inf")])}),
    ],
)
def test_values_arrive_alike(type_: Any, value: Any) -> None:
    with Pipeline() as builder:
        x = Variable(type_)
        builder.output(told(x))
    graph = builder.get_pipeline()
    local = graph.run(value)
    elsewhere = Graph.loads(graph.dumps()).execute([over_the_wire(value)], {})
    # A schema's class travels by value: there it is another one of the same name.
    assert over_the_wire(elsewhere[1]) == local[1]
    result, expected = over_the_wire(elsewhere[0]), over_the_wire(local[0])
    assert type(result) is type(expected)
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(result, expected)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(result, expected)
    else:
        assert result == expected


def test_files_arrive_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("content")

    @pipe
    def upper(file: File, folder: str) -> list[File]:
        target = Path(folder) / file.name
        target.write_bytes(file.read().upper())
        return [File(path=target, allow_out_of_context_creation=True)]

    with Pipeline() as builder:
        file = Variable(File)
        folder = Variable(str)
        builder.output(upper(file, folder))
    graph = builder.get_pipeline()
    out = tmp_path / "out"
    out.mkdir()
    local = graph.run(File(path), folder=str(out))
    elsewhere = Graph.loads(graph.dumps()).execute(
        [over_the_wire(File(path))], {"folder": str(out)}
    )
    assert over_the_wire(elsewhere) == local == [[File.from_bytes(b"CONTENT", name="a.txt")]]
