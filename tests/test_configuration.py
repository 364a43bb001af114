"""The configuration file: what it takes, what it refuses, and that options are stronger."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelined.configuration import ConfigurationError, default_file, differences, load
from pipelined.listening import parse_listen_address
from pipelined.settings import LogFormat, Settings
from tests.running_daemon import RunningDaemon

PIPELINED = str(Path(sys.executable).with_name("pipelined"))


def written(folder: Path, text: str) -> Path:
    file = folder / "pipelined.toml"
    file.write_text(text)
    return file


def test_a_file_says_what_options_would(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"""
        [daemon]
        addresses = ["unix:{tmp_path}/s", "127.0.0.1:0"]
        state_directory = "{tmp_path}/state"
        drain = 0
        [log]
        format = "json"
        [weights]
        device_memory = "2GiB"
        [runs]
        ttl = 90
        """,
    )
    settings = load(file, {})
    assert settings.daemon.addresses == (
        parse_listen_address(f"unix:{tmp_path}/s"),
        parse_listen_address("127.0.0.1:0"),
    )
    assert settings.daemon.state_directory == tmp_path / "state"
    assert settings.daemon.drain == 0
    assert settings.log.format is LogFormat.JSON
    assert settings.weights.device_memory == 2 << 30
    assert settings.runs.limits().ttl_seconds == 90


def test_an_option_is_stronger_than_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[runs]\nttl = "1h"\nstore_size = "1MiB"\n')
    settings = load(file, {"runs.ttl": 5.0, "runs.store_size": None, "log.debug": True})
    assert settings.runs.ttl == 5
    assert settings.runs.store_size == 1 << 20
    assert settings.log.debug


def test_without_anything_there_are_defaults() -> None:
    assert load(None, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[daemon]\naddresses = []", ["daemon.addresses", "at least 1"]),
        ('[daemon]\naddresses = ["nowhere"]', ["daemon.addresses.0", "'nowhere'", "host:port"]),
        ("[daemon]\ndrain = -1", ["daemon.drain", "'-1'"]),
        ("[daemon]\ndrain = true", ["daemon.drain", "True"]),
        ('[log]\nformat = "xml"', ["log.format", "'xml'", "console, json"]),
        ('[log]\ndebug = "yes"', ["log.debug", "boolean"]),
        ('[weights]\npinned_memory = "1KiB"', ["weights.pinned_memory", "48KiB"]),
        ('[files]\nttl = "0s"', ["files.ttl", "'0s'"]),
        ("[deployments]\nversions_kept = 0", ["deployments.versions_kept", "1"]),
        ('[deployments]\nversions_kept = "10"', ["deployments.versions_kept", "integer"]),
        ('[urls]\nallow_hosts = ["a b"]', ["urls.allow_hosts", "'a b'"]),
        ("[run]\nttl = 1", ["run is not known", "did you mean 'runs'"]),
        ("[runs]\nxyz = 1", ["runs.xyz is not known", "known: ttl, store_size"]),
        ("runs = 1", ["runs: input should be a table, not 1"]),
        (
            '[daemon]\naddresses = "unix:a"',
            ["addresses: input should be a list, not 'unix:a'"],
        ),
        ("[startup]\nwarm_at_most = 0", ["startup.warm_at_most", "equal to 1, not 0"]),
        ("[runs", ["cannot be read", "table declaration"]),
        # Deeper than hypothesis lets the interpreter go while it runs tests.
        ("a = " + 200_000 * "[", ["cannot be read", "nested too deeply"]),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, words: list[str]) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load(file, {})
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, '[runs]\nttl = "soon"\n[files]\nttl = "later"\n')
    with pytest.raises(ConfigurationError, match=r"files\.ttl.*runs\.ttl"):
        load(file, {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=str(file)):
            load(file, {})
    file = tmp_path / "bytes.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="utf-8"):
        load(file, {})


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINED_CONFIG", raising=False)
    monkeypatch.delenv("CONFIGURATION_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    assert default_file() is None
    (tmp_path / "home" / "pipelined").mkdir(parents=True)
    of_user = written(tmp_path / "home" / "pipelined", "")
    assert default_file() == of_user
    of_systemd = written(tmp_path, "")
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    assert default_file() == of_systemd
    # What is named has to be there.
    monkeypatch.setenv("PIPELINED_CONFIG", str(tmp_path / "missing"))
    assert default_file() == tmp_path / "missing"
    monkeypatch.setenv("PIPELINED_CONFIG", "")
    assert default_file() is None


def test_differences_are_named_by_section_and_key() -> None:
    before = load(None, {})
    after = load(None, {"runs.ttl": 1.0, "log.debug": True})
    assert differences(before, after) == ["log.debug", "runs.ttl"]
    assert differences(before, before) == []


def test_a_daemon_is_run_by_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("daemon")
    file = written(folder, '[nursery]\npreload = ["json"]\n[log]\nformat = "json"\n')
    daemon = RunningDaemon(folder, options=[f"--config={file}"])
    try:
        with daemon.client() as client:
            assert list(client.info().nursery.preloaded) in ([], ["json"])
        assert '"event": "ready"' in daemon.log()
    finally:
        daemon.close()


def test_a_file_that_is_wrong_keeps_the_daemon_from_starting(tmp_path: Path) -> None:
    file = written(tmp_path, "[runs]\nttl = []\n")
    result = subprocess.run(
        [PIPELINED, "serve", f"--config={file}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"pipelined: configuration file {str(file)!r}: "
        "runs.ttl: [] is neither a number nor a text\n"
    )


def test_a_check_tells_what_the_file_leaves_to_others(tmp_path: Path) -> None:
    file = written(tmp_path, '[daemon]\naddresses = ["0.0.0.0:8443"]')
    command = [PIPELINED, "check-config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{file} is valid\n"
    assert "0.0.0.0:8443 is served with TLS only" in done.stderr
