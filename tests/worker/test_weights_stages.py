"""What the timeline says of files that were opened more than once, or not read to the end."""

from __future__ import annotations

import pytest

from pipelined.weights import Load
from pipelined.worker.weights_stages import FileStage, of_files

NOW = 100.0


def load(
    path: str = "/models/a.safetensors",
    *,
    started: float,
    seconds: float | None,
    bytes: int = 1000,
    source: str = "page cache",
) -> Load:
    name = path.rpartition("/")[2]
    return Load(path, name, bytes, started, seconds, source, None)


def test_each_file_has_a_stage_in_the_order_of_their_beginnings() -> None:
    loads = [
        load("/models/vae/m.safetensors", started=3.0, seconds=2.0, bytes=7),
        load("/models/unet/m.safetensors", started=1.0, seconds=5.0, source="disk"),
    ]
    # Two files of one name are two files.
    assert of_files(loads, NOW) == [
        FileStage("m.safetensors", 1.0, 5.0, 1000, "disk"),
        FileStage("m.safetensors", 3.0, 2.0, 7, "page cache"),
    ]


def test_a_file_that_is_still_being_read_counts_until_the_end() -> None:
    [stage] = of_files([load(started=90.0, seconds=None)], NOW)
    assert (stage.started, stage.seconds) == (90.0, 10.0)


@pytest.mark.parametrize(
    ("second_start", "seconds"),
    [(20.0, 5.0), (12.0, 4.0), (11.0, 3.0)],
    ids=["apart", "overlapping", "inside"],
)
def test_a_file_that_was_loaded_twice_is_one_stage(second_start: float, seconds: float) -> None:
    loads = [
        load(started=10.0, seconds=3.0, source="disk"),
        load(started=second_start, seconds=2.0),
    ]
    expected = FileStage("a.safetensors", 10.0, seconds, 1000, "disk")
    assert of_files(loads, NOW) == of_files(loads[::-1], NOW) == [expected]


def test_a_look_into_a_file_that_was_then_loaded_takes_no_time() -> None:
    # A tensor taken alone: that load never ends, since nobody reads the rest for it.
    look = load(started=10.0, seconds=None, bytes=4, source="disk")
    [stage] = of_files([look, load(started=11.0, seconds=2.0)], NOW)
    assert (stage.started, stage.seconds, stage.bytes, stage.source) == (11.0, 2.0, 1000, "disk")


def test_no_loads_no_stages() -> None:
    assert of_files([], NOW) == []
