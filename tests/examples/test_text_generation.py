"""The streaming generator: piece by piece, and closed when its caller has read enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import text_generation
from language_checkpoints import small_writer
from pipeline import Client, Pipeline, Variable, entity, pipe
from pipeline.errors import InvalidInput
from pipeline.objects.graph import ABSENT
from tests.e2e.test_crashes import wait_until
from tests.running_daemon import RunningDaemon
from text_generation import Options, Writer

NAME = "writing"
PROMPT = "The keeper of the lighthouse"
LIKELIEST = Options(temperature=0, max_new_tokens=12)


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        client.deploy(text_generation.graph, NAME)
        yield client
        client.delete(NAME)


@entity
class DictatedWriter(Writer):
    """Reads a line of a fifo before each token, so that a test decides when it is written."""

    @pipe(on_startup=True)
    def listen(self, fifo: str, closed: str) -> None:
        self.lines = Path(fifo).open()  # noqa: SIM115
        self.closed = Path(closed)

    @pipe
    def write(self, prompt: str, options: Options) -> Iterator[str]:
        try:
            yield from super().write(prompt, options)
        finally:
            self.closed.touch()

    def _read(self, tokens: torch.Tensor, past: object) -> tuple[torch.Tensor, object]:
        self.lines.readline()
        return super()._read(tokens, past)


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A fifo, and a descriptor to write to it that does not wait for a reader."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    descriptor = os.open(path, os.O_RDWR)
    yield path, descriptor
    os.close(descriptor)


def pieces(rows: Iterator[list[object]]) -> list[object]:
    """Without the account, which comes first."""
    before, nothing = next(rows)
    assert isinstance(before, dict)
    assert nothing is ABSENT
    rest = list(rows)
    assert all(account is ABSENT for account, _ in rest)
    return [piece for _, piece in rest]


def test_what_is_written_is_what_the_models_own_library_generates(client: Client) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_writer())
    tokens = tokenizer(PROMPT, return_tensors="pt")
    [expected] = AutoModelForCausalLM.from_pretrained(small_writer()).generate(
        **tokens, do_sample=False, max_new_tokens=LIKELIEST.max_new_tokens
    )
    written = pieces(client.stream(NAME, PROMPT, LIKELIEST))
    text = "".join(map(str, written))
    ids = expected[tokens["input_ids"].shape[1] :]
    assert text.strip() == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert len(written) > 1


def test_seeds_with_and_without_a_daemon(client: Client) -> None:
    options = Options(seed=3, max_new_tokens=20)
    local = pieces(text_generation.graph.stream(PROMPT, options))
    assert pieces(client.stream(NAME, PROMPT, options)) == local
    assert pieces(client.stream(NAME, PROMPT, Options(seed=4, max_new_tokens=20))) != local
    # What is not streamed is the whole.
    [_, whole] = client.run(NAME, PROMPT, options)
    assert whole == local


def test_without_a_seed_texts_differ(client: Client) -> None:
    texts = [pieces(client.stream(NAME, PROMPT, Options(max_new_tokens=20))) for _ in range(2)]
    assert texts[0] != texts[1]


def test_of_a_long_prompt_the_end_is_read(client: Client) -> None:
    written = [
        pieces(client.stream(NAME, beginning + " and the sea" * 400, LIKELIEST))
        for beginning in ("Wind", "Fog and ships")
    ]
    assert written[0] == written[1]


def test_pieces_come_one_by_one_and_closing_ends_the_generator(
    daemon: RunningDaemon, lines: tuple[Path, int], tmp_path: Path
) -> None:
    (path, descriptor), closed = lines, tmp_path / "closed"
    with Pipeline() as builder:
        prompt = Variable(str)
        options = Variable(Options)
        writer = DictatedWriter()
        writer.load(str(small_writer()))
        writer.listen(str(path), str(closed))
        account = writer.account()
        builder.output(account, writer.write(prompt, options))
    name = "dictated"
    options_given = Options(temperature=0, max_new_tokens=200)
    with daemon.client() as client:
        client.deploy(builder.get_pipeline(), name)
        expected = pieces(text_generation.graph.stream(PROMPT, options_given))
        with client.stream(name, PROMPT, options_given) as stream:
            assert next(stream) == [{"texts": 0, "tokens": 0, "abandoned": 0}, ABSENT]
            for piece in expected[:3]:
                # No token is made before this; each is there before the next one is made.
                os.write(descriptor, b"\n")
                assert next(stream) == [ABSENT, piece]
            assert not closed.exists()

        def one_more_token() -> bool:
            # The answer comes after the daemon has heard of the end: the worker will, too, before
            # there are lines for all tokens.
            os.write(descriptor, b"\n")
            client.deployment(name)
            return closed.exists()

        wait_until(one_more_token)
        os.write(descriptor, b"\n")
        with client.stream(name, PROMPT, Options(temperature=0, max_new_tokens=1)) as stream:
            [before, _] = next(stream)
        assert isinstance(before, dict)
        assert before["texts"] == before["abandoned"] == 1
        assert 3 <= before["tokens"] < 200
        assert client.deployment(name).startups == 1
        client.delete(name)


@pytest.mark.parametrize(
    ("options", "field", "bound"),
    [
        ({"max_new_tokens": 257}, "options.max_new_tokens", "le=256"),
        ({"temperature": -0.1}, "options.temperature", "ge=0.0"),
        ({"temperature": 2.5}, "options.temperature", "le=2.0"),
        ({"seed": -1}, "options.seed", "ge=0"),
    ],
)
def test_options_out_of_range_are_refused(
    client: Client, options: dict[str, object], field: str, bound: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.stream(NAME, PROMPT, options)
    assert (refused.value.field, refused.value.bound) == (field, bound)


def test_the_model_is_loaded_once(client: Client) -> None:
    for _ in range(2):
        client.run(NAME, PROMPT, Options(max_new_tokens=1))
    deployment = client.deployment(NAME)
    assert deployment.startups == 1
    assert len(deployment.worker_pids) == 1
