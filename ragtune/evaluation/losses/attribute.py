"""Where a lost answer was lost: the stage of the way from the page to the score, with a reason a person can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from ragtune.answering.guard import find_amounts
from ragtune.answering.prompt import parse_completion
from ragtune.evaluation.ladder.graded import Graded
from ragtune.evaluation.ladder.trail import Asked, Trail
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.evaluation.scoring.numbers import Number, parse_numbers
from ragtune.records import Chunk

Stage = Literal["page_not_read", "chunk_not_indexed", "filtered_out", "not_retrieved", "cut", "not_used", "computed_wrong",
                "guarded", "scored_wrong", "untold"]
Sources = Mapping[str, tuple[Chunk, str]]
"""Chunk id -> chunk and the whole text of its passage."""
STAGES: tuple[Stage, ...] = get_args(Stage)
LABELS: Mapping[str, str] = {
    "page_not_read": "page not read",
    "chunk_not_indexed": "chunk not indexed",
    "filtered_out": "filtered out",
    "not_retrieved": "not retrieved",
    "cut": "cut by the token budget",
    "not_used": "in the prompt, not used",
    "computed_wrong": "used, misread or miscomputed",
    "guarded": "right, refused by the guard",
    "scored_wrong": "perhaps scored wrong",
    "untold": "cannot be told",
}
MAX_DOUBT = 0.6
"""A wrong answer of which the scorer is less sure than this is perhaps a right one: hardly more than a coin's toss. Of 215
verdicts 'wrong' on answers that people labelled (cross-validated), 5 of 11 below 0.6 were right answers, 6 of 23 from 0.6 to
0.7, 12 of 181 above: a higher bound would move mostly wrong answers here."""
_YES_NO = re.compile(r"^\W*(yes|no)\b", re.IGNORECASE)
_FACTORS = (1.0, 100.0, 0.01, 1e3, 1e-3, 1e6, 1e-6, 1e9, 1e-9)


def label_of(stage: str, k: int = 0) -> str:
    """Return what a stage is called; with ``k`` passages a prompt it says how many were shown."""
    return f"not retrieved at {k}" if stage == "not_retrieved" and k else LABELS.get(stage, stage)


def attribute(row: Graded, asked: Asked, sources: Sources, k: int) -> tuple[Stage, str]:
    """Return the stage at which an answer with retrieval that is not correct was lost, and why it is thought so.

    ``sources`` hold the chunks that the prompt was made of, ``row.passages`` say how much of them stood there. The stages
    are tried in the order of the way; a question with several pieces of evidence is lost where the first of them is.
    """
    if why := _looks_right(row):
        return "scored_wrong", why
    if not asked.trails:
        return "untold", "the question names no evidence page"
    lost = [found for trail in asked.trails if (found := _lost_before_prompt(trail, row, sources, k))]
    if lost:
        return min(lost, key=lambda found: STAGES.index(found[0]))
    return _lost_in_answer(row, asked, sources)


def attribute_left_out(asked: Asked) -> tuple[Stage, str]:
    """Return the stage of a question that was not asked with retrieval."""
    missing = [trail.document for trail in asked.trails if not trail.is_present]
    if missing:
        return "page_not_read", f"the index lacks {', '.join(dict.fromkeys(missing))}"
    shut_out = [trail.document for trail in asked.trails if not trail.is_kept]
    return "filtered_out", f"the recipe's filter shuts out {', '.join(dict.fromkeys(shut_out))}"


def _lost_before_prompt(trail: Trail, row: Graded, sources: Sources, k: int) -> tuple[Stage, str] | None:
    """Return where a piece of evidence was lost before it stood in the prompt, None where it stood there."""
    page = f"{trail.document} page {trail.page}"
    if not trail.is_present:
        return "page_not_read", f"the index lacks {trail.document}"
    if not trail.is_read:
        return "page_not_read", f"{page} has no text in the index"
    if not trail.is_indexed:
        return "chunk_not_indexed", f"no chunk holds the evidence of {page}"
    if trail.rank is None or trail.rank > k:
        if not trail.is_kept:
            return "filtered_out", f"filter or router shut out {page}"
        if trail.unfiltered_rank is not None:
            free = f"hit {trail.unfiltered_rank} without router and filter"
            return "filtered_out", f"{page} is {free}, {_place(trail)} with them"
        beside = f"; the page is hit {trail.page_rank}, by another chunk" if (trail.page_rank or k + 1) <= k else ""
        return "not_retrieved", f"the evidence of {page} is {_place(trail)}{beside}"
    held = [(passage, *sources[passage.chunk_id]) for passage in row.passages if passage.chunk_id in sources]
    shown = [text[: passage.characters] for passage, chunk, text in held
             if _is_on(chunk, trail) or (trail.needed.may_stand_elsewhere and chunk.document == trail.document)]
    if not trail.needed.is_held_by(shown):
        return "cut", f"the evidence of {page} is hit {trail.rank}, but the prompt had no room for it"
    return None


def _is_on(chunk: Chunk, trail: Trail) -> bool:
    return chunk.document == trail.document and chunk.page <= trail.page <= chunk.last_page


def _place(trail: Trail) -> str:
    return f"hit {trail.rank}" if trail.rank else f"not among the first {trail.depth} hits"


def _lost_in_answer(row: Graded, asked: Asked, sources: Sources) -> tuple[Stage, str]:
    """Return whether an answer whose prompt held the evidence used it."""
    trails = asked.trails
    said, guarded = f"{row.reasoning}\n{row.answer}", ""
    if row.is_refusal:
        answer, reasoning, _, is_own = parse_completion(row.completion)
        if is_own:
            return "not_used", "refused, though the evidence stood in the prompt"
        if score_answer(asked.question, answer).outcome == "correct":
            return "guarded", f"the guard refused '{answer}'" + (f": {row.problems[0]}" if row.problems else "")
        said, guarded = f"{reasoning}\n{answer}", "; the guard refused the answer"
    amounts = set(find_amounts(said))
    for trail in trails:
        if used := [figure for figure in trail.needed.figures if figure in amounts]:
            return "computed_wrong", f"takes {', '.join(used[:3])} from {trail.document} page {trail.page}{guarded}"
    cited = {citation.chunk_id for citation in row.citations}
    for passage in row.passages:
        for trail in trails:
            if passage.chunk_id in cited & sources.keys() and _is_on(sources[passage.chunk_id][0], trail):
                return "computed_wrong", f"cites [{passage.number}], {trail.document} page {trail.page}{guarded}"
    cites = ", ".join(f"{c.document} page {c.page}" for c in row.citations[:3]) or "nothing"
    return "not_used", f"the evidence stood in the prompt; the answer cites {cites}{guarded}"


def _looks_right(row: Graded) -> str:
    """Return why a wrong answer is perhaps right, '' where nothing says so."""
    if row.outcome != "wrong":
        return ""
    gold = [number for number in parse_numbers(row.gold) if len(re.sub(r"\D", "", number.text).strip("0")) > 1]
    if gold and not _YES_NO.match(row.gold):
        said = parse_numbers(row.answer)
        if all(any(_may_be(wanted, number) for number in said) for wanted in gold):
            return f"the reference's {', '.join(number.text.strip() for number in gold[:3])} stands in the answer"
    if row.confidence is not None and row.confidence < MAX_DOUBT:
        return f"the scorer is only {row.confidence:.0%} sure that it is wrong"
    return ""


def _may_be(gold: Number, said: Number) -> bool:
    """Whether a number rounds to the reference's shown digits, in whatever scale, with its sign."""
    return any(abs(gold.value - said.value * factor) <= gold.step * (0.5 + 1e-6) for factor in _FACTORS)
