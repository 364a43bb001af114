"""Whatever a well-formed file holds, the loader gives what safetensors gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from pipelined import weights
from tests.weights.files import (
    ELEMENT_BITS,
    assert_same,
    assert_same_tensors,
    file_bytes,
    tensor_info,
)

# A folder of its own for each example would be slow; each overwrites the same file by a new one.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)
METADATA = st.none() | st.dictionaries(NAMES, NAMES, max_size=4)


@dataclass(frozen=True)
class Written:
    content: bytes
    distinct_offsets: bool


@st.composite
def shapes(draw: st.DrawFn, dtype: str) -> list[int]:
    shape = draw(st.lists(st.integers(0, 5), max_size=4))
    # torch packs two elements of F4 in a byte, along the last dimension.
    return [*shape, 2 * draw(st.integers(0, 3))] if dtype == "F4" else shape


@st.composite
def written_files(draw: st.DrawFn) -> Written:
    header: dict[str, object] = {}
    metadata = draw(METADATA)
    if metadata is not None:
        header["__metadata__"] = metadata
    end = 0
    sizes = []
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        dtype = draw(st.sampled_from(sorted(ELEMENT_BITS)))
        shape = draw(shapes(dtype))
        sizes.append(math.prod(shape) * ELEMENT_BITS[dtype] // 8)
        header[name] = tensor_info(dtype, shape, end, end + sizes[-1])
        end += sizes[-1]
    data = draw(st.binary(min_size=end, max_size=end))
    # Reordering the header's items must not matter; padding makes every tensor unaligned.
    items = draw(st.permutations(sorted(header.items())))
    return Written(file_bytes(dict(items), data, draw(st.integers(0, 9))), 0 not in sizes)


def outcome(action: Callable[[], torch.Tensor]) -> torch.Tensor | type[Exception]:
    try:
        return action()
    except Exception as error:
        return type(error)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("equality") / "model.safetensors"


@settings(max_examples=400, deadline=None)
@given(written=written_files())
def test_files_load_like_with_safetensors(path: Path, written: Written) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(written.content)
    stock_tensors = safetensors.torch.load_file(path)
    tensors = weights.load_file(path)
    assert_same_tensors(tensors, stock_tensors)
    with (
        safetensors.safe_open(path, framework="pt") as stock,
        weights.safe_open(path, framework="pt", device="cpu") as ours,
    ):
        assert ours.keys() == stock.keys()
        assert ours.metadata() == stock.metadata()
        assert_same_tensors(ours.get_tensors(), stock_tensors)
        if written.distinct_offsets:
            assert list(tensors) == ours.offset_keys() == stock.offset_keys()
        for name in ours.keys():  # noqa: SIM118
            assert_same(ours.get_tensor(name), stock_tensors[name])
            assert ours.get_slice(name).get_shape() == stock.get_slice(name).get_shape()
            assert ours.get_slice(name).get_dtype() == stock.get_slice(name).get_dtype()


INDEXES = (
    st.builds(slice, *[st.none() | st.integers(-6, 6)] * 2, st.none() | st.integers(-1, 3))
    | st.integers(-6, 6)
    | st.just(...)
    | st.none()
    | st.lists(st.integers(-3, 3), max_size=3).map(lambda index: torch.tensor(index).long())
)


@settings(max_examples=400, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    index=INDEXES | st.lists(INDEXES, max_size=4).map(tuple),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.bool]),
)
def test_slices_are_like_those_of_safetensors(
    path: Path, shape: list[int], index: Any, dtype: torch.dtype
) -> None:
    path.unlink(missing_ok=True)
    safetensors.torch.save_file(
        {"t": torch.arange(math.prod(shape)).reshape(shape).to(dtype)}, path
    )
    opened: Any = safetensors.safe_open(path, framework="pt")
    stock = outcome(lambda: opened.get_slice("t")[index])
    ours = outcome(lambda: weights.safe_open(path, framework="pt").get_slice("t")[index])
    if isinstance(ours, torch.Tensor):
        assert isinstance(stock, torch.Tensor)
        assert_same(ours, stock)
    else:
        assert ours is stock


def test_many_small_tensors(path: Path) -> None:
    path.unlink(missing_ok=True)
    tensors = {f"layers.{index}.bias": torch.full((3,), float(index)) for index in range(20_000)}
    safetensors.torch.save_file(tensors, path)
    assert_same_tensors(weights.load_file(path), tensors)


def test_packed_elements_are_taken_whole_or_not_at_all(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(file_bytes({"t": tensor_info("F4", [2, 4], 0, 4)}, b"\x12\x34\x56\x78"))
    packed = weights.load_file(path)["t"]
    assert packed.shape == (2, 2)
    part = weights.safe_open(path, framework="pt").get_slice("t")
    assert_same(part[...], packed)
    assert_same(part[:, :], packed)
    with pytest.raises(SafetensorError, match="can only be taken whole"):
        part[:, 0:2]


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("F6_E2M3", [4], 3), ("F6_E3M2", [4], 3), ("F4", [2, 3], 3)],
)
def test_what_torch_has_no_type_for(path: Path, dtype: str, shape: list[int], size: int) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(file_bytes({"odd": tensor_info(dtype, shape, 0, size)}, bytes(size)))
    with weights.safe_open(path, framework="pt") as file:
        assert file.keys() == ["odd"]
        assert file.get_slice("odd").get_shape() == shape
        with pytest.raises(weights.UnsupportedDtype, match=dtype) as caught:
            file.get_tensor("odd")
    assert (caught.value.tensor, caught.value.path) == ("odd", str(path))
    with pytest.raises(SafetensorError):
        safetensors.torch.load_file(path)
