"""The user's own modules travel with a graph: what functions import when they run, too."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.client.subprocesses import run_python

SAVE = """
    import sys
    graph = builder.get_pipeline()
    if __name__ == "__main__":
        graph.save(sys.argv[1])
        print(graph.digest())
        print([package.module for package in graph.required_packages()])
        print(graph.run(3))
"""
LOAD = """
import sys
from pipeline import Graph
graph = Graph.load(sys.argv[1])
print(graph.digest())
print([package.module for package in graph.required_packages()])
print(graph.run(3))
assert Graph.loads(graph.dumps()).run(3) == graph.run(3)
"""


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
    return folder


def script(body: str) -> str:
    """A program with one graph, whose pipe ``f`` the body defines."""
    return (
        "from pipeline import Pipeline, Variable, entity, pipe\n"
        + textwrap.dedent(body)
        + "\nwith Pipeline() as builder:\n    builder.output(f(Variable(int)))\n"
        + textwrap.dedent(SAVE)
    )


def sent(folder: Path, files: Mapping[str, str]) -> list[str]:
    """What a folder's script prints, which is what its graph does where nothing of it is."""
    write(folder / "here", files)
    printed = run_python(["main.py", str(folder / "graph.bin")], cwd=folder / "here")
    shutil.rmtree(folder / "here")
    assert run_python(["-c", LOAD, str(folder / "graph.bin")], cwd=folder) == printed
    return printed.splitlines()


def test_what_bodies_import_goes_along_with_all_that_it_needs(tmp_path: Path) -> None:
    printed = sent(
        tmp_path,
        {
            "main.py": script("""
                from shapes import Colour, Point
                from tools.text import clean as cleaned

                @pipe
                def f(x: int) -> list:
                    import shapes
                    from tools.text import clean
                    from lazily import NAMED
                    def inner():
                        import lazily.deep.down
                        return lazily.deep.down.VALUE
                    assert shapes.Colour.RED is Colour.RED and shapes.Point(1) == Point(1)
                    assert clean is cleaned
                    return [clean(" A "), shapes.Point(x).moved().x, inner(), NAMED]
            """),
            "shapes.py": """
                import dataclasses, enum
                import numpy as np

                class Colour(enum.Enum):
                    RED = "red"

                @dataclasses.dataclass
                class Point:
                    x: int

                    def moved(self):
                        import first
                        return Point(int(np.int64(self.x)) + first.one())
            """,
            "first.py": """
                import second

                def one():
                    return second.two() - 1
            """,
            "second.py": """
                import first

                def two():
                    assert first.one.__module__ == "first"
                    return 2
            """,
            "tools/__init__.py": "",
            "tools/text.py": """
                from . import words
                from .words import strip

                def clean(text):
                    from .. import nowhere if False else None
                    return words.lower(strip(text))
            """.replace("from .. import nowhere if False else None", "from . import extra"),
            "tools/words.py": """
                def strip(text):
                    return text.strip()

                def lower(text):
                    return text.lower()
            """,
            "tools/extra.py": "",
            "lazily/__init__.py": "NAMED = 'named'\n",
            # A namespace package.
            "lazily/deep/down.py": "VALUE = 7\n",
        },
    )
    assert printed[1:] == ["['numpy']", "[['a', 4, 7, 'named']]"]


def test_globals_of_a_helper_are_one_thing(tmp_path: Path) -> None:
    printed = sent(
        tmp_path,
        {
            "main.py": script("""
                import counting
                from counting import count, counter

                @pipe
                def f(x: int) -> list:
                    import counting as again
                    again.CALLS.clear()
                    count(x)
                    counter()
                    with again.LOCK:
                        return [len(again.CALLS), len(counting.CALLS), count(x).bit_length()]
            """),
            "counting.py": """
                import threading
                from pipeline import pipe

                LOCK = threading.Lock()
                CALLS = []

                @pipe
                def count(x):
                    CALLS.append(x)
                    return len(CALLS)

                def make():
                    def counter():
                        CALLS.append(None)
                    return counter

                counter = make()
            """,
        },
    )
    assert printed[2] == "[[2, 2, 2]]"


def test_a_package_beside_the_script_imports_relatively(tmp_path: Path) -> None:
    write(
        tmp_path / "here",
        {
            "app/__init__.py": "",
            "app/main.py": script("""
                @pipe
                def f(x: int) -> int:
                    from .numbers_ import double
                    from . import numbers_ as same
                    return double(x) + same.ONE
            """),
            "app/numbers_.py": "ONE = 1\n\ndef double(x):\n    return 2 * x\n",
        },
    )
    target = str(tmp_path / "graph.bin")
    printed = run_python(["-m", "app.main", target], cwd=tmp_path / "here")
    shutil.rmtree(tmp_path / "here")
    loaded = run_python(["-c", LOAD, target], cwd=tmp_path)
    assert loaded == printed
    assert loaded.splitlines()[2] == "[7]"


def test_names_that_are_imported_as_text_are_followed(tmp_path: Path) -> None:
    printed = sent(
        tmp_path,
        {
            "main.py": script("""
                import importlib

                @pipe
                def f(x: int) -> int:
                    return importlib.import_module("plugins.square").apply(x)
            """),
            "plugins/square.py": "def apply(x):\n    return x * x\n",
        },
    )
    assert printed[2] == "[9]"


def test_only_imports_that_surely_happen_need_their_package(tmp_path: Path) -> None:
    printed = sent(
        tmp_path,
        {
            "main.py": script("""
                import torch, pydantic, rich

                @pipe
                def f(x: int) -> int:
                    import helper
                    return x
            """),
            "helper.py": """
                from typing import TYPE_CHECKING
                import pydantic.fields

                if TYPE_CHECKING:
                    import torch
                    import nowhere
                try:
                    import rich
                except ImportError:
                    rich = None
            """,
        },
    )
    assert printed[1] == "['pydantic']"


FILE_WINS = script("""
    import sys

    @pipe
    def f(x: int) -> str:
        import wave, tomli_w
        return wave.MINE + tomli_w.MINE
""")


def test_a_file_wins_over_what_is_installed_where_it_does_here(tmp_path: Path) -> None:
    files = {"main.py": FILE_WINS, "wave.py": "MINE = 'a'\n", "tomli_w.py": "MINE = 'b'\n"}
    write(tmp_path / "here", files)
    target = str(tmp_path / "graph.bin")
    run_python(["main.py", target], cwd=tmp_path / "here")
    elsewhere = write(tmp_path / "there", {"tomli_w.py": "", "main.py": "import wave\n" + LOAD})
    assert run_python(["main.py", target], cwd=elsewhere).endswith("['ab']")


def test_what_python_had_imported_before_wins_here_and_there(tmp_path: Path) -> None:
    printed = sent(
        tmp_path,
        {
            "main.py": script("""
                @pipe
                def f(x: int) -> bool:
                    import types
                    return hasattr(types, "FunctionType")
            """),
            "types_.py": "",
        },
    )
    assert printed[2] == "[True]"


TRACED = script("""
    @pipe
    def f(x: int) -> int:
        from helper import fail
        return fail(x)
""")


def test_tracebacks_show_the_lines_of_the_source(tmp_path: Path) -> None:
    source = "def fail(x):\n    # why not\n    raise ValueError(x)  # here it is\n"
    write(tmp_path / "here", {"main.py": TRACED.replace("print(graph.run(3))", "")})
    write(tmp_path / "here", {"helper.py": source})
    target = str(tmp_path / "graph.bin")
    run_python(["main.py", target], cwd=tmp_path / "here")
    # Another file lies at the same place by now.
    write(tmp_path / "here", {"helper.py": "\n\nsomething = 'else'\n"})
    program = f"""
        import traceback
        from pipeline import Graph
        try:
            Graph.load({target!r}).run(3)
        except Exception as error:
            print("".join(traceback.format_exception(error)))
    """
    shown = run_python(["-c", textwrap.dedent(program)], cwd=tmp_path)
    assert "raise ValueError(x)  # here it is" in shown
    assert f'File "{tmp_path}/here/helper.py", line 3, in fail' in shown


def digest(folder: Path, helper: str) -> str:
    main = script("""
        @pipe
        def f(x: int) -> int:
            import helper
            return x
    """)
    deeper = "VALUE = 1\n"
    write(folder, {"main.py": main, "helper.py": helper, "deeper.py": deeper})
    return run_python(["main.py", str(folder / "graph.bin")], cwd=folder).splitlines()[0]


def test_the_digest_is_of_what_is_sent_and_not_of_its_place(tmp_path: Path) -> None:
    helper = "def g():\n    import deeper\n    return deeper.VALUE\n"
    first = digest(tmp_path / "one", helper)
    assert digest(tmp_path / "another place", f"# a comment\n\n{helper}") == first
    assert digest(tmp_path / "two", helper.replace("VALUE", "OTHER")) != first
    write(tmp_path / "one", {"deeper.py": "VALUE = 2\n"})
    changed = run_python(["main.py", str(tmp_path / "graph.bin")], cwd=tmp_path / "one")
    assert changed.splitlines()[0] != first


def test_two_graphs_with_helpers_of_one_name_are_told_apart(tmp_path: Path) -> None:
    digest(tmp_path / "one", "VALUE = 1\n")
    digest(tmp_path / "two", "VALUE = 2\n")
    program = """
        import sys
        from pipeline import Graph
        from pipeline.errors import SerialisationError
        Graph.load(sys.argv[1]), Graph.load(sys.argv[1])
        try:
            Graph.load(sys.argv[2])
        except SerialisationError as error:
            print(error.subject)
    """
    graphs = [str(tmp_path / name / "graph.bin") for name in ("one", "two")]
    assert run_python(["-c", textwrap.dedent(program), *graphs], cwd=tmp_path) == "helper"


REFUSED = """
    from pipeline.errors import SerialisationError
    try:
        builder.get_pipeline().dumps()
    except SerialisationError as error:
        print(error.subject, "|", error)
"""


@pytest.mark.parametrize(
    ("imports", "subject", "message"),
    [
        ("import fast", "fast", "helper imports 'fast', an extension module of your own ("),
        ("import compiled", "compiled", "helper imports 'compiled', a module without source"),
        ("import broken", "broken", "helper imports 'broken', which is no Python: "),
    ],
)
def test_what_has_no_source_is_refused_by_name(
    imports: str, subject: str, message: str, tmp_path: Path
) -> None:
    program = script("""
        @pipe
        def f(x: int) -> int:
            import helper
            return x
    """).replace(textwrap.dedent(SAVE), textwrap.dedent(REFUSED))
    helper = f"def g():\n    {imports}\n"
    write(tmp_path, {"main.py": program, "helper.py": helper, "broken.py": "def (\n"})
    (tmp_path / f"fast{sysconfig.get_config_var('EXT_SUFFIX')}").touch()
    write(tmp_path, {"compiled.py": ""})
    compiling = "import py_compile; py_compile.compile('compiled.py', 'compiled.pyc')"
    run_python(["-c", compiling], cwd=tmp_path)
    (tmp_path / "compiled.py").unlink()
    printed = run_python(["main.py"], cwd=tmp_path)
    assert printed.startswith(f"{subject} | {message}")


EXTENSION = """
#include <Python.h>
static PyObject *one(PyObject *self, PyObject *args) { return PyLong_FromLong(1); }
static PyMethodDef methods[] = {{"one", one, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", "", -1, methods};
PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&module); }
"""


@pytest.mark.parametrize(
    ("use", "subject"), [("fast.one()", "f: fast['one']"), ("one()", "f: one")]
)
def test_an_extension_that_a_function_has_as_a_global_is_refused_with_that_function(
    use: str, subject: str, tmp_path: Path
) -> None:
    (tmp_path / "fast.c").write_text(EXTENSION)
    include = sysconfig.get_path("include")
    command = ["cc", "-shared", "-fPIC", f"-I{include}", "fast.c", "-o", "fast.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    program = script(f"""
        import fast
        from fast import one

        @pipe
        def f(x: int) -> int:
            return {use}
    """).replace(textwrap.dedent(SAVE), textwrap.dedent(REFUSED))
    write(tmp_path, {"main.py": program})
    printed = run_python(["main.py"], cwd=tmp_path)
    assert printed.startswith(f"{subject} | {subject} cannot be pickled: TypeError: 'fast' is an")
