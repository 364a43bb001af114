"""Values through the wire and back."""

from __future__ import annotations

import enum
import math
import struct
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st
from PIL import Image

from pipeline import File, InputField, InputSchema
from pipeline._values import IntegerTooLarge, decode, encode
from pipeline.errors import SerialisationError
from pipelined_api.v1.values_pb2 import DataType, Tensor, Value
from pipelined_api.wire_values import MAX_DEPTH

NUMPY_DTYPES = [
    f"{order}{kind}"
    for order in "<>"
    for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?")
]
TORCH_DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def through_the_wire(value: object) -> Any:
    return decode(Value.FromString(encode(value).SerializeToString()))


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain_values)
@settings(max_examples=300)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    result = through_the_wire(value)
    assert repr(result) == repr(value)
    assert result == value


@given(st.floats(width=64))
def test_floats_keep_their_value_and_nan_stays_nan(value: float) -> None:
    result = through_the_wire(value)
    if math.isnan(value):
        assert math.isnan(result)
    else:
        assert struct.pack("<d", result) == struct.pack("<d", value)


@given(st.data())
@settings(max_examples=300)
def test_numpy_arrays_come_back_bit_by_bit(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(NUMPY_DTYPES)))
    shape = data.draw(np_st.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = data.draw(np_st.arrays(dtype, shape))
    if data.draw(st.booleans()):
        array = array.T
    if array.ndim and data.draw(st.booleans()):
        array = array[::-2]
    result = through_the_wire(array)
    assert type(result) is np.ndarray
    assert result.shape == array.shape
    assert result.dtype == array.dtype.newbyteorder("=")
    assert result.dtype.isnative
    assert result.tobytes() == array.astype(result.dtype).tobytes()
    assert result.flags.writeable


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_torch_tensors_come_back_bit_by_bit(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(TORCH_DTYPES))
    shape = data.draw(np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = torch.empty(0, dtype=dtype).element_size() * math.prod(shape)
    content = data.draw(st.binary(min_size=size, max_size=size))
    if dtype is torch.bool:
        content = bytes(byte & 1 for byte in content)
    flat = torch.frombuffer(bytearray(content or b"\0"), dtype=torch.uint8)[:size]
    tensor = flat.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    if tensor.ndim > 1 and data.draw(st.booleans()):
        tensor = tensor.transpose(0, 1)
    result = through_the_wire(tensor)
    assert (type(result), result.dtype) == (torch.Tensor, dtype)
    assert result.shape == tensor.shape
    assert _bits(result) == _bits(tensor)


def _bits(tensor: torch.Tensor) -> bytes:
    if not tensor.numel():
        return b""
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def test_tensors_that_are_views_of_something_special_are_what_they_show() -> None:
    complex_numbers = torch.tensor([1 + 2j, 3 - 4j])
    for tensor in (
        complex_numbers.conj(),
        complex_numbers.conj().imag,
        torch.ones(3).expand(2, 3),
        torch.ones(3, requires_grad=True),
        torch.nn.Parameter(torch.ones(2)),
    ):
        result = through_the_wire(tensor)
        assert type(result) is torch.Tensor
        assert torch.equal(result, tensor.detach())
        assert not result.requires_grad


@pytest.mark.parametrize(
    "mode",
    ["L", "LA", "RGB", "RGBA", "CMYK", "HSV", "LAB", "La", "RGBX", "RGBa", "YCbCr"]
    + ["1", "I;16", "I", "F"],
)
@pytest.mark.parametrize("size", [(3, 2), (1, 1), (0, 2)])
def test_images_come_back_in_their_mode(mode: str, size: tuple[int, int]) -> None:
    image = Image.new(mode, size)
    if 0 not in size:
        # Bits beyond the width of a row of mode 1 have no meaning.
        content = bytes(range(1, len(image.tobytes()) + 1))
        image.frombytes(bytes(b << 5 & 255 for b in content) if mode == "1" else content)
    result = through_the_wire({"image": image})["image"]
    assert (result.mode, result.size) == (mode, size)
    if 0 not in size:
        assert result.tobytes() == image.tobytes()


def test_files_come_back_with_name_type_and_content(tmp_path: Path) -> None:
    path = tmp_path / "größe.png"
    path.write_bytes(b"\0\1")
    file = File(path)
    # What is sent is what the file holds when it is sent.
    path.write_bytes(b"\0\1\2")
    (result,) = through_the_wire([file])
    assert result == file
    assert (result.name, result.media_type) == ("größe.png", "image/png")
    assert result.path.read_bytes() == b"\0\1\2"


class Inner(InputSchema):
    n: int = 1


class Outer(InputSchema):
    inner: Inner = Inner()
    many: list[Inner] = InputField(default_factory=list)
    left_out: int | None = None


def test_schemas_cross_as_maps_without_what_was_left_out() -> None:
    assert through_the_wire(Outer(many=[Inner(n=2)])) == {
        "inner": {"n": 1},
        "many": [{"n": 2}],
    }


def test_subclasses_cross_as_what_they_are_made_of() -> None:
    class Level(enum.IntEnum):
        HIGH = 3

    pair = namedtuple("pair", "a b")  # noqa: PYI024  # the untyped kind exists too
    values = [Level.HIGH, pair(1, "x"), OrderedDict(a=1), bytearray(b"x"), memoryview(b"y")]
    assert repr(through_the_wire(values)) == "[3, (1, 'x'), {'a': 1}, b'x', b'y']"
    assert through_the_wire(np.float64(1.5)) == 1.5
    assert through_the_wire(np.int32(3)).item() == 3


@pytest.mark.parametrize(
    ("value", "subject", "message"),
    [
        (object(), "x", "object cannot cross the wire"),
        ({1, 2}, "x", "set cannot cross the wire"),
        (Path("a"), "x", "cannot cross the wire"),
        ([1, {"a": (None, 1j)}], "x[1].a[1]", "complex cannot cross the wire"),
        ({1: 2}, "x", "keys are strings, not int"),
        ("\ud800", "x", "surrogate"),
        ({"\ud800": 1}, "x", "is no text"),
        (np.array(["a"]), "x", "numpy dtype <U1"),
        (np.array([object()]), "x", "numpy dtype object"),
        (np.zeros(1, dtype="M8[s]"), "x", "numpy dtype datetime64"),
        (np.ma.masked_array([1, 2], mask=[True, False]), "x", "lose its mask"),
        (torch.empty(2, device="meta"), "x", "torch tensor of no data"),
        (torch.eye(2).to_sparse(), "x", "layout torch.sparse_coo"),
        (Image.new("P", (1, 1)), "x", "mode 'P'"),
        (Image.new("PA", (1, 1)), "x", r'image.convert\("RGB"\)'),
    ],
)
def test_what_cannot_cross_is_named(value: object, subject: str, message: str) -> None:
    with pytest.raises(SerialisationError, match=message) as caught:
        encode(value, "x")
    assert caught.value.subject == subject
    assert str(caught.value).startswith(f"{subject}: ")


@pytest.mark.parametrize(
    ("value", "bound"), [(2**63, f"le={2**63 - 1}"), (-(2**63) - 1, f"ge={-(2**63)}")]
)
def test_an_int_beyond_64_bits_names_the_bound(value: int, bound: str) -> None:
    with pytest.raises(IntegerTooLarge, match="of 65 bits; 64 bits is the limit") as caught:
        encode({"n": [value]}, "x")
    assert (caught.value.subject, caught.value.bound) == ("x.n[0]", bound)


def test_nesting_has_a_limit_that_every_parser_accepts() -> None:
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = {"k": value}
        return value

    assert through_the_wire(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(SerialisationError, match=f"nested more than {MAX_DEPTH} deep"):
        encode(nested(MAX_DEPTH + 1))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(SerialisationError, match="nested more than"):
        encode(circle)


def test_a_tensor_of_no_library_becomes_what_can_hold_it() -> None:
    tensor = Tensor(dtype=DataType.DATA_TYPE_INT16, shape=[2], data=b"\1\0\2\0")
    result = decode(Value(tensor_value=tensor))
    assert isinstance(result, np.ndarray)
    assert result.tolist() == [1, 2]
    tensor = Tensor(dtype=DataType.DATA_TYPE_BFLOAT16, shape=[1], data=b"\x80\x3f")
    assert torch.equal(decode(Value(tensor_value=tensor)), torch.ones(1, dtype=torch.bfloat16))  # type: ignore[arg-type]


def test_malformed_values_are_a_serialisation_error() -> None:
    wire = Value()
    wire.list_value.items.add()
    with pytest.raises(SerialisationError, match=r"x\[0\]: the value has no kind"):
        decode(wire, "x")
