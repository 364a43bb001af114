"""Starts a nursery: ``python -m pipelined.nursery CONTROL_FD``."""

import sys

from pipelined.nursery.process import main

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
