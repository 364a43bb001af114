"""What is on Markdown pages: code blocks, found without exception, and links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r"```(\w+)")
_NAME = re.compile(r"(?:#|//) ([\w./-]+\.\w+)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"#+ (.*)")


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


def broken_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield the links of a page that lead to no file below ``root``, or to none of its headings."""
    for link in _LINK.findall(_prose(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        there = target.is_relative_to(root) and target.exists()
        if there and anchor:
            there = target.suffix == ".md" and anchor in anchors(target)
        if not there:
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
