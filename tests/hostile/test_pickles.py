"""A pickle that is sent as data is data: nothing but a deployment's code is ever loaded."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import grpc
import pytest

from pipeline import File, Pipeline, Variable, pipe
from pipelined.core.access import Role
from pipelined_api.v1 import deployments_pb2, runs_pb2, values_pb2
from tests.e2e.test_bad_input import deploy_header, scaling
from tests.hostile.guarded import Guarded
from tests.hostile.wire import answer


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int, int]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY, 0o600)


@pipe
def sizes(data: bytes, text: str, file: File) -> list[int]:
    return [len(data), len(text), len(file.read())]


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    os.close(pickle.loads(pickle.dumps(Canary(path))))
    assert path.exists()  # it sings
    path.unlink()
    return path


def test_pickles_as_inputs_are_not_loaded(guarded: Guarded, canary: Path) -> None:
    payload = pickle.dumps(Canary(canary), protocol=0)
    text = payload.decode("ascii")
    with Pipeline() as builder:
        variables = (Variable(bytes), Variable(str), Variable(File))
        builder.output(sizes(*variables))
    with guarded.client(Role.DEPLOY) as client:
        client.deploy(builder.get_pipeline(), "sizes")
    expected = [len(payload)] * 3
    with guarded.client(Role.RUN) as client:
        file = File.from_bytes(payload, name="model.pkl")
        assert client.run("sizes", payload, text, file) == [expected]
        # As a content of its own, too.
        client.files.upload(file)
        large = payload + bytes(2 << 20)
        [found] = client.run("sizes", large, text, File.from_bytes(large, name="large.pkl"))
        assert found == [len(large), len(text), len(large)]
    values = [
        values_pb2.Value(bytes_value=payload),
        values_pb2.Value(string_value=text),
        values_pb2.Value(tensor_value=values_pb2.Tensor(data=payload)),
        values_pb2.Value(
            file_value=values_pb2.File(
                name="x.pkl", data=payload, sha256=hashlib.sha256(payload).digest()
            )
        ),
    ]
    messages = [payload, *(value.SerializeToString() for value in values)]
    messages += [
        runs_pb2.RunRequest(deployment="sizes", inputs=[value] * 3).SerializeToString()
        for value in values
    ]
    messages.append(
        runs_pb2.SubmitRequest(deployment=text, idempotency_key=text).SerializeToString()
    )
    with guarded.channel(Role.RUN) as channel:
        for message in messages:
            for method in ("Run", "Stream", "Submit", "Get"):
                answer(channel, f"/pipelined.v1.Runs/{method}", message)
    assert not canary.exists()
    with guarded.client(Role.DEPLOY) as client:
        client.delete("sizes")


def test_code_that_was_refused_is_not_loaded(guarded: Guarded, canary: Path) -> None:
    payload = pickle.dumps(Canary(canary))
    header = deploy_header(scaling(), name="refused-code")
    header.header.code_size = len(payload)
    header.header.code_sha256 = hashlib.sha256(payload).digest()
    messages = [header, deployments_pb2.DeployRequest(code=payload)]
    with guarded.channel(Role.RUN) as channel:
        found = answer(
            channel,
            "/pipelined.v1.Deployments/Deploy",
            *(message.SerializeToString() for message in messages),
        )
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW")
    with guarded.client(Role.ADMIN) as client:
        assert "refused-code" not in {each.name for each in client.list()}
    assert not canary.exists()
