"""Timelines as data and as charts."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from pipeline._quantities import duration, size
from pipeline.timeline import Stage, Timeline
from pipeline.timeline.chart import text

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
STAGES = (
    Stage("queue", "", 0.0, 0.0001),
    Stage("fork", "", 0.0001, 0.021, source="fork"),
    Stage("node", "Model.load", 0.03, 0.37),
    Stage("imports", "sentencepiece", 0.04, 0.1),
    Stage("weights", "model.safetensors", 0.2, 0.1, bytes=90_868_376, source="page cache"),
    Stage("ready", "", 0.4, 0.0),
    Stage("first_run", "", 3600.0, 0.1),
)
TIMELINE = Timeline("embeddings", 2, 1, STARTED, STAGES, 4711)


def rows(chart: str) -> dict[str, str]:
    """The rows below the heading, by their first word."""
    return {line.split()[0]: line for line in chart.splitlines()[1:]}


def bar(row: str) -> tuple[int, int]:
    """Where a bar begins and how long it is."""
    return row.index("█"), row.count("█")


def test_heading_names_the_startup() -> None:
    heading = text(TIMELINE).splitlines()[0]
    assert heading == "embeddings v2 · startup 1 · ready after 400 ms · process 4711"


def test_a_startup_that_never_was_ready() -> None:
    timeline = Timeline("x", 1, 3, STARTED, STAGES[:2], 1)
    assert timeline.startup_seconds is None
    assert "not ready" in text(timeline)


def test_each_stage_has_a_row_with_its_numbers() -> None:
    found = rows(text(TIMELINE))
    assert list(found) == ["queue", "fork", "node", "imports", "weights", "ready", "first"]
    assert "Model.load" in found["node"]
    assert "370 ms" in found["node"]
    for part in ("model.safetensors", "100 ms", "90.9 MB", "page cache"):
        assert part in found["weights"]


def test_bars_lie_where_the_time_does() -> None:
    found = rows(text(TIMELINE, width=120))
    node_start, node_length = bar(found["node"])
    weights_start, weights_length = bar(found["weights"])
    assert node_start < weights_start
    assert weights_start + weights_length <= node_start + node_length
    assert node_length == pytest.approx(3.7 * weights_length, abs=3)


def test_what_happens_inside_a_node_is_indented() -> None:
    chart = text(TIMELINE).splitlines()
    indented = [line.split()[0] for line in chart if line.startswith("  ")]
    assert indented == ["imports", "weights"]


def test_a_late_first_run_does_not_squeeze_the_startup() -> None:
    found = rows(text(TIMELINE, width=120))
    assert bar(found["node"])[1] > 10
    assert bar(found["first"])[0] >= bar(found["node"])[0] + bar(found["node"])[1] - 1


@pytest.mark.parametrize("width", [80, 100, 200])
def test_rows_keep_within_the_width(width: int) -> None:
    assert max(map(len, text(TIMELINE, width=width).splitlines())) <= width


def test_the_shortest_stage_is_visible() -> None:
    assert bar(rows(text(TIMELINE))["queue"])[1] == 1


def test_ascii_only() -> None:
    assert text(TIMELINE, ascii_only=True).isascii()


def test_no_stages() -> None:
    assert text(Timeline("x", 1, 1, STARTED, (), 1)).startswith("x v1")


def test_plain_data_survives_json() -> None:
    plain = json.loads(json.dumps(TIMELINE.to_dict()))
    assert plain["started_at"] == "2026-01-02T03:04:05+00:00"
    assert plain["startup_seconds"] == 0.4
    assert plain["stages"][4] == {
        "kind": "weights",
        "name": "model.safetensors",
        "start": 0.2,
        "seconds": 0.1,
        "bytes": 90_868_376,
        "source": "page cache",
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 ms"),
        (0.0004, "0.4 ms"),
        (0.00949, "9.5 ms"),
        (0.0096, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (99.4, "99.40 s"),
        (99.6, "1 min 40 s"),
        (3605, "60 min 05 s"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (90_868_376, "90.9 MB"),
        (999_600_000, "1.00 GB"),
        (1_720_000_000, "1.72 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert size(count) == words
