"""The wire between a client and a daemon, and what both ends must agree on."""
