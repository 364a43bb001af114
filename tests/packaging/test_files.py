"""What `pipelined systemd` writes, and that systemd takes it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelined.configuration import load
from pipelined.settings import Settings
from tests.packaging.booting import CHECKOUT

PIPELINED = Path(sys.executable).with_name("pipelined")
PACKAGED = CHECKOUT / "daemon" / "packaging"
SAMPLE = PACKAGED / "pipelined.toml"
# What the unit is allowed to have, of 10.
MOST_EXPOSURE = 4.0
# Settings whose default is that there is no value: the sample shows an example.
WITHOUT_VALUE = {
    "metrics.address",
    "traces.endpoint",
    "tokens.file",
    "tls.cert",
    "tls.key",
    "tls.client_ca",
    "nursery.preload",
    "workers.user",
    "weights.device_memory",
    "limits.concurrent_runs",
    "urls.allow_hosts",
}
# Settings whose default is another one for a service of the machine.
OF_THE_UNIT = {"daemon.addresses", "daemon.state_directory"}


def pipelined(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder or "/nonexistent")}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return subprocess.run(
        [str(PIPELINED), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a system that has the service."""
    root = tmp_path_factory.mktemp("root")
    result = pipelined("systemd", "install", "--system", f"--prefix={root}")
    assert result.returncode == 0, result.stderr
    return root


def unit(root: Path) -> Path:
    return root / "etc" / "systemd" / "system" / "pipelined.service"


def test_the_unit_is_one(installed: Path) -> None:
    result = analyze("verify", str(unit(installed)))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_unit_of_a_user_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = pipelined("systemd", "install", "--user", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "systemctl --user enable --now pipelined" in result.stdout
    written = tmp_path / ".config" / "systemd" / "user" / "pipelined.service"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = analyze("--user", "verify", str(written))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / ".config" / "pipelined" / "pipelined.toml").read_text() == SAMPLE.read_text()


def test_the_unit_exposes_little(installed: Path) -> None:
    result = analyze("security", "--offline=true", "--no-pager", str(unit(installed)))
    found = re.search(r"Overall exposure level for pipelined\.service: ([0-9.]+)", result.stdout)
    assert found is not None, result.stderr
    assert float(found[1]) <= MOST_EXPOSURE


def test_the_unit_executes_what_is_installed(installed: Path) -> None:
    [line] = re.findall(r"^ExecStart=.*$", unit(installed).read_text(), flags=re.MULTILINE)
    assert line == f"ExecStart={PIPELINED} serve --config /etc/pipelined/pipelined.toml"


def fed(program: str, *options: str, file: Path) -> str:
    """Give a configuration to a program of systemd; returns what it says."""
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    result = subprocess.run(
        [program, *options, "-"],
        input=file.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_the_user_is_one(installed: Path, tmp_path: Path) -> None:
    file = installed / "etc" / "sysusers.d" / "pipelined.conf"
    said = fed("systemd-sysusers", "--dry-run", f"--root={tmp_path}", file=file)
    assert "Creating user 'pipelined' (Pipelined daemon)" in said


def test_the_folder_of_credentials_is_for_root_alone(installed: Path, tmp_path: Path) -> None:
    # It looks users up there.
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text("root:x:0:\n")
    file = installed / "etc" / "tmpfiles.d" / "pipelined.conf"
    fed("systemd-tmpfiles", "--create", f"--root={tmp_path}", file=file)
    folder = tmp_path / "etc" / "pipelined" / "credentials"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_somebody_has_changed_is_not_overwritten(tmp_path: Path) -> None:
    install = ("systemd", "install", "--system", f"--prefix={tmp_path}")
    assert pipelined(*install, "--dry-run").stdout.count("would be written: ") == 4
    assert not list(tmp_path.iterdir())
    assert pipelined(*install).stdout.count("written: ") == 4
    assert pipelined(*install).stdout.count("unchanged: ") == 4
    original = unit(tmp_path).read_text()
    config = tmp_path / "etc" / "pipelined" / "pipelined.toml"
    for file in (unit(tmp_path), config):
        file.write_text("changed")
    result = pipelined(*install)
    assert result.returncode == 1
    assert str(unit(tmp_path)) in result.stderr
    assert "--force" in result.stderr
    assert unit(tmp_path).read_text() == "changed"
    assert pipelined(*install, "--force").returncode == 0
    assert unit(tmp_path).read_text() == original
    # A configuration is its owner's, whatever is forced.
    assert config.read_text() == "changed"

    uninstall = ("systemd", "uninstall", "--system", f"--prefix={tmp_path}")
    unit(tmp_path).write_text("changed")
    assert pipelined(*uninstall).returncode == 1
    result = pipelined(*uninstall, "--force")
    assert (result.returncode, result.stdout.count("removed: ")) == (0, 3)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [config]
    assert f"kept: {config}" in pipelined(*uninstall).stdout


def test_one_of_both_has_to_be_said(tmp_path: Path) -> None:
    for options in ((), ("--user", "--system")):
        result = pipelined("systemd", "install", *options, f"--prefix={tmp_path}")
        assert result.returncode == 2
        assert "say one of them" in result.stderr


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    result = pipelined("systemd", "install", "--system", "--prefix=/proc/nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert "/proc/nowhere/etc/systemd/system/pipelined.service cannot be written" in result.stderr


def _values(settings: Settings) -> dict[str, Any]:
    return {
        f"{section}.{key}": getattr(getattr(settings, section), key)
        for section in Settings.model_fields
        for key in type(getattr(settings, section)).model_fields
    }


def test_the_sample_has_all_settings_with_their_defaults(tmp_path: Path) -> None:
    assert load(SAMPLE, {}) == Settings()
    given = tmp_path / "pipelined.toml"
    given.write_text(re.sub(r"^#(?=[a-z_]+ = )", "", SAMPLE.read_text(), flags=re.MULTILINE))
    section, named = "", set()
    for line in given.read_text().splitlines():
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
        elif found := re.match(r"(\w+) = ", line):
            named.add(f"{section}.{found[1]}")
    defaults, values = _values(Settings()), _values(load(given, {}))
    assert named == set(defaults)
    differing = {name for name in defaults if defaults[name] != values[name]}
    assert differing - OF_THE_UNIT == WITHOUT_VALUE


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    assert pipelined("check-config", str(SAMPLE)).stdout == f"{SAMPLE} is valid\n"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[files]\nmaxsize = 1\n")
    result = pipelined("check-config", str(wrong))
    assert (result.returncode, result.stdout) == (1, "")
    assert "did you mean 'max_size'?" in result.stderr
    result = pipelined("check-config", folder=tmp_path)
    assert result.stdout == "there is no configuration file\n"
