"""The seed example: the same program with and without a daemon."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import stable_diffusion
from pipeline import Client, File
from pipeline.errors import InvalidInput
from tests.running_daemon import RunningDaemon

PROMPT = "a lighthouse at dawn"
NAMES = ("diffusion-one", "diffusion-two")


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    """The example deployed twice, so that there are two workers of it."""
    with daemon.client() as client:
        for name in NAMES:
            client.deploy(stable_diffusion.graph, name)
        yield client
        for name in NAMES:
            client.delete(name)


def contents(outputs: list[object]) -> list[bytes]:
    """The one output is a list of files."""
    [images] = outputs
    assert isinstance(images, list)
    data = []
    for image in images:
        assert isinstance(image, File)
        data.append(image.read())
    return data


def test_equal_seeds_give_equal_images_with_and_without_a_daemon(client: Client) -> None:
    options = {"num_inference_steps": 3, "num_images_per_prompt": 2, "seed": 11}
    local = contents(stable_diffusion.graph.run(PROMPT, options))
    remote = [contents(client.run(name, PROMPT, options)) for name in NAMES]
    assert remote == [local, local]
    assert len(set(local)) == 2
    for data in local:
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape == (64, 64, 3)
        assert pixels.std() > 10
    other = contents(client.run(NAMES[0], PROMPT, {**options, "seed": 12}))
    assert not set(other) & set(local)


def test_without_a_seed_every_worker_draws_images_of_its_own(client: Client) -> None:
    options = {"num_inference_steps": 2}
    runs = [client.run(name, PROMPT, options) for name in NAMES for _ in range(2)]
    drawn = [data for outputs in runs for data in contents(outputs)]
    pids = {pid for name in NAMES for pid in client.deployment(name).worker_pids}
    assert len(pids) == 2
    assert len(set(drawn)) == 4


def test_inputs_by_name_and_as_the_schema_itself(client: Client) -> None:
    kwargs = stable_diffusion.ModelKwargs(height=72, num_inference_steps=2, seed=1)
    by_position = contents(client.run(NAMES[0], PROMPT, kwargs))
    by_name = contents(client.run(NAMES[0], kwargs=kwargs, prompt=PROMPT))
    assert by_position == by_name
    assert Image.open(io.BytesIO(by_name[0])).size == (64, 72)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"height": 63}, "kwargs.height"),
        ({"width": 1032}, "kwargs.width"),
        ({"height": 100}, "kwargs.height"),
        ({"num_images_per_prompt": 5}, "kwargs.num_images_per_prompt"),
        ({"steps": 5}, "kwargs.steps"),
    ],
)
def test_bounds_are_kept_before_anything_runs(
    client: Client, options: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as remote:
        client.run(NAMES[0], PROMPT, options)
    assert remote.value.field == field
    with pytest.raises(InvalidInput) as local:
        stable_diffusion.graph.run(PROMPT, options)
    assert local.value.field == field
