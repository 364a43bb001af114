"""Folders through the daemon, and what real libraries make of the paths that workers see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipeline import Client, Directory, File, Pipeline, Variable, errors, pipe
from pipeline._transport import drive
from pipelined_api.v1 import runs_pb2
from tests.conftest import LIGHT_PRELOAD
from tests.e2e import raw
from tests.e2e.files import MIB, SIZE, content, echo, graph_of, on_disk, sha256_of
from tests.running_daemon import RunningDaemon


@pipe
def look(folder: Directory) -> dict[str, Any]:
    root = folder.path
    return {
        "name": root.name,
        "names": list(folder),
        "walked": sorted(str(p.relative_to(root)) for p in root.rglob("*")),
        "sizes": [folder[name].size for name in folder],
        "executable": [name for name in folder if os.access(root / name, os.X_OK)],
        "readable": all((root / name).resolve().is_file() for name in folder),
        "digests": [sha256_of((root / name).read_bytes()) for name in folder],
        "writable": [name for name in folder if (root / name).stat().st_mode & 0o222],
    }


@pipe
def produce(folder: str, count: int) -> Directory:
    root = Path(folder) / "made"
    (root / "empty").mkdir(parents=True)
    for number in range(count):
        (root / f"{number}.bin").write_bytes(bytes([number]) * (3 << 20))
    (root / "small").write_text("small")
    (root / "small").chmod(0o755)
    return Directory(root)


@pipe
def load_paths(weights: File, picture: File, array: File) -> list[Any]:
    from PIL import Image
    from safetensors.torch import load_file

    names = [Path(file.path).name for file in (weights, picture, array)]
    # Libraries resolve links, too.
    same = [Path(f.path).resolve().read_bytes() == f.read() for f in (weights, picture, array)]
    tensors = load_file(weights.path)
    with Image.open(picture.path) as image:
        image.load()
        return [names, same, tensors, image, np.load(array.path)]


@pipe
def answer(folder: Directory, numbers: torch.Tensor) -> torch.Tensor:
    from transformers import BertModel

    model = BertModel.from_pretrained(folder.path)
    with torch.no_grad():
        state: torch.Tensor = model(numbers).last_hidden_state
    return state


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=LIGHT_PRELOAD)
    with running.client() as client:
        client.deploy(graph_of(echo, Any), "echo")
        client.deploy(graph_of(look, Directory), "look")
        client.deploy(graph_of(produce, str, int), "produce")
        client.deploy(graph_of(load_paths, File, File, File), "load_paths")
        client.deploy(graph_of(answer, Directory, torch.Tensor), "answer")
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "sub").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "large.bin").write_bytes(content(30))
    (root / "sub" / "again.bin").write_bytes(content(30))
    (root / "sub" / "run").write_bytes(content(31))
    (root / "sub" / "run").chmod(0o755)
    (root / "small.json").write_text("{}")
    (root / "link.json").symlink_to("small.json")
    return root


def test_a_worker_sees_the_folder_that_was_given(client: Client, folder: Path) -> None:
    [seen] = client.run("look", Directory(folder))
    assert isinstance(seen, dict)
    assert seen == {
        "name": "model",
        "names": ["large.bin", "link.json", "small.json", "sub/again.bin", "sub/run"],
        "walked": ["empty", "large.bin", "link.json", "small.json", "sub", "sub/again.bin"]
        + ["sub/run"],
        "sizes": [SIZE, 2, 2, SIZE, SIZE],
        # Root may execute what anybody may.
        "executable": ["sub/run"],
        "readable": True,
        "digests": [sha256_of(content(30)), sha256_of(b"{}"), sha256_of(b"{}")]
        + [sha256_of(content(30)), sha256_of(content(31))],
        "writable": [],
    }


def test_what_has_not_changed_is_not_sent_again(shared: RunningDaemon, folder: Path) -> None:
    sent: set[str] = set()
    with Client(shared.address, on_upload=lambda file, *_: sent.add(file.name)) as client:
        for name, seed in (("one.bin", 32), ("two.bin", 33)):
            (folder / name).write_bytes(content(seed))
        client.run("look", Directory(folder))
        assert {"one.bin", "two.bin"} <= sent
        sent.clear()
        (folder / "two.bin").write_bytes(content(34))
        client.run("look", Directory(folder))
        assert sent == {"two.bin"}


def test_folders_come_back_lazily_and_nested(client: Client, folder: Path, tmp_path: Path) -> None:
    given = Directory(folder)
    [back] = client.run("echo", {"a": [(given, 1)], "b": given})
    assert back == {"a": [(given, 1)], "b": given}
    assert isinstance(back, dict)
    saved = back["b"].save(tmp_path / "saved")
    assert Directory(saved) == given
    assert (saved / "empty").is_dir()
    [made] = client.run("produce", str(tmp_path), 3)
    assert isinstance(made, Directory)
    assert list(made) == ["0.bin", "1.bin", "2.bin", "small"]
    # The content is the daemon's now.
    for path in (tmp_path / "made").glob("*.bin"):
        path.unlink()
    with made.open("2.bin") as stream:
        assert stream.read() == b"\2" * SIZE
    client.files.delete(made["1.bin"].sha256)
    with pytest.raises(errors.NotFound):
        made.save(tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_startup_node_takes_a_folder_of_the_graph(client: Client, folder: Path) -> None:
    @pipe(on_startup=True)
    def remember(folder: Directory) -> Directory:
        return folder

    @pipe
    def read(folder: Directory, name: str) -> str:
        return sha256_of((folder.path / name).read_bytes())

    with Pipeline() as builder:
        name = Variable(str)
        builder.output(read(remember(Directory(folder)), name))
    client.deploy(builder.get_pipeline(), "startup")
    assert client.run("startup", "large.bin") == [sha256_of(content(30))]
    assert client.run("startup", "link.json") == [sha256_of(b"{}")]


def test_what_the_daemon_has_needs_no_content_here(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    known = client.files.upload(on_disk(tmp_path, data=content(35)))
    [back] = client.run("echo", [File(remote_id=known, name="mine.bin")])
    assert isinstance(back, list)
    assert (back[0].name, back[0].size, back[0].sha256) == ("mine.bin", SIZE, known)
    remote = Directory(remote_id=client.files.upload(Directory(folder)), name="model")
    [seen] = client.run("look", remote)
    assert isinstance(seen, dict)
    assert seen["executable"] == ["sub/run"]
    assert seen["digests"][0] == sha256_of(content(30))
    [given] = client.run("echo", remote)
    assert given == Directory(folder)
    with pytest.raises(errors.NotFound) as caught:
        client.run("echo", File(remote_id="0" * 64))
    assert caught.value.reason == "FILE_NOT_FOUND"
    with pytest.raises(errors.PipelineError, match="in the daemon"):
        File(remote_id=known).read()


def test_what_is_refused_does_not_leave_the_client(client: Client, folder: Path) -> None:
    (folder / "out").symlink_to("/etc/passwd")
    with pytest.raises(errors.InvalidInput, match="leads outside") as caught:
        client.run("look", Directory(folder))
    assert caught.value.field == "input_0"


def test_the_daemon_refuses_paths_that_lead_out(client: Client) -> None:
    request = runs_pb2.RunRequest(deployment="look")
    wire = request.inputs.add().directory_value
    wire.name = "d"
    wire.entries.add(path="../../outside")
    with (
        raw.transport(client.address) as transport,
        pytest.raises(errors.InvalidInput, match="no relative path"),
    ):
        drive(transport.unary(transport.stubs.runs.Run, request, 30))


def test_libraries_load_from_the_paths(client: Client, tmp_path: Path) -> None:
    noise = np.frombuffer(content(36, 2 * MIB), dtype=np.uint8)
    tensors = {"w": torch.from_numpy(noise.copy())}
    save_file(tensors, tmp_path / "w.safetensors")
    picture = Image.frombytes("RGB", (800, 800), noise.tobytes()[: 3 * 640_000])
    picture.save(tmp_path / "p.png")
    np.save(tmp_path / "a.npy", noise)
    files = [File(tmp_path / name) for name in ("w.safetensors", "p.png", "a.npy")]
    assert all(file.size > MIB for file in files)
    [result] = client.run("load_paths", *files)
    assert isinstance(result, list)
    assert result[:2] == [["w.safetensors", "p.png", "a.npy"], [True, True, True]]
    assert torch.equal(result[2]["w"], tensors["w"])
    assert result[3].tobytes() == picture.tobytes()
    assert np.array_equal(result[4], noise)


def test_a_model_is_loaded_from_a_folder(client: Client, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=6000, hidden_size=64, num_hidden_layers=1, num_attention_heads=2)
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path / "bert")
    assert (tmp_path / "bert" / "model.safetensors").stat().st_size > MIB
    numbers = torch.tensor([[1, 2, 3]])
    [state] = client.run("answer", Directory(tmp_path / "bert"), numbers)
    with torch.no_grad():
        expected = model(numbers).last_hidden_state
    assert isinstance(state, torch.Tensor)
    torch.testing.assert_close(state, expected)
