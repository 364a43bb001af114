"""The loader in the place of safetensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import safetensors
import safetensors.torch
import torch

from pipelined import weights

STOCK_OPEN = safetensors.safe_open
STOCK_LOAD = safetensors.torch.load_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"b": torch.arange(4.0), "a": torch.zeros(2)}, path, {"k": "v"})
    return path


@pytest.mark.usefixtures("installed")
def test_importing_from_safetensors_gets_ours() -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    assert safe_open is weights.safe_open is vars(safetensors.torch)["safe_open"]
    assert load_file is weights.load_file


def test_uninstalling_undoes_it() -> None:
    weights.install()
    weights.install()
    late = ModuleType("imported_after_install")
    vars(late).update(opens=safetensors.safe_open, loads=safetensors.torch.load_file)
    sys.modules[late.__name__] = late
    try:
        weights.uninstall()
    finally:
        del sys.modules[late.__name__]
    weights.uninstall()
    assert vars(late)["opens"] is safetensors.safe_open is STOCK_OPEN
    assert vars(late)["loads"] is safetensors.torch.load_file is STOCK_LOAD
    assert vars(safetensors.torch)["safe_open"] is STOCK_OPEN


def test_modules_that_hold_the_originals_already_get_ours(path: Path) -> None:
    early = ModuleType("imported_before_install")
    exec("from safetensors import safe_open as opens", vars(early))
    sys.modules[early.__name__] = early
    try:
        weights.install()
        with vars(early)["opens"](path, framework="pt") as file:
            assert type(file) is weights.safe_open
        weights.uninstall()
        assert vars(early)["opens"] is STOCK_OPEN
    finally:
        weights.uninstall()
        del sys.modules[early.__name__]


@pytest.mark.usefixtures("installed")
def test_load_model_goes_through_the_loader(path: Path) -> None:
    module = torch.nn.Module()
    module.register_buffer("a", torch.ones(2))
    module.register_buffer("b", torch.ones(4))
    safetensors.torch.load_model(module, path)
    assert module.get_buffer("b").tolist() == [0, 1, 2, 3]
    (load,) = weights.loads()
    assert load.bytes == 24


def test_the_contract_of_a_handle(path: Path) -> None:
    file = weights.safe_open(path, framework="pt", device="cpu", backend="mmap")
    assert {file} == {file}
    assert file.keys() == ["a", "b"]
    assert file.metadata() == {"k": "v"}
    for missing in (file.get_tensor, file.get_slice):
        with pytest.raises(safetensors.SafetensorError, match="^File does not contain tensor c$"):
            missing("c")
    assert file.__exit__(None, None, None) is None
    for closed in (file.keys, file.offset_keys, file.metadata, file.get_tensors):
        with pytest.raises(safetensors.SafetensorError, match="^File is closed$"):
            closed()
    with pytest.raises(safetensors.SafetensorError, match="^File is closed$"):
        file.get_tensor("a")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr.strip().rpartition("\n")[2]


def test_importing_the_package_imports_no_torch() -> None:
    heavy = {"torch", "numpy", "transformers", "diffusers"}
    assert python(
        f"import sys, pipelined.weights; print(sorted(sys.modules.keys() & {heavy}))"
    ) == ("[]\n")


def test_a_missing_extension_says_how_to_get_it() -> None:
    error = python("import sys; sys.modules['pipelined._weights'] = None; import pipelined.weights")
    assert error.startswith("ImportError: the compiled weight loader")
    assert "make venv" in error
    assert "C++20 compiler" in error
