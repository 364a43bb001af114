"""The page, the dashboard and the rules name what there is, and the page names all of it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types
from prometheus_client import Metric

from pipeline.errors import RunFailed, WorkerDied
from tests.markdown_blocks import ROOT
from tests.observe.conftest import Observed
from tests.observe.pipelines import dying, failing, traced

PAGE = (ROOT / "docs" / "observability.md").read_text()
PACKAGING = ROOT / "daemon" / "packaging"
# Prometheus's own, of every target.
OF_PROMETHEUS = {"up": set[str]()}
# What a target's samples have from Prometheus, and a histogram's from its type.
ALWAYS = {"job", "instance"}
WORDS = {
    *("and", "by", "increase", "label_values", "max", "min", "or", "rate", "sum"),
    "histogram_quantile",
}


@pytest.fixture(scope="module")
def families(observed: Observed) -> Mapping[str, Metric]:
    """All metrics of the daemon, each with a sample."""
    with observed.daemon.client() as client:
        for name, graph in (("all", traced()), ("all-failing", failing()), ("all-dying", dying())):
            client.deploy(graph, name)
        client.run("all", 1)
        for name, error in (("all-failing", RunFailed), ("all-dying", WorkerDied)):
            with pytest.raises(error):
                client.run(name, 1)
    found = observed.families()
    assert [name for name, family in found.items() if not family.samples] == []
    return found


def named(family: Metric) -> str:
    """As the page has it."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def samples(families: Mapping[str, Metric]) -> dict[str, set[str]]:
    """The names of all samples, with their labels."""
    found: dict[str, set[str]] = dict(OF_PROMETHEUS)
    for family in families.values():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of a table of the page, without the ticks around words."""
    table = PAGE.split(heading)[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_every_metric(families: Mapping[str, Metric]) -> None:
    documented = {
        cells[0].strip("`"): (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
        for cells in rows("| Metric | Type | Labels | |")
    }
    there = {
        named(family): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in families.values()
    }
    assert documented == there


def expressions() -> Iterator[tuple[str, str]]:
    """Where there are expressions in PromQL, and which."""
    dashboard = json.loads((PACKAGING / "grafana" / "pipelined.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]
    rules = yaml.safe_load((PACKAGING / "prometheus" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), sorted(expressions()))
def test_dashboard_and_alerts_ask_for_what_there_is(
    where: str, expression: str, families: Mapping[str, Metric]
) -> None:
    there = samples(families)
    # What is left without labels, times and texts is names.
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\{[^}]*\}|by \([^)]*\)|\$\w+', " ", expression)
    names = {name for name in re.findall(r"[a-z_]+\w*", bare) if name not in WORDS}
    if where in ("job", "instance", "deployment"):
        # label_values(METRIC, LABEL)
        names.discard(where)
    assert names
    assert names <= there.keys()
    labels = {
        label
        for selected in re.findall(r"\{([^}]*)\}", expression)
        for label in re.findall(r"(\w+)\s*[=!]", selected)
    } | {
        label.strip()
        for grouped in re.findall(r"by \(([^)]*)\)", expression)
        for label in grouped.split(",")
    }
    assert labels <= set().union(*(there[name] for name in names)) | ALWAYS


def test_the_dashboard_shows_every_metric(families: Mapping[str, Metric]) -> None:
    shown = " ".join(expression for _, expression in expressions())
    # Nobody needs a picture of these.
    plain = {"process_virtual_memory_bytes", "process_start_time_seconds"}
    names = {named(family) for family in families.values()} - plain
    assert [name for name in names if name not in shown] == []


def logged(path: Path) -> Iterator[tuple[str, str]]:
    """The events that a module logs, with their levels."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "log"
        ):
            event = node.args[0]
            assert isinstance(event, ast.Constant), f"{path}:{node.lineno}"
            assert isinstance(event.value, str), f"{path}:{node.lineno}"
            yield event.value, node.func.attr


def test_the_page_has_every_event_of_the_log() -> None:
    documented = {
        (event, cells[1])
        for cells in rows("| Event | Level | |")
        for event in re.findall(r"`([^`]+)`", cells[0])
    }
    sources = (ROOT / "daemon" / "pipelined").rglob("*.py")
    there = {found for source in sources for found in logged(source)}
    assert documented == there


def test_what_is_logged_in_a_run_says_so(observed: Observed, families: object) -> None:
    # The startup was begun by the run, but is nobody's in particular; nor is the death.
    lines = [line for line in observed.log() if line.get("deployment") == "all"]
    by_event = {line["event"]: line for line in lines}
    for event in ("starting", "started"):
        assert "run_id" not in by_event[event]
        assert by_event[event]["version"] == 1
    ids = {by_event[event]["run_id"] for event in ("output", "run begun", "run succeeded")}
    assert len(ids) == 1
    [failed] = [
        line
        for line in observed.log()
        if line["event"] == "run failed" and line["deployment"] == "all-failing"
    ]
    assert failed["error"] == "RunFailed"
    assert "secret" not in json.dumps(
        [line for line in observed.log() if line["event"] != "output"]
    )
