"""Every string that could name a file, given something that leads elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message

from pipelined.core.access import Role
from pipelined_api.v1 import (
    daemon_pb2,
    deployments_pb2,
    environments_pb2,
    files_pb2,
    runs_pb2,
    values_pb2,
)
from tests.e2e.test_bad_input import deploy_header, scaling
from tests.hostile import user_code
from tests.hostile.guarded import Guarded
from tests.hostile.traversal import TEXTS
from tests.hostile.wire import answer

V1 = "/pipelined.v1."


def tree(folder: Path) -> set[str]:
    """What is in the state directory, and right beside it; not what the daemon itself writes."""
    found = set()
    for root, folders, files in os.walk(folder.resolve().parent / folder.resolve().name):
        found |= {str(Path(root, name)) for name in (*folders, *files)}
    own = ("pipelined.db", "audit.log", "tokens")
    return {name for name in found if not Path(name).name.startswith(own)}


def requests(text: str) -> Iterator[tuple[str, list[Message]]]:
    """Each method that takes a text, with this one in all of them."""
    header = deploy_header(scaling(), name=text)
    named = deploy_header(scaling(), name="traversing")
    named.header.target = text
    named.header.topology.append(text)
    named.header.idempotency_key = text
    named.header.digest = text
    named.header.code_format = deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE
    yield f"{V1}Deployments/Deploy", [header, deployments_pb2.DeployRequest(code=b"x")]
    yield f"{V1}Deployments/Deploy", [named, deployments_pb2.DeployRequest(code=b"x")]
    for reference in (text, f"traversed:{text}"):
        yield f"{V1}Deployments/Get", [deployments_pb2.DeploymentsGetRequest(name=reference)]
        yield f"{V1}Deployments/Delete", [deployments_pb2.DeploymentsDeleteRequest(name=reference)]
        yield f"{V1}Deployments/Warm", [deployments_pb2.WarmRequest(name=reference)]
        yield f"{V1}Deployments/Cool", [deployments_pb2.CoolRequest(name=reference)]
        yield (
            f"{V1}Deployments/SetPointer",
            [deployments_pb2.SetPointerRequest(pointer=reference, target=reference)],
        )
        yield (
            f"{V1}Deployments/DeletePointer",
            [deployments_pb2.DeletePointerRequest(pointer=reference)],
        )
        for kind, request in (("Run", runs_pb2.RunRequest), ("Submit", runs_pb2.SubmitRequest)):
            yield f"{V1}Runs/{kind}", [request(deployment=reference)]
        yield f"{V1}Runs/Logs", [runs_pb2.LogsRequest(deployment=reference)]
    entry = runs_pb2.RunRequest(deployment="traversed").named_inputs.add()
    entry.key = text
    value = values_pb2.Value(file_value=values_pb2.File(name=text, data=b"x"))
    yield f"{V1}Runs/Run", [runs_pb2.RunRequest(deployment="traversed", inputs=[value])]
    yield f"{V1}Runs/Run", [runs_pb2.RunRequest(deployment="traversed", named_inputs=[entry])]
    yield f"{V1}Runs/Get", [runs_pb2.RunsGetRequest(run_id=text)]
    yield f"{V1}Runs/Cancel", [runs_pb2.CancelRequest(run_id=text)]
    yield f"{V1}Runs/Logs", [runs_pb2.LogsRequest(run_id=text)]
    yield (
        f"{V1}Runs/Submit",
        [runs_pb2.SubmitRequest(deployment="traversed", idempotency_key=text)],
    )
    requirements = [text]
    yield (
        f"{V1}Environments/Create",
        [environments_pb2.EnvironmentsCreateRequest(name=text, requirements=["numpy"])],
    )
    yield (
        f"{V1}Environments/Create",
        [environments_pb2.EnvironmentsCreateRequest(name="e", requirements=requirements)],
    )
    yield f"{V1}Environments/Get", [environments_pb2.EnvironmentsGetRequest(name=text)]
    yield f"{V1}Environments/Delete", [environments_pb2.EnvironmentsDeleteRequest(name=text)]
    yield (
        f"{V1}Daemon/CheckRequirements",
        [daemon_pb2.CheckRequirementsRequest(requirements=requirements)],
    )
    digest = text.encode()[:32]
    for sha256 in (digest, digest.ljust(32, b"/")):
        yield f"{V1}Files/Stat", [files_pb2.FilesStatRequest(sha256=sha256)]
        yield f"{V1}Files/Download", [files_pb2.DownloadRequest(sha256=sha256)]
        yield f"{V1}Files/Delete", [files_pb2.FilesDeleteRequest(sha256=sha256)]
        upload = files_pb2.UploadHeader(sha256=sha256, size=1, name=text)
        yield (
            f"{V1}Files/Upload",
            [files_pb2.UploadRequest(header=upload), files_pb2.UploadRequest(data=b"x")],
        )
    sha256 = hashlib.sha256(b"x").digest()
    upload = files_pb2.UploadHeader(sha256=sha256, size=1, name=text)
    yield (
        f"{V1}Files/Upload",
        [files_pb2.UploadRequest(header=upload), files_pb2.UploadRequest(data=b"x")],
    )


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_nothing_leads_out_of_the_state_directory(guarded: Guarded, text: str) -> None:
    state = guarded.daemon.state_dir.resolve()
    with guarded.client(Role.DEPLOY) as client:
        user_code.deploy(client, "traversed")
    before = tree(state)
    outside = set(state.parent.iterdir())
    log = len(guarded.daemon.log())
    with guarded.channel(Role.ADMIN) as channel:
        for method, messages in requests(text):
            found = answer(channel, method, *(each.SerializeToString() for each in messages))
            # Refused for what it is, or taken for the name that it is, and never a bug of ours.
            assert found.code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (
                method,
                found,
            )
            for received in found.received:
                assert b"root:" not in received
                assert b"SQLite format" not in received
    assert "Traceback" not in guarded.daemon.log()[log:]
    # Contents that were uploaded are where contents belong.
    allowed = {str(state / "files")}
    made = {
        path
        for path in tree(state) - before
        if not any(path.startswith(f"{folder}/") for folder in allowed)
    }
    assert made <= {str(state / "code" / Path(path).name) for path in made}
    assert {
        path for path in set(state.parent.iterdir()) - outside if not path.name.startswith("pld-")
    } == set()
