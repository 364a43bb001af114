"""A program in another language runs a pipeline, with nothing of ours but the .proto files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import checkpoints
import embeddings
from tests.running_daemon import RunningDaemon

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "client" / "examples" / "node"
NAME = "embeddings-for-node"
SENTENCES = ["How do I keep a model in memory?", "Grüße"]

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="node and npm are not installed: client/examples/node was not run",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example and its packages, which are fetched once for each package.json."""
    digest = hashlib.sha256((EXAMPLE / "package.json").read_bytes()).hexdigest()[:16]
    kept = checkpoints.cache_folder().parent / f"node-{digest}"
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".node-", dir=kept.parent) as partial:
            package = Path(partial) / "package"
            package.mkdir()
            shutil.copy(EXAMPLE / "package.json", package)
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=package, check=True)
            package.rename(kept)
    folder = tmp_path_factory.mktemp("node")
    # Node looks for packages from where the program lies.
    shutil.copy(EXAMPLE / "embed.mjs", folder)
    (folder / "node_modules").symlink_to(kept / "node_modules")
    return folder


@pytest.fixture(scope="module")
def address(daemon: RunningDaemon) -> Iterator[str]:
    with daemon.client() as client:
        client.deploy(embeddings.graph, NAME)
        yield daemon.address
        client.delete(NAME)


def node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["node", "embed.mjs", "--proto", str(ROOT / "proto"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_node_prints_the_vectors_first_numbers(
    installed: Path, address: str, daemon: RunningDaemon
) -> None:
    finished = node(installed, "--deployment", NAME, address, *SENTENCES)
    assert finished.returncode == 0, finished.stderr
    with daemon.client() as client:
        [expected] = client.run(NAME, SENTENCES)
    assert isinstance(expected, np.ndarray)
    printed = [line.split(" … ")[0].split() for line in finished.stdout.splitlines()]
    shown = np.array([[float(number) for number in line] for line in printed])
    np.testing.assert_allclose(shown, expected[:, :4], atol=5e-7)


def test_node_is_told_which_deployment_is_missing(installed: Path, address: str) -> None:
    finished = node(installed, "--deployment", "no-such-pipeline", address, "hello")
    assert finished.returncode == 1
    assert finished.stderr.startswith("NOT_FOUND: ")
    assert "no-such-pipeline" in finished.stderr
