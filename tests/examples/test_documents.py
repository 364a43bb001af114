"""A folder in, results for each of its files and a sorted folder out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import documents
from documents import LETTERS, UNSORTED, Options
from pipeline import Client, Directory, Graph
from pipeline.errors import InvalidInput
from tests.running_daemon import RunningDaemon

NAME = "letters"
TOPICS = {"garden", "kitchen", "workshop"}


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(documents.graph, NAME)
        yield client
        client.delete(NAME)


def sort(
    client: Client, texts: Directory, options: Options | None = None
) -> tuple[dict[str, dict[str, float]], Directory]:
    found, folder = client.run(NAME, texts, options or Options())
    assert isinstance(found, dict)
    assert isinstance(folder, Directory)
    return found, folder


def test_each_text_is_in_the_folder_of_its_topic(client: Client, tmp_path: Path) -> None:
    found, folder = sort(client, Directory(LETTERS / "new"))
    expected = ["garden/clara.txt", "kitchen/anna.txt", "unsorted/dora.txt", "workshop/bruno.txt"]
    assert list(folder) == expected
    saved = folder.save(tmp_path)
    assert saved == tmp_path / "sorted"
    for path in expected:
        topic, name = path.split("/")
        assert (saved / path).read_bytes() == (LETTERS / "new" / name).read_bytes()
        assert set(found[name]) == TOPICS
        assert sum(found[name].values()) == pytest.approx(1)
        assert topic == UNSORTED or found[name][topic] == max(found[name].values())
    assert client.deployment(NAME).startups == 1


def test_a_daemon_gives_what_the_graph_gives_here(client: Client) -> None:
    texts = Directory(LETTERS / "new")
    assert documents.graph.run(texts) == list(sort(client, texts))


def test_what_it_learns_from_travels_with_the_graph() -> None:
    data = documents.graph.dumps()
    assert (LETTERS / "known/garden/roses.txt").read_bytes() in data
    texts = Directory(LETTERS / "new")
    assert Graph.loads(data).run(texts) == documents.graph.run(texts)


def test_examples_are_sorted_where_they_come_from(client: Client) -> None:
    # One folder for each topic, and what is in it keeps its path there.
    _, folder = sort(client, Directory(LETTERS / "known"), Options(min_confidence=1))
    assert all(path.startswith("unsorted/") for path in folder)
    _, folder = sort(client, Directory(LETTERS / "known"))
    assert len(list(folder)) == 6
    for path in folder:
        topic, original = path.split("/", 1)
        assert original.split("/")[0] == topic


def test_texts_of_any_bytes_and_none_at_all(client: Client, tmp_path: Path) -> None:
    assert sort(client, Directory(tmp_path)) == ({}, Directory(tmp_path))
    (tmp_path / "bytes.bin").write_bytes(bytes(range(256)))
    (tmp_path / "empty.txt").touch()
    found, folder = sort(client, Directory(tmp_path))
    assert list(folder) == ["unsorted/bytes.bin", "unsorted/empty.txt"]
    assert found["empty.txt"] == {topic: pytest.approx(1 / 3) for topic in TOPICS}


def test_a_confidence_that_cannot_be_and_what_is_no_folder(client: Client) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.run(NAME, Directory(LETTERS / "new"), {"min_confidence": 1.5})
    assert (caught.value.field, caught.value.bound) == ("options.min_confidence", "le=1")
    file = Directory(LETTERS / "new")["dora.txt"]
    with pytest.raises(InvalidInput, match="texts: Input should be a Directory, got a File"):
        client.run(NAME, file)
