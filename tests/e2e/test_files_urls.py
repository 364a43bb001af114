"""Files by their URL: fetched by workers, from hosts that the operator allows."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import Client, Directory, File, Pipeline, Variable, errors, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.files import MIB, SIZE, content, echo, graph_of, sha256_of
from tests.running_daemon import RunningDaemon
from tests.web_server import WebServer


@pipe
def measure(file: File, read: bool) -> list[Any]:
    return [file.name, sha256_of(file.read()) if read else ""]


@pipe
def names(folder: Directory) -> list[str]:
    return list(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("sub/a.txt", "a")
        entries.writestr("large.bin", content(41))
    contents = {"/x.bin": content(40), "/m.zip": archive.getvalue(), "/huge": bytes(9 * MIB)}
    with WebServer(contents) as running:
        yield running


@pytest.fixture(scope="module")
def shared(server: WebServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    allowed = f"--allow-url-host=localhost:{server.port}"
    options = (*QUICK_PRELOAD, allowed, "--allow-url-host=*", "--file-max-size=8MiB")
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=options)
    with running.client() as client:
        client.deploy(graph_of(measure, File, bool), "measure")
        client.deploy(graph_of(names, Directory), "names")
        client.deploy(graph_of(echo, Any), "echo")
    yield running
    running.close()


def test_a_worker_fetches_what_is_used(client: Client, server: WebServer) -> None:
    server.asked.clear()
    assert client.run("measure", File(url=server.url("/x.bin")), False) == [["x.bin", ""]]
    assert server.asked == []
    file = File(url=server.url("/x.bin"), name="mine", sha256=sha256_of(content(40)))
    assert client.run("measure", file, True) == [["mine", sha256_of(content(40))]]
    assert server.asked == ["/x.bin"]
    assert client.run("names", Directory(url=server.url("/m.zip"))) == [["large.bin", "sub/a.txt"]]


def test_outputs_are_contents_and_no_urls(client: Client, server: WebServer) -> None:
    given = [File(url=server.url("/x.bin")), Directory(url=server.url("/m.zip"))]
    [back] = client.run("echo", given)
    assert isinstance(back, list)
    file, folder = back
    server.asked.clear()
    assert (file.url, file.size, file.read()) == ("", SIZE, content(40))
    assert folder["large.bin"].read() == content(41)
    assert server.asked == []


def test_a_startup_node_fetches_what_the_graph_names(client: Client, server: WebServer) -> None:
    @pipe(on_startup=True)
    def load(file: File) -> str:
        return sha256_of(file.read())

    @pipe
    def tell(known: str, _: int) -> str:
        return known

    with Pipeline() as builder:
        number = Variable(int)
        builder.output(tell(load(File(url=server.url("/x.bin"))), number))
    client.deploy(builder.get_pipeline(), "startup")
    assert client.run("startup", 1) == [sha256_of(content(40))]


def test_what_the_list_does_not_allow_is_refused(client: Client, server: WebServer) -> None:
    server.asked.clear()
    # Any public host may be asked, but this address is none, and is named only as localhost.
    server.contents["/away"] = "http://127.0.0.1:1/"
    for path in (server.url("/away"), "http://[::ffff:127.0.0.1]:1/x", "http://127.0.0.1:1/x"):
        with pytest.raises(errors.RunFailed) as caught:
            client.run("measure", File(url=path), True)
        assert "PermissionDenied" in str(caught.value)
        assert "--allow-url-host" in str(caught.value)
    assert server.asked == ["/away"]
    with pytest.raises(errors.RunFailed, match=f"more than {8 * MIB} bytes"):
        client.run("measure", File(url=server.url("/huge")), True)
    with pytest.raises(errors.RunFailed, match="sha256"):
        client.run("measure", File(url=server.url("/x.bin"), sha256="0" * 64), True)


def test_nothing_is_allowed_without_the_option(
    own_daemon: RunningDaemon, server: WebServer
) -> None:
    with own_daemon.client() as client:
        client.deploy(graph_of(measure, File, bool), "measure")
        server.asked.clear()
        for url in (server.url("/x.bin"), "https://example.org/x"):
            with pytest.raises(errors.InvalidInput, match="--allow-url-host") as caught:
                client.run("measure", File(url=url), False)
            assert caught.value.field == "inputs[0]"
        assert server.asked == []


def test_an_entry_that_is_no_host_is_refused_at_once(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("pipelined")
    done = subprocess.run(
        [command, "serve", f"--state-dir={tmp_path}", "--allow-url-host=http://a.org/"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "--allow-url-host" in done.stderr
