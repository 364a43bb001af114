"""`pipeline files`, `pipeline top` and completion, against a real daemon."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline import Pipeline, Variable, pipe
from tests.cli.programs import call, done, process
from tests.running_daemon import RunningDaemon

CONTENT = b"a content of " * 200_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pipe
def same(number: int) -> int:
    return number


def test_a_file_to_the_daemon_and_back(daemon: RunningDaemon, tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(CONTENT)
    assert call(daemon, "files", "stat", SHA256).exit_code == 3
    assert done(daemon, "files", "put", str(source)) == f"{SHA256}\n"
    stored = {"sha256": SHA256, "size": len(CONTENT)}
    put = json.loads(done(daemon, "files", "put", str(source), "--json"))
    assert put == stored | {"name": "source.bin"}
    assert f"({len(CONTENT)} bytes)" in done(daemon, "files", "stat", SHA256)
    found = json.loads(done(daemon, "files", "stat", SHA256, "--json"))
    assert found == {"present": True, "size": len(CONTENT), "received": len(CONTENT)}
    target.write_text("what was there")
    assert done(daemon, "files", "get", SHA256, "-o", str(target)) == f"{target}\n"
    assert target.read_bytes() == CONTENT
    got = json.loads(done(daemon, "files", "get", SHA256, "-o", str(target), "--json"))
    assert got == stored | {"path": str(target)}
    assert done(daemon, "files", "rm", SHA256) == f"{SHA256} is removed\n"
    result = call(daemon, "files", "get", SHA256, "-o", str(target))
    assert result.exit_code == 3
    assert target.read_bytes() == CONTENT
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_files_that_are_none(daemon: RunningDaemon, tmp_path: Path) -> None:
    result = call(daemon, "files", "put", str(tmp_path / "absent"))
    assert result.exit_code == 1
    assert "absent" in result.stderr
    result = call(daemon, "files", "stat", "12")
    assert result.exit_code == 2
    assert "64 hexadecimal digits" in result.stderr


def test_top(daemon: RunningDaemon) -> None:
    with Pipeline() as builder:
        builder.output(same(Variable(int)))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "topped")
        client.run("topped", 1)
        for _ in range(200):
            client.run("topped", 1)
        client.deploy(builder.get_pipeline(), "a-cold-one")
    head, headings, *rows = done(daemon, "top", "--sort", "runs").splitlines()
    assert daemon.address in head
    assert headings.split()[:6] == ["NAME", "VERSION", "STATE", "WARM", "QUEUE", "BUSY"]
    rates = [float(row.split()[6]) for row in rows]
    assert rates == sorted(rates, reverse=True)
    [topped] = [row for row in rows if row.startswith("topped ")]
    assert topped.split()[:6] == ["topped", "v1", "warm", "1/1", "0", "0"]
    names = [row.split()[0] for row in done(daemon, "top", "--once").splitlines()[2:]]
    assert names == sorted(names)
    lines = done(daemon, "top", "--json", "--count", "2", "--interval", "0.1").splitlines()
    for look in map(json.loads, lines):
        assert look["memory"]["resident"] > 10**6
        [topped] = [each for each in look["deployments"] if each["name"] == "topped"]
        assert (topped["succeeded"], topped["cold_starts"], topped["warm_starts"]) == (201, 1, 200)
        assert 0 < topped["seconds_p50"] <= topped["seconds_p99"]
        assert topped["memory"]["resident"] > 10**6
        assert topped["runs_per_second"] > 0
    assert len(lines) == 2
    assert call(daemon, "top", "--sort", "colour").exit_code == 2


def test_names_are_completed(daemon: RunningDaemon, tmp_path: Path) -> None:
    with Pipeline() as builder:
        builder.output(same(Variable(int)))
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), "completed")

    def completions(words: str, address: str) -> str:
        return process(
            tmp_path,
            _PIPELINE_COMPLETE="complete_bash",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split()) - 1),
            PIPELINED_ADDRESS=address,
        ).stdout

    assert completions("pipeline warm comp", daemon.address).split() == ["completed"]
    assert completions("pipeline warm comp", "unix:/nowhere/to/be/found").split() == []
