"""Imports of optional packages, with an error that names the pip line."""

from __future__ import annotations

import importlib
from types import ModuleType

from ragtune.errors import MissingPackage


def import_optional(module: str, extra: str) -> ModuleType:
    """Import ``module`` or raise MissingPackage naming the extra of ragtune that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackage(
            f"the package '{module.split('.')[0]}' is not installed. It comes with an extra of ragtune. "
            f"Do: pip install 'ragtune[{extra}]'"
        ) from error
