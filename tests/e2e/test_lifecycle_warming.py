"""After a restart, what was in use is warmed again, and nobody who waits has to wait for that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline import Graph, Pipeline, entity, pipe
from tests.conftest import QUICK_PRELOAD
from tests.e2e.test_crashes import counter, wait_until
from tests.running_daemon import RunningDaemon


@entity
class Held:
    """Starts when a file is there."""

    def __init__(self, release: str) -> None:
        self.release = release

    @pipe(on_startup=True)
    def load(self) -> None:
        while not Path(self.release).exists():
            pass

    @pipe
    def answer(self) -> int:
        return 42


def held(release: Path) -> Graph:
    with Pipeline() as builder:
        model = Held(str(release))
        model.load()
        builder.output(model.answer())
    return builder.get_pipeline()


def test_what_was_in_use_is_warmed_again(tmp_path: Path) -> None:
    config = tmp_path / "pipelined.toml"
    config.write_text('[startup]\nwarm = "recent"\nwarm_at_most = 3\n')
    first, wanted = tmp_path / "first", tmp_path / "wanted"
    for release in (first, wanted):
        release.touch()
    daemon = RunningDaemon(tmp_path, options=[*QUICK_PRELOAD, f"--config={config}"])
    try:
        with daemon.client() as client, ThreadPoolExecutor(2) as pool:
            for name in ("never-used", "cooled", "too-long-ago", "third"):
                client.deploy(counter(), name)
            client.deploy(held(wanted), "demanded")
            client.deploy(held(first), "first")
            for name in ("too-long-ago", "third", "demanded", "first", "cooled"):
                client.run(name)
            client.cool("cooled")
            for release in (first, wanted):
                release.unlink()
            daemon.restart()
            # The one that was used last comes first, and a caller joins its startup.
            wait_until(lambda: client.deployment("first").state == "starting")
            joined = pool.submit(client.run, "first")
            demanded = pool.submit(client.run, "demanded")
            wait_until(lambda: client.deployment("demanded").state == "starting")
            first.touch()
            assert joined.result() == [42]
            assert client.deployment("first").startups == 1
            # Somebody waits for a startup: nothing else is started meanwhile.
            assert client.deployment("third").state == "cold"
            wanted.touch()
            assert demanded.result() == [42]
            wait_until(lambda: client.deployment("third").state == "warm")
            wait_until(lambda: "warmed again" in daemon.log())
            states = {each.name: each.state for each in client.list()}
            assert states == {
                "first": "warm",
                "demanded": "warm",
                "third": "warm",
                "too-long-ago": "cold",
                "cooled": "cold",
                "never-used": "cold",
            }
            # Nobody has used what was warmed: the order is that of what people have done.
            client.run("too-long-ago")
        order = ["too-long-ago", "demanded", "first"]
        daemon.restart()
        wait_until(lambda: daemon.log().count("warmed again") == 2)
        warming = [line for line in daemon.log().splitlines() if "warming again" in line]
        assert sorted(order, key=warming[1].index)[0] == "too-long-ago"
        assert "third" not in warming[1]
    finally:
        # Whoever still waits for them would hold up the end.
        for release in (first, wanted):
            release.touch()
        daemon.close()


def test_workers_that_are_kept_are_there_without_being_asked_for(
    own_daemon: RunningDaemon,
) -> None:
    with own_daemon.client() as client:
        client.deploy(counter(), "kept", min_instances=1)
        client.deploy(counter(), "not-kept")
        wait_until(lambda: client.deployment("kept").state == "warm")
        own_daemon.restart()
        wait_until(lambda: client.deployment("kept").state == "warm")
        assert client.deployment("not-kept").state == "cold"
        assert client.run("kept") == [1]
