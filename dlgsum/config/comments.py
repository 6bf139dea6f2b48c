"""What a configuration file says of itself; light, because completion asks it at every TAB."""

from __future__ import annotations

from pathlib import Path


def first_comment(path: Path) -> str:
    """Return the first comment of a YAML file, which says what it is for; empty where it has none.

    A line such as ``# @package _global_`` is for Hydra, and no comment.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):  # not there, not ours to read, or no possible name
        return ""
    comments = (line.lstrip("# \t").rstrip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if comment and not comment.startswith("@")), "")
