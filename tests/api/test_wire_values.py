from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from pipelined_api.v1.values_pb2 import DataType, MapEntry, Tensor, Value
from pipelined_api.wire_values import SchemaViolation, WireFile, WireTensor, plain
from tests.client.subprocesses import run_python


def test_kinds_become_plain_python() -> None:
    wire = Value()
    wire.map_value.entries.add(key="none").value.null_value = 0  # type: ignore[assignment]
    items = wire.map_value.entries.add(key="list").value.list_value
    items.items.add(int_value=-1)
    items.items.add(double_value=0.5)
    pair = wire.map_value.entries.add(key="tuple").value.list_value
    pair.tuple = True
    pair.items.add(string_value="a")
    wire.map_value.entries.add(key="bytes").value.bytes_value = b"x"
    wire.map_value.entries.add(key="flag").value.bool_value = True
    assert plain(wire) == {
        "none": None,
        "list": [-1, 0.5],
        "tuple": ("a",),
        "bytes": b"x",
        "flag": True,
    }


def good_tensor() -> Tensor:
    return Tensor(
        dtype=DataType.DATA_TYPE_INT16,
        shape=[2, 1],
        data=b"1234",
        container=Tensor.CONTAINER_TORCH,
    )


def good_file() -> Value:
    wire = Value()
    wire.file_value.name = "a.txt"
    wire.file_value.data = b"abc"
    wire.file_value.size = 3
    wire.file_value.sha256 = hashlib.sha256(b"abc").digest()
    return wire


def test_tensors_and_files_become_what_stands_for_them() -> None:
    tensor = plain(Value(tensor_value=good_tensor()))
    assert tensor == WireTensor(Tensor.CONTAINER_TORCH, DataType.DATA_TYPE_INT16, (2, 1))
    assert plain(good_file()) == WireFile("a.txt", 3)


def _no_kind(wire: Value) -> None:
    wire.Clear()


def _twice(wire: Value) -> None:
    wire.map_value.entries.extend([MapEntry(key="k", value=Value(int_value=1))] * 2)


def _tensor(**changes: object) -> Callable[[Value], None]:
    def change(wire: Value) -> None:
        wire.tensor_value.CopyFrom(good_tensor())
        for name, value in changes.items():
            if name == "shape":
                del wire.tensor_value.shape[:]
                wire.tensor_value.shape.extend(value)  # type: ignore[arg-type]
            else:
                setattr(wire.tensor_value, name, value)

    return change


def _file(**changes: object) -> Callable[[Value], None]:
    def change(wire: Value) -> None:
        wire.CopyFrom(good_file())
        for name, value in changes.items():
            setattr(wire.file_value, name, value)

    return change


def _no_content(wire: Value) -> None:
    wire.CopyFrom(good_file())
    wire.file_value.ClearField("data")


@pytest.mark.parametrize(
    ("damage", "field", "message"),
    [
        (_no_kind, "v[0]", "has no kind"),
        (_twice, "v[0].k", "occurs twice"),
        (_tensor(dtype=0), "v[0]", "unknown tensor dtype 0"),
        (_tensor(dtype=99), "v[0]", "unknown tensor dtype 99"),
        (_tensor(shape=[2, 2]), "v[0]", "4 bytes, its shape .* needs 8"),
        (_tensor(shape=[-2, -1]), "v[0]", "negative extent"),
        (_tensor(shape=[2**62, 2**62]), "v[0]", "needs"),
        (_tensor(data=b""), "v[0]", "0 bytes"),
        (_tensor(container=Tensor.CONTAINER_IMAGE), "v[0]", "an image is uint8"),
        (_file(name=""), "v[0]", "not the plain name"),
        (_file(name="../a"), "v[0]", "not the plain name"),
        (_file(name=".."), "v[0]", "not the plain name"),
        (_file(name="a\0"), "v[0]", "not the plain name"),
        (_file(size=4), "v[0]", "3 bytes, its size says 4"),
        (_file(data=b"abd"), "v[0]", "does not match its sha256"),
        (_no_content, "v[0]", "has no content"),
    ],
)
def test_what_is_malformed_is_named(
    damage: Callable[[Value], None], field: str, message: str
) -> None:
    wire = Value()
    damage(wire.list_value.items.add())
    with pytest.raises(SchemaViolation, match=message) as caught:
        plain(wire, "v")
    assert caught.value.field == field


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_violation(data: bytes) -> None:
    wire = Value()
    try:
        wire.ParseFromString(data)
    except DecodeError:
        return
    # Whatever else it raised would fail this test.
    with suppress(SchemaViolation):
        plain(wire)


def test_reading_values_imports_no_arrays(tmp_path: Path) -> None:
    program = (
        "import sys, pipelined_api.schema, pipelined_api.wire_values;"
        "print(sorted({'numpy', 'torch', 'PIL', 'pipeline', 'grpc'} & set(sys.modules)))"
    )
    assert run_python(["-c", program], cwd=tmp_path) == "[]"
