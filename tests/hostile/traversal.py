"""Texts that lead elsewhere where they are taken for names of files."""

from __future__ import annotations

TEXTS = (
    "..",
    "../../../../../../../../etc/passwd",
    "/etc/passwd",
    "./x",
    "a/../../b",
    "..\\..\\windows",
    "a\x00b",
    "%2e%2e%2fetc%2fpasswd",
    "\u2025/\u2025",
    "~root",
    "$HOME",
    "-rf",
    "",
    "a" * 5000,
    "new\nline",
    "ü/..",
    "lock",
    "pipelined.db",
)
