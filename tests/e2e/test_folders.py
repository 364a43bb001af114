"""Folders on a real daemon: nothing pickled, checked in the worker, and removed after it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from pipeline import Client
from pipeline._requirements import RequirementStatus
from pipeline._transport import drive
from pipeline.errors import (
    DeploymentWarning,
    Incompatible,
    InvalidInput,
    StartupFailed,
)
from pipelined_api.v1 import deployments_pb2
from tests.conftest import QUICK_PRELOAD
from tests.e2e import raw
from tests.running_daemon import RunningDaemon

APP = """
import os
from pipeline import Pipeline, Variable, entity, pipe
from helpers.text import clean
import tomli_w

@entity
class Reader:
    @pipe(on_startup=True)
    def load(self):
        with open("words.txt") as file:
            self.words = file.read().split()

    @pipe
    def read(self, text: str) -> list[str]:
        from helpers import lazy
        return [clean(text), *self.words, lazy.NAME, tomli_w.MINE, os.getcwd()]

def make():
    with Pipeline() as builder:
        reader = Reader()
        reader.load()
        builder.output(reader.read(Variable(str, min_length=1, title="text")))
    return builder
built = make()
graph = built.get_pipeline()
"""
FILES = {
    "app.py": APP,
    "helpers/__init__.py": "",
    "helpers/text.py": "from .lazy import NAME\n\ndef clean(text):\n    return text.strip()\n",
    "helpers/lazy.py": "NAME = 'lazy'\n",
    # Called like a package that may be installed.
    "tomli_w.py": "MINE = 'mine'\n",
    "words.txt": "one two",
}


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=QUICK_PRELOAD)
    yield running
    running.close()


@pytest.fixture
def client(light: RunningDaemon) -> Iterator[Client]:
    with light.client() as client:
        yield client


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def output(client: Client, name: str, text: str) -> list[str]:
    """The one output of a run, a list."""
    [found] = client.run(name, text=text)
    assert isinstance(found, list)
    return found


def upload(client: Client, requests: Iterator[deployments_pb2.DeployRequest]) -> None:
    """Deploy what no client would make."""
    with raw.transport(client.address) as transport:
        drive(transport.upload(transport.stubs.deployments.Deploy, requests, 60))


@pytest.mark.parametrize("variable", ["graph", "built", "make"])
def test_a_folder_runs_with_its_modules_and_its_files(
    client: Client, tmp_path: Path, variable: str
) -> None:
    write(tmp_path, {**FILES, ".secret": "x", "__pycache__/app.pyc": "x"})
    name = f"folder-{variable}"
    deployment = client.deploy_folder(tmp_path, f"app:{variable}", name=name)
    assert (deployment.version, deployment.state) == (1, "cold")
    assert [each.name for each in deployment.schema.inputs] == ["text"]
    # Nothing of it is needed any more.
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    *words, place = output(client, name, text=" a ")
    assert words == ["a", "one", "two", "lazy", "mine"]
    files = {path.name for path in Path(place).iterdir()} - {"__pycache__"}
    assert files == {"app.py", "helpers", "tomli_w.py", "words.txt"}
    assert Path(place).stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInput):
        client.run(name, "")


def test_an_equal_folder_elsewhere_is_no_new_version(client: Client, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", FILES), write(tmp_path / "two", FILES)
    os.utime(two / "app.py", (1, 1))
    (two / "app.py").chmod(0o600)
    first = client.deploy_folder(one, "app:graph", name="again")
    second = client.deploy_folder(two, "app:graph", name="again")
    assert (second.version, second.digest) == (1, first.digest)
    write(two, {"helpers/lazy.py": "NAME = 'changed'\n"})
    assert client.deploy_folder(two, "app:graph", name="again").version == 2
    assert client.deploy_folder(two, "app:make", name="again").version == 3


def test_pipeline_yaml_says_what_is_not_given(client: Client, tmp_path: Path) -> None:
    app = """
import os
from pipeline import Pipeline, pipe

@pipe
def look() -> list[str]:
    return [os.environ["A"], os.environ["B"]]

with Pipeline() as builder:
    builder.output(look())
"""
    settings = """
        pipeline_graph: app:builder
        name: from-yaml
        requirements: [numpy, "grpcio>=1", "nowhere; python_version < '3'"]
        environment: {A: "1", B: "2"}
        instances: 2
    """
    write(tmp_path, {"app.py": app, "pipeline.yaml": settings})
    deployment = client.deploy_folder(tmp_path, environment={"B": "3"})
    assert (deployment.name, deployment.instances) == ("from-yaml", 2)
    assert deployment.environment == ("A", "B")
    assert client.run("from-yaml") == [["1", "3"]]


@pytest.mark.parametrize(
    ("requirement", "package", "installed"),
    [("nowhere-at-all>=2", "nowhere-at-all", False), ("numpy<1", "numpy", True)],
)
def test_requirements_that_are_not_met_are_refused_or_warned_about(
    client: Client, tmp_path: Path, requirement: str, package: str, installed: bool
) -> None:
    import numpy

    write(tmp_path, {**FILES, "pipeline.yaml": f"requirements: ['{requirement}']"})
    name = f"requires-{package}"
    with pytest.raises(Incompatible) as caught:
        client.deploy_folder(tmp_path, "app:graph", name=name)
    version = numpy.__version__ if installed else ""
    error = caught.value
    assert (error.subject, error.client_version, error.daemon_version) == (
        package,
        requirement,
        version,
    )
    has = f"numpy {version}" if installed else f"no {package}"
    assert str(error) == f"{requirement} is required, but the daemon has {has}"
    with pytest.warns(DeploymentWarning, match=f"the daemon has {has}"):
        client.deploy_folder(tmp_path, "app:graph", name=name, allow_differing=True)


def test_the_daemon_tells_how_requirements_compare(client: Client) -> None:
    import numpy

    wanted = ["NumPy>=1", "numpy<1", "nowhere-at-all", "nowhere; python_version < '3'", "numpy[x]"]
    assert client.check_requirements(wanted) == [
        RequirementStatus("NumPy>=1", "NumPy", "satisfied", numpy.__version__),
        RequirementStatus("numpy<1", "numpy", "differing", numpy.__version__),
        RequirementStatus("nowhere-at-all", "nowhere-at-all", "missing", ""),
        RequirementStatus("nowhere; python_version < '3'", "nowhere", "satisfied", ""),
        RequirementStatus("numpy[x]", "numpy", "satisfied", numpy.__version__),
    ]


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (["numpy", "no requirement"], "requirements[1]"),
        (["numpy @ https://example.org/a.whl"], "requirements[0]"),
        (["n" * 1001], "requirements[0]"),
        (["numpy"] * 1001, "requirements"),
    ],
    ids=["syntax", "url", "long", "many"],
)
def test_what_is_no_requirement_is_refused_by_name(
    client: Client, wanted: list[str], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.check_requirements(wanted)
    assert caught.value.field == field


DIFFERING = """
import os
from pipeline import Pipeline, Variable, pipe

@pipe
def one(x: int) -> int:
    return x

@pipe
def two(x: int) -> int:
    return x

here = "IN_THE_WORKER" in os.environ
with Pipeline() as builder:
    x = Variable({type})
    builder.output({pipe}(x))
graph = builder.get_pipeline()
"""


@pytest.mark.parametrize(
    ("type_", "pipe", "message"),
    [
        ("int", "(two if here else one)", "'node 0: one(input 0)', here is 'node 0: two(input 0)'"),
        ("(int | None if here else int)", "one", "announced was 'input x: "),
    ],
    ids=["topology", "schema"],
)
def test_another_graph_than_the_announced_one_does_not_start(
    client: Client, tmp_path: Path, type_: str, pipe: str, message: str
) -> None:
    write(tmp_path, {"app.py": DIFFERING.format(type=type_, pipe=pipe)})
    environment = {"IN_THE_WORKER": "1"}
    client.deploy_folder(tmp_path, "app:graph", name="differing", environment=environment)
    with pytest.raises(StartupFailed) as caught:
        client.warm("differing")
    assert "is not the one that was announced" in str(caught.value)
    assert message in str(caught.value)
    client.delete("differing")


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("pipelined-worker-*"))


def test_the_files_are_removed_when_the_worker_or_the_daemon_has_ended(
    own_daemon: RunningDaemon, tmp_path: Path
) -> None:
    write(tmp_path, FILES)
    before = folders()
    with own_daemon.client() as client:
        client.deploy_folder(tmp_path, "app:graph", name="removed")
        place = Path(output(client, "removed", "a")[-1])
        assert folders() - before == {place.parent}
        [pid] = client.deployment("removed").worker_pids
        worker = psutil.Process(pid)
        worker.kill()
        worker.wait(60)
        # The daemon starts another worker only when the one before has been seen off.
        second = Path(output(client, "removed", "a")[-1])
        assert second != place
        workers = [psutil.Process(pid) for pid in client.deployment("removed").worker_pids]
    own_daemon.kill()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    own_daemon.start()
    with own_daemon.client() as client:
        # It is a bundle still after the restart.
        client.run("removed", "a")
    assert own_daemon.stop() == 0
    assert folders() - before == set()


def test_code_that_is_no_archive_fails_the_startup(client: Client, tmp_path: Path) -> None:
    import hashlib

    from pipeline import _bundle, _requests

    header, _ = _bundle.prepare(
        write(tmp_path, FILES),
        "app:graph",
        name="damaged",
        environment=None,
        instances=None,
        options={},
        allow_differing=False,
        idempotency_key="",
    )
    code = b"no archive" * 100
    header.code_size, header.code_sha256 = len(code), hashlib.sha256(code).digest()
    upload(client, _requests.deploy_stream(header, code))
    with pytest.raises(StartupFailed, match="the bundle cannot be unpacked"):
        client.warm("damaged")


@pytest.mark.parametrize(
    ("target", "topology", "field"),
    [
        ("app", [], "target"),
        ("a b:c", [], "target"),
        ("a:b", ["x" * 2**20, "y"], "topology"),
        ("a:b", ["ü" * 2**19], "topology"),
        ("a:b", [""] * 2**19, "topology"),
    ],
)
def test_a_header_out_of_bounds_is_refused(
    client: Client, target: str, topology: list[str], field: str
) -> None:
    header = deployments_pb2.DeployHeader(
        name="bounds",
        digest="ab" * 32,
        code_format=deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE,
        code_size=1,
        code_sha256=bytes(32),
        target=target,
        topology=topology,
    )
    requests = iter([deployments_pb2.DeployRequest(header=header)])
    with pytest.raises(InvalidInput) as caught:
        upload(client, requests)
    assert caught.value.field == field


def test_a_missing_package_is_told_as_for_pickled_graphs(client: Client, tmp_path: Path) -> None:
    app = "import os\nif 'IN_THE_WORKER' in os.environ:\n    import nowhere_at_all\n" + APP
    write(tmp_path, {**FILES, "app.py": app})
    environment = {"IN_THE_WORKER": "1"}
    client.deploy_folder(tmp_path, "app:graph", name="lacking", environment=environment)
    with pytest.raises(StartupFailed) as caught:
        client.warm("lacking")
    assert caught.value.metadata["cause"] == "missing_import"
    assert caught.value.metadata["subject"] == "nowhere_at_all"


def test_pickled_graphs_bring_their_helpers_to_the_daemon(client: Client, tmp_path: Path) -> None:
    from tests.client.subprocesses import run_python

    app = APP.replace('open("words.txt")', "open(os.devnull)") + (
        "\nfrom pipeline import Client\n"
        f"with Client({client.address!r}) as client:\n"
        "    client.deploy(graph, 'by-value')\n"
    )
    write(tmp_path, {**FILES, "app.py": app})
    run_python(["app.py"], cwd=tmp_path)
    assert output(client, "by-value", "a")[:-1] == ["a", "lazy", "mine"]
