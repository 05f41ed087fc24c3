"""One family of errors for what a user can mend; anything else is a bug and keeps its traceback.

Every message says what was found, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RagtuneError(Exception):
    """Something the user can mend. The command line prints it without a traceback and exits with 1."""


class RecipeError(RagtuneError):
    """A recipe that cannot be read or holds a wrong value."""


class DocumentError(RagtuneError):
    """A source document that is missing, unreadable or not what its suffix says."""


class IndexFolderError(RagtuneError):
    """An index folder that is missing, damaged or of another kind than asked for."""


class QuestionError(RagtuneError):
    """A question, a question file or a filter that cannot be used."""


class ModelError(RagtuneError):
    """A model that cannot be found, loaded or asked."""


class RunError(RagtuneError):
    """A dataset, run or evaluation folder that is missing, damaged or does not fit the index or prompt."""


class MissingPackage(RagtuneError):
    """An optional package is not installed; the message names the pip line."""


def nearest(found: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean X?'`` for the closest allowed name, or an empty string."""
    close = difflib.get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
