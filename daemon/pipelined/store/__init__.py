"""What survives a restart: SQLite and content-addressed files in the state directory."""
