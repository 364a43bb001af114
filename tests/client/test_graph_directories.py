"""Folders as values, in this process."""

from __future__ import annotations

import copy
import gc
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline import Directory, File, InputSchema, Pipeline, Variable, pipe
from pipeline._values import decode, encode
from pipeline.errors import InvalidInput, SerialisationError
from pipelined_api.v1.values_pb2 import Directory as WireDirectory
from pipelined_api.v1.values_pb2 import DirectoryEntry, Value
from pipelined_api.v1.values_pb2 import File as WireFile
from pipelined_api.wire_values import plain


def tree(folder: Path) -> Path:
    """A folder with everything that a Directory keeps."""
    root = folder / "model"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.txt").write_bytes(b"a")
    (root / "sub" / "größe.bin").write_bytes(bytes(range(256)))
    (root / "sub" / "deep" / "run.sh").write_text("#!/bin/sh\n")
    (root / "sub" / "deep" / "run.sh").chmod(0o755)
    (root / "sub" / "link").symlink_to("../a.txt")
    (root / "linked").symlink_to("sub/deep")
    return root


NAMES = ["a.txt", "linked/run.sh", "sub/deep/run.sh", "sub/größe.bin", "sub/link"]


def through_the_wire(value: object) -> Any:
    return decode(Value.FromString(encode(value).SerializeToString()))


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    directory = Directory(tree(tmp_path))
    assert (directory.name, repr(directory)) == ("model", "Directory('model')")
    assert list(directory) == NAMES
    assert directory.path == tmp_path / "model"
    with directory.open("sub/link") as stream:
        assert stream.read() == b"a"
    assert directory["a.txt"].read() == b"a"
    for missing in ("b", "empty", "../model/a.txt"):
        with pytest.raises(FileNotFoundError):
            directory.open(missing)
    assert copy.deepcopy(directory) is directory


@pytest.mark.parametrize("way", ["wire", "pickle", "nested"])
def test_a_folder_comes_back_with_its_empty_folders_and_programs(tmp_path: Path, way: str) -> None:
    directory = Directory(tree(tmp_path))
    if way == "pickle":
        back = pickle.loads(pickle.dumps(directory))
    elif way == "wire":
        back = through_the_wire(directory)
    else:
        back = through_the_wire({"x": [(directory,)]})["x"][0][0]
    assert back == directory
    assert (back.name, list(back)) == ("model", NAMES)
    assert (back.path / "empty").is_dir()
    assert os.access(back.path / "sub" / "deep" / "run.sh", os.X_OK)
    assert not back.path.joinpath("a.txt").stat().st_mode & 0o222
    saved = back.save(tmp_path / "new" / "copy")
    assert Directory(saved) == directory
    assert saved.joinpath("a.txt").stat().st_mode & 0o200
    assert back.save(tmp_path / "new") == tmp_path / "new" / "model"
    with pytest.raises(FileExistsError):
        back.save(tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["copy", "model"]


def test_equality_is_of_what_is_inside(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "1"), tree(tmp_path / "2")
    assert Directory(first) == Directory(second, name="other")
    assert hash(Directory(first)) == hash(Directory(second))
    (second / "a.txt").chmod(0o755)
    assert Directory(first) != Directory(second)
    (second / "a.txt").chmod(0o644)
    (second / "a.txt").write_bytes(b"b")
    assert Directory(first) != Directory(second)
    (second / "a.txt").write_bytes(b"a")
    (second / "empty").rmdir()
    assert Directory(first) != Directory(second)
    assert Directory(first) != "model"


def test_a_temporary_folder_lives_as_long_as_what_is_in_it(tmp_path: Path) -> None:
    directory = through_the_wire(Directory(tree(tmp_path)))
    archived = Directory.from_archive(Directory(tmp_path / "model").archive(), name="x")
    path, kept = directory.path, archived["a.txt"]
    del directory, archived
    gc.collect()
    assert not path.parent.exists()
    assert kept.read() == b"a"


def test_an_archive_is_made_of_the_content_alone(tmp_path: Path) -> None:
    first = Directory(tree(tmp_path / "1")).archive()
    os.utime(tree(tmp_path / "2") / "a.txt", (1, 1))
    second = Directory(tmp_path / "2" / "model").archive()
    assert first.sha256 == second.sha256
    assert Directory.from_archive(first, name="x") == Directory(tmp_path / "1" / "model")


def outside(root: Path) -> None:
    (root / "bad").symlink_to("/etc/passwd")


def above(root: Path) -> None:
    (root.parent / "neighbour").write_text("x")
    (root / "bad").symlink_to("../neighbour")


def broken(root: Path) -> None:
    (root / "bad").symlink_to("nowhere")


def circle(root: Path) -> None:
    (root / "sub" / "bad").symlink_to("..")


def fifo(root: Path) -> None:
    os.mkfifo(root / "bad")


def no_text(root: Path) -> None:
    (root / os.fsdecode(b"bad\xff")).write_text("x")


def backslash(root: Path) -> None:
    (root / "bad\\name").write_text("x")


def long(root: Path) -> None:
    path = root
    for _ in range(6):
        path = path / ("bad" * 80)
        path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (outside, "leads outside"),
        (above, "leads outside"),
        (broken, "not there"),
        (circle, "a folder that it is in"),
        (fifo, "special file"),
        (no_text, "no text"),
        (backslash, "plain names"),
        (long, "more than 1024 bytes"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, spoil: Any, text: str) -> None:
    root = tree(tmp_path)
    spoil(root)
    with pytest.raises(SerialisationError, match=text) as caught:
        encode([Directory(root)], "inputs")
    assert "bad" in str(caught.value)
    assert str(caught.value).startswith("inputs[0]: ")


def test_the_number_of_entries_is_bounded(tmp_path: Path) -> None:
    for number in range(10_001):
        (tmp_path / str(number)).mkdir()
    with pytest.raises(SerialisationError, match="max_entries=10000"):
        Directory(tmp_path).entries()


def entry(path: str, name: str | None = None, content: bytes = b"") -> DirectoryEntry:
    return DirectoryEntry(path=path, file=wire_file(name or path.rpartition("/")[2], content))


def wire_file(name: str, content: bytes = b"") -> WireFile:
    sent = encode(File.from_bytes(content, name="x")).file_value
    sent.name = name
    return sent


@pytest.mark.parametrize(
    ("directory", "text"),
    [
        (WireDirectory(name="../x"), "plain name of a folder"),
        (WireDirectory(name="d", entries=[entry("../a")]), "plain names"),
        (WireDirectory(name="d", entries=[entry("/a")]), "plain names"),
        (WireDirectory(name="d", entries=[entry("a//b")]), "plain names"),
        (WireDirectory(name="d", entries=[entry("a/./b")]), "plain names"),
        (WireDirectory(name="d", entries=[entry("a\0b")]), "plain names"),
        (WireDirectory(name="d", entries=[DirectoryEntry(path="")]), "plain names"),
        (WireDirectory(name="d", entries=[DirectoryEntry(path="x/..")]), "plain names"),
        (WireDirectory(name="d", entries=[entry("a" * 256)]), "more than 255 bytes"),
        (WireDirectory(name="d", entries=[entry("a/" * 600 + "b")]), "more than 1024 bytes"),
        (WireDirectory(name="d", entries=[entry("a"), entry("a")]), "occurs twice"),
        (WireDirectory(name="d", entries=[entry("a"), entry("a/b/c")]), "has others"),
        (WireDirectory(name="d", entries=[entry("a", "b")]), "another name"),
        (WireDirectory(name="d", entries=[DirectoryEntry(path="a", file=WireFile(name="a"))]),
         "no content"),
        (WireDirectory(name="d", entries=[DirectoryEntry(path=str(n)) for n in range(10_001)]),
         "10001 entries, more than 10000"),
        (WireDirectory(name="d", entries=[entry("a")], archive=wire_file("a")), "and entries"),
        (WireDirectory(name="d", archive=wire_file("a/b")), "plain name of a file"),
    ],
)  # fmt: skip
def test_both_ends_refuse_what_is_not_path_safe(directory: WireDirectory, text: str) -> None:
    value = Value(directory_value=directory)
    with pytest.raises(SerialisationError, match=text):
        decode(value)
    with pytest.raises(Exception, match=text):
        plain(value)


class Both(InputSchema):
    folder: Directory
    file: File | None = None


def test_a_graph_takes_folders_in_every_place(tmp_path: Path) -> None:
    @pipe(on_startup=True)
    def count(folder: Directory) -> int:
        return len(list(folder))

    @pipe
    def names(counted: int, folder: Directory, both: Both) -> list[Any]:
        return [counted, list(folder), both.folder.name]

    with Pipeline() as builder:
        folder, both = Variable(Directory), Variable(Both)
        builder.output(names(count(Directory(tree(tmp_path))), folder, both))
    graph = builder.get_pipeline()
    other = tmp_path / "other"
    other.mkdir()
    (other / "x").write_text("x")
    given = {"folder": Directory(other)}
    assert graph.run(Directory(other), given) == [[5, ["x"], "other"]]
    loaded = type(graph).loads(graph.dumps())
    assert loaded.run(Directory(other), Both(folder=Directory(other))) == [[5, ["x"], "other"]]
    assert loaded.digest() == graph.digest()
    with pytest.raises(InvalidInput, match="a Directory"):
        graph.run(File(other / "x"), given)
    (tmp_path / "model" / "a.txt").write_text("changed")
    assert graph.digest() != loaded.digest()


def test_it_is_made_of_one_thing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileNotFoundError):
        Directory(tmp_path / "missing")
    with pytest.raises(NotADirectoryError):
        Directory(tmp_path / "file")
    for cls in (File, Directory):
        with pytest.raises(TypeError, match="exactly one of path, url and remote_id"):
            cls()
        with pytest.raises(TypeError, match="exactly one of path, url and remote_id"):
            cls(path=tmp_path, url="http://a.org/x")
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            cls(remote_id="abc")
        with pytest.raises(ValueError, match="neither http nor https"):
            cls(url="ftp://a.org/x")
        remote = cls(remote_id="ab" * 32)
        with pytest.raises(SerialisationError, match="in a daemon"):
            pickle.dumps(remote)
        with pytest.raises(SerialisationError, match="in a daemon"):
            encode(remote)
