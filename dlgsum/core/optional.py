"""Import packages that only some jobs need, with the install command when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from dlgsum.core.errors import EnvironmentProblem


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Return ``module``, imported.

    Raises:
        EnvironmentProblem: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentProblem(
            f"{purpose} needs the package '{module}', which cannot be imported: {error}",
            f"Install it with: pip install 'dlgsum[{extra}]'",
        ) from error
