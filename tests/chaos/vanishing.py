"""A client in a process of its own, to be killed while it reads a stream.

python -m tests.chaos.vanishing ADDRESS DEPLOYMENT
"""

from __future__ import annotations

import sys

from pipeline import Client


def main() -> None:
    """Read on and on."""
    _, address, name = sys.argv
    with Client(address) as client, client.stream(name, "vanishing", 10_000_000, 4096) as rows:
        for number, _ in enumerate(rows):
            if number == 0:
                sys.stdout.write("reading\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
