"""Checkpoints with random weights, generated once and kept: real classes, no network, no licence.

They have the layout and the classes of Stable Diffusion, so whatever loads, deploys or measures
them does what it would do with the real one, but their images are noise. The weights are drawn from
a fixed seed: every machine with the same torch gets the same files.

    python client/examples/checkpoints.py          # generates the small one and prints its folder
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# torch, diffusers and transformers take seconds to import: only generating needs them, not finding.
if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

SEED = 20240229
# Part of each folder's name: raise it when what is generated changes.
RECIPE = 1
# Words that the small tokenizer knows whole, as byte-pair merges; all else is spelled byte by byte.
MERGES = [("t", "h"), ("th", "e</w>"), ("c", "a"), ("ca", "t</w>"), ("o", "f</w>"), ("a", "n")]
START, END = "<|startoftext|>", "<|endoftext|>"


def cache_folder() -> Path:
    """Where the checkpoints are kept: PIPELINED_CHECKPOINTS, else the user's cache folder."""
    configured = os.environ.get("PIPELINED_CHECKPOINTS")
    if configured:
        return Path(configured).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "pipelined" / "checkpoints"


def small_stable_diffusion(folder: Path | None = None) -> Path:
    """A complete Stable Diffusion checkpoint of 1.2 million weights, 64 x 64 pixels by default."""
    return generated("small-stable-diffusion", _write_small_stable_diffusion, folder)


def stable_diffusion_unet(folder: Path | None = None) -> Path:
    """A UNet of the size of Stable Diffusion 1.5: 860 million float16 weights, 1.7 GB, one file."""
    return generated("stable-diffusion-1.5-unet", _write_stable_diffusion_unet, folder)


def generated(name: str, write: Callable[[Path], None], folder: Path | None) -> Path:
    """A checkpoint's folder, complete or absent: it is written beside its place, then renamed.

    `write` fills the folder that it is called with, unless the checkpoint is there already.
    """
    parent = folder or cache_folder()
    final = parent / f"{name}-{RECIPE}"
    if final.is_dir():
        return final
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent) as partial:
        written = Path(partial) / name
        write(written)
        # safetensors writes files for their owner alone; the workers may be another user's.
        for path in written.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        try:
            written.rename(final)
        except OSError:
            # Another process was faster: a rename does not replace a folder that has content.
            if not final.is_dir():
                raise
            shutil.rmtree(written)
    return final


def _write_small_stable_diffusion(folder: Path) -> None:
    import torch
    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tokenizer = _small_tokenizer()
        text_encoder = _small_text_encoder(tokenizer)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            norm_num_groups=8,
            attention_head_dim=8,
            cross_attention_dim=text_encoder.config.hidden_size,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )
        vae = _small_autoencoder()
    # What Stable Diffusion 1.5 comes with.
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)


def _small_tokenizer() -> CLIPTokenizer:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    # A word's last piece carries "</w>".
    pieces = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    pieces += [left + right for left, right in MERGES]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=77)


def _small_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _small_autoencoder() -> AutoencoderKL:
    from diffusers import AutoencoderKL

    # Four levels: one latent is 8 x 8 pixels, as in the real one.
    return AutoencoderKL(
        sample_size=64,
        latent_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32, 32, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def _write_stable_diffusion_unet(folder: Path) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    # Without a first initialisation in float32, which would take a minute and 3.4 GB.
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    unet = unet.to(torch.float16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(std=0.02, generator=generator)
    unet.save_pretrained(folder, safe_serialization=True, max_shard_size="10GB")


if __name__ == "__main__":
    print(small_stable_diffusion())
