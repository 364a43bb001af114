"""The semantics of the library: one class per row of the table that defines them.

The rows on files and folders; see ``test_table_values`` for other values.
"""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path
from typing import Dict, List  # noqa: UP035  # users write these

import pytest

from pipeline import Directory, File, Graph, Variable, errors, pipe
from tests.sdk.places import Here, InDaemon, Place, graph_of
from tests.web_server import WebServer


@pipe
def text_of(file: File) -> str:
    return file.read().decode()


@pipe
def texts_in(folder: Directory) -> dict[str, str]:
    return {name: folder[name].read().decode() for name in folder}


@pipe(on_startup=True)
def learnt(folder: Directory) -> list[str]:
    return [name + folder[name].read().decode() for name in folder]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file in it and one in a folder in it."""
    path = tmp_path / "folder"
    (path / "in").mkdir(parents=True)
    (path / "a.txt").write_text("a")
    (path / "in" / "b.txt").write_text("b")
    return path


class TestFile:
    """File"""

    def test_nested_files_go_in_and_come_back_as_files(self, place: Place, tmp_path: Path) -> None:
        @pipe
        def upper(table: Dict[str, List[File]]) -> Dict[str, List[File]]:  # noqa: UP006
            return {
                key: [File.from_bytes(f.read().upper(), name=f"{key}-{f.name}") for f in files]
                for key, files in table.items()
            }

        path = tmp_path / "a.txt"
        path.write_text("content")
        started = place.start(graph_of(lambda: upper(Variable(Dict[str, List[File]]))))  # noqa: UP006
        given = File(path=path, allow_out_of_context_creation=True)
        (result,) = started.run({"x": [given, given]})
        saved = result["x"][1].save(tmp_path / "out")
        assert (saved.read_bytes(), result["x"][0].name) == (b"CONTENT", "x-a.txt")

    def test_inside_a_builder_it_is_part_of_the_graph(self, place: Place, tmp_path: Path) -> None:
        @pipe(on_startup=True)
        def size(file: File) -> int:
            return len(file.read())

        path = tmp_path / "a.txt"
        path.write_text("content")
        data = graph_of(lambda: size(File(path=path))).dumps()
        path.unlink()
        assert place.start(Graph.loads(data)).run() == [7]

    def test_one_at_a_url_is_fetched_where_it_is_read(
        self, place: Place, web_server: WebServer
    ) -> None:
        started = place.start(graph_of(lambda: text_of(Variable(File))))
        web_server.contents["/words.txt"] = b"words"
        assert started.run(File(url=web_server.url("/words.txt"))) == ["words"]

    def test_one_that_the_daemon_has_is_given_by_its_id(
        self, in_daemon: InDaemon, tmp_path: Path
    ) -> None:
        (tmp_path / "words.txt").write_text("words")
        graph = graph_of(lambda: text_of(Variable(File)))
        remote_id = in_daemon.client.files.upload(File(tmp_path / "words.txt"))
        assert in_daemon.start(graph).run(File(remote_id=remote_id)) == ["words"]
        # Elsewhere it has no content.
        with pytest.raises(errors.RunFailed, match="is in the daemon"):
            Here().start(graph).run(File(remote_id=remote_id))

    def test_one_that_the_daemon_has_not_is_named(self, in_daemon: InDaemon) -> None:
        started = in_daemon.start(graph_of(lambda: text_of(Variable(File))))
        with pytest.raises(errors.NotFound, match="0" * 64) as caught:
            started.run(File(remote_id="0" * 64))
        assert caught.value.reason == "FILE_NOT_FOUND"


class TestDirectory:
    """Directory"""

    def test_nested_ones_go_in_and_come_back_as_directories(
        self, place: Place, folder: Path, tmp_path: Path
    ) -> None:
        @pipe
        def upper(table: Dict[str, List[Directory]]) -> Dict[str, List[Directory]]:  # noqa: UP006
            def changed(given: Directory) -> Directory:
                entries = [
                    (name, False, File.from_bytes(given[name].read().upper(), name=Path(name).name))
                    for name in given
                ]
                return Directory.from_files(entries, name=f"upper-{given.name}")

            return {key: [changed(each) for each in given] for key, given in table.items()}

        started = place.start(graph_of(lambda: upper(Variable(Dict[str, List[Directory]]))))  # noqa: UP006
        given = Directory(path=folder, allow_out_of_context_creation=True)
        (result,) = started.run({"x": [given, given]})
        saved = result["x"][1].save(tmp_path / "out")
        assert (result["x"][0].name, list(result["x"][0])) == (
            "upper-folder",
            ["a.txt", "in/b.txt"],
        )
        assert (saved / "in" / "b.txt").read_text() == "B"

    def test_inside_a_builder_it_is_part_of_the_graph(self, place: Place, folder: Path) -> None:
        data = graph_of(lambda: learnt(Directory(folder))).dumps()
        shutil.rmtree(folder)
        assert place.start(Graph.loads(data)).run() == [["a.txta", "in/b.txtb"]]

    def test_an_archive_at_a_url_is_unpacked_where_it_is_read(
        self, place: Place, web_server: WebServer
    ) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("in/b.txt", "b")
        web_server.contents["/folder.zip"] = content.getvalue()
        started = place.start(graph_of(lambda: texts_in(Variable(Directory))))
        assert started.run(Directory(url=web_server.url("/folder.zip"))) == [{"in/b.txt": "b"}]

    def test_one_that_the_daemon_has_is_given_by_its_id(
        self, in_daemon: InDaemon, folder: Path
    ) -> None:
        remote_id = in_daemon.client.files.upload(Directory(folder))
        started = in_daemon.start(graph_of(lambda: texts_in(Variable(Directory))))
        expected = {"a.txt": "a", "in/b.txt": "b"}
        assert started.run(Directory(remote_id=remote_id)) == [expected]

    def test_a_file_is_no_directory(self, place: Place, folder: Path) -> None:
        started = place.start(graph_of(lambda: texts_in(Variable(Directory, title="x"))))
        with pytest.raises(errors.InvalidInput, match="x: .*a Directory, got a File"):
            started.run(File(folder / "a.txt"))
