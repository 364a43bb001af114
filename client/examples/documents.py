"""Sorts a folder of texts by what they are about, after examples in another folder.

    python client/examples/documents.py client/examples/letters/new --output-dir demo-output
    pipeline run documents texts=@client/examples/letters/new options.min_confidence=0.9

`letters/known` has a folder of examples for each topic. It is a Directory in the graph: it travels
with the code, and `learn` reads it once, on startup. The folder of a run is a Directory too, and so
is what comes back: the same files, in a folder for each topic.
"""

import argparse
import math
import re
from collections import Counter
from pathlib import Path

from pipeline import (
    Client,
    Directory,
    File,
    InputField,
    InputSchema,
    Pipeline,
    Variable,
    entity,
    pipe,
)

LETTERS = Path(__file__).with_name("letters")
# Where what is about nothing known goes.
UNSORTED = "unsorted"


class Options(InputSchema):
    min_confidence: float = InputField(
        default=0.6, ge=0, le=1, description="a text whose topic is less probable stays unsorted"
    )


def words(file: File) -> list[str]:
    """The words of a text; short ones say nothing."""
    return re.findall(r"\w{4,}", file.read().decode(errors="replace").lower())


@entity
class Sorter:
    """Naive Bayes: how probable is each topic, if every word is chosen by itself?"""

    @pipe(on_startup=True)
    def learn(self, known: Directory) -> None:
        self.counts: dict[str, Counter[str]] = {}
        for name in known:
            topic = name.partition("/")[0]
            self.counts.setdefault(topic, Counter()).update(words(known[name]))
        self.vocabulary = set().union(*self.counts.values())

    @pipe
    def sort(
        self, texts: Directory, options: Options
    ) -> tuple[dict[str, dict[str, float]], Directory]:
        """The probability of each topic for each file, and the files in folders of topics."""
        topics: dict[str, dict[str, float]] = {}
        entries: list[tuple[str, bool, File | None]] = []
        for name in texts:
            topics[name] = found = self.probabilities(words(texts[name]))
            best = max(found, key=lambda topic: found[topic])
            folder = best if found[best] >= options.min_confidence else UNSORTED
            entries.append((f"{folder}/{name}", False, texts[name]))
        return topics, Directory.from_files(entries, name="sorted")

    def probabilities(self, text: list[str]) -> dict[str, float]:
        """How probable each topic is; equal ones where no word is known."""
        known = [word for word in text if word in self.vocabulary]
        logarithms = {}
        for topic, counts in self.counts.items():
            # One more of each word, or one that a topic lacks would rule it out.
            total = counts.total() + len(self.vocabulary)
            logarithms[topic] = sum(math.log((counts[word] + 1) / total) for word in known)
        most = max(logarithms.values())
        weights = {topic: math.exp(each - most) for topic, each in logarithms.items()}
        return {topic: weight / sum(weights.values()) for topic, weight in weights.items()}


with Pipeline() as builder:
    texts = Variable(Directory)
    options = Variable(Options, default=Options())

    sorter = Sorter()
    sorter.learn(Directory(LETTERS / "known"))
    topics, folders = sorter.sort(texts, options)
    builder.output(topics, folders)

graph = builder.get_pipeline()

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Sort a folder of texts.")
    parser.add_argument("folder", nargs="?", type=Path, default=LETTERS / "new")
    parser.add_argument("--output-dir", type=Path, default=Path("demo-output"))
    arguments = parser.parse_args()

    with Client() as client:
        client.deploy(graph, "documents")
        found, folder = client.run("documents", Directory(arguments.folder))
        assert isinstance(found, dict)
        assert isinstance(folder, Directory)
        for path in folder:
            topic, _, name = path.partition("/")
            print(f"{name}: {topic} ({max(found[name].values()):.0%})")
        print(f"Saved {folder.save(arguments.output_dir / 'sorted')}")
