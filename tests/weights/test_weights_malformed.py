"""Files that nobody should have written: each fault has its own error, and nothing crashes."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from pipelined import weights
from tests.weights.files import assert_same_tensors, file_bytes, tensor_info

EIGHT = bytes(8)
GOOD = tensor_info("F32", [2], 0, 8)


def one(**fields: object) -> bytes:
    return file_bytes({"t": {**GOOD, **fields}}, EIGHT)


def info(text: str) -> bytes:
    return file_bytes(b'{"t":' + text.encode() + b"}", EIGHT)


def two(begin: int, end: int, data: int) -> bytes:
    second = tensor_info("U8", [end - begin], begin, end)
    return file_bytes({"t": GOOD, "u": second}, bytes(data))


MALFORMED = {
    "empty file": (b"", weights.HeaderTooSmall),
    "no length": (b"\x02\0\0", weights.HeaderTooSmall),
    "length 0": (struct.pack("<Q", 0), weights.HeaderTooSmall),
    "length 1": (struct.pack("<Q", 1) + b"{", weights.HeaderTooSmall),
    "length over the limit": (struct.pack("<Q", 100_000_001) + b"{}", weights.HeaderTooLarge),
    "length of all ones": (b"\xff" * 8 + b"{}", weights.HeaderTooLarge),
    "length past the end": (struct.pack("<Q", 3) + b"{}", weights.HeaderTruncated),
    "array": (file_bytes(b"[]"), weights.InvalidHeaderStart),
    "leading space": (file_bytes(b" {}"), weights.InvalidHeaderStart),
    "byte order mark": (file_bytes(b"\xef\xbb\xbf{}"), weights.InvalidHeaderStart),
    "lone continuation": (file_bytes(b'{"\x80":1}'), weights.InvalidUtf8),
    "overlong": (file_bytes(b'{"\xc0\xaf":1}'), weights.InvalidUtf8),
    "encoded surrogate": (file_bytes(b'{"\xed\xa0\x80":1}'), weights.InvalidUtf8),
    "beyond the last": (file_bytes(b'{"\xf4\x90\x80\x80":1}'), weights.InvalidUtf8),
    "sequence cut short": (file_bytes(b'{"\xe2\x82'), weights.InvalidUtf8),
    "unfinished": (file_bytes(b'{"t":'), weights.InvalidJson),
    "missing comma": (file_bytes(b'{"__metadata__":{} "t":1}'), weights.InvalidJson),
    "trailing comma": (file_bytes(b'{"__metadata__":{},}'), weights.InvalidJson),
    "trailing text": (file_bytes(b"{}{}"), weights.InvalidJson),
    "trailing NUL": (file_bytes(b"{}\0"), weights.InvalidJson),
    "control character": (file_bytes(b'{"__metadata__":{"\n":""}}'), weights.InvalidJson),
    "lone surrogate": (file_bytes(b'{"__metadata__":{"\\ud83d":""}}'), weights.InvalidJson),
    "wrong escape": (file_bytes(b'{"__metadata__":{"\\x":""}}'), weights.InvalidJson),
    "leading zero": (info('{"shape":[02]}'), weights.InvalidJson),
    "deep": (info('{"ignored":' + "[" * 100_000 + "]" * 100_000 + "}"), weights.JsonTooDeep),
    "tensor twice": (
        file_bytes(
            b'{"t":' + json.dumps(GOOD).encode() + b',"\\u0074":{"dtype":"U8","shape":[0],'
            b'"data_offsets":[8,8]}}',
            EIGHT,
        ),
        weights.DuplicateKey,
    ),
    "field twice": (info('{"dtype":"F32","dtype":"F32"}'), weights.DuplicateKey),
    "metadata twice": (
        file_bytes(b'{"__metadata__":null,"__metadata__":null}'),
        weights.DuplicateKey,
    ),
    "metadata key twice": (
        file_bytes(b'{"__metadata__":{"k":"1","l":"2","k":"3"}}'),
        weights.DuplicateKey,
    ),
    "metadata of numbers": (file_bytes({"__metadata__": {"k": 1}}), weights.InvalidMetadata),
    "metadata an array": (file_bytes({"__metadata__": []}), weights.InvalidMetadata),
    "tensor an array": (info('["F32",[2],[0,8]]'), weights.InvalidTensorInfo),
    "no dtype": (info('{"shape":[2],"data_offsets":[0,8]}'), weights.InvalidTensorInfo),
    "no shape": (info('{"dtype":"F32","data_offsets":[0,8]}'), weights.InvalidTensorInfo),
    "no offsets": (info('{"dtype":"F32","shape":[2]}'), weights.InvalidTensorInfo),
    "dtype a number": (one(dtype=32), weights.InvalidTensorInfo),
    "shape a string": (one(shape="2"), weights.InvalidTensorInfo),
    "negative dimension": (one(shape=[-2]), weights.InvalidTensorInfo),
    "fractional dimension": (one(shape=[2.0]), weights.InvalidTensorInfo),
    "dimension over 64 bits": (one(shape=[2**64]), weights.InvalidTensorInfo),
    "too many dimensions": (one(shape=[1] * 1025), weights.InvalidTensorInfo),
    "one offset": (one(data_offsets=[8]), weights.InvalidTensorInfo),
    "three offsets": (one(data_offsets=[0, 8, 8]), weights.InvalidTensorInfo),
    "negative offset": (one(data_offsets=[-8, 0]), weights.InvalidTensorInfo),
    "unknown dtype": (one(dtype="F7"), weights.UnknownDtype),
    "dtype in lower case": (one(dtype="f32"), weights.UnknownDtype),
    "elements overflow": (one(shape=[2**40, 2**40]), weights.ShapeOverflow),
    "bits overflow": (one(shape=[2**62]), weights.ShapeOverflow),
    "wrapping to the right size": (one(shape=[2**62, 2, 2, 2]), weights.ShapeOverflow),
    "empty but overflowing": (one(shape=[2**62, 2**62, 0]), weights.ShapeOverflow),
    "shape too large": (one(shape=[3]), weights.SizeMismatch),
    "shape too small": (one(shape=[]), weights.SizeMismatch),
    "half a byte": (
        file_bytes({"t": tensor_info("F4", [3], 0, 2)}, bytes(2)),
        weights.SizeMismatch,
    ),
    "offsets reversed": (one(data_offsets=[8, 0]), weights.InvalidOffsets),
    "hole at the front": (
        file_bytes({"t": {**GOOD, "data_offsets": [8, 16]}}, bytes(16)),
        weights.TensorHole,
    ),
    "hole": (two(9, 12, 12), weights.TensorHole),
    "overlap": (two(4, 12, 12), weights.TensorOverlap),
    "same bytes twice": (two(0, 8, 8), weights.TensorOverlap),
    "empty tensor inside another": (two(4, 4, 8), weights.TensorOverlap),
    "truncated data": (file_bytes({"t": GOOD}, bytes(7)), weights.TruncatedFile),
    "end far beyond": (two(8, 2**40, 12), weights.TruncatedFile),
    "trailing bytes": (file_bytes({"t": GOOD}, bytes(9)), weights.TrailingBytes),
    "bytes but no tensors": (file_bytes({}, bytes(1)), weights.TrailingBytes),
}

# What safetensors lets pass: an order of keys that nobody can rely on, and white space.
STRICTER = {"leading space", "metadata key twice", "tensor an array", "too many dimensions"}


@pytest.mark.parametrize("fault", MALFORMED)
def test_each_fault_has_its_error(tmp_path: Path, fault: str) -> None:
    content, error = MALFORMED[fault]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorError, match=str(path)) as caught:
        weights.load_file(path)
    assert type(caught.value) is error
    assert isinstance(caught.value, weights.FormatError)
    assert caught.value.path == str(path)
    if fault not in STRICTER:
        with pytest.raises(SafetensorError):
            safetensors.torch.load_file(path)


def test_every_error_is_provoked() -> None:
    errors = {
        value
        for value in vars(weights).values()
        if isinstance(value, type) and issubclass(value, weights.FormatError)
    }
    # UnsupportedDtype is no fault of the file: test_weights_equality.py has it.
    expected = errors - {weights.FormatError, weights.UnsupportedDtype}
    assert {error for _, error in MALFORMED.values()} == expected


def test_the_tensor_at_fault_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(two(9, 12, 12))
    with pytest.raises(weights.TensorHole, match="tensor 'u' begins at 9") as caught:
        weights.safe_open(path, framework="pt")
    assert caught.value.tensor == "u"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("malformed") / "model.safetensors"


VALID = safetensors.torch.save(
    {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, {"k": "v"}
)


@settings(max_examples=500, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=3),
    length=st.just(len(VALID)) | st.integers(0, len(VALID) + 4),
)
def test_damaged_files_are_refused_or_read_alike(
    path: Path, changes: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(VALID)
    for position, value in changes:
        content[position] = value
    path.unlink(missing_ok=True)
    path.write_bytes(bytes(content[:length]).ljust(length, b"\0"))
    try:
        ours = weights.load_file(path)
    except SafetensorError:
        return
    assert_same_tensors(ours, safetensors.torch.load_file(path))


@settings(max_examples=1000, deadline=None)
@given(st.text('{}[]",:0123456789.eE+-\\utrfalsnbd \t\n\x01é', max_size=16))
def test_json_is_what_python_takes_for_it(path: Path, value: str) -> None:
    text = '{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"ignored":' + value + "}}"
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
        valid = True
    except (json.JSONDecodeError, UnicodeEncodeError):
        # Python lets lone surrogates pass; RFC 8259 leaves them open, and UTF-8 has none.
        valid = False
    path.unlink(missing_ok=True)
    path.write_bytes(file_bytes(text.encode()))
    if valid:
        assert weights.safe_open(path, framework="pt").keys() == ["t"]
    else:
        with pytest.raises(weights.InvalidJson):
            weights.safe_open(path, framework="pt")


@settings(max_examples=300, deadline=None)
@given(metadata=st.dictionaries(st.text(), st.text()), ascii_only=st.booleans())
def test_strings_come_back(path: Path, metadata: dict[str, str], ascii_only: bool) -> None:
    text = json.dumps({"__metadata__": metadata}, ensure_ascii=ascii_only)
    path.unlink(missing_ok=True)
    path.write_bytes(file_bytes(text.encode()))
    assert weights.safe_open(path, framework="pt").metadata() == metadata


def test_what_is_no_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    with pytest.raises(FileNotFoundError) as stock:
        safetensors.torch.load_file(missing)
    with pytest.raises(FileNotFoundError) as caught:
        weights.load_file(missing)
    assert str(caught.value) == str(stock.value) == f"No such file or directory: {missing}"
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.filename == str(missing)
    with pytest.raises(IsADirectoryError):
        weights.load_file(tmp_path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="No such device"):
        weights.load_file(fifo)
