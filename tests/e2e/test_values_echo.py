"""Every type of value through a real worker and back, and what cannot go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Client, Directory, File, InputSchema, errors, pipe
from tests.conftest import LIGHT_PRELOAD
from tests.e2e.files import echo, graph_of
from tests.running_daemon import RunningDaemon

NUMPY_KINDS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
TORCH_DTYPES = [
    torch.bool,
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]
MODES = ["1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]


class Inner(InputSchema):
    files: list[File]
    by_name: dict[str, Directory]


class Outer(InputSchema):
    inner: Inner
    pair: tuple[File, int]


@pipe
def look_inside(outer: Outer) -> list[Any]:
    inner = outer.inner
    return [
        *(file.read() for file in inner.files),
        {name: list(folder) for name, folder in inner.by_name.items()},
        outer.pair[0].name,
    ]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=LIGHT_PRELOAD)
    with running.client() as connected:
        connected.deploy(graph_of(echo, Any), "echo")
        connected.deploy(graph_of(look_inside, Outer), "look_inside")
        yield connected
    running.close()


def test_plain_values(client: Client) -> None:
    values = [
        [
            None,
            True,
            False,
            0,
            1,
            -(2**63),
            2**63 - 1,
            1.0,
            -0.0,
            "",
            "größe \U0001f40d \0 e\u0301",
        ],
        [b"", b"\0\xff", (), (1,), [()], {}, {"": {"k": (1, [2])}}, [float("inf"), -float("inf")]],
    ]
    [back] = client.run("echo", values)
    # The representation tells True from 1, 1 from 1.0, -0.0 from 0.0 and tuples from lists.
    assert repr(back) == repr(values)
    [nan] = client.run("echo", math.nan)
    assert isinstance(nan, float)
    assert math.isnan(nan)


def test_numpy_arrays_of_every_dtype_order_and_layout(client: Client) -> None:
    arrays = []
    for kind in NUMPY_KINDS:
        for order in "<>":
            flat = np.arange(-12, 12).astype(kind).astype(f"{order}{kind}")
            grid = flat.reshape(2, 3, 4)
            arrays += [
                flat,
                grid,
                grid.T,
                grid[:, ::-2],
                grid[0, 0, 0, ...],
                flat[:0].reshape(0, 3),
            ]
    [back] = client.run("echo", arrays)
    assert isinstance(back, list)
    for array, result in zip(arrays, back, strict=True):
        # The order of bytes that comes back is that of the machine.
        assert result.dtype == array.dtype.newbyteorder("=")
        assert (result.shape, result.flags.writeable) == (np.shape(array), True)
        assert result.tobytes() == np.asarray(array).astype(result.dtype).tobytes()


def test_torch_tensors_of_every_dtype_and_layout(client: Client) -> None:
    tensors = []
    for dtype in TORCH_DTYPES:
        size = torch.empty(0, dtype=dtype).element_size()
        content = torch.arange(24 * size, dtype=torch.uint8)
        flat = (content & 1 if dtype is torch.bool else content).view(dtype)
        grid = flat.reshape(2, 3, 4)
        tensors += [flat, grid, grid.transpose(0, 2), grid[:, :1], grid[0, 0, 0], flat[:0]]
    [back] = client.run("echo", tensors)
    assert isinstance(back, list)
    for tensor, result in zip(tensors, back, strict=True):
        assert (result.dtype, result.shape) == (tensor.dtype, tensor.shape)
        sent, came = (t.contiguous().reshape(-1).view(torch.uint8) for t in (tensor, result))
        assert torch.equal(sent, came)


def test_images_of_every_mode(client: Client) -> None:
    images = [Image.new("I;16", (2, 3), 40_000), Image.new("I", (2, 3), -70_000)]
    images += [Image.new("F", (2, 3), 1.5), Image.new("RGB", (0, 3))]
    for mode in MODES:
        image = Image.new(mode, (5, 3))
        image.putpixel((4, 2), 1 if len(mode) == 1 else tuple(range(1, len(image.getbands()) + 1)))
        images.append(image)
    [back] = client.run("echo", images)
    assert isinstance(back, list)
    for image, result in zip(images, back, strict=True):
        assert (result.mode, result.size) == (image.mode, image.size)
        assert 0 in image.size or result.tobytes() == image.tobytes()


def test_files_and_folders_in_schemas(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"x")
    folder, file = Directory(tmp_path / "d"), File(tmp_path / "d" / "x")
    other = File.from_bytes(b"y", name="y")
    outer = Outer(inner=Inner(files=[file, other], by_name={"k": folder}), pair=(other, 1))
    expected = [[b"x", b"y", {"k": ["x"]}, "y"]]
    assert client.run("look_inside", outer) == expected
    as_dict = {"inner": {"files": [file, other], "by_name": {"k": folder}}, "pair": (other, 1)}
    assert client.run("look_inside", as_dict) == expected
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("look_inside", {"inner": {"files": [folder], "by_name": {}}, "pair": (file, 1)})
    assert caught.value.field == "input_0.inner.files[0]"


@pytest.mark.parametrize(
    ("value", "text", "bound"),
    [
        (2**63, "64 bits is the limit", f"le={2**63 - 1}"),
        (-(2**63) - 1, "64 bits is the limit", f"ge={-(2**63)}"),
        ("\ud800", "surrogate", None),
        ({"\udfff": 1}, "no text", None),
        (np.array(["text"]), "numpy dtype <U4", None),
        (Image.new("P", (1, 1)), "mode 'P'", None),
        (object(), "cannot cross the wire", None),
    ],
)
def test_what_cannot_cross_is_refused_before_it_is_sent(
    client: Client, value: object, text: str, bound: str | None
) -> None:
    with pytest.raises(errors.InvalidInput, match=text) as caught:
        client.run("echo", [value])
    assert caught.value.field.startswith("input_0[0]")
    assert caught.value.bound == bound
