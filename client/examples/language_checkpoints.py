"""Language models with random weights, generated once and kept beside the other checkpoints.

A T5 that reads a text and writes another, and a Llama that continues one: real classes with real
tokenizers, so that they load and generate as large ones do, but what they write is noise, made of
pieces of the words below.

    python client/examples/language_checkpoints.py   # generates both and prints their folders
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoints import SEED, generated

# Only generating needs them, and they take seconds to import.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The tokenizer learns its pieces of words from this; what else is in ASCII is spelt by letters.
TEXT = """
The keeper of the lighthouse climbs the stairs before dawn and trims the lamp. In winter the storms
come from the west, and ships that pass the cape look for its light. He writes the weather into a
book: the wind, the height of the waves, the hour when the fog came in. On clear nights he can see
the lamps of the harbour across the bay, and the fishermen who sail out with the tide.
A letter comes with the boat on Mondays, with bread, oil and the news of the town. When the boat
cannot land, he lives on what the garden gives, and on fish. He has read every book of the house
twice, and some of them aloud, to the gulls. Nobody has been lost at the cape since he came.
"""
VOCABULARY = 512
# As T5 numbers them: padding is 0, and also what a decoder starts with.
PADDING, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# A weight is about that far from zero. With less, every token is as likely as any other.
SPREAD = 0.5


def small_summariser(folder: Path | None = None) -> Path:
    """A T5 of 0.2 million weights with its tokenizer."""
    return generated("small-summariser", _write_summariser, folder)


def small_writer(folder: Path | None = None) -> Path:
    """A Llama of 0.1 million weights with its tokenizer; it sees 512 tokens at once."""
    return generated("small-writer", _write_writer, folder)


def _write_summariser(folder: Path) -> None:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = _tokenizer(ends_with=END)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        initializer_factor=1.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _write_writer(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _tokenizer(ends_with: str = "") -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PADDING, END, UNKNOWN],
        initial_alphabet=sorted(string.ascii_letters + string.digits + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    if ends_with:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", ends_with], special_tokens=[(ends_with, tokenizer.token_to_id(ends_with))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PADDING, eos_token=END, unk_token=UNKNOWN
    )


if __name__ == "__main__":
    print(small_summariser())
    print(small_writer())
