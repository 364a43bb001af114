from __future__ import annotations

import copy
import gc
import hashlib
import os
from pathlib import Path

import pytest

from pipeline import File


@pytest.fixture
def on_disk(tmp_path: Path) -> File:
    path = tmp_path / "folder" / "picture.png"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return File(path=path, allow_out_of_context_creation=True)


@pytest.fixture
def in_memory() -> File:
    return File.from_bytes(b"content", name="picture.png")


@pytest.mark.parametrize("which", ["on_disk", "in_memory"])
def test_content_name_and_digest(which: str, request: pytest.FixtureRequest) -> None:
    file: File = request.getfixturevalue(which)
    assert (file.name, file.media_type, file.size) == ("picture.png", "image/png", 7)
    assert file.sha256 == hashlib.sha256(b"content").hexdigest()
    assert file.read() == file.path.read_bytes() == b"content"
    with file.open() as stream:
        assert stream.read(3) == b"con"
    assert repr(file) == "File('picture.png')"


@pytest.mark.parametrize("which", ["on_disk", "in_memory"])
def test_save_to_a_path_or_into_a_folder(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    file: File = request.getfixturevalue(which)
    assert file.save(tmp_path / "new" / "name.bin").read_bytes() == b"content"
    assert file.save(tmp_path) == tmp_path / "picture.png"
    assert (tmp_path / "picture.png").read_bytes() == b"content"
    # Onto itself, which must not empty it.
    assert file.save(file.path).read_bytes() == b"content"


def test_equality_is_of_name_and_content(on_disk: File, in_memory: File) -> None:
    assert on_disk == in_memory
    assert hash(on_disk) == hash(in_memory)
    assert on_disk != File.from_bytes(b"content", name="other.png")
    assert on_disk != File.from_bytes(b"kontent", name="picture.png")
    assert on_disk != "picture.png"
    assert copy.deepcopy(on_disk) is copy.copy(on_disk) is on_disk


def test_a_temporary_file_lives_as_long_as_its_file_object() -> None:
    file = File.from_bytes(b"x", name="a.txt")
    path = file.path
    assert path == file.path
    assert path.exists()
    del file
    gc.collect()
    assert not path.parent.exists()


def test_a_forked_child_leaves_the_temporary_file_of_its_parent(in_memory: File) -> None:
    path = in_memory.path
    child = os.fork()
    if child == 0:
        del in_memory
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.exists()


def test_a_relative_path_is_that_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("here")
    monkeypatch.chdir(tmp_path)
    file = File("a.txt")
    monkeypatch.chdir("/")
    assert file.read() == b"here"


def test_there_has_to_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        File(tmp_path / "missing.txt")
    with pytest.raises(IsADirectoryError):
        File(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\0b"])
def test_a_name_with_a_folder_in_it_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not the plain name of a file"):
        File.from_bytes(b"", name=name)
