"""Constant load on a real daemon: what it takes of the machine stays as it is.

    python -m tests.soak [--minutes N]

After a warm-up the slope of each quantity is fitted, and printed with its confidence. The exit code
is 1 where one certainly grows, where a long soak is not certain that the daemon's memory does not
grow much, or where a run failed or gave a wrong answer.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from tests.chaos.callers import Caller
from tests.chaos.clock import Clock
from tests.chaos.incidents import Incidents
from tests.chaos.loads import Load, all_loads
from tests.chaos.place import Place
from tests.chaos.processes import end_all
from tests.chaos.report import LiveLine, print_answers, print_violations
from tests.chaos.served import Served
from tests.soak.loads import other_loads
from tests.soak.sampling import Quantity, Sampler, quantities
from tests.soak.slopes import Slope, slope_of

# What ends is soon forgotten here, so that the warm-up sees as much kept as there will ever be.
TTL_SECONDS = 30
OPTIONS = (
    "--preload=numpy",
    "--versions-kept=2",
    f"--run-ttl={TTL_SECONDS}s",
    f"--file-ttl={TTL_SECONDS}s",
    "--run-store-size=16MiB",
    "--file-store-size=64MiB",
    "--log-format=json",
)
WARM_UP_SHARE = 0.25
LEAST_WARM_UP_SECONDS = 60.0
# From this length on, the daemon's memory has to be known so well.
LONG_MINUTES = 30.0
MOST_UNCERTAIN_PER_HOUR = 8.0
JOIN_SECONDS = 90.0


def main() -> int:
    """Soak, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=LONG_MINUTES)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    place = Place("soak-")
    served = Served(place, Clock(place.root), OPTIONS)
    try:
        return _soak(served, place, options.minutes, console)
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        served.close()
        end_all(served.storm)
        place.close()


def _soak(served: Served, place: Place, minutes: float, console: Console) -> int:
    served.start()
    incidents = Incidents()
    loads: dict[str, Load] = {**all_loads(place.notes / "executed"), **other_loads(place.notes)}
    with served.client() as client:
        for load in loads.values():
            load.deploy(client)
            client.warm(load.name)
    measured = quantities(served, place.state)
    sampler = Sampler(served, measured)
    callers = {name: Caller(load, served, incidents) for name, load in loads.items()}
    warm_up = max(LEAST_WARM_UP_SECONDS, minutes * 60 * WARM_UP_SHARE)
    until = time.monotonic() + minutes * 60
    for thread in (sampler, *callers.values()):
        thread.start()
    with LiveLine(console) as line:
        while (left := until - time.monotonic()) > 0:
            line.show(_now(sampler, incidents, minutes * 60 - left, warm_up))
            time.sleep(min(left, 1.0))
    sampler.stop()
    for caller in callers.values():
        caller.stop()
    for caller in callers.values():
        caller.join(JOIN_SECONDS)
        if caller.is_alive():
            incidents.violation("client hangs", caller.name)
    if (code := served.stop()) != 0:
        incidents.violation("exit code", f"{code}: {served.log_tail()}")
    print_answers(console, {name: caller.answers for name, caller in callers.items()})
    _judge(console, sampler, measured, warm_up, minutes, incidents)
    print_violations(console, incidents)
    return 1 if incidents.violated else 0


def _now(sampler: Sampler, incidents: Incidents, seconds: float, warm_up: float) -> str:
    phase = "warm-up" if seconds < warm_up else "measured"
    figures = "  ".join(f"{name} {values[-1]:.0f}" for name, values in sampler.series.items())
    return f"{seconds:5.0f} s ({phase})  {incidents.violated.total()} violations  {figures}"


def _judge(
    console: Console,
    sampler: Sampler,
    measured: list[Quantity],
    warm_up: float,
    minutes: float,
    incidents: Incidents,
) -> None:
    """Print the slopes, and say which of them must not be."""
    start = next(i for i, at in enumerate(sampler.times) if at >= sampler.times[0] + warm_up)
    times = sampler.times[start:]
    table = Table(title=f"After {warm_up:.0f} s of warm-up, {times[-1] - times[0]:.0f} s")
    table.add_column("")
    for heading in ("from", "to", "per hour", "99 % ±", "may be", "verdict"):
        table.add_column(heading, justify="right")
    for quantity in measured:
        values = sampler.series[quantity.name][start : start + len(times)]
        slope = slope_of(times[: len(values)], values)
        verdict = _verdict(quantity, slope, minutes)
        if verdict not in ("flat", "too noisy to tell"):
            incidents.violation(verdict, f"{quantity.name}: {slope.per_hour:+.2f} per hour")
        table.add_row(
            f"{quantity.name} {quantity.unit}",
            f"{slope.first:.1f}",
            f"{slope.last:.1f}",
            f"{slope.per_hour:+.2f}",
            f"{slope.margin:.2f}",
            f"{quantity.most_per_hour:g}",
            verdict,
        )
    console.print(table)


def _verdict(quantity: Quantity, slope: Slope, minutes: float) -> str:
    if slope.last - slope.first <= quantity.slack or slope.per_hour <= quantity.most_per_hour:
        return "flat"
    if slope.grows(quantity.most_per_hour):
        return "grows"
    if minutes >= LONG_MINUTES and not slope.certain(MOST_UNCERTAIN_PER_HOUR):
        return "grows, as far as one can tell"
    return "too noisy to tell"


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
