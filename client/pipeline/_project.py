"""``pipeline.yaml``: what a folder says about its deployment."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, cast

import pydantic
import yaml  # type: ignore[import-untyped]  # it has no types
from packaging.requirements import InvalidRequirement, Requirement

from pipeline import errors
from pipeline._options import DeployOptions

__all__ = ["PROJECT_FILE", "Project", "parse_project", "read_project"]

PROJECT_FILE = "pipeline.yaml"
_MAX_BYTES = 2**20


class Project(pydantic.BaseModel):
    """The contents of ``pipeline.yaml``.

    Attributes:
        pipeline_graph: the graph, ``"module:variable"``.
        name: of the deployment; None if it has to be given otherwise.
        requirements: what has to be installed where it runs, as in a requirements file (PEP 508).
        environment: variables for its workers.
        instances: short for both of the next two.
        min_instances, max_instances, memory, threads, gpus, cpu_seconds, open_files, queue_length,
            concurrent_runs: see ``DeployOptions``.

    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    pipeline_graph: str | None = None
    name: str | None = None
    requirements: Annotated[list[str], pydantic.Field(max_length=1000)] = []
    environment: dict[str, str] = {}
    instances: int | None = pydantic.Field(None, ge=1)
    min_instances: int | None = pydantic.Field(None, ge=0)
    max_instances: int | None = pydantic.Field(None, ge=1)
    memory: str | int | None = None
    threads: int | None = pydantic.Field(None, ge=1)
    gpus: int | list[int | str] | None = None
    cpu_seconds: float | None = pydantic.Field(None, gt=0)
    open_files: int | None = pydantic.Field(None, ge=1)
    queue_length: int | None = pydantic.Field(None, ge=0)
    concurrent_runs: int | None = pydantic.Field(None, ge=1)

    def options(self, instances: int | None) -> DeployOptions:
        """Return those that it gives; no numbers of workers if ``instances`` has them."""
        given = self.model_dump(include=set(DeployOptions.__annotations__), exclude_none=True)
        if instances is not None:
            given.pop("min_instances", None)
            given.pop("max_instances", None)
        return cast(DeployOptions, given)

    @pydantic.field_validator("requirements")
    @classmethod
    def _are_requirements(cls, value: list[str]) -> list[str]:
        for text in value:
            try:
                requirement = Requirement(text)
            except InvalidRequirement as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(f"{text!r} is no requirement: {reason}") from None
            if requirement.url is not None:
                raise ValueError(f"{text!r} names a URL; give versions")
        return value


def read_project(folder: Path) -> Project:
    """Read a folder's ``pipeline.yaml``; without one, all is as by default.

    Raises:
        errors.InvalidInput: it is no YAML, has keys that are not known, or values that do not fit.

    """
    path = folder / PROJECT_FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _invalid("", f"has more than {_MAX_BYTES} bytes")
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Project()
    except UnicodeDecodeError:
        raise _invalid("", "is not UTF-8") from None
    except OSError as error:
        raise _invalid("", f"cannot be read: {error.strerror}") from error
    return parse_project(text)


def parse_project(text: str) -> Project:
    """Make a Project of the contents of ``pipeline.yaml``; see ``read_project``."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        raise _invalid("", f"is no YAML{place}: {getattr(error, 'problem', error)}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise _invalid("", f"is a {type(content).__name__}, not keys with values")
    unknown = [key for key in content if key not in Project.model_fields]
    if unknown:
        raise _invalid(str(unknown[0]), _suggestion(str(unknown[0])))
    try:
        return Project.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise _invalid(_path(first["loc"]), first["msg"].removeprefix("Value error, ")) from None


def _suggestion(key: str) -> str:
    close = get_close_matches(key, Project.model_fields, n=1)
    if close:
        return f"is not known; did you mean {close[0]!r}?"
    return f"is not known; there are {', '.join(Project.model_fields)}"


def _path(location: tuple[Any, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _invalid(field: str, message: str) -> errors.InvalidInput:
    where = f"{PROJECT_FILE}: {field}" if field else PROJECT_FILE
    return errors.InvalidInput(f"{where} {message}", field=where)
