"""Bad input: a typed error that names the thing, and nothing is lost."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import grpc
import pytest

from pipeline import Graph, Pipeline, Variable, entity, errors, pipe
from pipelined.rpc.run_inputs import MAX_REFERENCES
from pipelined_api.v1 import (
    deployments_pb2,
    deployments_pb2_grpc,
    runs_pb2,
    runs_pb2_grpc,
    values_pb2,
)
from tests.running_daemon import RunningDaemon


@pipe
def scale(value: float, factor: int) -> float:
    return value * factor


@pipe
def count(items: list[object]) -> int:
    return len(items)


def scaling() -> Graph:
    with Pipeline() as builder:
        value = Variable(float)
        factor = Variable(int, ge=1, le=10)
        builder.output(scale(value, factor))
    return builder.get_pipeline()


def test_unknown_deployment(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        for call in (client.run, client.deployment, client.warm, client.delete, client.timeline):
            with pytest.raises(errors.NotFound, match="'nothing-here'") as caught:
                call("nothing-here")
            assert caught.value.reason == "DEPLOYMENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ((), "value"),
        ((1.0,), "factor"),
        ((1.0, 2, 3), "inputs[2]"),
        (("one", 2), "value"),
        ((1.0, True), "factor"),
        ((1.0, 0), "factor"),
        ((1.0, 11), "factor"),
        ((1.0, 2**70), "factor"),
    ],
)
def test_inputs_that_do_not_fit(
    daemon: RunningDaemon, inputs: tuple[object, ...], field: str
) -> None:
    graph = scaling()
    with daemon.client() as client:
        client.deploy(graph, "scale")
        for run in (graph.run, lambda *values: client.run("scale", *values)):
            with pytest.raises(errors.InvalidInput) as caught:
                run(*inputs)
            assert caught.value.field == field
        assert client.run("scale", 1.5, 2) == [3.0]


def test_the_daemon_validates_too(daemon: RunningDaemon) -> None:
    """A caller that is not our client gets the same answer."""
    with daemon.client() as client:
        client.deploy(scaling(), "scale")
    request = runs_pb2.RunRequest(
        deployment="scale",
        inputs=[values_pb2.Value(double_value=1.0), values_pb2.Value(int_value=11)],
    )
    with grpc.insecure_channel(daemon.address) as channel:
        run: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/pipelined.v1.Runs/Run"
        )
        with pytest.raises(grpc.RpcError) as caught:
            run(request.SerializeToString())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "factor" in str(caught.value.details())
        assert "10" in str(caught.value.details())
        with pytest.raises(grpc.RpcError) as caught:
            run(b"\xff\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        request.inputs[0].Clear()
        with pytest.raises(grpc.RpcError) as caught:
            run(request.SerializeToString())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "value" in str(caught.value.details())


def test_graph_that_cannot_be_pickled(daemon: RunningDaemon) -> None:
    @entity
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        @pipe
        def answer(self) -> int:
            return 1

    with Pipeline() as builder:
        builder.output(Locked().answer())
    with daemon.client() as client:
        with pytest.raises(errors.SerialisationError, match="lock"):
            client.deploy(builder.get_pipeline(), "locked")
        with pytest.raises(errors.NotFound):
            client.deployment("locked")


def deploy_header(graph: Graph, **changes: object) -> deployments_pb2.DeployRequest:
    code = graph.dumps()
    import hashlib

    header = deployments_pb2.DeployHeader(
        name="header",
        digest=graph.digest(),
        schema=graph.schema(),
        code_format=deployments_pb2.DeployHeader.CODE_FORMAT_CLOUDPICKLE,
        code_size=len(code),
        code_sha256=hashlib.sha256(code).digest(),
        python_version=".".join(map(str, sys.version_info[:3])),
    )
    for name, value in changes.items():
        if isinstance(value, list):
            getattr(header, name).extend(value)
        else:
            setattr(header, name, value)
    return deployments_pb2.DeployRequest(header=header)


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"python_version": "3.9.1"}, grpc.StatusCode.FAILED_PRECONDITION, "3.9.1"),
        ({"name": "../escape"}, grpc.StatusCode.INVALID_ARGUMENT, "name"),
        ({"name": ""}, grpc.StatusCode.INVALID_ARGUMENT, "name"),
        ({"digest": "zz"}, grpc.StatusCode.INVALID_ARGUMENT, "digest"),
        ({"instances": 1000}, grpc.StatusCode.INVALID_ARGUMENT, "instances"),
        ({"code_size": 2**40}, grpc.StatusCode.RESOURCE_EXHAUSTED, str(2**40)),
        ({"code_size": 3}, grpc.StatusCode.DATA_LOSS, "3"),
        ({"code_sha256": bytes(32)}, grpc.StatusCode.DATA_LOSS, "SHA-256"),
        (
            {
                "packages": [
                    deployments_pb2.Package(
                        module="no_such_module", distribution="no-such-package", version="1.2"
                    )
                ]
            },
            grpc.StatusCode.FAILED_PRECONDITION,
            "no_such_module",
        ),
    ],
)
def test_headers_that_are_refused(
    daemon: RunningDaemon, changes: dict[str, object], code: grpc.StatusCode, text: str
) -> None:
    graph = scaling()
    requests = [
        deploy_header(graph, **changes),
        deployments_pb2.DeployRequest(code=graph.dumps()),
    ]
    with grpc.insecure_channel(daemon.address) as channel:
        stub = deployments_pb2_grpc.DeploymentsStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Deploy(iter(requests))
    assert caught.value.code() is code
    assert text in str(caught.value.details())
    assert str(daemon.state_dir) not in str(caught.value.details())
    with daemon.client() as client, pytest.raises(errors.NotFound):
        client.deployment("header")


def test_code_that_is_no_pickle(daemon: RunningDaemon) -> None:
    import hashlib

    code = b"this is not a pickle"
    graph = scaling()
    header = deploy_header(
        graph, name="garbage", code_size=len(code), code_sha256=hashlib.sha256(code).digest()
    )
    with grpc.insecure_channel(daemon.address) as channel:
        stub = deployments_pb2_grpc.DeploymentsStub(channel)
        stub.Deploy(iter([header, deployments_pb2.DeployRequest(code=code)]))
    with daemon.client() as client:
        with pytest.raises(errors.StartupFailed, match="garbage"):
            client.run("garbage", 1.0, 1)
        client.delete("garbage")


def test_import_that_is_missing_in_the_worker(daemon: RunningDaemon) -> None:
    @pipe(on_startup=True)
    def load() -> None:
        import module_that_is_nowhere  # type: ignore[import-not-found]

        del module_that_is_nowhere

    with Pipeline() as builder:
        value = Variable(float)
        load()
        builder.output(scale(value, 2))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "missing-import")
        with pytest.raises(errors.StartupFailed, match="module_that_is_nowhere") as caught:
            client.run("missing-import", 1.0)
        assert caught.value.node == "load"


@pytest.mark.parametrize("fault", ["truncated", "lying", "garbage"])
def test_weights_that_are_damaged(daemon: RunningDaemon, tmp_path: Path, fault: str) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "damaged.safetensors"
    save_file({"weight": torch.arange(1000.0)}, path)
    content = path.read_bytes()
    if fault == "truncated":
        content = content[:-100]
    elif fault == "lying":
        content = content.replace(b'"data_offsets":[0,4000]', b'"data_offsets":[0,9000]')
    else:
        content = b"\xff" * 200
    path.write_bytes(content)

    @pipe(on_startup=True)
    def load(name: str) -> None:
        from safetensors.torch import load_file

        load_file(name)

    with Pipeline() as builder:
        value = Variable(float)
        load(str(path))
        builder.output(scale(value, 2))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), f"damaged-{fault}")
        with pytest.raises(errors.StartupFailed) as caught:
            client.run(f"damaged-{fault}", 1.0)
        assert caught.value.node == "load"
        assert "damaged.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    "raised",
    ["ValueError('bad value')", "SystemExit(3)", "KeyboardInterrupt()", "RecursionError('deep')"],
)
def test_exception_in_a_run(daemon: RunningDaemon, raised: str) -> None:
    @pipe
    def fail(expression: str) -> int:
        raise eval(expression)

    with Pipeline() as builder:
        expression = Variable(str)
        builder.output(fail(expression))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "raises")
        client.warm("raises")
        [pid] = client.deployment("raises").worker_pids
        with pytest.raises(errors.RunFailed) as caught:
            client.run("raises", raised)
        # Locally SystemExit and KeyboardInterrupt pass through the graph; a worker names the node.
        assert caught.value.node == "fail"
        assert raised.partition("(")[0] in str(caught.value)
        assert "in fail" in caught.value.remote_traceback
        # Only the run failed: the worker is the same.
        assert client.deployment("raises").worker_pids == (pid,)


def test_output_that_cannot_be_sent(daemon: RunningDaemon) -> None:
    @pipe
    def make(kind: str) -> object:
        return object() if kind == "object" else "x" * (70 * 2**20)

    with Pipeline() as builder:
        kind = Variable(str)
        builder.output(make(kind))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "unsendable")
        with pytest.raises(errors.SerialisationError, match="object"):
            client.run("unsendable", "object")
        with pytest.raises(errors.PipelineError) as caught:
            client.run("unsendable", "large")
        assert caught.value.reason == "OUTPUT_TOO_LARGE"
        assert str(64 * 2**20) in str(caught.value)


@pytest.mark.parametrize("field", ["idempotency_key", "schema"])
def test_what_a_deployment_is_kept_with_is_bounded(daemon: RunningDaemon, field: str) -> None:
    header = deployments_pb2.DeployHeader(name="bounded", idempotency_key="k" * 256)
    if field == "schema":
        for number in range(2**16):
            header.schema.inputs.add(name=f"a long name {number}")
    else:
        header.idempotency_key += "k"
    with grpc.insecure_channel(daemon.address) as channel:
        stub = deployments_pb2_grpc.DeploymentsStub(channel)
        with pytest.raises(grpc.RpcError, match=f"{field}: .* more than") as caught:
            stub.Deploy(iter([deployments_pb2.DeployRequest(header=header)]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_one_content_cannot_be_referred_to_without_end(daemon: RunningDaemon) -> None:
    with Pipeline() as builder:
        builder.output(count(Variable(list)))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "count")
    reference = values_pb2.File(name="f", sha256=bytes(32), size=1, stored=True)
    value = values_pb2.Value()
    value.list_value.items.extend([values_pb2.Value(file_value=reference)] * (MAX_REFERENCES + 1))
    with grpc.insecure_channel(daemon.address) as channel:
        stub = runs_pb2_grpc.RunsStub(channel)
        with pytest.raises(grpc.RpcError, match=f"more than {MAX_REFERENCES} references") as caught:
            stub.Run(runs_pb2.RunRequest(deployment="count", inputs=[value]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
