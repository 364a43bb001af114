"""The chain: the right passage is found, and what a run cannot change is made once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import chain
import embeddings
from pipeline import Client
from pipeline.errors import InvalidInput
from tests.running_daemon import RunningDaemon

NAME = "handbook"


class Executed:
    """The nodes that were executed, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def node_started(self, name: str) -> None:
        self.names.append(name)

    def node_finished(self, name: str, seconds: float) -> None:
        pass


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(chain.graph, NAME)
        yield client
        client.delete(NAME)


def answers(outputs: list[object]) -> tuple[list[str], list[float]]:
    found, similarities = outputs
    assert isinstance(found, list)
    assert isinstance(similarities, list)
    assert len(found) == len(similarities)
    return found, similarities


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("When does the supply boat come?", "Mondays"),
        ("What is planted behind the house?", "cabbage"),
        ("What do I use to wipe the glass?", "spirit"),
        ("The barometer falls quickly. What now?", "shutters"),
    ],
)
def test_the_passage_that_answers_comes_first(client: Client, question: str, word: str) -> None:
    found, similarities = answers(client.run(NAME, question))
    assert word in found[0]
    assert similarities == sorted(similarities, reverse=True)
    assert len(found) == 2


def test_passages_are_paragraphs_of_the_document_on_one_line(client: Client) -> None:
    found, similarities = answers(client.run(NAME, "lamp", best=10))
    handbook = chain.HANDBOOK.read_text()
    title, *paragraphs = [" ".join(part.split()) for part in handbook.split("\n\n")]
    assert sorted(found) == sorted(paragraphs)
    assert title not in found
    encoder = embeddings.SentenceEncoder()
    encoder.load(str(embeddings.minilm_folder()))
    [query] = encoder.embed(["lamp"])
    np.testing.assert_allclose(encoder.embed(found) @ query, similarities, atol=1e-5)


def test_the_document_is_read_cleaned_and_indexed_in_the_first_run_only() -> None:
    executed, graph = Executed(), chain.builder.get_pipeline()
    runs = []
    for _ in range(2):
        executed.names.clear()
        graph.execute(["Where is the flag?"], {}, observer=executed)
        runs.append(list(executed.names))
    assert runs == [
        ["SentenceEncoder.load", "read", "clean", "Library.index", "Library.find"],
        ["Library.find"],
    ]


def test_local_is_as_remote_and_one_startup_serves_all(client: Client) -> None:
    question = "How often is the bell rung?"
    local = chain.graph.run(question, best=3)
    assert [client.run(NAME, question, best=3) for _ in range(2)] == [local, local]
    assert client.deployment(NAME).startups == 1


@pytest.mark.parametrize(("best", "bound"), [(0, "ge=1"), (11, "le=10")])
def test_too_many_passages_are_refused(client: Client, best: int, bound: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, "lamp", best=best)
    assert (refused.value.field, refused.value.bound) == ("best", bound)
