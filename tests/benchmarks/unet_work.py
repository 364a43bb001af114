"""The work that the cold start benchmark times: the same functions in both of its arms.

Run as a program it is the arm that keeps nothing warm, with no more imports than it needs::

    python unet_work.py small|large FOLDER
"""

import sys

import torch
from diffusers import UNet2DConditionModel

DTYPES = {"small": torch.float32, "large": torch.float16}


def load(size: str, folder: str) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=DTYPES[size])


def use(size: str, unet: UNet2DConditionModel) -> float | int:
    return forward(unet) if size == "small" else checksum(unet)


def forward(unet: UNet2DConditionModel) -> float:
    """One denoising step on fixed inputs, as one number to compare."""
    size, width = unet.config.sample_size, unet.config.cross_attention_dim
    latents = torch.linspace(-1, 1, 4 * size * size).reshape(1, 4, size, size)
    text = torch.linspace(-1, 1, 77 * width).reshape(1, 77, width)
    with torch.inference_mode():
        return float(unet(latents, 10, text).sample.double().abs().sum())


def checksum(unet: UNet2DConditionModel) -> int:
    """Reads every bit of every weight, at the speed of the memory: 64 of them to an addition."""
    total = 0
    for parameter in unet.parameters():
        # Overflow wraps around, which a checksum may. All of these tensors fill whole words.
        words = parameter.detach().reshape(-1).view(torch.int64)
        total = (total * 31 + int(words.sum())) % (1 << 61)
    return total


def main() -> None:
    size, folder = sys.argv[1:]
    print(use(size, load(size, folder)), flush=True)


if __name__ == "__main__":
    main()
