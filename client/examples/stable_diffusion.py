"""The Stable Diffusion pipeline of the SDK's page on cold starts, completed, its imports unchanged.

    pipeline deploy client/examples/stable_diffusion.py:graph --name sd
    pipeline run sd prompt="a cat" kwargs.num_inference_steps=4 kwargs.seed=1

PIPELINED_DEMO_MODEL names the checkpoint, a folder or a model of the Hugging Face hub. Without it a
small one with random weights is generated: everything is real about it but what is in the images.
"""

import os
import tempfile
from pathlib import Path
from typing import List, Optional

import torch
from diffusers import StableDiffusionPipeline

from checkpoints import small_stable_diffusion
from pipeline import Pipeline, Variable, entity, pipe
from pipeline.cloud import compute_requirements, environments, pipelines
from pipeline.objects import File
from pipeline.objects.graph import InputField, InputSchema

# Read here and made a constant of the graph: a worker has the daemon's environment, not ours.
MODEL_ID = os.environ.get("PIPELINED_DEMO_MODEL") or str(small_stable_diffusion())


class ModelKwargs(InputSchema):
    height: Optional[int] = InputField(default=None, ge=64, le=1024, multiple_of=8)
    width: Optional[int] = InputField(default=None, ge=64, le=1024, multiple_of=8)
    num_inference_steps: Optional[int] = InputField(default=None, ge=1)
    num_images_per_prompt: Optional[int] = InputField(default=None, ge=1, le=4)
    guidance_scale: Optional[float] = InputField(default=None)
    seed: Optional[int] = InputField(default=None, ge=0)


@entity
class StableDiffusionModel:
    @pipe(on_startup=True, run_once=True)
    def load(self, model_id: str) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pipe = StableDiffusionPipeline.from_pretrained(
            model_id,
        )
        self.pipe = self.pipe.to(device)

    @pipe
    def predict(self, prompt: str, kwargs: ModelKwargs) -> List[File]:
        # diffusers ignores a height without a width, and a width without a height.
        side = self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor
        options = {"height": side, "width": side}
        # All else that was left out has better defaults there than here.
        options |= {name: value for name, value in kwargs.to_dict().items() if value is not None}
        seed = options.pop("seed", None)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        images = self.pipe(prompt, generator=generator, **options).images

        # A folder of its own for each run: runs of other workers write at the same time.
        folder = Path(tempfile.mkdtemp(prefix="sd-"))
        output_images = []
        for i, image in enumerate(images):
            path = folder / f"image-{i}.jpg"
            image.save(str(path))
            output_images.append(File(path=path, allow_out_of_context_creation=True))

        return output_images


with Pipeline() as builder:
    prompt = Variable(str)
    kwargs = Variable(ModelKwargs)

    model = StableDiffusionModel()
    model.load(MODEL_ID)
    output = model.predict(prompt, kwargs)
    builder.output(output)

graph = builder.get_pipeline()
