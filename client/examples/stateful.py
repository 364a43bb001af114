"""An entity with state: a thermometer's watch that learns from every reading what is usual.

    python client/examples/stateful.py
    pipeline run stateful reading.sensor=kitchen reading.celsius=55

What a pipe keeps in `self` lives as long as the worker: run the program twice, and it goes on where
it was. It begins anew, with `on_startup`, in a worker that replaces one that died, after a restart
of the daemon, and for a new version of the code. With `instances=2` there are two workers, each
with a state of its own, and a run is taken by either of them: what must outlive a worker, or be
shared by several, belongs into a database.
"""

import math
from dataclasses import dataclass

from pipeline import Client, InputField, InputSchema, Pipeline, Variable, entity, pipe

# What is known of every sensor before its first reading: ordinary rooms.
HISTORY = [19.0, 20.5, 21.0, 20.0, 22.0, 18.5, 21.5, 20.5]
# A reading is unusual if it is further from the mean than so many standard deviations.
UNUSUAL = 3.0


class Reading(InputSchema):
    sensor: str = InputField(min_length=1, max_length=40)
    celsius: float = InputField(ge=-100, le=200)


@dataclass
class Statistics:
    """Count, mean and summed squared deviations, updated one by one: Welford's method."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        difference = value - self.mean
        self.mean += difference / self.count
        self.squares += difference * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Of the sample; 0 for fewer than two values."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0


@entity
class Watch:
    @pipe(on_startup=True)
    def learn(self, history: list[float]) -> None:
        self.history = history
        self.sensors: dict[str, Statistics] = {}

    @pipe
    def observe(self, reading: Reading) -> tuple[bool, dict[str, float]]:
        """Whether the reading is unusual, and what its sensor's readings are like with it."""
        known = self.sensors.get(reading.sensor)
        if known is None:
            known = self.sensors[reading.sensor] = Statistics()
            for value in self.history:
                known.add(value)
        unusual = abs(reading.celsius - known.mean) > UNUSUAL * known.deviation
        known.add(reading.celsius)
        return unusual, {
            "readings": known.count - len(self.history),
            "mean": known.mean,
            "deviation": known.deviation,
        }


with Pipeline() as builder:
    reading = Variable(Reading)

    watch = Watch()
    watch.learn(HISTORY)
    unusual, statistics = watch.observe(reading)
    builder.output(unusual, statistics)

graph = builder.get_pipeline()

if __name__ == "__main__":
    with Client() as client:
        client.deploy(graph, "stateful")
        for celsius in (20.0, 21.0, 55.0):
            flag, known = client.run("stateful", Reading(sensor="kitchen", celsius=celsius))
            assert isinstance(known, dict)
            print(
                f"{celsius:.1f} °C is {'unusual' if flag else 'usual'}: reading "
                f"{known['readings']} of the kitchen, mean {known['mean']:.2f} °C, "
                f"deviation {known['deviation']:.2f} °C"
            )
