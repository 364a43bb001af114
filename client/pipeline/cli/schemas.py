"""What a deployment takes and gives, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from pipeline.schema import DeploymentSchema, ParameterSchema

_MAX_DEFAULT = 40


def tables(schema: DeploymentSchema) -> list[Table]:
    """Make the tables of ``pipeline schema``: of the inputs, if there are any, and the outputs.

    The fields of an InputSchema are below it, under the name that ``pipeline run`` takes.
    """
    found = [_inputs(schema.inputs)] if schema.inputs else []
    return [*found, _outputs(schema.outputs)]


def _inputs(inputs: Sequence[ParameterSchema]) -> Table:
    table = _table("INPUT", "TYPE", "DEFAULT", "BOUNDS", "DESCRIPTION")
    for name, each in _with_fields(inputs, ""):
        bounds = ", ".join(f"{bound}={value!r}" for bound, value in each.constraints.items())
        table.add_row(*map(Text, (name, each.type, _default(each), bounds, _description(each))))
    return table


def _outputs(outputs: Sequence[ParameterSchema]) -> Table:
    table = _table("OUTPUT", "TYPE")
    for each in outputs:
        table.add_row(
            *map(Text, (each.name, f"{each.type} (stream)" if each.stream else each.type))
        )
    return table


def _with_fields(
    parameters: Sequence[ParameterSchema], prefix: str
) -> Iterator[tuple[str, ParameterSchema]]:
    for each in parameters:
        yield prefix + each.name, each
        yield from _with_fields(each.fields, f"{prefix}{each.name}.")


def _default(parameter: ParameterSchema) -> str:
    if parameter.required:
        return "required"
    text = parameter.default_text
    return text if len(text) <= _MAX_DEFAULT else f"{text[: _MAX_DEFAULT - 3]}..."


def _description(parameter: ParameterSchema) -> str:
    # One line: a table is read by grep and cut, too.
    return " ".join(parameter.description.split())


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1])
    return table
