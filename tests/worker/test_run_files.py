"""The names that user code sees inputs under."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipeline import Directory
from pipelined.worker.run_files import RunFiles
from pipelined_api.v1 import values_pb2

CONTENT = b"content of a file"


@pytest.fixture(params=["same file system", "another one"])
def descriptor(request: pytest.FixtureRequest, tmp_path: Path) -> int:
    if request.param == "another one":
        memory = os.memfd_create("test")
        os.write(memory, CONTENT)
        return memory
    (tmp_path / "stored").write_bytes(CONTENT)
    return os.open(tmp_path / "stored", os.O_RDONLY)


def test_an_input_is_a_file_under_its_name(
    descriptor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sha256 = hashlib.sha256(CONTENT).digest()
    files = RunFiles()
    files.add_input(sha256, descriptor)
    wire = values_pb2.File(name="a.txt", size=len(CONTENT), sha256=sha256, stored=True)
    file, again = files.open_input(wire), files.open_input(wire)
    assert file.path.name == again.path.name == "a.txt"
    assert file.path != again.path
    assert file.read() == again.path.read_bytes() == CONTENT
    # Of a content on another file system there is only the descriptor.
    linked = (tmp_path / "stored").exists()
    assert file.path.is_symlink() is not linked
    assert (file.path.resolve() == file.path) is linked
    folder = Directory.from_files([("sub/b.txt", False, file), ("run", True, again)], name="d")
    assert (folder.path / "sub" / "b.txt").read_bytes() == CONTENT
    assert os.access(folder.path / "run", os.X_OK)
    files.close()
    assert not file.path.exists()
