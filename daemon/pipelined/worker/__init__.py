"""The process that unpickles and runs user code, and how the daemon talks to it."""
