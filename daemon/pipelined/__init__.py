"""The daemon: owns the GPUs of a machine and keeps pipelines warm. Runs no user code itself."""
