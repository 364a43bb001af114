"""`pipeline init`, and `pipeline deploy` with folders, against a real daemon."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.programs import call, done
from tests.client.subprocesses import run_python
from tests.conftest import QUICK_PRELOAD
from tests.running_daemon import RunningDaemon


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), options=QUICK_PRELOAD)
    yield running
    running.close()


FILES = ["README.md", "app.py", "pipeline.yaml", "test_app.py", "words.py"]


def test_the_starter_project_is_tested_deployed_and_run(
    light: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = done(light, "init", "my project").splitlines()
    assert said == [
        "wrote README.md, app.py, pipeline.yaml, test_app.py, words.py. Next:",
        "  cd 'my project'",
        "  python -m unittest",
        "  pipeline deploy .",
        "  pipeline run my-project text='hello  world'",
    ]
    folder = tmp_path / "my project"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    run_python(["-m", "unittest"], cwd=folder)
    monkeypatch.chdir(folder)
    assert done(light, "deploy", ".") == "my-project v1 is cold\n"
    found = json.loads(done(light, "run", "my-project", "text=hello  world", "--json"))
    assert "Hello, hello world!" in json.dumps(found)
    assert call(light, "run", "my-project", "text=").exit_code == 2
    described = json.loads(done(light, "deploy", str(folder), "--name", "two", "--json"))
    assert (described["name"], described["version"], described["environment"]) == (
        "two",
        1,
        ["GREETING"],
    )
    done(light, "deploy", ".", "app:builder", "--env", "GREETING=Hi")
    assert "Hi, hello!" in done(light, "run", "my-project", "text=hello")


def test_the_starter_project_keeps_to_the_style(light: RunningDaemon, tmp_path: Path) -> None:
    done(light, "init", str(tmp_path / "starter"))
    ruff = Path(sys.executable).with_name("ruff")
    for command in (
        ["check", "--isolated", "--extend-select=I"],
        ["format", "--check", "--isolated"],
    ):
        options = ["--line-length=100", "."]
        subprocess.run([str(ruff), *command, *options], cwd=tmp_path / "starter", check=True)


def test_an_installed_package_has_the_starter_project(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    for name in ("client", "daemon", "proto"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
        shutil.copytree(root / name, tmp_path / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    run_python(["setup.py", "--quiet", "build_py", "--build-lib", "built"], cwd=tmp_path)
    built = tmp_path / "built" / "pipeline" / "cli" / "starter"
    assert sorted(path.name for path in built.iterdir()) == sorted(
        [*(f"{name}.template" for name in FILES), "__init__.py"]
    )


@pytest.mark.parametrize("taken", FILES)
def test_nothing_is_overwritten(light: RunningDaemon, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    result = call(light, "init", str(tmp_path))
    assert result.exit_code == 2
    assert f"{str(tmp_path / taken)!r} is there already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


def test_init_as_json_in_the_current_folder(
    light: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = json.loads(done(light, "init", "--json"))
    assert (said["folder"], said["files"]) == (".", FILES)
    assert said["next"][0] == "python -m unittest"
    (tmp_path / "file").touch()
    assert call(light, "init", "file").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["starter"], "the deployment has no name"),
        (["starter", "--name", "a/b"], "name"),
        (["starter", "app", "--name", "n"], "not of the form module:variable"),
        (["starter", "app:absent", "--name", "n"], "app has no 'absent'"),
        (["absent", "app:graph", "--name", "n"], "there is no folder 'absent'"),
        (["absent"], "'absent' is neither a folder nor of the form module:variable"),
        (["./absent", "--name", "n"], "there is no folder './absent'"),
        (["starter/app.py:graph"], "starter/app.py:graph needs a name: give --name"),
        (["starter/app.py:graph", "--name", "n", "--force"], "--force is for folders"),
        (["demanding"], "nowhere-at-all>=2 is required, but the daemon has no nowhere-at-all"),
        (["misspelt"], "did you mean 'requirements'?"),
    ],
)
def test_folders_that_cannot_be_deployed_are_told_in_one_line(
    light: RunningDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, settings in (
        ("starter", "pipeline_graph: app:graph\n"),
        ("demanding", "pipeline_graph: app:graph\nname: n\nrequirements: ['nowhere-at-all>=2']\n"),
        ("misspelt", "requirement: []\n"),
    ):
        done(light, "init", name)
        (tmp_path / name / "pipeline.yaml").write_text(settings)
    result = call(light, "deploy", *arguments)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_force_warns_instead(
    light: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done(light, "init", "forced")
    text = (tmp_path / "forced" / "pipeline.yaml").read_text()
    demanding = text.replace("requirements: []", "requirements: ['nowhere-at-all']")
    (tmp_path / "forced" / "pipeline.yaml").write_text(demanding)
    result = call(light, "deploy", "forced", "--force")
    assert result.exit_code == 0
    assert "the daemon has no nowhere-at-all" in result.stderr
