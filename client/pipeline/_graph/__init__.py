"""Builds graphs of pipes, runs them here, and makes them portable."""
