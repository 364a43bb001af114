"""A storm of faults against a real daemon with eight deployments under load.

    python -m tests.chaos [--minutes N] [--seed S]

Prints its seed, which gives the same faults in the same order, and at its end a table of what was
injected and survived. The exit code is 1 where something must not be, or where fewer faults were
injected than the time had room for.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from tests.chaos import client_faults, code_faults, process_faults, report, state_faults
from tests.chaos.callers import Caller
from tests.chaos.clock import Clock
from tests.chaos.incidents import Incidents, told
from tests.chaos.loads import Durable, all_loads
from tests.chaos.place import Place, enter_namespace
from tests.chaos.prober import Prober
from tests.chaos.processes import end_all
from tests.chaos.schedule import LEAST_IN_ALL, LEAST_OF_KIND, WHOLE_MINUTES, Slot, schedule
from tests.chaos.served import Served
from tests.chaos.storm import KINDS, NotPossible, NotSurvived, Storm
from tests.chaos.submitted import Ledger
from tests.chaos.watch import Watch, check_idle, check_left, check_log

AT_ONCE = 3
# A storm that is so much behind its schedule is broken off.
MOST_OVERRUN = 2.0
JOIN_SECONDS = 90.0
FAULTS = (client_faults, code_faults, process_faults, state_faults)


class Injector:
    """Injects the faults of a schedule, some at once, some alone."""

    def __init__(self, storm: Storm) -> None:
        self.impossible: dict[str, str] = {}
        self._storm = storm
        self._room = threading.Semaphore(AT_ONCE)
        self._one_of_kind = {name: threading.Lock() for name in KINDS}

    def inject(self, slot: Slot) -> None:
        """Inject one; returns when it has been begun, or is over if it is to be alone."""
        if slot.kind in self.impossible:
            return
        if KINDS[slot.kind].alone:
            self.wait_for_all()
            self._carry_out(slot)
            return
        self._room.acquire()
        threading.Thread(target=self._beside, args=(slot,), name=slot.kind, daemon=True).start()

    def wait_for_all(self) -> None:
        """Return when all that were begun are over."""
        for _ in range(AT_ONCE):
            self._room.acquire()
        self._room.release(AT_ONCE)

    def _beside(self, slot: Slot) -> None:
        try:
            with self._one_of_kind[slot.kind]:
                self._carry_out(slot)
        finally:
            self._room.release()

    def _carry_out(self, slot: Slot) -> None:
        incidents = self._storm.incidents
        try:
            note = KINDS[slot.kind].inject(self._storm, random.Random(slot.seed))
        except NotPossible as why:
            self.impossible[slot.kind] = str(why)
        except NotSurvived as why:
            incidents.injected(slot.kind, survived=False)
            incidents.violation("not survived", f"{slot.kind}: {why}")
        except Exception as error:
            incidents.injected(slot.kind, survived=False)
            incidents.violation("not survived", f"{slot.kind}: {told(error)}")
        else:
            incidents.injected(slot.kind, survived=True, note=note)


def main() -> int:
    """Run a storm, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", action="append", choices=sorted(KINDS), help="these kinds only")
    parser.add_argument("--log", type=Path, help="where to keep what the daemons logged")
    options = parser.parse_args()
    enter_namespace("tests.chaos")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)
    place = Place()
    served: Served | None = None
    try:
        console.print(f"Seed {seed}, {options.minutes:g} minutes. State directory: {place.disk}.")
        clock = Clock(place.root)
        served = Served(place, clock)
        loads = all_loads(place.notes / "executed")
        storm = Storm(served, place, clock, Incidents(), loads)
        kinds = options.only or sorted(KINDS)
        return _rage(storm, schedule(seed, options.minutes, kinds), options.minutes, console)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if served is not None:
            served.close()
            end_all(served.storm)
            if options.log is not None:
                shutil.copy(served.log_path, options.log)
        place.close()


def _rage(storm: Storm, slots: list[Slot], minutes: float, console: Console) -> int:
    served, incidents = storm.served, storm.incidents
    served.start()
    with served.client() as client:
        storm.deploy_all(client)
        for name in storm.loads:
            client.warm(name)
    load = storm.loads["durable"]
    assert isinstance(load, Durable)
    callers = {name: Caller(each, served, incidents) for name, each in storm.loads.items()}
    ledger = Ledger(load, served, incidents)
    prober, watch = Prober(storm.loads, served, incidents), Watch(served, incidents)
    threads: list[threading.Thread] = [*callers.values(), ledger, prober, watch]
    injector = Injector(storm)
    incidents.began = time.monotonic()
    for thread in threads:
        thread.start()
    interrupted = False
    try:
        with report.LiveLine(console) as line:
            _inject(storm, injector, slots, minutes, line)
        injector.wait_for_all()
        stopping: list[Prober | Caller | Ledger] = [prober, *callers.values(), ledger]
        for each in stopping:
            each.stop()
        for each in stopping:
            each.join(JOIN_SECONDS)
            if each.is_alive():
                incidents.violation("client hangs", each.name)
        watch.stop()
        check_idle(served, incidents)
        if (code := served.stop()) != 0:
            incidents.violation("exit code", f"{code}: {served.log_tail()}")
        check_left(served, storm.place, incidents)
        check_log(served, incidents)
    except KeyboardInterrupt:
        interrupted = True
        console.print("Interrupted.")
    report.print_answers(console, {name: caller.answers for name, caller in callers.items()})
    report.print_faults(console, incidents, injector.impossible)
    report.print_rest(console, ledger, prober, watch)
    if interrupted:
        return 130
    if minutes >= WHOLE_MINUTES:
        _check_counts(incidents)
    report.print_violations(console, incidents)
    return 1 if incidents.violated else 0


def _inject(
    storm: Storm, injector: Injector, slots: list[Slot], minutes: float, line: report.LiveLine
) -> None:
    began = storm.incidents.began
    for number, slot in enumerate(slots):
        while (wait := began + slot.at - time.monotonic()) > 0:
            _tell(storm, line, number, len(slots), "")
            time.sleep(min(wait, 1.0))
        if time.monotonic() - began > minutes * 60 * MOST_OVERRUN + 60:
            storm.incidents.violation("too slow", f"broken off after {number} of {len(slots)}")
            return
        _tell(storm, line, number, len(slots), slot.kind)
        injector.inject(slot)


def _tell(storm: Storm, line: report.LiveLine, number: int, of: int, kind: str) -> None:
    seconds = time.monotonic() - storm.incidents.began
    violations = storm.incidents.violated.total()
    line.show(
        f"{seconds:4.0f} s  fault {number} of {of}  {violations} violations  "
        f"daemon {storm.served.pid} (life {storm.served.life})  {kind}"
    )


def _check_counts(incidents: Incidents) -> None:
    total = sum(tally.injected for tally in incidents.tallies.values())
    if total < LEAST_IN_ALL:
        incidents.violation("too few faults", f"{total} in all, not {LEAST_IN_ALL}")
    for name, tally in incidents.tallies.items():
        if tally.injected < LEAST_OF_KIND:
            incidents.violation("too few faults", f"{tally.injected} of {name}")


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
