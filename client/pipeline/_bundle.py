"""Deploying a folder: its files as they are, and nothing pickled.

::

    header, code = prepare(Path("folder"), None, name=None, environment=None, instances=None,
                           options={}, allow_differing=False, idempotency_key=key)

The module that makes the graph is imported here once, in a process of its own and from an unpacked
copy, to tell the daemon what the graph takes and gives.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import errors
from pipeline._bundle_files import Archive, archive, unpack
from pipeline._checks import check_name, check_variables
from pipeline._graph.targets import split
from pipeline._options import DeployOptions, checked_secrets, options_message
from pipeline._project import PROJECT_FILE, read_project
from pipelined_api.v1 import deployments_pb2, schema_pb2

__all__ = ["Description", "bundle_digest", "describe", "prepare"]

# For importing a module and building its graph; weights are loaded by startup nodes, later.
DESCRIBE_SECONDS = 600.0


@dataclass(frozen=True)
class Description:
    """The graph that a bundle makes.

    Attributes:
        schema: what it takes and gives.
        topology: a line for each node and output.

    """

    schema: schema_pb2.Schema
    topology: Sequence[str]


def prepare(
    folder: Path,
    target: str | None,
    *,
    name: str | None,
    environment: Mapping[str, str] | None,
    instances: int | None,
    options: DeployOptions,
    allow_differing: bool,
    idempotency_key: str,
) -> tuple[deployments_pb2.DeployHeader, bytes]:
    """Make the header and the code for ``Deployments.Deploy``.

    What is None or not among the options is taken from ``pipeline.yaml``, whose environment is
    added to the one given.

    Raises:
        errors.InvalidInput: folder, target, name, an option, or ``pipeline.yaml``.
        errors.GraphError: the target makes no graph here.

    """
    check_variables(environment or {}, "environment")
    bundle = archive(folder)
    project = read_project(folder)
    target = target or project.pipeline_graph
    if target is None:
        raise errors.InvalidInput(
            f"no graph is named: give module:variable, or pipeline_graph in {PROJECT_FILE}",
            field="target",
        )
    name = name or project.name
    if name is None:
        raise errors.InvalidInput(
            f"the deployment has no name: give one, or write name in {PROJECT_FILE}", field="name"
        )
    check_name(name)
    given: DeployOptions = {**project.options(instances), **options}
    if instances is None and not options.keys() & {"min_instances", "max_instances"}:
        instances = project.instances
    wanted = options_message(instances, given)
    described = describe(bundle, target)
    header = deployments_pb2.DeployHeader(
        name=name,
        digest=bundle_digest(bundle, target),
        schema=described.schema,
        code_format=deployments_pb2.DeployHeader.CODE_FORMAT_BUNDLE,
        code_size=len(bundle.content),
        code_sha256=bundle.sha256,
        python_version=platform.python_version(),
        environment={**project.environment, **(environment or {})},
        options=wanted,
        secrets=checked_secrets(options),
        idempotency_key=idempotency_key,
        target=target,
        topology=described.topology,
        requirements=project.requirements,
        allow_differing=allow_differing,
    )
    return header, bundle.content


def bundle_digest(bundle: Archive, target: str) -> str:
    """Return the deployment's digest: hexadecimal SHA-256 of the files and the target."""
    return hashlib.sha256(b"bundle %s %s" % (bundle.sha256, target.encode())).hexdigest()


def describe(bundle: Archive, target: str) -> Description:
    """Find out what the graph of a bundle is like, in a process of its own.

    Raises:
        errors.InvalidInput: the target is not of the form ``module:variable``.
        errors.GraphError: the module cannot be imported here, takes too long, or has no such graph.

    """
    split(target)
    with tempfile.TemporaryDirectory(prefix="pipeline-") as temporary:
        place = Path(temporary).resolve()
        files, result = place / "files", place / "result"
        files.mkdir()
        unpack(bundle.content, files)
        ended = _run(place, [str(files), target, str(result)])
        if not result.exists():
            last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise errors.GraphError(
                f"{target} cannot be loaded: the process that imported it ended with code "
                f"{ended.returncode}: {last}"
            )
        found = json.loads(result.read_text())
    if "error" in found:
        raise errors.GraphError(found["error"])
    schema = schema_pb2.Schema.FromString(bytes.fromhex(found["schema"]))
    return Description(schema, found["topology"])


def _run(place: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if paths := environment.get("PYTHONPATH"):
        # It starts elsewhere.
        absolute = [str(Path(path).absolute()) for path in paths.split(os.pathsep) if path]
        environment["PYTHONPATH"] = os.pathsep.join(absolute)
    try:
        return subprocess.run(
            [sys.executable, "-m", "pipeline._bundle_load", *arguments],
            # Not in the folder: -m looks for modules where it is started.
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DESCRIBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise errors.GraphError(
            f"{arguments[1]} was not loaded after {DESCRIBE_SECONDS:.0f} seconds; load models in "
            "startup nodes, not when the module is imported"
        ) from None
