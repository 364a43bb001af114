"""The files of a starter project, as templates."""
