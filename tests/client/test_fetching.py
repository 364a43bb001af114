"""Files by their URL, in this process."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import random
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import Directory, File, Pipeline, Variable, _fetching, errors, pipe
from pipeline._fetching import UrlPolicy
from pipelined_api.url_hosts import UrlHosts
from tests.web_server import WebServer

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer({"/a%20b.bin": CONTENT, "/missing": 404, "/broken": 500}) as running:
        yield running


@pytest.fixture
def restricted(server: WebServer) -> Iterator[None]:
    """As in a worker that may fetch from localhost."""
    before = _fetching._policy
    _fetching.set_policy(UrlPolicy(UrlHosts([f"localhost:{server.port}"]), 20_000))
    yield
    _fetching.set_policy(before)


def fetched(url: str, sha256: str = "") -> bytes:
    target = io.BytesIO()
    _fetching.fetch(url, target, sha256)
    return target.getvalue()


def test_a_file_is_fetched_once_and_when_it_is_read(server: WebServer, tmp_path: Path) -> None:
    file = File(url=server.url("/a%20b.bin"))
    assert (file.name, file.url) == ("a b.bin", server.url("/a%20b.bin"))
    assert file == File(url=file.url)
    assert pickle.loads(pickle.dumps(file)) == file
    assert server.asked == []
    assert (file.size, file.read(), file.sha256) == (len(CONTENT), CONTENT, SHA256)
    assert file.save(tmp_path / "copy").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert File(url=file.url, sha256=SHA256.upper()).read() == CONTENT


def test_a_graph_that_runs_here_fetches_here(server: WebServer) -> None:
    @pipe(on_startup=True)
    def measure(file: File) -> int:
        return file.size

    @pipe
    def total(one: int, file: File) -> int:
        return one + file.size

    with Pipeline() as builder:
        given = Variable(File)
        builder.output(total(measure(File(url=server.url("/a%20b.bin"))), given))
    graph = builder.get_pipeline()
    assert graph.digest() == graph.digest()
    assert server.asked == []
    assert graph.run(File(url=server.url("/a%20b.bin"))) == [2 * len(CONTENT)]


def test_what_goes_wrong_says_so(server: WebServer) -> None:
    server.contents["/short.cut"] = b"abc"
    with pytest.raises(errors.NotFound, match="404"):
        fetched(server.url("/missing"))
    with pytest.raises(errors.Unavailable, match="500"):
        fetched(server.url("/broken"))
    with pytest.raises(errors.Unavailable, match=r"broke off|missing"):
        fetched(server.url("/short.cut"))
    with pytest.raises(errors.PipelineError, match=f"{SHA256} and not {'0' * 64}"):
        fetched(server.url("/a%20b.bin"), "0" * 64)
    with pytest.raises(errors.InvalidInput, match="neither http"):
        fetched("ftp://localhost/x")


@pytest.mark.usefixtures("restricted")
def test_only_what_is_allowed_is_fetched(server: WebServer) -> None:
    assert fetched(server.url("/a%20b.bin")) == CONTENT
    for url in (
        server.url("/a%20b.bin", host="127.0.0.1"),
        "http://localhost/a",
        "http://example.org/",
    ):
        with pytest.raises(errors.PermissionDenied, match=r"--allow-url-host"):
            fetched(url)
    server.contents["/large"] = bytes(20_001)
    with pytest.raises(errors.InvalidInput) as caught:
        fetched(server.url("/large"))
    assert caught.value.bound == "max_bytes=20000"


@pytest.mark.usefixtures("restricted")
def test_a_name_that_leads_to_a_private_address_is_refused(server: WebServer) -> None:
    _fetching.set_policy(UrlPolicy(UrlHosts(["*"])))
    with pytest.raises(errors.PermissionDenied, match="not public"):
        fetched(server.url("/a%20b.bin"))
    assert server.asked == []
    # Naming the address literally is what it takes.
    _fetching.set_policy(UrlPolicy(UrlHosts(["*", f"127.0.0.1:{server.port}"])))
    assert fetched(server.url("/a%20b.bin")) == CONTENT


@pytest.mark.usefixtures("restricted")
def test_redirects_are_checked_again(server: WebServer) -> None:
    server.contents |= {
        "/moved": "/a%20b.bin",
        "/elsewhere": server.url("/a%20b.bin", host="127.0.0.1"),
        "/file": "file:///etc/passwd",
        "/round": "/round",
    }
    assert fetched(server.url("/moved")) == CONTENT
    with pytest.raises(errors.PermissionDenied):
        fetched(server.url("/elsewhere"))
    with pytest.raises(errors.InvalidInput, match="neither http"):
        fetched(server.url("/file"))
    with pytest.raises(errors.Unavailable, match="redirects more than 5"):
        fetched(server.url("/round"))


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


def tarred(*members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return target.getvalue()


def damaged(content: bytes, begin: int, end: int) -> bytes:
    """The content with the bytes from one place to another turned over."""
    turned = bytes(byte ^ 0xFF for byte in content[begin:end])
    return content[:begin] + turned + content[end:]


def noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, "target"
    return info


def test_archives_become_folders(server: WebServer) -> None:
    script = member("./in/run.sh", 2)
    script.mode = 0o755
    server.contents |= {
        "/model.zip": zipped({"a.txt": b"a", "sub/b.txt": b"b", "empty/": b""}),
        "/model.tar.gz": tarred(script, member("empty", kind=tarfile.DIRTYPE)),
        "/model.tar": tarred(member("x", 3), mode="w"),
    }
    directory = Directory(url=server.url("/model.zip"))
    assert (directory.name, list(directory)) == ("model", ["a.txt", "sub/b.txt"])
    assert (directory.path / "empty").is_dir()
    with directory.open("sub/b.txt") as stream:
        assert stream.read() == b"b"
    assert Directory(url=server.url("/model.tar.gz"))["in/run.sh"].path.stat().st_mode & 0o100
    assert list(Directory(url=server.url("/model.tar"))) == ["x"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no archive at all", "cannot be unpacked"),
        (zipped({"a": bytes(10_000)})[:-60], "cannot be unpacked"),
        (damaged(zipped({"a": noise(5000)}), 60, 4000), "cannot be unpacked"),
        (damaged(zipped({"a": noise(5000)}, zipfile.ZIP_LZMA), 60, 4000), "cannot be unpacked"),
        # The sum of what it should have unpacked to.
        (
            damaged(gzip.compress(tarred(member("a", 5), mode="w")[:1024], mtime=0), -8, -4),
            "cannot be unpacked",
        ),
        (zipped({"../out": b""}), "is no relative path"),
        (zipped({"/out": b""}), "is no relative path"),
        (zipped({"a/../../out": b""}), "is no relative path"),
        (zipped({"a": b"", "a/b": b""}), "leads through a file"),
        (tarred(member("a"), member("a")), "a path twice"),
        (tarred(member("../out", 1)), "is no relative path"),
        (tarred(member("link", kind=tarfile.SYMTYPE)), "link or a special file: 'link'"),
        (tarred(member("hard", kind=tarfile.LNKTYPE)), "link or a special file: 'hard'"),
        (tarred(member("pipe", kind=tarfile.FIFOTYPE)), "special file: 'pipe'"),
        (tarred(*[member(str(n)) for n in range(10_001)]), "more than 10000 entries"),
        (zipped({"bomb": bytes(20_001)}), "more than 20000 bytes"),
    ],
)
@pytest.mark.usefixtures("restricted")
def test_archives_that_are_refused(server: WebServer, content: bytes, text: str) -> None:
    server.contents["/x"] = content
    _fetching.set_policy(UrlPolicy(UrlHosts([f"localhost:{server.port}"]), 20_000))
    directory = Directory(url=server.url("/x"))
    if len(content) > 20_000:
        _fetching.set_policy(UrlPolicy(UrlHosts([f"localhost:{server.port}"]), 10**8))
    with pytest.raises(errors.InvalidInput, match=text):
        _ = directory.path
