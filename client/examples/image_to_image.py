"""A new image after a given one and a prompt, with the same checkpoints as stable_diffusion.py.

    python client/examples/image_to_image.py photo.jpg --output-dir demo-output
    pipeline run image_to_image image=@photo.jpg prompt="a harbour" options.strength=0.5

PIPELINED_DEMO_MODEL names the checkpoint, a folder or a model of the Hugging Face hub. Without it a
small one with random weights is generated: everything is real about it but what is in the images.
"""

import argparse
import io
import os
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from checkpoints import small_stable_diffusion
from pipeline import Client, File, InputField, InputSchema, Pipeline, Variable, entity, pipe

# Read here and made a constant of the graph: a worker has the daemon's environment, not ours.
MODEL_ID = os.environ.get("PIPELINED_DEMO_MODEL") or str(small_stable_diffusion())
PROMPT = "a watercolour of a lighthouse at dawn"


class Options(InputSchema):
    strength: float = InputField(
        default=0.8, gt=0, le=1, description="how far from the given image: 1 keeps nothing of it"
    )
    num_inference_steps: int = InputField(
        default=20, ge=1, le=200, description="of which the share `strength` is executed"
    )
    guidance_scale: float = InputField(default=7.5, ge=0)
    num_images_per_prompt: int = InputField(default=1, ge=1, le=4)
    max_side: int = InputField(
        default=512, ge=64, le=1024, multiple_of=8, description="larger ones are worked on at this"
    )
    seed: int | None = InputField(default=None, ge=0)


@entity
class Painter:
    @pipe(on_startup=True, run_once=True)
    def load(self, model_id: str) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model_id).to(device)

    @pipe
    def paint(self, image: File, prompt: str, options: Options) -> list[File]:
        """PNG images of the size of the given one."""
        settings = options.to_dict()
        max_side = settings.pop("max_side")
        seed = settings.pop("seed", None)
        with image.open() as stream, Image.open(stream) as opened:
            original = opened.convert("RGB")
        painted = self.pipeline(
            prompt,
            image=original.resize(working_size(original.size, max_side)),
            generator=None if seed is None else torch.Generator().manual_seed(seed),
            **settings,
        ).images
        return [
            File.from_bytes(png(each.resize(original.size)), name=f"image-{number}.png")
            for number, each in enumerate(painted)
        ]


def working_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Width and height of about the same shape that are multiples of 8, as latents want it."""
    scale = min(1.0, max_side / max(size))
    width, height = (max(8, round(side * scale / 8) * 8) for side in size)
    return width, height


def png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


def sunrise(width: int = 96, height: int = 64) -> Image.Image:
    """An image to begin with: red from the left, blue from the top."""
    red = Image.linear_gradient("L").rotate(90).resize((width, height))
    blue = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, Image.new("L", (width, height), 96), blue))


with Pipeline() as builder:
    image = Variable(File)
    prompt = Variable(str)
    options = Variable(Options, default=Options())

    painter = Painter()
    painter.load(MODEL_ID)
    builder.output(painter.paint(image, prompt, options))

graph = builder.get_pipeline()

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Paint an image after another one.")
    parser.add_argument("image", nargs="?", type=Path, help="a gradient is drawn without it")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--output-dir", type=Path, default=Path("demo-output"))
    arguments = parser.parse_args()
    if arguments.image is not None:
        source = File(arguments.image)
    else:
        source = File.from_bytes(png(sunrise()), name="sunrise.png")

    with Client() as client:
        client.deploy(graph, "image_to_image")
        [images] = client.run("image_to_image", source, arguments.prompt, Options(seed=7))
        assert isinstance(images, list)
        for file in images:
            assert isinstance(file, File)
            print(f"Saved {file.save(arguments.output_dir / file.name)}")
