"""``python -m pipeline.cli`` is ``pipeline``."""

from pipeline.cli import main

main()
