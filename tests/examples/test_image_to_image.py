"""Image to image: files in, files of the same size out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import image_to_image
from image_to_image import Options, png, sunrise
from pipeline import Client, File
from pipeline.errors import InvalidInput, RunFailed
from tests.running_daemon import RunningDaemon

NAME = "repainting"
PROMPT = "a lighthouse at dawn"
QUICK = {"num_inference_steps": 4, "seed": 5}
# Neither side is what the model can work on.
SIZE = (70, 45)


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(image_to_image.graph, NAME)
        yield client
        client.delete(NAME)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> File:
    path = tmp_path_factory.mktemp("images") / "sunrise.png"
    sunrise(*SIZE).save(path)
    return File(path)


def files(outputs: list[object]) -> list[File]:
    [images] = outputs
    assert isinstance(images, list)
    assert all(isinstance(image, File) for image in images)
    return images


def pixels(content: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.int64)


def test_images_are_new_and_of_the_size_of_the_given_one(
    client: Client, source: File, tmp_path: Path
) -> None:
    images = files(client.run(NAME, source, PROMPT, {**QUICK, "num_images_per_prompt": 2}))
    saved = [image.save(tmp_path) for image in images]
    assert [path.name for path in saved] == ["image-0.png", "image-1.png"]
    given = pixels(source.read())
    painted = [pixels(path.read_bytes()) for path in saved]
    for each in painted:
        assert each.shape == given.shape == (SIZE[1], SIZE[0], 3)
        assert np.abs(each - given).mean() > 1
    assert not np.array_equal(painted[0], painted[1])


def test_equal_seeds_give_equal_images_with_and_without_a_daemon(
    client: Client, source: File
) -> None:
    [local] = files(image_to_image.graph.run(source, PROMPT, QUICK))
    [remote] = files(client.run(NAME, source, PROMPT, QUICK))
    [other] = files(client.run(NAME, source, PROMPT, {**QUICK, "seed": 6}))
    assert remote.read() == local.read()
    assert other.read() != local.read()


def test_the_given_image_matters_unless_nothing_is_kept_of_it(client: Client, source: File) -> None:
    dark = File.from_bytes(png(Image.new("RGB", SIZE)), name="dark.png")

    def difference(strength: float) -> float:
        options = {**QUICK, "strength": strength}
        one, other = (
            files(client.run(NAME, image, PROMPT, options))[0].read() for image in (source, dark)
        )
        return float(np.abs(pixels(one) - pixels(other)).mean())

    assert difference(1.0) < difference(0.25)


def test_a_large_image_is_worked_on_at_a_smaller_size(client: Client) -> None:
    size = (900, 600)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    large = File.from_bytes(png(Image.fromarray(noise)), name="noise.png")
    # Of more than this it travels beside the message.
    assert large.size > 2**20
    [image] = files(client.run(NAME, large, PROMPT, {**QUICK, "max_side": 64}))
    assert Image.open(io.BytesIO(image.read())).size == size


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((64, 64), 512, (64, 64)),
        ((70, 45), 512, (72, 48)),
        ((1200, 800), 600, (600, 400)),
        ((4000, 3), 512, (512, 8)),
        ((1, 1), 64, (8, 8)),
    ],
)
def test_working_size(size: tuple[int, int], max_side: int, expected: tuple[int, int]) -> None:
    assert image_to_image.working_size(size, max_side) == expected


@pytest.mark.parametrize(
    ("options", "field", "bound"),
    [
        ({"strength": 0}, "options.strength", "gt=0.0"),
        ({"strength": 1.01}, "options.strength", "le=1.0"),
        ({"max_side": 100}, "options.max_side", "multiple_of=8"),
        ({"num_images_per_prompt": 5}, "options.num_images_per_prompt", "le=4"),
    ],
)
def test_options_out_of_range_are_refused(
    client: Client, source: File, options: dict[str, object], field: str, bound: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.run(NAME, source, PROMPT, options)
    assert (refused.value.field, refused.value.bound) == (field, bound)


def test_a_file_that_is_no_image_fails_its_run_only(client: Client, source: File) -> None:
    client.warm(NAME)
    pids = client.deployment(NAME).worker_pids
    with pytest.raises(RunFailed) as failed:
        client.run(NAME, File.from_bytes(b"no image", name="a.png"), PROMPT)
    assert failed.value.node == "Painter.paint"
    assert "UnidentifiedImageError" in (failed.value.remote_traceback or "")
    assert files(client.run(NAME, source, PROMPT, Options(num_inference_steps=2)))
    deployment = client.deployment(NAME)
    assert deployment.startups == 1
    assert deployment.worker_pids == pids
