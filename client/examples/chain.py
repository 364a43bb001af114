"""A chain of four nodes that answers from a document: read, clean, index, find.

    python client/examples/chain.py "What is planted behind the house?"
    pipeline run chain question="When does the supply boat come?"

The document is part of the graph. The first three nodes need nothing but it, so they are executed
in the first run only and their results are kept (`run_once`); a question costs the last one.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings import SentenceEncoder, minilm_folder, rank
from pipeline import Client, File, Pipeline, Variable, entity, pipe

HANDBOOK = Path(__file__).with_name("handbook.txt")


@pipe(run_once=True)
def read(document: File) -> str:
    return document.read().decode()


@pipe(run_once=True)
def clean(text: str, *, min_words: int) -> list[str]:
    """The paragraphs, each on one line, without headings and the like."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return [each for each in paragraphs if len(each.split()) >= min_words]


@entity
class Library(SentenceEncoder):
    @pipe(run_once=True)
    def index(self, passages: list[str]) -> NDArray[np.float32]:
        # In a worker, as here, a pipe that is called by another is a plain method.
        return self.embed(passages)

    @pipe
    def find(
        self, question: str, passages: list[str], vectors: NDArray[np.float32], *, best: int
    ) -> tuple[list[str], list[float]]:
        """The passages that are closest to the question, and how close they are, at most 1."""
        [query] = self.embed([question])
        closest = rank(query, vectors)[:best]
        return [passages[i] for i, _ in closest], [similarity for _, similarity in closest]


with Pipeline() as builder:
    question = Variable(str, min_length=1, max_length=500)
    best = Variable(int, default=2, ge=1, le=10)

    library = Library()
    library.load(folder=str(minilm_folder()))
    text = read(File(HANDBOOK))
    passages = clean(text, min_words=10)
    vectors = library.index(passages)
    found, similarities = library.find(question, passages, vectors=vectors, best=best)
    builder.output(found, similarities)

graph = builder.get_pipeline()

if __name__ == "__main__":
    asked = " ".join(sys.argv[1:]) or "When does the supply boat come?"
    with Client() as client:
        client.deploy(graph, "chain")
        answers, closeness = client.run("chain", asked)
        assert isinstance(answers, list)
        assert isinstance(closeness, list)
        for answer, similarity in zip(answers, closeness, strict=True):
            print(f"{similarity:.3f}  {answer}")
