"""A text generator that gives each piece of text as soon as it is written.

    python client/examples/text_generation.py
    pipeline run text_generation prompt="The keeper" options.max_new_tokens=8 options.seed=3

PIPELINED_TEXT_MODEL names the model, a folder or one of the Hugging Face hub. Without it a small
Llama with random weights is generated: everything is real about it but what it writes.
"""

import os
from collections.abc import Iterator

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer

from language_checkpoints import small_writer
from pipeline import Client, InputField, InputSchema, Pipeline, Variable, entity, pipe
from pipeline.objects.graph import ABSENT

# Read here and made a constant of the graph: a worker has the daemon's environment, not ours.
MODEL_ID = os.environ.get("PIPELINED_TEXT_MODEL") or str(small_writer())
PROMPT = "The keeper of the lighthouse"


class Options(InputSchema):
    max_new_tokens: int = InputField(default=64, ge=1, le=256)
    temperature: float = InputField(
        default=1.0, ge=0, le=2, description="0: always the likeliest token"
    )
    seed: int | None = InputField(default=None, ge=0)


@entity
class Writer:
    @pipe(on_startup=True, run_once=True)
    def load(self, model_id: str) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(model_id)
        self.model = AutoModelForCausalLM.from_pretrained(model_id).to(device)
        self.texts = self.tokens = self.abandoned = 0

    @pipe
    def account(self) -> dict[str, int]:
        """What was written before: texts, their tokens, and texts that nobody read to the end."""
        return {"texts": self.texts, "tokens": self.tokens, "abandoned": self.abandoned}

    @pipe
    def write(self, prompt: str, options: Options) -> Iterator[str]:
        """The pieces of the text that follows the prompt; a token may need the next to make one."""
        window = self.model.config.max_position_embeddings - options.max_new_tokens
        read = self.tokenizer(prompt, return_tensors="pt")["input_ids"][:, -window:]
        decoder = DecodeStream(skip_special_tokens=True)
        generator = torch.Generator()
        if options.seed is None:
            generator.seed()
        else:
            generator.manual_seed(options.seed)
        given, ended, past = 0, False, None
        try:
            for _ in range(options.max_new_tokens):
                scores, past = self._read(read, past)
                token = choose(scores, options.temperature, generator)
                given += 1
                if token == self.tokenizer.eos_token_id:
                    break
                piece = decoder.step(self.tokenizer.backend_tokenizer, token)
                if piece:
                    yield piece
                read = torch.tensor([[token]])
            ended = True
        finally:
            # Also when the caller has stopped reading: what it was given is counted nevertheless.
            self.texts += 1
            self.tokens += given
            self.abandoned += not ended

    # Around the model alone: around a `yield` the mode would last until the next element.
    @torch.inference_mode()
    def _read(self, tokens: torch.Tensor, past: object) -> tuple[torch.Tensor, object]:
        """The scores of what may come next, and the model's memory of all that it has read."""
        result = self.model(
            input_ids=tokens.to(self.model.device), past_key_values=past, use_cache=True
        )
        return result.logits[0, -1].float().cpu(), result.past_key_values


def choose(scores: torch.Tensor, temperature: float, generator: torch.Generator) -> int:
    """A token: the likeliest one, or one drawn as likely as its score says."""
    if temperature == 0:
        return int(scores.argmax())
    return int(torch.multinomial((scores / temperature).softmax(0), 1, generator=generator))


with Pipeline() as builder:
    prompt = Variable(str, pattern=r"\S")
    options = Variable(Options, default=Options())

    writer = Writer()
    writer.load(MODEL_ID)
    before = writer.account()
    builder.output(before, writer.write(prompt, options))

graph = builder.get_pipeline()

if __name__ == "__main__":
    with Client() as client:
        client.deploy(graph, "text_generation")
        print(PROMPT, end="", flush=True)
        with client.stream("text_generation", PROMPT, Options(seed=3)) as parts:
            # `before` comes first and once; after that there are pieces of text alone.
            [totals, _] = next(parts)
            for [_, piece] in parts:
                if piece is not ABSENT:
                    print(piece, end="", flush=True)
        print(f"\nWritten before: {totals}")
