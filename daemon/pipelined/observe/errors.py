"""Why the daemon cannot be watched as it was asked for."""


class MetricsError(Exception):
    """The metrics cannot be served; the text says where and why."""


class TracesError(Exception):
    """Traces are asked for, and cannot be made; the text says why."""
