"""The process that workers are forked from, and its supervisor in the daemon."""
