"""Which file it was, when touching its tensors has ended the process."""

from pipelined.weights._extension import extension


def report_faults(descriptor: int, prefix: str = "") -> None:
    """Name the weights file where touching one of its tensors kills this process with SIGBUS.

    That is what happens when somebody cuts a file short while it is mapped: no program can go on
    from there. From now on a line of `prefix`, the path and the offset is written to the descriptor
    first. It stays the caller's, and has to stay open. A forked child inherits it. To replace a
    file safely, write another and rename it: whoever has the old one keeps it.

    Raises OSError.
    """
    extension.report_faults(descriptor, prefix)
