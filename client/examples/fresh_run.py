"""Runs an example in this process, without a daemon: what a run costs where nothing is warm.

    python client/examples/fresh_run.py embeddings '{"sentences": ["Boil the rice."]}'

Prints a line when the outputs are there.
"""

import importlib
import json
import sys


def main() -> None:
    example, inputs = sys.argv[1:]
    outputs = importlib.import_module(example).graph.run(**json.loads(inputs))
    print(f"{len(outputs)} outputs", flush=True)


if __name__ == "__main__":
    main()
