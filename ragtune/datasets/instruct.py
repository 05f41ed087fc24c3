"""Questions to tuning rows: passages from the search that will serve, gold among distractors, refusals where it is absent.

The scheme is RAFT's (arXiv 2403.10131) without its defects: distractors come from the retriever and never hold the
answer, and a row without its gold passage learns the refusal instead of a quotation of what it does not show.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ragtune.answering.prompt import REFUSAL, fit_prompt, number_passages, render_completion
from ragtune.datasets.balance import balance_rows
from ragtune.datasets.distract import SPARE, Distractors, DrawChunk, gather_distractors
from ragtune.datasets.gold import Need, find_needs, find_same_rows, holds_answer, justified_lines
from ragtune.datasets.quotes import NOWHERE, TOO_LONG, add_quotes, check_quotes, narrow_needs
from ragtune.errors import RunError
from ragtune.recipe.schema import Dataset, Generator, Retrieval
from ragtune.records import Chunk, Example, Hit, Message, Passage, Question
from ragtune.seams import Progress, Searcher

CountTokens = Callable[[Sequence[Message]], int]
_BATCH = 64  # questions embedded together
_DEEPER = 4  # times as many hits are asked for where some documents are left out


@dataclass(frozen=True)
class BuildResult:
    """Rows in the order of their questions. ``dropped`` and ``skipped`` count rows left out, by reason.

    A dropped row is a loss. A skipped row merely says nothing new: it was drawn before, or its answer stands in a passage
    that is not its evidence. ``cut_off`` counts rows whose completion is longer than ``generator.max_new_tokens``: the model
    reads them, but will not say as much.
    """

    examples: tuple[Example, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    cut_off: int = 0


@dataclass(frozen=True)
class Row:
    """What a row is made of before it is rendered. ``mode``: gold, distractors, closed_book, unanswerable or served."""

    question: Question
    hits: tuple[Hit, ...]
    needs: tuple[Need, ...]
    mode: str
    number: int = 0
    ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """How rows are rendered; ``names_rows`` as in ``render_prompt``."""

    count_tokens: CountTokens
    retrieval: Retrieval
    generator: Generator
    names_rows: bool
    quotes: bool
    context_tokens: int

    def is_cut_off(self, completion: str) -> bool:
        """Tell whether a completion and the end of its turn are more than the generator says: serving cuts it off."""
        said, least = (self.count_tokens([Message(role="user", content="?"), Message(role="assistant", content=text)])
                       for text in (completion, "."))
        return said - least + 2 > self.generator.max_new_tokens

    def is_read(self, prompt: Sequence[Message], completion: str) -> bool:
        """Tell whether the model reads the whole row, so that tuning need not cut or drop it."""
        most = self.generator.max_prompt_tokens + self.generator.max_new_tokens
        if most <= self.context_tokens and not self.is_cut_off(completion):
            return True  # the prompt was fitted
        return self.count_tokens([*prompt, Message(role="assistant", content=completion)]) <= self.context_tokens


def build_examples(
    questions: Sequence[Question],
    searcher: Searcher,
    count_tokens: CountTokens,
    dataset: Dataset,
    retrieval: Retrieval,
    generator: Generator,
    progress: Progress | None = None,
    is_served: bool = False,
    excluded: Collection[str] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    names_rows: bool = True,
    any_chunk: DrawChunk | None = None,
    context_tokens: int = sys.maxsize,
) -> BuildResult:
    """Return the tuning rows of the questions; with ``is_served`` one row each as serving would show it, for testing.

    ``excluded`` are documents no row shows a passage of: training rows show none of a test document. ``groups``
    (question id -> groups) goes into the provenance. ``names_rows`` is as in ``render_prompt``, ``any_chunk`` draws random
    distractors, ``context_tokens`` is what the model reads. Deterministic under ``dataset.seed``. Raises RunError where more
    than ``dataset.max_dropped_share`` of the rows had to be left out, naming the counts.
    """
    examples: dict[tuple[str, str], Example] = {}
    dropped: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    rules = Rules(count_tokens, retrieval, generator, names_rows, dataset.quotes, context_tokens)
    depth = max(retrieval.k, dataset.distractors + 1) + (0 if is_served else SPARE)
    depth *= _DEEPER if excluded else 1
    for start in range(0, len(questions), _BATCH):
        batch = questions[start : start + _BATCH]
        for question, hits in zip(batch, search_all(searcher, [q.text for q in batch], depth)):
            hits = [hit for hit in hits if hit.chunk.document not in excluded]
            needs = find_needs(question, searcher)
            if needs is None or (question.is_answerable and not needs):
                reason = "the page does not hold the evidence" if needs is None else "the answer has no evidence"
                dropped[reason] += 1 if is_served else dataset.rows_per_question
                continue
            needs = find_same_rows(question, needs, [hit.chunk for hit in hits])
            gold = narrow_needs(question, needs) if dataset.quotes else needs
            rows = (_serve(question, hits, gold, retrieval),) if is_served else _draw(
                question, hits, gather_distractors(question, hits, needs, dataset, any_chunk), gold, dataset)
            for row in rows:
                example = _render(row, rules, (groups or {}).get(question.id, ()))
                if isinstance(example, Example):
                    key = (example.prompt[-1]["content"], example.completion)
                    skipped["the same row was drawn before"] += key in examples
                    examples.setdefault(key, example)
                else:
                    (skipped if example.startswith("served: ") else dropped)[example.removeprefix("served: ")] += 1
        if progress:
            progress(start + len(batch), len(questions))
    _check_dropped(dropped, len(examples), dataset, generator)
    kept = list(examples.values())
    if not is_served:
        kept, left = balance_rows(kept, dataset)
        skipped += left
    cut_off = sum(map(cache(rules.is_cut_off), (example.completion for example in kept)))
    return BuildResult(tuple(kept), dict(sorted(dropped.items())), dict(sorted((+skipped).items())), cut_off)


def search_all(searcher: Searcher, texts: Sequence[str], k: int) -> list[list[Hit]]:
    """Return the hits of each question, in one batch where the searcher can."""
    many: Any = getattr(searcher, "search_many", None)
    return list(many(texts, k)) if many else [searcher.search(text, k) for text in texts]


def _serve(question: Question, hits: Sequence[Hit], needs: tuple[Need, ...], retrieval: Retrieval) -> Row:
    """Return the row that serving would show: the first k hits by rank."""
    return Row(question, tuple(hits[: retrieval.k]), needs, "served", 0, {hit.chunk.id: hit.rank for hit in hits})


def _draw(
    question: Question, hits: Sequence[Hit], others: Distractors, needs: tuple[Need, ...], dataset: Dataset
) -> list[Row]:
    """Draw the training rows of a question: passages in random order, with or without gold."""
    ranks = {hit.chunk.id: hit.rank for hit in hits}
    rows = []
    for number in range(dataset.rows_per_question):
        draw = random.Random(f"{dataset.seed}:{question.id}:{number}")
        chosen: list[Hit] = []
        if draw.random() < dataset.closed_book_share:
            mode = "closed_book"
        elif not question.is_answerable:
            mode = "unanswerable"
            chosen = others.sample(draw, dataset.distractors + 1, dataset.hard_share)
        elif needs and draw.random() < dataset.gold_share:
            mode = "gold"
            gold = _best_gold(needs, hits)
            # Rank 0 keeps gold from being the first to be cut when the prompt is too long.
            chosen = [Hit(chunk, 0.0, 0, "gold") for chunk in gold]
            chosen += others.sample(draw, max(0, dataset.distractors + 1 - len(chosen)), dataset.hard_share)
        else:
            mode = "distractors"
            chosen = others.sample(draw, dataset.distractors + 1, dataset.hard_share)
        draw.shuffle(chosen)
        rows.append(Row(question, tuple(chosen), needs, mode, number, ranks))
    return rows


def _best_gold(needs: Sequence[Need], hits: Sequence[Hit]) -> list[Chunk]:
    """Return one chunk for each need, the one the search ranks best, else the first of the page; none twice."""
    found = {hit.chunk.id: hit.rank for hit in hits}
    best = (min(need.chunks, key=lambda chunk: found.get(chunk.id, len(found) + 1)) for need in needs)
    return list({chunk.id: chunk for chunk in best}.values())


def _render(row: Row, rules: Rules, groups: Sequence[str]) -> Example | str:
    """Return the example of a row, or the reason why there is none."""
    question, most = row.question, rules.generator.max_prompt_tokens
    passages = number_passages(row.hits)
    prompt, shown = fit_prompt(question.text, passages, rules.count_tokens, most, rules.names_rows)
    if not shown and rules.count_tokens(prompt) > most:
        return "the question alone is over the token budget"
    if row.mode == "distractors" and not shown and row.hits:
        return "no passage fits the token budget"
    met = [next((passage for passage in shown if need.is_met_by(passage)), None) for need in row.needs]
    gold = [passage for passage in dict.fromkeys(met) if passage is not None]
    gold.sort(key=lambda passage: passage.number)
    is_whole = bool(row.needs) and None not in met and question.is_answerable
    if row.mode == "gold" and not is_whole:
        return "the token budget cuts the gold passage"
    if row.mode == "served" and question.is_answerable and not is_whole and _gives_away(row, shown):
        return "served: the answer stands in another passage than the evidence"
    if is_whole and not _shows_all(justified_lines(question), gold):
        return "no passage shows the rows of the justification"
    said = _complete(row, met, gold, shown, rules) if is_whole else (REFUSAL, ())
    if isinstance(said, str):
        return said
    if not rules.is_read(prompt, said[0]):
        return f"prompt and completion are over the {rules.context_tokens:,} tokens that the model reads"
    trace = _trace(row, shown, gold if is_whole else [], rules.retrieval, groups)
    return Example(prompt, said[0], {**trace, "quotes": list(said[1])} if said[1] else trace)


def _complete(
    row: Row, met: Sequence[Passage | None], gold: Sequence[Passage], shown: Sequence[Passage], rules: Rules
) -> tuple[str, tuple[str, ...]] | str:
    """Return the completion and what became of its quotes, or the reason why there is none."""
    plain, why = render_completion(row.question, gold), tuple[str, ...]()
    quoted = plain
    if rules.quotes:
        quoted, why = add_quotes(row.question, plain, row.needs, met, shown)
        if quoted != plain and rules.is_cut_off(quoted):
            quoted, why = plain, (TOO_LONG,)
    checked = check_quotes(quoted, shown)
    if checked is None:
        return NOWHERE
    return checked[0], (*checked[1], *why)


def _gives_away(row: Row, shown: Sequence[Passage]) -> bool:
    """Tell whether a passage that is not the whole evidence holds the answer."""
    ids = {passage.chunk_id for passage in shown}
    return any(hit.chunk.id in ids and holds_answer(hit.chunk, row.question, row.needs) for hit in row.hits)


def _shows_all(lines: Sequence[str], gold: Sequence[Passage]) -> bool:
    """Tell whether every restated line stands in one of the passages, so that no citation is made up."""
    shown = {line for passage in gold for line in passage.text.split("\n")}
    return all(line in shown for line in lines)


def _trace(
    row: Row, shown: Sequence[Passage], gold: Sequence[Passage], retrieval: Retrieval, groups: Sequence[str]
) -> dict[str, Any]:
    """Return where a row came from: question, evidence, the passages in order and their ranks in the search.

    ``file`` and ``files`` (one a passage) are the hashes of the documents' files, by which a later index is told from this.
    """
    ranks = [row.ranks.get(passage.chunk_id) for passage in gold]
    files = {hit.chunk.document: hit.chunk.document_id for hit in row.hits}
    files |= {need.evidence.document: need.chunks[0].document_id for need in row.needs}
    return {
        "question_id": row.question.id,
        "kind": row.question.kind,
        "mode": row.mode,
        "row": row.number,
        "groups": list(groups),
        "documents": sorted({evidence.document for evidence in row.question.evidence}),
        "evidence": [{"document": e.document, "page": e.page, "file": files.get(e.document, "")}
                     for e in row.question.evidence],
        "passages": [passage.chunk_id for passage in shown],
        "files": [{"document": passage.document, "id": files[passage.document]} for passage in shown],
        "ranks": [row.ranks.get(passage.chunk_id) for passage in shown],
        "gold": [passage.chunk_id for passage in gold],
        "gold_injected": any(rank is None or rank > retrieval.k for rank in ranks),
    }


def _check_dropped(dropped: Mapping[str, int], kept: int, dataset: Dataset, generator: Generator) -> None:
    lost = sum(dropped.values())
    if lost and lost > dataset.max_dropped_share * (lost + kept):
        reasons = "; ".join(f"{count} because {reason}" for reason, count in sorted(dropped.items()))
        raise RunError(
            f"{lost} of {lost + kept} rows had to be left out: {reasons}. Allowed is a share of "
            f"{dataset.max_dropped_share:g} (dataset.max_dropped_share). Check that the questions fit the index, "
            f"raise generator.max_prompt_tokens (now {generator.max_prompt_tokens}), lower index.chunk_tokens or "
            "dataset.distractors."
        )
