"""Runs and files of others: not seen, not ended, not read, not removed, not even known of."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator

import grpc
import pytest

from pipeline import Client, File, Pipeline, Variable, errors, pipe
from pipelined.core.access import Role
from pipelined_api.v1 import files_pb2, runs_pb2
from tests.hostile.guarded import Guarded
from tests.hostile.wire import Answer, answer

UPLOAD = "/pipelined.v1.Files/Upload"
STAT = "/pipelined.v1.Files/Stat"


@pipe
def echo(text: str) -> str:
    return text


@pipe
def copy(file: File) -> File:
    return File.from_bytes(b"copy of " + file.read(), name="copy")


@pipe
def enlarged(text: str) -> File:
    # Too large to come back in the message.
    return File.from_bytes(text.encode() * (1 << 20), name="large")


def built(call: Callable[..., object], kind: type) -> object:
    with Pipeline() as builder:
        builder.output(call(Variable(kind, title="value")))
    return builder.get_pipeline()


@pytest.fixture(scope="module")
def deployed(guarded: Guarded) -> Iterator[None]:
    graphs = {"own-echo": built(echo, str), "own-copy": built(copy, File)}
    graphs["own-large"] = built(enlarged, str)
    with guarded.client(Role.DEPLOY) as client:
        for name, graph in graphs.items():
            client.deploy(graph, name)  # type: ignore[arg-type]
        yield
        for name in graphs:
            client.delete(name)


@pytest.fixture(scope="module")
def alice(guarded: Guarded, deployed: None) -> Iterator[Client]:
    with guarded.client(Role.RUN) as client:
        yield client


@pytest.fixture(scope="module")
def mallory(guarded: Guarded, deployed: None) -> Iterator[Client]:
    token = guarded.issuer.token(Role.RUN)
    guarded.until_noticed(token, "")
    with guarded.with_token(token) as client:
        yield client


@pytest.fixture
def admin(guarded: Guarded) -> Iterator[Client]:
    with guarded.client(Role.ADMIN) as client:
        yield client


def test_runs_of_others_are_as_if_they_were_not(
    alice: Client, mallory: Client, admin: Client, guarded: Guarded
) -> None:
    run = alice.submit("own-echo", "private", idempotency_key="key")
    assert run.result(timeout=60) == ["private"]
    with pytest.raises(errors.NotFound) as none:
        mallory.get_run("0" * 16)
    with pytest.raises(errors.NotFound) as caught:
        mallory.get_run(run.id)
    assert caught.value.reason == none.value.reason == "RUN_NOT_FOUND"
    assert str(caught.value).replace(run.id, "0" * 16) == str(none.value)
    assert run.id not in {each.id for each in mallory.runs("own-echo")}
    assert run.id in {each.id for each in alice.runs("own-echo")}
    assert run.id in {each.id for each in admin.runs("own-echo")}
    assert admin.get_run(run.id).result() == ["private"]
    # A caller of a socket without a token is one of its own, too; also those who deploy.
    for client in (Client(guarded.run_socket), guarded.client(Role.DEPLOY)):
        with client, pytest.raises(errors.NotFound):
            client.get_run(run.id)
    # The same key of another caller is another key.
    again = mallory.submit("own-echo", "other", idempotency_key="key")
    assert again.id != run.id
    assert again.result(timeout=60) == ["other"]
    assert alice.submit("own-echo", "private", idempotency_key="key").id == run.id


@pytest.mark.parametrize(
    "method", ["Runs/Get", "Runs/Cancel", "Runs/Logs"], ids=lambda name: name.rpartition("/")[2]
)
def test_no_call_tells_of_runs_of_others(alice: Client, guarded: Guarded, method: str) -> None:
    run = alice.submit("own-echo", "private")
    run.result(timeout=60)
    message = {
        "Runs/Get": runs_pb2.RunsGetRequest,
        "Runs/Cancel": runs_pb2.CancelRequest,
        "Runs/Logs": runs_pb2.LogsRequest,
    }[method](run_id=run.id)
    with grpc.insecure_channel(guarded.run_socket) as channel:
        found = answer(channel, f"/pipelined.v1.{method}", message.SerializeToString())
    assert (found.code, found.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    assert run.result() == ["private"]


def test_files_of_others_are_as_if_they_were_not(
    alice: Client, mallory: Client, admin: Client
) -> None:
    content = b"secret weights" * 1000
    sha256 = alice.files.upload(File.from_bytes(content, name="w"))
    assert sha256 == hashlib.sha256(content).hexdigest()
    for call in (
        lambda: mallory.files.download(sha256, io.BytesIO()),
        lambda: mallory.files.delete(sha256),
        lambda: mallory.run("own-copy", File(remote_id=sha256)),
    ):
        with pytest.raises(errors.NotFound) as caught:
            call()
        assert caught.value.reason == "FILE_NOT_FOUND"
    assert alice.files.stat(sha256).present
    assert not mallory.files.stat(sha256).present
    # Whoever has all of it may send it, and has it from then on.
    assert mallory.files.upload(File.from_bytes(content, name="w")) == sha256
    assert mallory.files.stat(sha256).present
    # Removing it takes it from nobody else.
    mallory.files.delete(sha256)
    assert not mallory.files.stat(sha256).present
    downloaded = io.BytesIO()
    alice.files.download(sha256, downloaded)
    assert downloaded.getvalue() == content
    admin.files.delete(sha256)
    assert not alice.files.stat(sha256).present


def test_what_a_run_gives_back_belongs_to_its_caller(
    alice: Client, mallory: Client, guarded: Guarded
) -> None:
    [file] = alice.run("own-large", "ab")
    assert isinstance(file, File)
    sha256 = file.sha256
    assert alice.files.stat(sha256).present
    assert not mallory.files.stat(sha256).present
    with pytest.raises(errors.NotFound):
        mallory.files.delete(sha256)


def upload(channel: grpc.Channel, content: bytes, sent: bytes, offset: int = 0) -> Answer:
    """Announce a content, and send something."""
    header = files_pb2.UploadHeader(
        sha256=hashlib.sha256(content).digest(), size=len(content), offset=offset
    )
    messages = [files_pb2.UploadRequest(header=header)]
    if sent:
        messages.append(files_pb2.UploadRequest(data=sent))
    return answer(channel, UPLOAD, *(message.SerializeToString() for message in messages))


def stat(channel: grpc.Channel, content: bytes) -> files_pb2.FilesStatResponse:
    request = files_pb2.FilesStatRequest(sha256=hashlib.sha256(content).digest())
    found = answer(channel, STAT, request.SerializeToString())
    return files_pb2.FilesStatResponse.FromString(found.received[0])


@pytest.mark.parametrize("kept", ["all of it", "half of it", "nothing"])
def test_a_guessed_digest_tells_and_gives_nothing(guarded: Guarded, kept: str) -> None:
    content = f"known by its digest only: {kept}".encode()
    with guarded.channel(Role.RUN) as owner:
        if kept == "all of it":
            assert upload(owner, content, content).code is grpc.StatusCode.OK
        elif kept == "half of it":
            assert upload(owner, content, content[:10]).code is not grpc.StatusCode.OK
            assert stat(owner, content).received_bytes == 10
        with grpc.insecure_channel(guarded.run_socket) as thief:
            # Each answer is the same, whatever is here.
            assert stat(thief, content) == files_pb2.FilesStatResponse()
            found = [
                upload(thief, content, b""),
                upload(thief, content, content[10:], offset=10),
                upload(thief, content, b"x" * len(content)),
                upload(thief, content, content + b"x"),
            ]
            assert [(each.code, each.reason) for each in found] == [
                (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
                (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
                (grpc.StatusCode.DATA_LOSS, "FILE_DIGEST_MISMATCH"),
                (grpc.StatusCode.DATA_LOSS, "FILE_DIGEST_MISMATCH"),
            ]
            assert "after the 0 bytes" in found[1].message
            assert not stat(thief, content).present
            if kept == "half of it":
                # The store may have taken what did not fit for a damaged upload, and begun again;
                # the owner does, too.
                assert upload(owner, content, content).code is grpc.StatusCode.OK
            done = upload(thief, content, content)
            assert done.code is grpc.StatusCode.OK
            told = files_pb2.UploadResponse.FromString(done.received[0])
            assert not told.existed
            assert stat(thief, content).present


def test_an_upload_is_resumed_by_whoever_began_it(guarded: Guarded) -> None:
    content = b"begun and broken off" * 10
    with guarded.channel(Role.RUN) as owner:
        assert upload(owner, content, content[:50]).code is not grpc.StatusCode.OK
        assert stat(owner, content).received_bytes == 50
        done = upload(owner, content, content[50:], offset=50)
        assert done.code is grpc.StatusCode.OK
        assert files_pb2.UploadResponse.FromString(done.received[0]).written_bytes == 150
        assert stat(owner, content).present


def test_files_keep_their_owners_over_a_restart(guarded: Guarded, alice: Client) -> None:
    content = b"kept over a restart"
    sha256 = alice.files.upload(File.from_bytes(content, name="w"))
    guarded.daemon.restart()
    with guarded.client(Role.RUN) as again, Client(guarded.run_socket) as other:
        assert again.files.stat(sha256).present
        assert not other.files.stat(sha256).present


def test_who_adds_a_content_of_an_admin_cannot_remove_it(
    guarded: Guarded, alice: Client, admin: Client
) -> None:
    content = File.from_bytes(b"the admin's, and known to another", name="w")
    sha256 = admin.files.upload(content)
    assert alice.files.upload(content) == sha256
    alice.files.delete(sha256)
    assert not alice.files.stat(sha256).present
    assert admin.files.stat(sha256).present
