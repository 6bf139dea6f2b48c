"""Resumable checkpoints as files: written whole, checked before use, the newest valid one found, old ones removed."""

from __future__ import annotations

from dlgsum.training.checkpoints.check import problems_of, required_files
from dlgsum.training.checkpoints.manifest import MANIFEST, FileFacts, Manifest, differences
from dlgsum.training.checkpoints.store import Checkpoint, find_valid, read, rotate
from dlgsum.training.checkpoints.write import abandon, begin, commit, temporary_path, whole_or_absent, writing

__all__ = [
    "MANIFEST",
    "Checkpoint",
    "FileFacts",
    "Manifest",
    "abandon",
    "begin",
    "commit",
    "differences",
    "find_valid",
    "problems_of",
    "read",
    "required_files",
    "rotate",
    "temporary_path",
    "whole_or_absent",
    "writing",
]
