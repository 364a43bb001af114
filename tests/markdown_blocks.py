"""Code blocks of Markdown pages: found without exception, and executed as a reader would."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"```(\w+)")
_NAME = re.compile(r"(?:#|//) ([\w./-]+\.\w+)")
# Tags of files: of these, only Python is also executed where it stands.
_FILES = ("python", "yaml", "toml")
_BLOCK_SECONDS = 100


class PageError(AssertionError):
    """A page that does not keep the rules, or does not do what it says."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file that it is in.
        line: of its first line of text, from 1.
        tag: its language.
        text: ends with a newline, unless it is empty.

    """

    page: Path
    line: int
    tag: str
    text: str

    @property
    def where(self) -> str:
        """Its place, for messages."""
        return f"{self.page.name}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that its first line, a comment, says it is."""
        found = _NAME.fullmatch(self.text.partition("\n")[0])
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page.

    Raises:
        PageError: there is code that would not be found: a block without a tag, an indented one, or
            one in HTML.

    """
    found: list[Block] = []
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if "```" not in line and "~~~" not in line:
            if line.startswith(("    ", "\t")) or "<pre" in line or "<code" in line:
                raise PageError(f"{page.name}:{number}: code that is in no fence: {line!r}")
            continue
        opening = _FENCE.fullmatch(line)
        if opening is None:
            raise PageError(f"{page.name}:{number}: a fence is ``` and a tag, not {line!r}")
        try:
            end = lines.index("```", number)
        except ValueError:
            raise PageError(f"{page.name}:{number}: the block does not end") from None
        text = "".join(f"{each}\n" for each in lines[number:end])
        found.append(Block(page, number + 1, opening[1], text))
        number = end + 1
    return found


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
        self._environment = _environment(self.folder, environment or {})
        self._session: subprocess.Popen[str] | None = None
        self._groups: list[int] = []

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
        for group in self._groups:
            try:
                os.killpg(group, signal.SIGTERM)
            except ProcessLookupError:
                continue
        self._output.close()
        self._temporary.cleanup()

    def follow(self, page: Path) -> None:
        """Do what a page says, from top to bottom.

        Raises:
            PageError: a block fails, prints something else than the page says, or has a tag that
                has no meaning here.

        """
        printed: str | None = None
        written: dict[str, Block] = {}
        for block in blocks(page):
            if block.tag == "text":
                if printed is None:
                    raise PageError(f"{block.where}: output, but of which block?")
                _compare(block, printed)
                printed = None
                continue
            printed = self.execute(block)
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
        # A group of its own, so that what it leaves in the background can be ended.
        process = subprocess.Popen(
            ["sh", "-eu", "-c", block.text],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        self._groups.append(process.pid)
        code = process.wait(_BLOCK_SECONDS)
        printed = self._printed(before)
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


_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"#+ (.*)")


def broken_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield the links of a page that lead to no file below ``root``, or to none of its headings."""
    for link in _LINK.findall(_prose(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.is_relative_to(root) or not target.exists():
            yield link
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            yield link


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by."""
    headings = [found[1] for line in _prose(page).splitlines() if (found := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def _prose(page: Path) -> str:
    """Return what is on a page outside its blocks."""
    lines = page.read_text().splitlines()
    for block in blocks(page):
        for number in range(len(block.text.splitlines())):
            lines[block.line - 1 + number] = ""
    return "\n".join(lines)
