"""What keeping models warm is worth, on two pipelines: `make demo`, about a minute, no network.

Starts a daemon in a temporary folder, deploys the two examples beside this file, uses them, and
compares with a fresh process that does the same work. PIPELINED_DEMO_MODEL names the checkpoint of
the second one, a folder or a model of the Hugging Face hub.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console
from rich.table import Table

from local_daemon import DaemonFailed, local_daemon, wait_for_nursery
from pipeline import Client, File, Graph
from pipeline.errors import PipelineError
from pipeline.timeline.chart import chart

OUTPUT = Path("demo-output")
QUERY = "How do I keep a model in memory between requests?"
SENTENCES = [
    "The daemon keeps the weights loaded after the first call.",
    "Boil the rice in salted water for a quarter of an hour.",
    "Every process that starts anew has to import its libraries again.",
    "The cat slept on the radiator all afternoon.",
]
PROMPT = "a watercolour of a lighthouse at dawn"

console = Console()


class FreshProcessFailed(Exception):
    """The message holds its command and what it printed last."""


@dataclass(frozen=True)
class Times:
    """In seconds: to a first result without a daemon and with it, and of the run after it."""

    title: str
    fresh: float
    first: float
    second: float


def main() -> int:
    """Run the demo; the exit code says how it ended."""
    signal.signal(signal.SIGTERM, _terminated)
    real = os.environ.get("PIPELINED_DEMO_MODEL")
    if real is None or Path(real).is_dir():
        # Nothing is asked of the hub, not even whether what is here is up to date.
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    # What the daemon has for its workers: without it a fresh process on a busy machine looks worse.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        with local_daemon() as client:
            times = _both_examples(client, real)
    except (DaemonFailed, PipelineError, FreshProcessFailed) as error:
        console.print(f"[red]The demo failed:[/] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; the daemon has been stopped.")
        return 130
    _show_times(times)
    return 0


def _both_examples(client: Client, real: str | None) -> list[Times]:
    with console.status("The nursery imports torch, transformers and diffusers, once"):
        nursery = wait_for_nursery(client)
    console.print(f"The daemon is ready. Its imports took {nursery.preload_seconds:.1f} s, once.")
    with console.status("This process imports the same, to build the graphs"):
        import embeddings
        import stable_diffusion

    console.rule("Text embeddings: all-MiniLM-L6-v2")
    sentences = [QUERY, *SENTENCES]
    outputs, embedding_times = _measure(
        client, "embeddings", embeddings.graph, {"sentences": sentences}
    )
    [vectors] = outputs
    assert isinstance(vectors, np.ndarray)
    ranking = Table("", QUERY, title=f"{len(SENTENCES)} sentences by their closeness to the query")
    for number, similarity in embeddings.rank(vectors[0], vectors[1:]):
        ranking.add_row(f"{similarity:.3f}", SENTENCES[number])
    console.print(ranking)

    console.rule("Stable Diffusion, as the SDK's page has it")
    options: dict[str, object] = {"num_images_per_prompt": 2, "seed": 7}
    if real is None:
        options["num_inference_steps"] = 4
        console.print(
            "The checkpoint is a small one with random weights: its images are noise. "
            "PIPELINED_DEMO_MODEL=FOLDER or a model of the hub uses a real one."
        )
    console.print(f"Checkpoint: {stable_diffusion.MODEL_ID}", highlight=False, soft_wrap=True)
    outputs, diffusion_times = _measure(
        client, "stable_diffusion", stable_diffusion.graph, {"prompt": PROMPT, "kwargs": options}
    )
    [images] = outputs
    assert isinstance(images, list)
    for path in _save(images):
        console.print(f"Saved {path}", highlight=False)
    return [embedding_times, diffusion_times]


def _measure(
    client: Client, example: str, graph: Graph, inputs: Mapping[str, object]
) -> tuple[list[object], Times]:
    with console.status("A fresh process imports, loads and runs"):
        fresh = _fresh_process(example, inputs)
    with console.status("The daemon starts a worker that loads, and runs it"):
        started = time.perf_counter()
        client.deploy(graph, example)
        outputs = client.run(example, *inputs.values())
        first = time.perf_counter() - started
    started = time.perf_counter()
    client.run(example, *inputs.values())
    second = time.perf_counter() - started
    timeline = client.timeline(example)
    if timeline is not None:
        console.print(chart(timeline, width=console.width))
    return outputs, Times(example, fresh, first, second)


def _fresh_process(example: str, inputs: Mapping[str, object]) -> float:
    """Seconds from its spawn until it says that it has the result."""
    program = Path(__file__).with_name("fresh_run.py")
    command = [sys.executable, str(program), example, json.dumps(inputs)]
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seconds = time.perf_counter() - started
        if process.returncode != 0:
            errors.seek(0)
            raise FreshProcessFailed(f"{' '.join(command)}\n{errors.read()[-2000:]}")
    return seconds


def _save(images: list[object]) -> list[Path]:
    OUTPUT.mkdir(exist_ok=True)
    paths = []
    for number, image in enumerate(images):
        assert isinstance(image, File)
        path = OUTPUT / f"image-{number}.jpg"
        image.save(path)
        paths.append(path)
    return paths


def _show_times(times: list[Times]) -> None:
    table = Table("", title="Seconds to a result")
    for heading in ("fresh process", "deploy and first run", "second run"):
        table.add_column(heading, justify="right")
    for row in times:
        first = f"{row.first:.2f} ({row.fresh / row.first:.0f}x sooner)"
        table.add_row(row.title.replace("_", " "), f"{row.fresh:.2f}", first, f"{row.second:.3f}")
    console.print(table)


def _terminated(number: int, frame: FrameType | None) -> None:
    # Unwinds the stack, so that the daemon is stopped and its folder removed.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
