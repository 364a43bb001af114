"""The reference says what is so: each page is followed as its reader would."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import pipeline
from pipeline import AsyncClient, Client, Directory, File, cloud, errors
from pipeline._errors_wire import BY_REASON
from pipeline._graph.constraints import NAMES
from pipeline._project import Project
from pipeline.cli.app import app as pipeline_app
from pipeline.runs import AsyncRun, Run
from pipelined.cli import application as pipelined_app
from tests.markdown_blocks import ROOT, anchors, broken_links
from tests.markdown_reader import Reader
from tests.running_daemon import RunningDaemon

DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
# Its reader starts a daemon, at the default address.
WITHOUT_DAEMON = "quickstart.md"


@pytest.fixture(scope="module")
def allowed_port() -> int:
    """A port where a reader may start a web server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, allowed_port: int) -> Iterator[RunningDaemon]:
    """One daemon for all pages, with the preload list that users have."""
    allowed = f"--allow-url-host=localhost:{allowed_port}"
    daemon = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=[allowed])
    yield daemon
    daemon.close()


def text(page: str) -> str:
    return (DOCS / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_a_reader_can_follow_the_page(page: str, running: RunningDaemon, allowed_port: int) -> None:
    environment = {
        "PIPELINED_ADDRESS": None if page == WITHOUT_DAEMON else running.address,
        "ALLOWED_PORT": str(allowed_port),
        "CHECKOUT": str(ROOT),
        "COLUMNS": "100",
    }
    with Reader(environment) as reader:
        reader.follow(DOCS / page)
    with running.client() as client:
        for deployment in client.list():
            client.delete(deployment.name)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert list(broken_links(DOCS / page)) == []


def test_the_index_has_every_page() -> None:
    assert [
        page for page in PAGES if page != "README.md" and f"]({page})" not in text("README.md")
    ] == []


def command(application: typer.Typer) -> TyperGroup:
    group = typer.main.get_command(application)
    assert isinstance(group, TyperGroup)
    return group


def options(of: Any) -> set[str]:
    return {name for each in of.params for name in each.opts if name.startswith("--")}


@pytest.mark.parametrize("name", sorted(command(pipeline_app).commands))
def test_the_page_of_the_command_has_each_command_and_its_options(name: str) -> None:
    page = text("command-line.md")
    found = command(pipeline_app).commands[name]
    assert f"`pipeline {name}`" in page
    assert [each for each in options(found) if f"`{each}" not in page] == []
    for inner, each in (found.commands if isinstance(found, TyperGroup) else {}).items():
        assert f"`pipeline {name} {inner}`" in page
        assert [option for option in options(each) if f"`{option}" not in page] == []


def test_the_page_for_operators_has_every_option() -> None:
    page = text("operations.md")
    for name, each in command(pipelined_app).commands.items():
        assert f"`pipelined {name}`" in page
        assert [option for option in options(each) if f"`{option}" not in page] == []


def test_the_page_of_errors_has_every_class_and_every_reason() -> None:
    page = text("errors.md")
    assert {name.lower() for name in errors.__all__} <= anchors(DOCS / "errors.md")
    assert [reason for reason in BY_REASON if f"`{reason}`" not in page] == []


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_the_page_of_clients_has_every_method(client: type) -> None:
    page = text("client.md")
    members = {name: value for name, value in vars(client).items() if not name.startswith("_")}
    assert len(members) > 8
    for name, value in members.items():
        assert (f"`{name}(" if callable(value) else f"`{name}`") in page


def test_the_page_of_runs_has_every_method() -> None:
    for handle in (Run, AsyncRun):
        methods = [name for name in vars(handle) if not name.startswith("_")]
        assert len(methods) > 4
        assert [name for name in methods if f"`run.{name}(" not in text("runs.md")] == []


def test_the_page_of_deploying_has_every_key() -> None:
    keys = Project.model_fields
    assert [key for key in keys if f"| `{key}` |" not in text("deploying.md")] == []


@pytest.mark.parametrize("kind", [File, Directory])
def test_the_page_of_files_has_every_argument(kind: type) -> None:
    for name in inspect.signature(kind).parameters:
        assert f"{kind.__name__}({name}" in text("files.md") or f"{name}=" in text("files.md")


def test_the_page_of_inputs_has_every_constraint() -> None:
    assert [name for name in NAMES if f"`{name}" not in text("inputs.md")] == []


def test_the_page_of_migration_has_every_name_of_the_cloud() -> None:
    page = text("migration.md")
    modules = [path for path in Path(cloud.__path__[0]).glob("[a-z]*.py")]
    assert len(modules) > 5
    for path in modules:
        module = __import__(f"pipeline.cloud.{path.stem}", fromlist=["__all__"])
        names = [name for name in module.__all__ if not name[0].isupper() or name == "Accelerator"]
        assert names
        assert [name for name in names if f"`{path.stem}.{name}`" not in page] == []


def test_the_page_of_migration_has_every_public_name() -> None:
    assert [name for name in pipeline.__all__ if f"`{name}" not in text("migration.md")] == []


def test_each_row_of_the_semantics_leads_to_a_page() -> None:
    rows = [line for line in text("semantics.md").splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    assert [row for row in rows[1:] if "](" not in row] == []
