"""Summaries by a model that reads a text and writes a shorter one, such as T5 or BART.

    python client/examples/summarisation.py
    pipeline run summarisation text="The boat was late. It brought bread." options.max_new_tokens=12

PIPELINED_SUMMARISATION_MODEL names the model, a folder or one of the Hugging Face hub. Without it a
small T5 with random weights is generated: everything is real about it but what it writes.
"""

import os

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from language_checkpoints import TEXT, small_summariser
from pipeline import Client, InputField, InputSchema, Pipeline, Variable, entity, pipe

# Read here and made a constant of the graph: a worker has the daemon's environment, not ours.
MODEL_ID = os.environ.get("PIPELINED_SUMMARISATION_MODEL") or str(small_summariser())
# What is longer is cut.
MAX_TEXT_TOKENS = 512


class Options(InputSchema):
    max_new_tokens: int = InputField(default=60, ge=1, le=256)
    num_beams: int = InputField(default=1, ge=1, le=8)
    no_repeat_ngram_size: int = InputField(
        default=3, ge=0, description="so many tokens are not written twice in a row; 0: no limit"
    )


@entity
class Summariser:
    @pipe(on_startup=True, run_once=True)
    def load(self, model_id: str) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(model_id)
        self.model = AutoModelForSeq2SeqLM.from_pretrained(model_id).to(device)
        # T5 wants to be told what to do with the text, by a word that its configuration has.
        tasks = getattr(self.model.config, "task_specific_params", None) or {}
        self.prefix: str = tasks.get("summarization", {}).get("prefix", "")

    @pipe
    def summarise(self, text: str, options: Options) -> tuple[str, int]:
        """The summary, and the number of tokens it was written in."""
        tokens = self.tokenizer(
            self.prefix + text, truncation=True, max_length=MAX_TEXT_TOKENS, return_tensors="pt"
        ).to(self.model.device)
        with torch.inference_mode():
            [written] = self.model.generate(
                tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                do_sample=False,
                **options.to_dict(),
            )
        # The first one is what the decoder starts with.
        summary: str = self.tokenizer.decode(written[1:], skip_special_tokens=True)
        return summary, len(written) - 1


with Pipeline() as builder:
    text = Variable(str, pattern=r"\S")
    options = Variable(Options, default=Options())

    summariser = Summariser()
    summariser.load(MODEL_ID)
    summary, length = summariser.summarise(text, options)
    builder.output(summary, length)

graph = builder.get_pipeline()

if __name__ == "__main__":
    with Client() as client:
        client.deploy(graph, "summarisation")
        written, tokens = client.run("summarisation", TEXT, Options(max_new_tokens=40))
        print(f"{written}\n({tokens} tokens)")
