"""What a worker still says, in a line of its output, when a signal ends it."""

# Begins such a line. User code may print it too, so it is believed only of this signal.
MARK = "pipelined worker: "
SIGNAL = "SIGBUS"


def heard_in(line: str) -> str | None:
    """What a line of output says if it begins with the mark."""
    return line.removeprefix(MARK) if line.startswith(MARK) else None
