"""Tensors, images and bytes too large for a message, and a file of 1 GiB, through the daemon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import Client, File, Stream, errors, pipe
from pipelined_api.limits import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES
from tests.conftest import LIGHT_PRELOAD
from tests.e2e.files import GROWTH, MIB, content, echo, graph_of, high_water
from tests.running_daemon import RunningDaemon


@pipe
def doubled(value: torch.Tensor) -> list[Any]:
    """In place: the memory of an input belongs to the run."""
    before = value.data_ptr()
    value.mul_(2)
    return [value, value.data_ptr() == before, type(value).__name__]


@pipe
def sized(data: bytes) -> list[Any]:
    return [type(data).__name__, len(data), hashlib.sha256(data).hexdigest()]


@pipe
def many(count: int, size: int) -> list[Any]:
    return [np.full(size, number, dtype=np.uint8) for number in range(count)]


@pipe
def parts(count: int, size: int) -> Stream[Any]:
    return Stream(np.full(size, number, dtype=np.uint8) for number in range(count))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"), options=(*LIGHT_PRELOAD, "--file-store-size=3GiB")
    )
    with running.client() as client:
        client.deploy(graph_of(echo, Any), "echo")
        client.deploy(graph_of(doubled, torch.Tensor), "doubled")
        client.deploy(graph_of(sized, bytes), "sized")
        client.deploy(graph_of(many, int, int), "many")
        client.deploy(graph_of(parts, int, int), "parts")
    yield running
    running.close()


def test_a_tensor_of_256_mib_is_exact_and_the_daemon_stays_small(
    shared: RunningDaemon, client: Client
) -> None:
    # What any transfer takes once.
    client.run("doubled", torch.ones(MAX_INLINE_BYTES // 4 + 1))
    before = high_water(shared.pid)
    tensor = torch.randn(64, 1024, 1024, generator=torch.Generator().manual_seed(0))
    assert tensor.nbytes == 256 * MIB
    [result] = client.run("doubled", tensor)
    assert isinstance(result, list)
    back, in_place, name = result
    assert (in_place, name) == (True, "Tensor")
    assert torch.equal(back, tensor * 2)
    assert back.dtype is torch.float32
    # What came back may be written, and is of nobody else.
    back.zero_()
    assert high_water(shared.pid) - before < GROWTH


@pytest.mark.timeout(400)
def test_a_file_of_1_gib_goes_both_ways_and_the_daemon_stays_small(
    shared: RunningDaemon, client: Client, tmp_path: Path
) -> None:
    client.run("echo", File.from_bytes(content(1), name="warm up"))
    before = high_water(shared.pid)
    path = tmp_path / "large.bin"
    with path.open("wb") as stream:
        for seed in range(16):
            stream.seek(seed * 64 * MIB + seed)
            stream.write(content(seed))
        stream.truncate(1 << 30)
    file = File(path)
    sha256 = file.sha256
    [back] = client.run("echo", file)
    assert isinstance(back, File)
    assert (back.size, back.sha256) == (1 << 30, sha256)
    path.unlink()
    saved = back.save(tmp_path / "back.bin")
    assert File(saved).sha256 == sha256
    client.files.delete(sha256)
    assert high_water(shared.pid) - before < GROWTH


def test_every_kind_of_large_value_comes_back_as_it_was(client: Client) -> None:
    count = MAX_INLINE_BYTES + 5
    noise = np.frombuffer(content(2, count), dtype=np.uint8)
    side = 2400
    image = Image.frombytes("RGB", (side, side), noise.tobytes()[:1] * (3 * side * side))
    values: list[Any] = [
        noise,
        noise[: count - count % 8].view(">f4").reshape(2, -1).T,
        torch.from_numpy(noise[:-1].copy()).view(torch.bfloat16).reshape(2, -1).t(),
        noise.tobytes(),
        bytearray(noise.tobytes()),
        image,
        {"nested": [(noise, b"small")]},
    ]
    [back] = client.run("echo", values)
    assert isinstance(back, list)
    assert np.array_equal(back[0], noise)
    assert back[0].flags.writeable
    assert back[1].dtype == np.dtype("f4")
    assert back[1].tobytes() == values[1].astype("f4").tobytes()
    expected: Any = values[2]
    assert back[2].dtype is torch.bfloat16
    assert torch.equal(back[2].view(torch.int16), expected.contiguous().view(torch.int16))
    assert type(back[3]) is type(back[4]) is bytes
    assert back[3] == back[4] == noise.tobytes()
    assert (back[5].mode, back[5].tobytes()) == ("RGB", image.tobytes())
    assert np.array_equal(back[6]["nested"][0][0], noise)
    assert back[6]["nested"][0][1] == b"small"


def test_large_bytes_keep_their_bounds(client: Client) -> None:
    from pipeline import Pipeline, Variable

    with Pipeline() as builder:
        data = Variable(bytes, max_length=MAX_INLINE_BYTES + 1)
        builder.output(sized(data))
    client.deploy(builder.get_pipeline(), "bounded")
    fits = content(3, MAX_INLINE_BYTES + 1)
    assert client.run("bounded", fits) == [
        ["bytes", MAX_INLINE_BYTES + 1, hashlib.sha256(fits).hexdigest()]
    ]
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("bounded", content(3, MAX_INLINE_BYTES + 2))
    assert caught.value.bound == f"max_length={MAX_INLINE_BYTES + 1}"


def test_many_values_that_are_too_much_together_go_beside_the_message(client: Client) -> None:
    size = 3 * MIB
    count = MAX_MESSAGE_BYTES // size + 3
    arrays = [np.full(size, number, dtype=np.uint8) for number in range(count)]
    for [result] in (client.run("echo", arrays), client.run("many", count, size)):
        assert isinstance(result, list)
        assert all(np.array_equal(a, b) for a, b in zip(result, arrays, strict=True))
    with client.stream("parts", count, size) as rows:
        for number, [row] in enumerate(rows):
            assert isinstance(row, np.ndarray)
            assert np.array_equal(row, arrays[number])
    [collected] = client.run("parts", count, size)
    assert isinstance(collected, list)
    assert all(np.array_equal(a, b) for a, b in zip(collected, arrays, strict=True))


def test_what_no_message_can_hold_is_refused_with_the_bound(client: Client) -> None:
    strings = ["x" * MIB] * (MAX_MESSAGE_BYTES // MIB + 1)
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("echo", strings)
    assert caught.value.bound == f"max_bytes={MAX_MESSAGE_BYTES}"
