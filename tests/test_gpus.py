"""What GPUs the daemon finds, in file systems as drivers and containers leave them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelined.gpus import gpu_models

INFORMATION = """\
Model: \t\t {model}
IRQ:   \t\t 181
GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000
Video BIOS: \t 96.00.61.00.01
"""


def describe(root: Path, address: str, text: str | None) -> None:
    folder = root / "proc/driver/nvidia/gpus" / address
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "information").write_text(text)


def test_a_machine_without_any(tmp_path: Path) -> None:
    assert gpu_models(tmp_path) == []


def test_each_model_is_told(tmp_path: Path) -> None:
    describe(tmp_path, "0000:0a:00.0", INFORMATION.format(model="NVIDIA H100 80GB HBM3"))
    describe(tmp_path, "0000:03:00.0", INFORMATION.format(model="Tesla T4"))
    assert gpu_models(tmp_path) == ["Tesla T4", "NVIDIA H100 80GB HBM3"]


@pytest.mark.parametrize("text", [None, "", "Model:", "Model: \t\t\n", "Kind: T4\n"])
def test_a_driver_that_does_not_tell(tmp_path: Path, text: str | None) -> None:
    describe(tmp_path, "0000:03:00.0", text)
    assert gpu_models(tmp_path) == ["unknown"]


def test_devices_of_which_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / "dev" / name).touch()
    assert gpu_models(tmp_path) == ["unknown", "unknown"]
