"""Files too large for a message: to the daemon, through a run, and back."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import Client, File, InputField, InputSchema, errors, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.files import (
    GROWTH,
    MIB,
    SIZE,
    content,
    echo,
    graph_of,
    high_water,
    on_disk,
    sha256_of,
)
from tests.running_daemon import RunningDaemon

LARGE = 200 * MIB


@pipe
def describe(file: File) -> dict:  # type: ignore[type-arg]
    with file.path.open("rb") as stream:
        first = stream.read(4)
    try:
        file.path.open("r+b").close()
        writable = True
    except PermissionError:
        writable = False
    return {
        "name": file.name,
        "path_name": file.path.name,
        "folder": str(file.path.parent.parent),
        "size": file.size,
        "first": first,
        "sha256": hashlib.sha256(file.read()).hexdigest(),
        "writable": writable,
        "media_type": file.media_type,
    }


@pipe
def make(size: int, folder: str) -> File:
    path = Path(folder) / "made.bin"
    with path.open("wb") as stream:
        stream.truncate(size)
        stream.write(b"made here")
    return File(path)


class Pair(InputSchema):
    left: File = InputField()
    right: File | None = InputField(optional=True)


@pipe
def digests(pair: Pair, more: list[Any]) -> list[str]:
    files = [pair.left, pair.right, more[0]["inner"][0]]
    return [hashlib.sha256(file.read()).hexdigest() for file in files if file is not None]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that takes files of 250 MiB, and has the graphs of this module."""
    options = (*QUICK_PRELOAD, "--file-max-size=250MiB", "--file-store-size=500MiB")
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=options)
    with running.client() as client:
        deploy(client)
    yield running
    running.close()


def deploy(client: Client) -> None:
    client.deploy(graph_of(describe, File), "describe")
    client.deploy(graph_of(echo, Any), "echo")
    client.deploy(graph_of(make, int, str), "make")
    client.deploy(graph_of(digests, Pair, list), "digests")


def test_a_large_input_is_a_real_file_in_the_worker_while_the_run_lasts(
    client: Client, tmp_path: Path
) -> None:
    [seen] = client.run("describe", on_disk(tmp_path, "a picture.png"))
    assert isinstance(seen, dict)
    assert seen["name"] == seen["path_name"] == "a picture.png"
    assert seen["media_type"] == "image/png"
    assert (seen["size"], seen["first"]) == (SIZE, content()[:4])
    assert seen["sha256"] == sha256_of(content())
    # Root may write everything.
    assert not seen["writable"] or os.geteuid() == 0
    assert not Path(seen["folder"]).exists()


def test_a_content_is_sent_once(shared: RunningDaemon, tmp_path: Path) -> None:
    sent: list[tuple[str, int, int]] = []
    file = on_disk(tmp_path, data=content(1))
    with Client(
        shared.address, on_upload=lambda file, done, size: sent.append((file.name, done, size))
    ) as client:
        assert not client.files.stat(file.sha256).present
        client.run("describe", file)
        assert [done for _, done, _ in sent] == [MIB, 2 * MIB, 3 * MIB]
        assert {(name, size) for name, _, size in sent} == {("in.bin", SIZE)}
        assert client.files.stat(file.sha256).present
        sent.clear()
        client.run("describe", on_disk(tmp_path, "other name.bin", content(1)))
        assert sent == []


def test_nested_files_go_both_ways(client: Client, tmp_path: Path) -> None:
    large, small = on_disk(tmp_path, "large", content(2)), on_disk(tmp_path, "small", b"small")
    value = {"a": [large, (small, large)], "b": {"c": large}}
    [back] = client.run("echo", value)
    assert back == value
    same_name = tmp_path / "folder"
    same_name.mkdir()
    other = on_disk(same_name, "large", content(3))
    [found] = client.run("digests", {"left": large, "right": other}, [{"inner": (small,)}])
    assert found == [sha256_of(content(2)), sha256_of(content(3)), sha256_of(b"small")]
    assert client.run("digests", Pair(left=large), [{"inner": [other]}]) == [
        [sha256_of(content(2)), sha256_of(content(3))]
    ]


def test_an_output_is_downloaded_when_it_is_read(client: Client, tmp_path: Path) -> None:
    [made] = client.run("make", SIZE, str(tmp_path))
    assert isinstance(made, File)
    expected = (tmp_path / "made.bin").read_bytes()
    # The content is the daemon's now, and no more the path's.
    (tmp_path / "made.bin").unlink()
    assert (made.name, made.size, made.sha256) == ("made.bin", SIZE, sha256_of(expected))
    saved = made.save(tmp_path / "out" / "saved.bin")
    assert saved.read_bytes() == expected
    assert [path.name for path in saved.parent.iterdir()] == ["saved.bin"]
    with made.open() as stream:
        assert stream.read(9) == b"made here"
    assert made.read() == expected
    # An output as an input: it is in the daemon already.
    [seen] = client.run("describe", made)
    assert isinstance(seen, dict)
    assert seen["sha256"] == made.sha256


def test_an_output_that_is_gone_leaves_what_is_at_the_path(client: Client, tmp_path: Path) -> None:
    [made] = client.run("make", SIZE, str(tmp_path))
    assert isinstance(made, File)
    client.files.delete(made.sha256)
    (tmp_path / "kept").write_bytes(b"before")
    with pytest.raises(errors.NotFound) as caught:
        made.save(tmp_path / "kept")
    assert caught.value.reason == "FILE_NOT_FOUND"
    assert (tmp_path / "kept").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "made.bin"]
    with pytest.raises(errors.NotFound):
        client.files.delete(made.sha256)


def test_a_large_file_goes_through_with_bounded_memory(
    shared: RunningDaemon, client: Client, tmp_path: Path
) -> None:
    # What any transfer takes once: threads, buffers of gRPC.
    client.run("echo", on_disk(tmp_path, "warm up", content(4)))
    path = tmp_path / "large.bin"
    with path.open("wb") as stream:
        stream.write(os.urandom(MIB))
        stream.truncate(LARGE)
    before = high_water(shared.pid)
    file = File(path)
    [back] = client.run("echo", file)
    assert isinstance(back, File)
    assert (back.size, back.sha256) == (LARGE, file.sha256)
    saved = File(back.save(tmp_path / "back.bin"))
    assert saved.sha256 == file.sha256
    assert high_water(shared.pid) - before < GROWTH
    # One that is made in the worker is copied from there.
    [made] = client.run("make", LARGE + 1, str(tmp_path))
    assert isinstance(made, File)
    assert made.size == LARGE + 1
    assert high_water(shared.pid) - before < GROWTH


def test_what_is_too_large_is_refused_with_the_bound(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as stream:
        stream.truncate(251 * MIB)
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("echo", File(path))
    assert caught.value.reason == "FILE_TOO_LARGE"
    assert caught.value.bound == f"max_bytes={250 * MIB}"
    with pytest.raises(errors.InvalidInput) as caught:
        client.run("make", 251 * MIB, str(tmp_path))
    assert caught.value.reason == "FILE_TOO_LARGE"
    assert client.run("echo", 1) == [1]


def test_a_store_that_is_full_says_so(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, options=(*QUICK_PRELOAD, "--file-store-size=4MiB"))
    try:
        with daemon.client() as client:
            deploy(client)
            first, second = on_disk(tmp_path, "1", content(5)), on_disk(tmp_path, "2", content(6))
            with pytest.raises(errors.Overloaded, match=str(4 * MIB)) as caught:
                client.run("echo", on_disk(tmp_path, "3", bytes(5 * MIB)))
            assert caught.value.reason == "FILES_FULL"
            with pytest.raises(errors.Overloaded, match="no room for all") as caught:
                client.run("echo", [first, second])
            # What no run uses makes room.
            client.files.upload(first)
            assert client.run("echo", second) == [second]
            assert not client.files.stat(first.sha256).present
    finally:
        daemon.close()


def test_what_is_not_used_for_its_time_goes(tmp_path: Path) -> None:
    daemon = RunningDaemon(tmp_path, options=(*QUICK_PRELOAD, "--file-ttl=2h"))
    try:
        with daemon.client() as client:
            old, new = on_disk(tmp_path, "1", content(11)), on_disk(tmp_path, "2", content(12))
            for file in (old, new):
                client.files.upload(file)
            assert daemon.stop() == 0
            [path] = daemon.state_dir.glob(f"files/*/{old.sha256}")
            [other] = daemon.state_dir.glob(f"files/*/{new.sha256}")
            os.utime(path, (time.time() - 2 * 3600 - 1,) * 2)
            os.utime(other, (time.time() - 3600,) * 2)
            daemon.start()
            assert not client.files.stat(old.sha256).present
            assert client.files.stat(new.sha256).present
            client.files.upload(old)
            assert client.files.stat(old.sha256).present
    finally:
        daemon.close()


def test_no_descriptor_is_left(shared: RunningDaemon, client: Client, tmp_path: Path) -> None:
    client.run("echo", on_disk(tmp_path))
    pids = [shared.pid, *client.deployment("echo").worker_pids]
    before = [psutil.Process(pid).num_fds() for pid in pids]
    for number in range(3):
        client.run("echo", [on_disk(tmp_path, data=content(20 + number)), on_disk(tmp_path, "2")])
    assert [psutil.Process(pid).num_fds() for pid in pids] == before
