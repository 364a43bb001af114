"""Archives of folders: the same everywhere, bounded, and unpacked into their folder only."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import _bundle_files
from pipeline._bundle import bundle_digest, describe
from pipeline._bundle_files import archive, unpack
from pipeline.errors import GraphError, InvalidInput, SerialisationError
from pipelined_api.limits import MAX_BUNDLE_ENTRIES
from tests.client.test_shipping import write

# Of the folder that the first test writes: on every machine, with every Python.
SHA256 = "94cf6a6e8f7e9cb516f910cc9a3489446f1b35a7d0b29a4c0f72a591885416c6"


def folder(path: Path) -> Path:
    write(path, {"b.py": "1\n", "a/ü.txt": "ü", "a/z/deep.txt": "", "run.sh": "#!/bin/sh\n"})
    (path / "run.sh").chmod(0o755)
    return path


def test_the_archive_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    one, two = folder(tmp_path / "one"), folder(tmp_path / "two")
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    (two / "b.py").chmod(0o400)
    made = archive(one)
    assert made.names == ("a/z/deep.txt", "a/ü.txt", "b.py", "run.sh")
    assert made.sha256.hex() == archive(two).sha256.hex() == SHA256
    (two / "run.sh").chmod(0o644)
    assert archive(two).sha256 != made.sha256
    assert bundle_digest(made, "a:b") != bundle_digest(made, "a:c")


def test_an_archive_unpacks_to_what_it_was_made_of(tmp_path: Path) -> None:
    made = archive(folder(tmp_path / "one"))
    (tmp_path / "two").mkdir()
    unpack(made.content, tmp_path / "two")
    assert archive(tmp_path / "two") == made
    assert (tmp_path / "two" / "a" / "ü.txt").read_text() == "ü"
    assert (tmp_path / "two" / "run.sh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "two" / "b.py").stat().st_mode & 0o777 == 0o600


def test_what_is_hidden_or_made_by_python_stays(tmp_path: Path) -> None:
    files = [".git/config", ".env", "a/.hidden", "__pycache__/a.pyc", "a/b.pyc", "venv/x.py"]
    write(tmp_path, {**dict.fromkeys(files, ""), "a/b.py": "", "venv.py": ""})
    assert archive(tmp_path).names == ("a/b.py", "venv.py")


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ("*.ckpt", {"data/x.txt", "docs/a.pdf", "docs/deep/a.pdf", "notes.txt", "deep/data"}),
        ("data/", {"m.ckpt", "docs/a.pdf", "docs/deep/a.pdf", "notes.txt", "deep/data"}),
        ("/data", {"m.ckpt", "docs/a.pdf", "docs/deep/a.pdf", "notes.txt", "deep/data"}),
        ("docs/*.pdf", {"m.ckpt", "data/x.txt", "docs/deep/a.pdf", "notes.txt", "deep/data"}),
        ("docs/**/a.pdf", {"m.ckpt", "data/x.txt", "notes.txt", "deep/data"}),
        ("# data\n\n /notes.txt \ndeep", {"m.ckpt", "data/x.txt", "docs/a.pdf"}),
    ],
)
def test_pipelineignore_names_what_stays(tmp_path: Path, patterns: str, kept: set[str]) -> None:
    names = ["m.ckpt", "data/x.txt", "docs/a.pdf", "docs/deep/a.pdf", "notes.txt", "deep/data"]
    write(tmp_path, {**dict.fromkeys(names, ""), ".pipelineignore": patterns})
    assert set(archive(tmp_path).names) == kept


def test_links_inside_are_what_they_lead_to(tmp_path: Path) -> None:
    write(tmp_path, {"a/b.txt": "b", "c.txt": "c"})
    (tmp_path / "link.txt").symlink_to("a/b.txt")
    (tmp_path / "d").symlink_to("a")
    assert archive(tmp_path).names == ("a/b.txt", "c.txt", "d/b.txt", "link.txt")
    (tmp_path / "out").mkdir()
    content = archive(tmp_path).content
    unpack(content, tmp_path / "out")
    assert (tmp_path / "out" / "link.txt").read_text() == "b"
    assert not (tmp_path / "out" / "link.txt").is_symlink()


def _link(name: str, target: str) -> Callable[[Path], object]:
    return lambda path: (path / name).symlink_to(target)


@pytest.mark.parametrize(
    ("spoil", "field", "message"),
    [
        (_link("a/out", "/etc/hostname"), "a/out", "is a link that leads out of the folder, to '/"),
        (_link("out", ".."), "out", "leads out of the folder"),
        (_link("a/loop", "../a"), "a/loop", "is a link to a folder that it lies in"),
        (_link("broken", "nowhere"), "broken", "is a broken link"),
        (lambda path: os.mkfifo(path / "pipe"), "pipe", "is neither a file nor a folder"),
        (
            lambda path: (path / ".pipelineignore").write_text("a\n!b\n"),
            ".pipelineignore",
            ".pipelineignore, line 2: '!b' takes a pattern back",
        ),
        (
            lambda path: (path / ".pipelineignore").write_bytes(b"\xff"),
            ".pipelineignore",
            "is not UTF-8",
        ),
    ],
)
def test_what_cannot_be_archived_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], object], field: str, message: str
) -> None:
    write(tmp_path, {"a/b.py": ""})
    spoil(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        archive(tmp_path)
    assert caught.value.field == field
    assert message in str(caught.value)


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no folder"):
        archive(tmp_path / "absent")


def test_files_and_bytes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(MAX_BUNDLE_ENTRIES + 1):
        (tmp_path / f"{index}.txt").touch()
    with pytest.raises(InvalidInput) as caught:
        archive(tmp_path)
    assert caught.value.bound == f"max_files={MAX_BUNDLE_ENTRIES}"
    # Takes no space where files may have holes.
    write(tmp_path, {".pipelineignore": "*.txt"})
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(2**28)
    with pytest.raises(InvalidInput, match="the largest is 'weights.bin' with 268435456") as caught:
        archive(tmp_path)
    assert caught.value.bound == "max_bytes=268435456"


def tar(entries: Iterable[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.linkname = "target"
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def with_holes(size: int) -> bytes:
    """A file of one byte that says that it is much larger."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        entry = tarfile.TarInfo("a")
        entry.size = 1
        entry.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(size)}
        file.addfile(entry, io.BytesIO(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        with_holes(2**20),
        tar([("../out", b"x")]),
        tar([("/tmp/out", b"x")]),
        tar([("a/../../out", b"x")]),
        tar([("a//b", b"x")]),
        tar([("./a", b"x")]),
        tar([("a\\b", b"x")]),
        tar([("", b"x")]),
        tar([("a", b"")], tarfile.SYMTYPE),
        tar([("a", b"")], tarfile.LNKTYPE),
        tar([("a", b"")], tarfile.DIRTYPE),
        tar([("a", b"")], tarfile.FIFOTYPE),
        tar([("a", b"")], tarfile.CHRTYPE),
        tar([("a", b"")], tarfile.GNUTYPE_SPARSE),
        tar([("a", b"x"), ("a", b"y")]),
        tar([("a", b"x"), ("a/b", b"y")]),
        tar((str(index), b"") for index in range(MAX_BUNDLE_ENTRIES + 1)),
        b"",
        b"x" * 1024,
        tar([("a", b"x" * 5000)])[:1000],
    ],
)
def test_hostile_archives_write_nothing_elsewhere(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "in" / "deep"
    place.mkdir(parents=True)
    with pytest.raises(SerialisationError, match="the bundle cannot be unpacked") as caught:
        unpack(content, place)
    assert caught.value.subject == "bundle"
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
    assert list((tmp_path / "in").iterdir()) == [place]
    assert not any(path.is_symlink() for path in place.iterdir())


_PARTS = st.text("ab.*/é", min_size=1, max_size=6)


@given(names=st.lists(_PARTS, max_size=6))
def test_names_are_refused_or_stay_inside(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    around = tmp_path_factory.mktemp("around")
    place = around / "place"
    place.mkdir()
    try:
        unpack(tar((name, b"x") for name in names), place)
    except SerialisationError:
        pass
    else:
        found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        # tarfile takes what ends in a slash for a folder's name without it.
        assert found == {name.rstrip("/") for name in names}
    assert list(around.iterdir()) == [place]


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ({"app.py": "x = 1\n"}, "app:graph", "app has no 'graph'"),
        ({"app.py": "graph = 1\n"}, "app:graph", "app:graph is a int, not a Graph"),
        ({"app.py": ""}, "other:graph", "the folder has no module 'other'"),
        ({"app.py": "\n1 / 0\n"}, "app:graph", "ZeroDivisionError: division by zero (app.py, line"),
        ({"app.py": "import nowhere_\n"}, "app:graph", "No module named 'nowhere_'"),
        ({"app.py": "import sys; sys.exit(3)\n"}, "app:graph", "SystemExit: 3 (app.py, line 1)"),
        ({"app.py": "import os; os._exit(3)\n"}, "app:graph", "ended with code 3"),
        ({"app.py": "", "types.py": ""}, "app:graph", "the folder's module 'types' has the name"),
        ({"app.py": "", "pipeline/__init__.py": ""}, "app:graph", "module 'pipeline' has the name"),
    ],
)
def test_a_folder_that_makes_no_graph_says_why(
    tmp_path: Path, files: dict[str, str], target: str, message: str
) -> None:
    bundle = archive(write(tmp_path, files))
    with pytest.raises(GraphError) as caught:
        describe(bundle, target)
    assert message in str(caught.value)


def test_nothing_of_the_folder_is_executed_in_this_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    app = (
        "import os\nfrom pathlib import Path\nfrom pipeline import Pipeline, Variable, pipe\n"
        "print('imported')\nassert Path('words.txt').read_text() == 'words'\n"
        "@pipe\ndef f(x: int) -> int:\n    return x\n"
        "with Pipeline() as builder:\n    builder.output(f(Variable(int)))\n"
    )
    bundle = archive(write(tmp_path, {"shipped_app.py": app, "words.txt": "words"}))
    here = Path.cwd()
    described = describe(bundle, "shipped_app:builder")
    assert described.topology == ["node 0: f(input 0)", "output 0: node 0"]
    assert [each.name for each in described.schema.inputs] == ["input_0"]
    assert (capfd.readouterr().out, Path.cwd()) == ("", here)
    with pytest.raises(InvalidInput, match="module:variable"):
        describe(bundle, "shipped_app")
    assert _bundle_files.IGNORE_FILE not in bundle.names
