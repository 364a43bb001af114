"""What the loader does not do, safetensors does, and the log says so."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from pipelined import weights
from tests.weights.files import assert_same_tensors, file_bytes, tensor_info

STOCK_OPEN = safetensors.safe_open


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"t": torch.arange(4.0)}, path)
    return path


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"framework": "np"}, "framework 'np'"),
        # No machine has so many.
        ({"framework": "pt", "device": "cuda:99"}, "device 'cuda:99'"),
        ({"framework": "pt", "device": 99}, "device 99"),
        ({"framework": "pt", "backend": "pread"}, "backend 'pread'"),
    ],
)
def test_other_requests_are_passed_on(
    path: Path, arguments: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "pipelined.weights"):
        handle: Any = weights.safe_open(path, **arguments)
    assert handle.keys() == ["t"]
    assert type(handle) is STOCK_OPEN
    assert reason in caplog.text
    assert str(path) in caplog.text
    assert weights.loads() == []


def test_a_torch_for_other_devices_is_left_to_safetensors(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ROCm's devices are called "cuda", too.
    monkeypatch.setattr("torch.version.hip", "6.4")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert type(weights.safe_open(path, framework="pt", device="cuda:0")) is STOCK_OPEN


@pytest.mark.usefixtures("installed")
def test_other_frameworks_work_while_installed(path: Path) -> None:
    import safetensors.numpy

    assert np.array_equal(safetensors.numpy.load_file(path)["t"], np.arange(4.0))
    assert_same_tensors(
        safetensors.torch.load_file(path, backend="pread"), {"t": torch.arange(4.0)}
    )


@pytest.mark.parametrize("framework", ["pt", "torch", "pytorch"])
def test_every_name_of_torch_is_ours(path: Path, framework: str) -> None:
    assert type(weights.safe_open(path, framework)) is weights.safe_open
    assert type(weights.safe_open(os.fspath(path), framework, None)) is weights.safe_open


BAD_REQUESTS: dict[str, Callable[[Any, Path], object]] = {
    "framework": lambda opens, path: opens(path, framework="zz"),
    "device": lambda opens, path: opens(path, framework="pt", device="zz"),
    "device object": lambda opens, path: opens(path, framework="pt", device=torch.device("cpu")),
    "backend": lambda opens, path: opens(path, framework="pt", backend="zz"),
    "keyword": lambda opens, path: opens(path, framework="pt", unheard_of=1),
    "bytes": lambda opens, path: opens(os.fsencode(path), framework="pt"),
    "descriptor": lambda opens, path: opens(3, framework="pt"),
    "NUL": lambda opens, path: opens(f"{path}\0", framework="pt"),
    "no framework": lambda opens, path: opens(path),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_fail_as_with_safetensors(path: Path, case: str) -> None:
    with pytest.raises(Exception) as stock:  # noqa: PT011
        BAD_REQUESTS[case](STOCK_OPEN, path)
    with pytest.raises(type(stock.value)) as ours:
        BAD_REQUESTS[case](weights.safe_open, path)
    if case != "no framework":
        assert str(ours.value) == str(stock.value)


def test_a_dtype_that_nobody_knows_is_offered_to_safetensors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new.safetensors"
    path.write_bytes(file_bytes({"t": tensor_info("F3_NEW", [8], 0, 3)}, bytes(3)))
    with (
        caplog.at_level(logging.INFO, "pipelined.weights"),
        pytest.raises(weights.UnknownDtype, match="F3_NEW"),
    ):
        weights.load_file(path)
    assert "safetensors opens" in caplog.text
