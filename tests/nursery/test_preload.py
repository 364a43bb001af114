"""The default preload list leaves a startup nothing to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel, BertTokenizer

from checkpoints import small_stable_diffusion
from pipeline import Pipeline, Variable, entity, pipe
from pipelined.core.stages import StageKind
from pipelined.nursery.preload import DEFAULT_PRELOAD
from tests.nursery.launching import call, launching

pytestmark = pytest.mark.asyncio(loop_scope="module")


@entity
class Models:
    @pipe(on_startup=True, run_once=True)
    def load(self, images: str, text: str) -> None:
        from diffusers import StableDiffusionPipeline
        from transformers import AutoModel, AutoTokenizer

        self.images = StableDiffusionPipeline.from_pretrained(images)
        self.tokenizer = AutoTokenizer.from_pretrained(text)
        self.text = AutoModel.from_pretrained(text)

    @pipe
    def new_imports(self, folder: str) -> list[Any]:
        import sys

        before = set(sys.modules)
        images = self.images("a prompt", num_inference_steps=2).images
        for format_ in ("jpg", "png"):
            images[0].save(f"{folder}/image.{format_}")
        tokens = self.tokenizer(["hello world"], return_tensors="pt", padding=True)
        self.text(**tokens)
        return sorted(set(sys.modules) - before)


def write_text_encoder(folder: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    BertTokenizer(vocab={word: n for n, word in enumerate(words)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(folder)


async def test_stable_diffusion_and_a_text_encoder_import_nothing_more(tmp_path: Path) -> None:
    text = tmp_path / "text"
    write_text_encoder(text)
    images = small_stable_diffusion()
    with Pipeline() as builder:
        folder = Variable(str)
        models = Models()
        models.load(str(images), str(text))
        builder.output(models.new_imports(folder))
    async with launching(tmp_path, DEFAULT_PRELOAD) as own:
        status = own.nursery.status()
        assert list(status.failed) == []
        assert list(status.preloaded) == list(DEFAULT_PRELOAD)
        assert status.exec_reason == ""
        worker = await own.start(builder.get_pipeline())
        assert [s.name for s in own.stages if s.kind is StageKind.IMPORTS] == []
        assert await call(worker, str(tmp_path)) == []
