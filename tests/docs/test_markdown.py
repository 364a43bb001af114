"""The harness finds what a page gets wrong."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.markdown_blocks import PageError, anchors, blocks, broken_links
from tests.markdown_reader import Reader


def fenced(tag: str, text: str) -> str:
    return f"```{tag}\n{text}\n```\n"


def follow(tmp_path: Path, *parts: str) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n" + "\n".join(parts))
    with Reader() as reader:
        reader.follow(page)


def test_blocks_share_a_folder_and_a_namespace(tmp_path: Path) -> None:
    follow(
        tmp_path,
        fenced("python", "# there.py\nWORD = 'there'"),
        fenced("python", "import there\ndef greet():\n    return f'hello {there.WORD}'"),
        fenced("python", "print(greet())"),
        fenced("text", "hello there"),
        fenced("sh", "python -c 'import there; print(there.WORD)' > out\necho error >&2"),
        fenced("text", "error"),
        fenced("sh", "export WORD='over = \nthere'\ncat out"),
        fenced("text", "the…"),
        fenced("sh", 'echo "$WORD"'),
        fenced("text", "over =\nthere"),
    )


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((fenced("", "x = 1"),), "page.md:3: a fence is ``` and a tag"),
        ((fenced("python title", "x = 1"),), "page.md:3: a fence is ``` and a tag"),
        (("- item\n\n  ```python\n  x = 1\n  ```\n",), "page.md:5: a fence is ``` and a tag"),
        (("~~~python\nx = 1\n~~~\n",), "page.md:3: a fence is ``` and a tag"),
        (("    x = 1\n",), "page.md:3: code that is in no fence"),
        (("<pre>x = 1</pre>\n",), "page.md:3: code that is in no fence"),
        (("```python\nx = 1\n",), "page.md:3: the block does not end"),
        ((fenced("console", "$ true"),), "the tag 'console' is not executed by anything"),
        ((fenced("yaml", "x: 1"),), "a yaml block begins with the name of its file"),
        ((fenced("python", "# x.py\nx = 1"),), "nothing on the page uses x.py"),
        ((fenced("python", "# ../x.py\nx = 1"),), "../x.py is outside the folder"),
        ((fenced("python", "1 / 0"),), "ZeroDivisionError"),
        ((fenced("python", "raise SystemExit"),), "failed"),
        ((fenced("python", "try:\n    {}\nexcept KeyError:\n    {}"),), "show it"),
        ((fenced("sh", "false\necho on"),), "exit code 1"),
        ((fenced("sh", "echo $UNSET_VARIABLE"),), "UNSET_VARIABLE"),
        ((fenced("sh", "echo one"), fenced("text", "two")), "but printed was\none"),
        ((fenced("sh", "echo one\necho two"), fenced("text", "one…")), "but printed was"),
        ((fenced("sh", "echo one"), fenced("text", "…")), "the line says nothing"),
        ((fenced("text", "one"),), "output, but of which block?"),
        ((fenced("proto", "message X {}"),), "begins with the name of its file"),
        (
            (fenced("proto", "// proto/pipelined_api/v1/runs.proto\nmessage X {}"),),
            "this is not in proto/pipelined_api/v1/runs.proto",
        ),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, parts: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(PageError) as raised:
        follow(tmp_path, *parts)
    assert complaint in str(raised.value)


def test_what_runs_on_in_the_background_ends_with_the_reader(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(fenced("sh", "sleep 1000 &\necho $!"))
    with Reader() as reader:
        printed = reader.execute(blocks(page)[0])
        assert printed is not None
        assert psutil.pid_exists(int(printed))
    assert not psutil.pid_exists(int(printed))


def test_line_numbers_are_those_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(PageError, match=r'page.md", line 5, in <module>\n *1 / 0'):
        follow(tmp_path, fenced("python", "x = 1\n1 / 0"))


def test_links_and_anchors_are_followed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `page`, of two\n\n" + fenced("sh", "# no heading\n: [no](link.md)"))
    assert anchors(page) == {"a-page-of-two"}
    good = ["#a-page-of-two", "page.md", "page.md#a-page-of-two", "code.py"]
    bad = ["#nowhere", "off.md", "page.md#nowhere", "code.py#L1", "../outside.md", "https://x.org"]
    (tmp_path / "code.py").touch()
    (tmp_path.parent / "outside.md").touch()
    other = tmp_path / "other.md"
    other.write_text("# A page of two\n\n" + " ".join(f"[it]({link})" for link in good + bad))
    assert list(broken_links(other, tmp_path)) == bad
