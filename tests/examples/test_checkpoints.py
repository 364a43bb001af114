"""The generated checkpoints: the same everywhere, whole or absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import checkpoints


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_generations_are_equal(tmp_path: Path) -> None:
    first = files(checkpoints.small_stable_diffusion(tmp_path / "a"))
    second = files(checkpoints.small_stable_diffusion(tmp_path / "b"))
    assert first == second
    assert "model_index.json" in first
    assert {name for name in first if name.endswith(".safetensors")} == {
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_a_checkpoint_that_is_there_is_kept(tmp_path: Path) -> None:
    folder = checkpoints.small_stable_diffusion(tmp_path)
    written = (folder / "model_index.json").stat().st_mtime_ns
    assert checkpoints.small_stable_diffusion(tmp_path) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == written


def test_processes_that_generate_at_once_leave_one_whole_checkpoint(tmp_path: Path) -> None:
    program = Path(checkpoints.__file__)
    processes = [
        subprocess.Popen(
            [sys.executable, str(program)],
            env={"PIPELINED_CHECKPOINTS": str(tmp_path / "shared"), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    [folder] = (tmp_path / "shared").iterdir()
    assert {out.strip() for out, _ in ends} == {str(folder)}
    assert files(folder) == files(checkpoints.small_stable_diffusion(tmp_path / "alone"))


def test_a_failed_generation_leaves_nothing(tmp_path: Path) -> None:
    # A file where the checkpoint's folder has to be.
    (tmp_path / f"small-stable-diffusion-{checkpoints.RECIPE}").touch()
    with pytest.raises(NotADirectoryError):
        checkpoints.small_stable_diffusion(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("size", [(64, 64), (72, 136)])
def test_images_have_the_size_asked_for_and_are_not_flat(size: tuple[int, int]) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(checkpoints.small_stable_diffusion())
    height, width = size
    [image] = pipeline("a cat of the sea", height=height, width=width, num_inference_steps=3).images
    pixels = np.asarray(image)
    assert pixels.shape == (height, width, 3)
    assert pixels.std() > 10
