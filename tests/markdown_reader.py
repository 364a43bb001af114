"""Somebody who reads a Markdown page and types in its blocks."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

from tests.markdown_blocks import ROOT, Block, PageError, blocks

# Tags of files: of these, only Python is also executed where it stands.
_FILES = ("python", "yaml", "toml")
_BLOCK_SECONDS = 100
_END_SECONDS = 15


class Reader:
    """Somebody who types in the blocks of one page, in an empty folder with a short path.

    Attributes:
        folder: where they work.

    Args:
        environment: variables beyond this process's own; None removes one.

    """

    def __init__(self, environment: Mapping[str, str | None] | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="pld-")
        self.folder = Path(self._temporary.name)
        self._output = tempfile.TemporaryFile("a+")  # noqa: SIM115  # closed by close()
        self._exports = tempfile.NamedTemporaryFile("r+")  # noqa: SIM115  # closed by close()
        self._environment = _environment(self.folder, environment or {})
        self._session: subprocess.Popen[str] | None = None
        self._groups: set[int] = set()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what the blocks have left running, and remove the folder."""
        if self._session is not None:
            assert self._session.stdin is not None
            assert self._session.stdout is not None
            self._session.stdin.close()
            self._session.kill()
            self._session.wait()
            self._session.stdout.close()
        _end([process for process in psutil.process_iter() if _group(process) in self._groups])
        self._output.close()
        self._exports.close()
        self._temporary.cleanup()

    def follow(self, page: Path) -> None:
        """Do what a page says, from top to bottom.

        Raises:
            PageError: a block fails, prints something else than the page says, or has a tag that
                has no meaning here.

        """
        printed: str | None = None
        written: dict[str, Block] = {}
        found: list[Block | None] = [*blocks(page), None]
        for block, after in itertools.pairwise(found):
            assert block is not None
            if block.tag == "text":
                if printed is None:
                    raise PageError(f"{block.where}: output, but of which block?")
                _compare(block, printed)
                printed = None
                continue
            printed = self.execute(block)
            if "\nexcept " in block.text and (after is None or after.tag != "text"):
                raise PageError(f"{block.where}: it would do as well without the error: show it")
            for name in [each for each in written if Path(each).stem in block.text]:
                del written[name]
            if block.tag in _FILES and block.file_name is not None:
                written[block.file_name] = block
        for name, block in written.items():
            raise PageError(f"{block.where}: nothing on the page uses {name}")

    def execute(self, block: Block) -> str | None:
        """Type in one block.

        Returns:
            What it printed; None if it is not of a kind that prints.

        Raises:
            PageError: it fails, or its tag has no meaning here.

        """
        if block.tag == "sh":
            return self._shell(block)
        if block.tag == "proto":
            _check_excerpt(block)
            return None
        if block.tag not in _FILES:
            raise PageError(f"{block.where}: the tag {block.tag!r} is not executed by anything")
        if block.file_name is not None:
            self._write(block, block.file_name)
            return None
        if block.tag != "python":
            raise PageError(f"{block.where}: a {block.tag} block begins with the name of its file")
        return self._python(block)

    def _write(self, block: Block, name: str) -> None:
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise PageError(f"{block.where}: {name} is outside the folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)

    def _shell(self, block: Block) -> str:
        before = self._output.seek(0, os.SEEK_END)
        # What a block exports is there in the next one, and in a Python session that begins later.
        self._exports.seek(0)
        self._exports.truncate()
        exports = f"trap 'env -0 >{self._exports.name}' EXIT"
        # A group of its own, so that what it leaves in the background can be ended.
        process = subprocess.Popen(
            ["sh", "-eu", "-c", f"{exports}\n{block.text}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        self._groups.add(process.pid)
        code = process.wait(_BLOCK_SECONDS)
        printed = self._printed(before)
        self._environment = dict(
            entry.split("=", 1) for entry in self._exports.read().split("\0") if entry
        )
        if code != 0:
            raise PageError(f"{block.where}: exit code {code}\n{printed}")
        return printed

    def _python(self, block: Block) -> str:
        before = self._output.seek(0, os.SEEK_END)
        session = self._session or self._start_session()
        assert session.stdin is not None
        assert session.stdout is not None
        # Line numbers are those of the page.
        source = "\n" * (block.line - 1) + block.text
        session.stdin.write(f"{json.dumps([source, str(block.page)])}\n")
        session.stdin.flush()
        answer = session.stdout.readline()
        printed = self._printed(before)
        if answer != "done\n":
            raise PageError(f"{block.where}: {answer.strip() or 'the session ended'}\n{printed}")
        return printed

    def _start_session(self) -> subprocess.Popen[str]:
        self._session = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "markdown_session.py")],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
        )
        return self._session

    def _printed(self, before: int) -> str:
        self._output.seek(before)
        return self._output.read()


def _environment(folder: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    result = dict(os.environ)
    # Relative entries would mean the reader's folder.
    if packages := result.get("PYTHONPATH"):
        entries = [str(Path(entry).absolute()) for entry in packages.split(os.pathsep)]
        result["PYTHONPATH"] = os.pathsep.join(entries)
    result["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), result["PATH"]])
    result["XDG_RUNTIME_DIR"] = str(folder)
    result["XDG_STATE_HOME"] = str(folder / "state")
    for name, value in changes.items():
        result.pop(name, None)
        if value is not None:
            result[name] = value
    return result


def _compare(block: Block, printed: str) -> None:
    """Match output with what a page shows of it, where ``…`` stands for some of one line."""
    patterns = []
    for number, line in enumerate(block.text.splitlines()):
        if "…" in line and not line.replace("…", "").strip():
            raise PageError(f"{block.page.name}:{block.line + number}: the line says nothing")
        patterns.append(".*".join(map(re.escape, line.split("…"))))
    shown = "\n".join(line.rstrip() for line in printed.splitlines())
    if re.fullmatch("\n".join(patterns), shown) is None:
        raise PageError(f"{block.where}: the page shows\n{block.text}\nbut printed was\n{shown}")


def _check_excerpt(block: Block) -> None:
    """Make sure that a block is a part of the file that it names."""
    if block.file_name is None:
        raise PageError(f"{block.where}: a {block.tag} block begins with the name of its file")
    excerpt = block.text.partition("\n")[2]
    if not excerpt.strip() or excerpt not in (ROOT / block.file_name).read_text():
        raise PageError(f"{block.where}: this is not in {block.file_name}")


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.terminate()
    _, alive = psutil.wait_procs(processes, _END_SECONDS)
    for process in alive:
        process.kill()
