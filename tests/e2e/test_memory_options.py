"""`--pinned-memory` and `--device-memory`: what they take, and that workers keep to them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from safetensors.torch import save_file

from pipeline import Client, Graph, Pipeline, Variable, _values, entity, errors, pipe
from pipeline.timeline.chart import text
from pipelined import weights
from pipelined.units import LEAST_PINNED_BYTES, parse_pinned_size
from pipelined_api.sizes import InvalidSize, parse_size
from pipelined_api.v1 import runs_pb2, runs_pb2_grpc
from tests.conftest import LIGHT_PRELOAD
from tests.running_daemon import RunningDaemon

PIPELINED = str(Path(sys.executable).with_name("pipelined"))
DRIVER = "PIPELINED_CUDA_DRIVER"
DEVICE_BYTES = 4 << 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("256MiB", 256 << 20),
        ("2 GiB", 2 << 30),
        ("1.5GB", 1_500_000_000),
        ("48kib", LEAST_PINNED_BYTES),
        (" 1000000 ", 1_000_000),
    ],
)
def test_sizes(size: str, expected: int) -> None:
    assert parse_pinned_size(size) == parse_size(size) == expected


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("", "not a size"),
        ("much", "not a size"),
        ("-1GB", "not a size"),
        ("1,5GB", "not a size"),
        ("1GB or so", "not a size"),
        ("5 furlongs", "unit"),
        ("0", "more than nothing"),
        ("0.4", "more than nothing"),
        ("99999999999EB", "more memory than there can be"),
    ],
)
def test_what_is_no_size(size: str, words: str) -> None:
    for parse in (parse_pinned_size, parse_size):
        with pytest.raises(InvalidSize, match=words):
            parse(size)


def test_too_little_to_pin_is_no_size_either() -> None:
    assert parse_size("47KiB") == 47 << 10
    with pytest.raises(InvalidSize, match="less than 48KiB"):
        parse_pinned_size("47KiB")


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--pinned-memory=1KiB"], {}, ["--pinned-memory", "less than 48KiB"]),
        (["--device-memory=0"], {}, ["--device-memory", "more than nothing"]),
        ([], {"PIPELINED_PINNED_MEMORY": "much"}, ["--pinned-memory", "'much'"]),
        ([], {"PIPELINED_DEVICE_MEMORY": "-3"}, ["--device-memory", "'-3'"]),
    ],
)
def test_a_daemon_with_a_bad_size_refuses_to_start(
    options: list[str], variables: dict[str, str], words: list[str]
) -> None:
    result = subprocess.run(
        [PIPELINED, "serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables, "COLUMNS": "200"},
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, fake_library: Path) -> Iterator[RunningDaemon]:
    """A daemon on a machine with the fake driver, whose workers may have little memory."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        options=[*LIGHT_PRELOAD, "--pinned-memory=64KiB"],
        environment={DRIVER: str(fake_library), "PIPELINED_DEVICE_MEMORY": "4MiB"},
    )
    yield running
    running.close()


@entity
class OnDevice:
    """Loads files onto the device when it starts."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    @pipe(on_startup=True, run_once=True)
    def load(self) -> None:
        self.arena = weights.begin(self.paths)
        self.arena.wait()

    @pipe
    def look(self, name: str) -> list[Any]:
        """What is pinned now, and was at most; then the bytes of a tensor."""
        driver = ctypes.CDLL(os.environ[DRIVER])
        driver.fake_statistics.restype = ctypes.c_uint64
        pinned = [driver.fake_statistics(which) for which in (0, 1)]
        return [*pinned, self.arena.read_back(name)]


def graph(*paths: Path) -> Graph:
    with Pipeline() as builder:
        name = Variable(str)
        model = OnDevice(list(map(str, paths)))
        model.load()
        builder.output(model.look(name))
    return builder.get_pipeline()


def looked(client: Client, name: str, tensor: str) -> list[Any]:
    [result] = client.run(name, tensor)
    assert isinstance(result, list)
    return result


def test_a_sharded_model_reaches_the_device_and_each_shard_has_its_stage(
    small: RunningDaemon, tmp_path: Path
) -> None:
    paths = [tmp_path / f"m{index}.safetensors" for index in range(3)]
    for index, path in enumerate(paths):
        save_file({f"t{index}": torch.full((50_000 + index,), float(index))}, path)
    with small.client() as client:
        client.deploy(graph(*paths), "sharded")
        now, peak, content = looked(client, "sharded", "t2")
        timeline = client.timeline("sharded")
    assert timeline is not None
    assert content == torch.full((50_002,), 2.0).numpy().tobytes()
    assert now == 0
    assert 0 < peak <= 64 << 10
    stages = [stage for stage in timeline.stages if stage.kind == "weights"]
    assert [(stage.name, stage.bytes) for stage in stages] == [
        (path.name, 4 * (50_000 + index)) for index, path in enumerate(paths)
    ]
    chart = text(timeline).splitlines()
    for stage in stages:
        assert stage.source in ("disk", "page cache")
        [row] = [row for row in chart if stage.name in row]
        assert row.endswith(stage.source)


def test_a_model_over_the_budget_is_refused_with_what_it_needs(
    small: RunningDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "large.safetensors"
    save_file({"t": torch.zeros(DEVICE_BYTES + 1, dtype=torch.uint8)}, path)
    with small.client() as client:
        client.deploy(graph(path), "too-large")
        with pytest.raises(errors.StartupFailed, match=f"and {DEVICE_BYTES} allowed") as caught:
            client.run("too-large", "t")
        assert caught.value.reason == "OUT_OF_MEMORY"
        assert caught.value.metadata["cause"] == "out_of_memory"
        assert caught.value.metadata["type"] == "OverBudget"
        assert caught.value.node == "OnDevice.load"
        assert client.deployment("too-large").state == "failed"
    request = runs_pb2.RunRequest(deployment="too-large", inputs=[_values.encode("t")])
    with (
        grpc.insecure_channel(small.address) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        runs_pb2_grpc.RunsStub(channel).Run(request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # With a file that fits it starts, in a worker that lost nothing to the one before.
    save_file({"t": torch.ones(10)}, path)
    with small.client() as client:
        now, _, content = looked(client, "too-large", "t")
    assert (now, content) == (0, torch.ones(10).numpy().tobytes())
