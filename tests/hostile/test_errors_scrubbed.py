"""Nothing that a caller is told has a path of the daemon's, or a secret."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from pipeline import Graph, Pipeline, Variable, entity, pipe
from pipelined.core.access import Role
from pipelined.rpc.roles import ROLES
from pipelined_api.v1 import deployments_pb2, files_pb2, runs_pb2, values_pb2
from tests.e2e.test_bad_input import deploy_header, scaling
from tests.hostile.guarded import Guarded
from tests.hostile.test_traversal import requests
from tests.hostile.traversal import TEXTS
from tests.hostile.wire import Answer, answer

V1 = "/pipelined.v1."


@pipe
def broken(value: str) -> str:
    if value == "exit":
        os._exit(3)
    raise ValueError("the user's own text")


@entity
class Unstartable:
    @pipe(on_startup=True, run_once=True)
    def load(self) -> None:
        raise RuntimeError("no weights")

    @pipe
    def use(self, value: str) -> str:
        return value


def breaking() -> Graph:
    with Pipeline() as builder:
        builder.output(broken(Variable(str)))
    return builder.get_pipeline()


def unstartable() -> Graph:
    with Pipeline() as builder:
        model = Unstartable()
        model.load()
        builder.output(model.use(Variable(str)))
    return builder.get_pipeline()


@pytest.fixture(scope="module")
def deployed(guarded: Guarded) -> Iterator[None]:
    graphs = {"breaking": breaking(), "unstartable": unstartable(), "sound": scaling()}
    with guarded.client(Role.DEPLOY) as client:
        for name, graph in graphs.items():
            client.deploy(graph, name)
        client.create_pointer("sound:locked", "sound:v1", locked=True)
        yield
        client.delete_pointer("sound:locked", unlock=True)
        for name in graphs:
            client.delete(name)


def secrets(guarded: Guarded) -> list[str]:
    """What must not be told: folders of the daemon, and tokens."""
    state = guarded.daemon.state_dir
    prefix = Path(sys.prefix)
    return [
        *(str(path) for path in (state, state.resolve(), prefix, prefix.resolve())),
        str(Path(os.__file__).parent),
        "site-packages",
        "pipelined.db",
        "/daemon/pipelined/",
        "/client/pipeline/",
        "Traceback",
        *(token.split("_", 2)[2] for token in guarded.tokens.values()),
    ]


def provoked(channel: grpc.Channel) -> Iterator[tuple[str, Answer]]:
    """Errors of all kinds that can be had from outside."""

    def call(method: str, *messages: bytes) -> tuple[str, Answer]:
        return method, answer(channel, method, *messages)

    for method in ROLES:
        yield call(method, b"\xff\xff\xff")
    for leading in (TEXTS[1], TEXTS[2]):
        for method, several in requests(leading):
            yield call(method, *(each.SerializeToString() for each in several))
    text = values_pb2.Value(string_value="x")
    leave = values_pb2.Value(string_value="exit")
    for name, inputs in (
        ("unstartable", [text]),
        ("breaking", [leave]),
        ("breaking", [text]),
        ("breaking", [text, text]),
        ("breaking", [values_pb2.Value(int_value=3)]),
        ("sound:v9", [text]),
        ("sound:none", [text]),
    ):
        run = runs_pb2.RunRequest(deployment=name, inputs=inputs).SerializeToString()
        yield call(f"{V1}Runs/Run", run)
    run = runs_pb2.RunRequest(deployment="breaking", inputs=[text]).SerializeToString()
    yield call(f"{V1}Runs/Stream", run)
    [received] = answer(channel, f"{V1}Runs/Submit", run).received
    run_id = runs_pb2.SubmitResponse.FromString(received).run.run_id
    get = runs_pb2.RunsGetRequest(run_id=run_id, wait_seconds=60)
    yield call(f"{V1}Runs/Get", get.SerializeToString())
    yield call(
        f"{V1}Deployments/Warm", deployments_pb2.WarmRequest(name="unstartable").SerializeToString()
    )
    for change in (
        deployments_pb2.SetPointerRequest(pointer="sound:locked", target="sound:v1"),
        deployments_pb2.SetPointerRequest(
            pointer="sound:locked", target="sound:v1", overwrite=True
        ),
    ):
        yield call(f"{V1}Deployments/SetPointer", change.SerializeToString())
    delete = deployments_pb2.DeploymentsDeleteRequest(name="sound:v1")
    yield call(f"{V1}Deployments/Delete", delete.SerializeToString())
    header = deploy_header(scaling(), name="scrubbed")
    code = deployments_pb2.DeployRequest(code=b"other").SerializeToString()
    yield call(f"{V1}Deployments/Deploy", header.SerializeToString(), code)
    header.header.python_version = "2.7"
    yield call(f"{V1}Deployments/Deploy", header.SerializeToString())
    for size in (1, 1 << 40):
        upload = files_pb2.UploadHeader(sha256=hashlib.sha256(b"y").digest(), size=size)
        messages = [files_pb2.UploadRequest(header=upload), files_pb2.UploadRequest(data=b"x")]
        yield call(f"{V1}Files/Upload", *(each.SerializeToString() for each in messages))


# What user code says is told those who deploy, with its traceback, and that has paths.
@pytest.mark.parametrize("role", [Role.RUN, Role.ADMIN])
def test_no_error_has_a_path_or_a_secret(guarded: Guarded, deployed: None, role: Role) -> None:
    hidden = secrets(guarded)
    reasons = set()
    with guarded.channel(role) as channel:
        for method, found in provoked(channel):
            reasons.add(found.reason)
            texts = [found.message, *found.metadata.values()]
            kept = [*found.status.details]
            if role is Role.ADMIN:
                debug = error_details_pb2.DebugInfo.DESCRIPTOR.full_name
                kept = [each for each in kept if not each.type_url.endswith(debug)]
            texts += [each.value.decode(errors="replace") for each in kept]
            # An answer that tells of a failure, as Runs.Get's does.
            if role is Role.RUN:
                texts += [each.decode(errors="replace") for each in found.received]
            for text in texts:
                assert [each for each in hidden if each in text] == [], (method, text)
    wanted = {"RUN_FAILED", "STARTUP_FAILED", "WORKER_DIED", "INVALID_INPUT", "VERSION_NOT_FOUND"}
    wanted |= {"FILE_NOT_FOUND", "FILE_TOO_LARGE", "FILE_DIGEST_MISMATCH", "RUN_NOT_FOUND"}
    wanted |= {"DEPLOYMENT_NOT_FOUND", "POINTER_NOT_FOUND", "INVALID_REQUEST"}
    if role is Role.RUN:
        wanted |= {"ROLE_TOO_LOW"}
    else:
        wanted |= {"POINTER_EXISTS", "POINTER_LOCKED", "VERSION_IN_USE", "PYTHON_MISMATCH"}
        wanted |= {"CODE_DIGEST_MISMATCH", "ENVIRONMENT_NOT_FOUND"}
    assert wanted <= reasons, wanted - reasons
