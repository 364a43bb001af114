"""Messages between the daemon and its own child processes: no API for others."""
