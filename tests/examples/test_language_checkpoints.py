"""The generated language models: the same everywhere, and as a stranger would load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

import language_checkpoints
from language_checkpoints import TEXT


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "generate", [language_checkpoints.small_summariser, language_checkpoints.small_writer]
)
def test_two_generations_are_equal(generate: Callable[[Path], Path], tmp_path: Path) -> None:
    first, second = (contents(generate(tmp_path / name)) for name in ("a", "b"))
    assert first == second
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(first)


def test_texts_survive_their_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(language_checkpoints.small_writer())
    ids = tokenizer(TEXT)["input_ids"]
    words = TEXT.split()
    # Whole words and large pieces of them, not letters.
    assert len(words) <= len(ids) < 2 * len(words)
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == " ".join(words)
    # Words that it has not learnt are spelt.
    other = "Quiz #42: {xylophone}"
    assert tokenizer.decode(tokenizer(other)["input_ids"]).strip() == other


def test_only_the_summarisers_texts_have_an_end() -> None:
    ends = []
    for folder in (language_checkpoints.small_summariser(), language_checkpoints.small_writer()):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ends.append(tokenizer("the sea")["input_ids"][-1] == tokenizer.eos_token_id)
    assert ends == [True, False]
