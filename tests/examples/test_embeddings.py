"""The embedding example: the same numbers with and without a daemon, and the right ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

import embeddings
from pipeline import Client
from pipeline.errors import InvalidInput
from tests.running_daemon import RunningDaemon

NAME = "minilm"
SENTENCES = [
    "How do I keep a model in memory?",
    "The daemon keeps the weights loaded between calls.",
    "Reis kochen dauert fünfzehn Minuten.",
    "日本語",
    "",
    "word " * 400,
]


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(embeddings.graph, NAME)
        yield client
        client.delete(NAME)


@pytest.fixture(scope="module")
def alone() -> NDArray[np.float32]:
    """Computed here, by the class as it is, without graph, daemon or our loader."""
    encoder = embeddings.SentenceEncoder()
    encoder.load(str(embeddings.minilm_folder()))
    return encoder.embed(SENTENCES)


def vectors(outputs: list[object]) -> NDArray[np.float32]:
    [array] = outputs
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert array.shape == (len(SENTENCES), 384)
    return array


def tensor_bytes(path: Path) -> int:
    """What follows the header of a safetensors file, counted from the header's own offsets."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return int(max(ends))


def test_a_daemon_changes_no_bit_of_them(client: Client, alone: NDArray[np.float32]) -> None:
    served = vectors(client.run(NAME, SENTENCES))
    local = vectors(embeddings.graph.run(SENTENCES))
    assert float(np.abs(served - alone).max()) == 0
    assert float(np.abs(local - alone).max()) == 0


def test_they_are_what_the_models_own_library_computes(alone: NDArray[np.float32]) -> None:
    oracle = SentenceTransformer(str(embeddings.minilm_folder()), device="cpu")
    np.testing.assert_allclose(alone, oracle.encode(SENTENCES), atol=1e-5)


def test_the_timeline_counts_the_bytes_of_the_files_tensors(client: Client) -> None:
    timeline = client.warm(NAME)
    weights = [stage for stage in timeline.stages if stage.kind == "weights"]
    path = embeddings.minilm_folder() / "model.safetensors"
    assert [(stage.name, stage.bytes) for stage in weights] == [(path.name, tensor_bytes(path))]


def test_the_sentence_that_answers_the_query_ranks_first(client: Client) -> None:
    query, *candidates = vectors(client.run(NAME, SENTENCES))
    ranking = embeddings.rank(query, np.stack(candidates))
    assert ranking[0][0] == 0
    assert sorted(number for number, _ in ranking) == list(range(len(candidates)))
    similarities = [similarity for _, similarity in ranking]
    assert similarities == sorted(similarities, reverse=True)


def test_no_sentences_are_refused(client: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, [])
    assert refused.value.field == "sentences"
    assert refused.value.bound == "min_length=1"
