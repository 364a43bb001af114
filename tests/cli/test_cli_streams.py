"""`pipeline run` of a deployment that streams."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pipeline import Pipeline, Variable, pipe
from tests.cli.programs import call, done
from tests.running_daemon import RunningDaemon


@pipe
def words(text: str) -> Iterator[str]:
    for word in text.split():
        if word == "stop":
            raise ValueError("told to stop")
        yield word


@pipe
def size(text: str) -> int:
    return len(text)


@pytest.fixture(scope="module")
def name(daemon: RunningDaemon) -> str:
    with Pipeline() as builder:
        text = Variable(str)
        found = words(text)
        total = size(text)
        builder.output(found, total)
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "cli-streams")
    return "cli-streams"


def test_people_get_a_line_per_element(daemon: RunningDaemon, name: str) -> None:
    assert done(daemon, "run", name, "text=a b") == "total: 3\nfound: a\nfound: b\n"


def test_programs_get_a_document_per_line(daemon: RunningDaemon, name: str) -> None:
    lines = done(daemon, "run", name, "text=a b", "--json").splitlines()
    assert [json.loads(line) for line in lines] == [{"total": 3}, {"found": "a"}, {"found": "b"}]


def test_a_failure_follows_what_came_before_it(daemon: RunningDaemon, name: str) -> None:
    result = call(daemon, "run", name, "text=a stop")
    assert result.stdout == "total: 6\nfound: a\n"
    assert "told to stop" in result.stderr
    assert result.exit_code != 0
