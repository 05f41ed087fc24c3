"""Query expansion: a question becomes several variants, which are searched and fused by weighted reciprocal rank.

EXPANDERS is the table. Every expander returns the question itself as the first variant, at most MAX_VARIANTS in all, and
never raises: where an aid is missing or a language model fails, the plain question is searched and a warning logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragtune.errors import RecipeError, nearest
from ragtune.retrieval.dense import Found, search_dense
from ragtune.retrieval.feedback import feed_back_terms, feed_back_vector
from ragtune.retrieval.fuse import fuse_ranks
from ragtune.retrieval.index import Index
from ragtune.retrieval.lexical import search_lexical
from ragtune.retrieval.rephrase import ask_passage, ask_questions, split_question
from ragtune.seams import Generator

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
MAX_VARIANTS = 8
# The question with a glossary's words behind it holds the question too. On generated questions that name rows otherwise than
# the statements do, hit@5 rose with this weight: .45 at 1, .52 at 4, .58 alone; on those in the statements' words .61 at 1
# and 4, .59 alone.
GLOSSARY_WEIGHT = 4.0
Phrases = Callable[[str], Sequence[str]]
"""A glossary: a question -> other wordings of what it names."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to ask: ``dense`` is embedded, ``lexical`` goes to BM25, None leaves that searcher out.

    ``vector`` (unit length, shape (dimension,)) takes the place of ``dense``. ``weight`` multiplies the searchers' own.
    """

    weight: float
    dense: str | None
    lexical: str | None
    vector: np.ndarray | None = None


@dataclass(frozen=True)
class Tools:
    """What expanders may use. ``keep`` marks the rows a filter keeps: feedback comes from these alone."""

    index: Index | None = None
    keep: np.ndarray | None = None
    glossary: Phrases | None = None
    learned: Phrases | None = None
    generator: Generator | None = None


Expander = Callable[[str, Tools], list[Variant]]


def plain(question: str) -> Variant:
    """Return the question as it is."""
    return Variant(1.0, question, question)


def expand_glossary(question: str, tools: Tools) -> list[Variant]:
    """Add the question with the other wordings of a glossary (a domain pack's) behind it."""
    return _with_phrases(question, tools.glossary, "glossary", GLOSSARY_WEIGHT)


def expand_learned(question: str, tools: Tools) -> list[Variant]:
    """Add the question with the wordings learned from the documents behind it."""
    return _with_phrases(question, tools.learned, "learned", 1.0)


def _with_phrases(question: str, phrases: Phrases | None, name: str, weight: float) -> list[Variant]:
    if phrases is None:
        log.warning("expansion '%s' has no glossary to look in; the question is searched as it is", name)
        return [plain(question)]
    found = list(phrases(question))
    text = f"{question} {'; '.join(found)}"
    return [plain(question), *([Variant(weight, text, text)] if found else [])]


def expand_multi_query(question: str, tools: Tools) -> list[Variant]:
    """Add other wordings of the question that a language model writes."""
    asked = ask_questions(question, tools.generator, "multi_query")
    return [plain(question), *(Variant(0.5, text, text) for text in asked)]


def expand_hyde(question: str, tools: Tools) -> list[Variant]:
    """Add a passage that a language model imagines as the answer, for its likeness alone (HyDE, arXiv 2212.10496)."""
    passage = ask_passage(question, tools.generator)
    return [plain(question), *([Variant(1.0, passage, None)] if passage else [])]


def expand_decompose(question: str, tools: Tools) -> list[Variant]:
    """Add the parts of a question that asks several things: split by a language model where there is one, else by rules."""
    parts = ask_questions(question, tools.generator, "decompose") if tools.generator else split_question(question)
    return [plain(question), *(Variant(0.5, part, part) for part in parts)]


def expand_feedback(question: str, tools: Tools) -> list[Variant]:
    """Add the question moved towards what it finds first: Rocchio for vectors, RM3's terms for BM25."""
    if tools.index is None:
        log.warning("expansion 'feedback' has no index to look in; the question is searched as it is")
        return [plain(question)]
    vector = feed_back_vector(tools.index, question, tools.keep)
    terms = feed_back_terms(tools.index, question, tools.keep)
    moved = [] if vector is None else [Variant(0.5, question, None, vector)]
    return [plain(question), *moved, *([Variant(0.5, None, terms)] if terms else [])]


EXPANDERS: dict[str, Expander] = {
    "glossary": expand_glossary,
    "learned": expand_learned,
    "multi_query": expand_multi_query,
    "hyde": expand_hyde,
    "decompose": expand_decompose,
    "feedback": expand_feedback,
}


def check_expanders(names: Iterable[str]) -> None:
    """Raise RecipeError for a name that is not in EXPANDERS."""
    for name in names:
        if name not in EXPANDERS:
            raise RecipeError(f"retrieval.expand: found '{name}', allowed are {', '.join(EXPANDERS)}."
                              f"{nearest(name, EXPANDERS)}")


def expand(question: str, names: Sequence[str], tools: Tools) -> list[Variant]:
    """Return the question and what the named expanders add, each once, MAX_VARIANTS at most."""
    check_expanders(names)
    variants = [plain(question)]
    for name in names:
        variants += EXPANDERS[name](question, tools)[1:]
    known: dict[tuple[str | None, str | None, int], Variant] = {}
    for variant in variants:
        known.setdefault((variant.dense, variant.lexical, id(variant.vector)), variant)
    return list(known.values())[:MAX_VARIANTS]


def find_variants(
    index: Index, variants: Sequence[Variant], k: int, keep: np.ndarray | None = None, candidates: int = 50,
    dense_weight: float = 1.0, lexical_weight: float = 1.0,
) -> Found:
    """Search every variant with both searchers and fuse the rows by weighted reciprocal rank."""
    found, weights = rank_variants(index, variants, max(k, candidates), keep, dense_weight, lexical_weight)
    return fuse_ranks(found, weights, k)


def rank_variants(
    index: Index, variants: Sequence[Variant], candidates: int, keep: np.ndarray | None = None,
    dense_weight: float = 1.0, lexical_weight: float = 1.0,
) -> tuple[list[Found], list[float]]:
    """Return the ranked rows of every variant that goes to the vectors, then of every one that goes to BM25, and weights.

    The variants of one searcher share its weight, so that more variants do not outvote the other searcher. What is ranked
    can be given to ``fuse_ranks``, or to ``weighing.fit_weights`` for other weights.
    """
    import numpy as np

    found: list[Found] = []
    weights: list[float] = []
    dense = [variant for variant in variants if (variant.dense or variant.vector is not None) and dense_weight]
    if dense:
        texts = [variant.dense or "" for variant in dense if variant.vector is None]
        embedded = iter(index.embedder.embed_questions(texts) if texts else [])
        vectors = np.stack([next(embedded) if variant.vector is None else variant.vector for variant in dense])
        found += search_dense(index.dense, vectors, candidates, keep)
        weights += _shared(dense, dense_weight)
    lexical = [variant for variant in variants if variant.lexical and lexical_weight]
    found += search_lexical(index.lexical, [variant.lexical or "" for variant in lexical], candidates, keep)
    weights += _shared(lexical, lexical_weight)
    return found, weights


def _shared(variants: Sequence[Variant], weight: float) -> list[float]:
    total = sum(variant.weight for variant in variants)
    return [weight * variant.weight / total if total else 0.0 for variant in variants]
