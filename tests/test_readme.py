"""What README tells a newcomer to type works."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.markdown_blocks import ROOT, Block, blocks, broken_links
from tests.markdown_reader import Reader
from tests.running_daemon import RunningDaemon

README = ROOT / "README.md"
SOCKET = "unix:/tmp/pipelined.sock"
START = f".venv/bin/pipelined serve --address {SOCKET}\n"
# Printed by `make demo` and `make bench`: what a command prints cannot be typed.
TRANSCRIPT = "text"


def is_make(block: Block) -> bool:
    return all(line.startswith("make ") for line in block.text.splitlines())


def test_every_block_is_code_or_a_transcript() -> None:
    assert {block.tag for block in blocks(README)} == {"python", "sh", TRANSCRIPT}


def test_make_targets_exist() -> None:
    made = [block for block in blocks(README) if block.tag == "sh" and is_make(block)]
    targets = [line.split()[1] for block in made for line in block.text.splitlines()]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_program_and_the_commands(daemon: RunningDaemon) -> None:
    printed = ""
    typed = [block for block in blocks(README) if block.tag != TRANSCRIPT and not is_make(block)]
    # The tests' daemon runs already.
    assert START in [block.text for block in typed]
    with Reader({"COLUMNS": "100"}) as reader:
        (reader.folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        for block in typed:
            if block.text == START:
                continue
            block = replace(block, text=block.text.replace(SOCKET, daemon.address))
            printed += reader.execute(block) or ""
            if block.tag == "python":
                assert block.file_name == "greeter.py"
                printed += reader.execute(replace(block, tag="sh", text="python greeter.py")) or ""
    assert "['Hello, here!']\n['Hello, there!']\n" in printed
    assert "Hello, you!" in printed
    with daemon.client() as client:
        assert "greeter" not in [deployment.name for deployment in client.list()]


def test_links_lead_somewhere() -> None:
    assert list(broken_links(README)) == []
