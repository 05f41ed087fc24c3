"""What questions and statements call the same thing: ``capex`` is ``Purchases of property, plant and equipment``.

The terms of a pack serve the questions that are asked from rows, and the sentence beside a question that names its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from ragtune.documents.pack import Pack, current_pack
from ragtune.documents.packparts import Term, plain_label

__all__ = ["Term", "find_terms", "name_rows", "render_names"]
_RESTATED = re.compile(r"^(?P<label>\S.*?) (?:19|20)\d\d: \S+$", re.MULTILINE)


def __getattr__(name: str) -> Any:
    """``TERMS``: the line items of the pack in force."""
    if name == "TERMS":
        return current_pack().terms
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def find_terms(question: str, pack: Pack | None = None) -> list[tuple[str, Term]]:
    """Return the line items a question names, as it words them; a name within a longer one does not count, nor within
    that of a statement (``cash`` in the cash flow statement).
    """
    return list(_find_terms(question, pack or current_pack()))


@lru_cache(maxsize=1024)  # of one question it is asked by the router, the ranker and each trial of the prompt
def _find_terms(question: str, pack: Pack) -> tuple[tuple[str, Term], ...]:
    found = [(match.start(), match.end(), term) for term in pack.terms for match in term.asked.finditer(question)]
    spans = [(start, end) for start, end, _ in found]
    spans += [match.span() for section in pack.sections if section.entry.is_table and section.asked
              for match in section.asked.finditer(question)]
    kept = [
        (start, end, term) for start, end, term in found
        if not any(a <= start and end <= b and (b - a) > (end - start) for a, b in spans)
    ]  # fmt: skip
    return tuple((question[start:end], term) for start, end, term in sorted(kept, key=lambda hit: hit[:2]))


@lru_cache(maxsize=20_000)
def _fits(term: Term, label: str) -> bool:
    return term.names_row(label)


def name_rows(
    question: str, texts: Iterable[str], most: int = 3, pack: Pack | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    """Return for each line item of a question what the restated rows of the texts call it, if they call it otherwise.

    ``most`` labels each, in the order they stand. A name that stands in the question as part of a row's own label
    (``Europe net sales``) is left alone.
    """
    terms = find_terms(question, pack)
    if not terms:
        return []
    labels = list(dict.fromkeys(match["label"] for text in texts for match in _RESTATED.finditer(text)))
    asked = question.lower()
    literal = [plain for label in labels if (plain := plain_label(label).lower()) and plain in asked]
    named: dict[str, tuple[str, ...]] = {}
    for phrase, term in terms:
        if any(phrase.lower() in label for label in literal):
            continue
        matching = [label for label in labels if _fits(term, label)]
        if matching:
            named[phrase] = tuple(dict.fromkeys((*named.get(phrase, ()), *matching)))[:most]
    return list(named.items())


def render_names(named: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Return the sentence that stands beside the question, '' for none."""
    if not named:
        return ""
    return "In the passages, " + "; ".join(f"{phrase} is called {' or '.join(labels)}" for phrase, labels in named) + "."
