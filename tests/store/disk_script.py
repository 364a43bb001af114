"""What clients have a daemon keep, call by call, and what there has to be after each.

What is kept is a set of facts, found out in two ways: by asking the daemon, and by opening its
state directory as the next daemon would after a crash of this one.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import Client, File, Graph, Pipeline, Variable, errors, pipe
from pipelined.core.files import FileLimits
from pipelined.store.deployments import SqliteDeploymentStore
from pipelined.store.directory import StateDirectory
from pipelined.store.files import Files
from pipelined_api.limits import MAX_INLINE_FILE_BYTES

Facts = frozenset[tuple[Any, ...]]
# Of a file, too large for a message.
CONTENT_BYTES = MAX_INLINE_FILE_BYTES + 1000


@pipe
def add(text: str, suffix: str) -> str:
    return text + suffix


def adding(suffix: str) -> Graph:
    """Graphs that differ in a constant."""
    with Pipeline() as builder:
        builder.output(add(Variable(str), suffix))
    return builder.get_pipeline()


@pipe
def write(text: str) -> File:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(f"{text:>{CONTENT_BYTES}}".encode())
    return File(path=Path(file.name))


def writing() -> Graph:
    """Gives back files that are too large for a message."""
    with Pipeline() as builder:
        builder.output(write(Variable(str)))
    return builder.get_pipeline()


@dataclass(frozen=True)
class Step:
    """One call, and what it adds to and takes from the facts."""

    call: Callable[[], object]
    adds: Facts = frozenset()
    takes: Facts = frozenset()

    def after(self, before: Facts) -> Facts:
        """The facts once it was carried out."""
        return before - self.takes | self.adds


def steps(client: Client, name: str, folder: Path) -> Iterator[Step]:
    """All that changes the state: what is made under the name is removed in the end."""
    first, second = adding("a"), adding("b")
    yield Step(lambda: client.deploy(first, name), fact("version", name, 1))
    yield Step(lambda: client.deploy(second, name), fact("version", name, 2))
    prod = f"{name}:prod"
    yield Step(lambda: client.create_pointer(prod, f"{name}:v1"), fact("pointer", prod, 1))
    yield Step(
        lambda: client.create_pointer(prod, name, overwrite=True),
        fact("pointer", prod, 2),
        fact("pointer", prod, 1),
    )
    environment = fact("environment", name)
    yield Step(lambda: client.create_environment(name, ["numpy"]), environment)
    content = f"{name:<{CONTENT_BYTES}}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    file = fact("file", sha256)
    path = folder / name
    path.write_bytes(content)
    yield Step(lambda: client.files.upload(File(path=path)), file)
    yield Step(lambda: client.files.delete(sha256), takes=file)
    output = f"{name:>{CONTENT_BYTES}}".encode()
    of_output = hashlib.sha256(output).hexdigest()
    written = fact("file", of_output)
    yield Step(lambda: client.run("writing", name), written)
    yield Step(lambda: client.files.delete(of_output), takes=written)
    yield Step(lambda: client.delete_environment(name), takes=environment)
    yield Step(lambda: client.delete_pointer(prod), takes=fact("pointer", prod, 2))
    version = fact("version", name, 2)
    yield Step(lambda: client.delete(f"{name}:v1"), takes=fact("version", name, 1))
    yield Step(lambda: client.delete(name), takes=version)


def fact(*words: Any) -> Facts:
    return frozenset([words])


def told(client: Client, sha256s: frozenset[str]) -> Facts:
    """The facts as a daemon tells them; of files, those of these digests that it has."""
    found: set[tuple[Any, ...]] = set()
    for deployment in client.list():
        for version in client.versions(deployment.name):
            found.add(("version", version.name, version.version))
    found.update(("pointer", pointer.pointer, pointer.version) for pointer in client.pointers())
    found.update(("environment", environment.name) for environment in client.environments())
    found.update(("file", sha256) for sha256 in sha256s if client.files.stat(sha256).present)
    return frozenset(found)


async def kept(state: Path) -> Facts:
    """The facts as a daemon will find them that starts with this state; it is changed by that."""
    found: set[tuple[Any, ...]] = set()
    with StateDirectory(state) as directory:
        store = await SqliteDeploymentStore.open(directory)
        try:
            for version in await store.deployments():
                content = store.code_path(version.code).read_bytes()
                assert hashlib.sha256(content).hexdigest() == version.code.sha256
                found.add(("version", version.name, version.version))
            for pointer in await store.pointers():
                found.add(("pointer", pointer.reference, pointer.version))
            for environment in await store.environments().environments():
                found.add(("environment", environment.name))
        finally:
            await store.close()
        Files(directory.files, FileLimits())
        for path in directory.files.glob("??/*"):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            found.add(("file", path.name))
    return frozenset(found)


def refused(call: Callable[[], object]) -> bool:
    """Make a call; whether it was refused for want of storage."""
    try:
        call()
    except errors.PipelineError as error:
        if error.reason != "STORAGE_FAILED":
            raise
        return True
    return False
