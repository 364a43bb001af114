"""The wire: each method parses, calls core, and maps what comes back. No logic."""
