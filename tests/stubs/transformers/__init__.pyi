from typing import Any

# What is here is of any type, as it is for mypy (pyproject.toml says why).
def __getattr__(name: str) -> Any: ...
