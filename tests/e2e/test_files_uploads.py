"""Uploads of the Files service: broken off, gone on from, and refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pipeline import Client, File
from pipelined_api.v1 import files_pb2, files_pb2_grpc
from tests.conftest import QUICK_PRELOAD
from tests.e2e.files import MIB, content, echo, graph_of, on_disk, sha256_of
from tests.running_daemon import RunningDaemon


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    options = (*QUICK_PRELOAD, "--file-max-size=250MiB", "--file-store-size=500MiB")
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=options)
    with running.client() as client:
        client.deploy(graph_of(echo, Any), "echo")
    yield running
    running.close()


def stub(channel: grpc.Channel) -> files_pb2_grpc.FilesStub:
    return files_pb2_grpc.FilesStub(channel)


def parts(data: bytes, announced: bytes, **header: Any) -> Iterator[files_pb2.UploadRequest]:
    """An upload of some data that announces other data."""
    sha256 = hashlib.sha256(announced).digest()
    fields = {"sha256": sha256, "size": len(announced), "name": "a", **header}
    yield files_pb2.UploadRequest(header=files_pb2.UploadHeader(**fields))
    for start in range(0, len(data), MIB):
        yield files_pb2.UploadRequest(data=data[start : start + MIB])


@pytest.mark.parametrize("how", ["ended", "cut"])
def test_a_broken_upload_is_gone_on_from(
    shared: RunningDaemon, client: Client, tmp_path: Path, how: str
) -> None:
    data = content(7 if how == "ended" else 8)
    file = on_disk(tmp_path, data=data)
    with grpc.insecure_channel(shared.address) as channel:
        if how == "ended":
            with pytest.raises(grpc.RpcError, match=f"ended at byte {2 * MIB}"):
                stub(channel).Upload(parts(data[: 2 * MIB], data))
        else:

            def hanging() -> Iterator[files_pb2.UploadRequest]:
                yield from parts(data[: 2 * MIB], data)
                while client.files.stat(file.sha256).received < 2 * MIB:
                    pass
                call.cancel()

            call = stub(channel).Upload.future(hanging())
            with pytest.raises(grpc.FutureCancelledError):
                call.result()
    progress: list[int] = []
    assert client.files.upload(file, on_progress=lambda done, _: progress.append(done))
    assert progress == [3 * MIB]
    assert client.run("echo", file) == [file]


def test_files_outlive_a_restart_and_a_crash(own_daemon: RunningDaemon, tmp_path: Path) -> None:
    data = content(9)
    file = on_disk(tmp_path, data=content(10))
    with own_daemon.client() as client:
        client.deploy(graph_of(echo, Any), "echo")
        (tmp_path / "given").write_bytes(content(14))
        [made] = client.run("echo", File(tmp_path / "given"))
        assert isinstance(made, File)
        with grpc.insecure_channel(own_daemon.address) as channel, pytest.raises(grpc.RpcError):
            stub(channel).Upload(parts(data[:MIB], data))
        client.files.upload(file)
        own_daemon.restart()
        assert made.read() == content(14)
        own_daemon.kill()
        own_daemon.start()
        assert client.files.stat(file.sha256).present
        assert client.files.stat(sha256_of(data)).received == MIB
        [back] = client.run("echo", file)
        # The same client, after the contents went behind its back.
        client.files.delete(file.sha256)
        assert client.run("echo", file) == [file]
        assert back == file


@pytest.mark.parametrize(
    ("data", "header", "code", "text"),
    [
        (b"xyz", {}, grpc.StatusCode.DATA_LOSS, "SHA-256"),
        (b"abcd", {}, grpc.StatusCode.DATA_LOSS, "more than the announced 3"),
        (b"ab", {}, grpc.StatusCode.INVALID_ARGUMENT, "byte 2"),
        (b"c", {"offset": 2}, grpc.StatusCode.INVALID_ARGUMENT, "offset"),
        (b"abc", {"sha256": b"short"}, grpc.StatusCode.INVALID_ARGUMENT, "sha256"),
        (b"abc", {"sha256": b"../" * 10 + b"xx"}, grpc.StatusCode.DATA_LOSS, "SHA-256"),
        (b"abc", {"name": "../a"}, grpc.StatusCode.INVALID_ARGUMENT, "name"),
        (b"abc", {"name": "a\0"}, grpc.StatusCode.INVALID_ARGUMENT, "name"),
        (b"", {"size": 2**63}, grpc.StatusCode.RESOURCE_EXHAUSTED, str(250 * MIB)),
    ],
)
def test_uploads_that_are_refused(
    shared: RunningDaemon, data: bytes, header: dict[str, Any], code: grpc.StatusCode, text: str
) -> None:
    with grpc.insecure_channel(shared.address) as channel:
        with pytest.raises(grpc.RpcError, match=text) as caught:
            stub(channel).Upload(parts(data, b"abc", **header))
        assert caught.value.code() is code
        stat = stub(channel).Stat(
            files_pb2.FilesStatRequest(sha256=hashlib.sha256(b"abc").digest())
        )
        assert not stat.present
        if stat.received_bytes:
            stub(channel).Delete(
                files_pb2.FilesDeleteRequest(sha256=hashlib.sha256(b"abc").digest())
            )


def test_streams_that_are_no_uploads(shared: RunningDaemon) -> None:
    header = next(parts(b"", content(13)))
    with grpc.insecure_channel(shared.address) as channel:
        for messages, text in (
            ([], "header"),
            ([files_pb2.UploadRequest(data=b"x")], "header"),
            ([header, header], "only chunks"),
            ([header, files_pb2.UploadRequest(data=bytes(MIB + 1))], "a chunk of"),
        ):
            with pytest.raises(grpc.RpcError, match=text) as caught:
                stub(channel).Upload(iter(messages))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        sha256 = hashlib.sha256(b"here").digest()
        stub(channel).Upload(parts(b"here", b"here"))
        with pytest.raises(grpc.RpcError, match="offset") as caught:
            list(stub(channel).Download(files_pb2.DownloadRequest(sha256=sha256, offset=5)))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
