"""Quoted evidence before an answer: the sentences or rows of the evidence that hold it, checked against what is shown.

RAFT (arXiv 2403.10131) quotes its gold passages too, also where they are not shown; here a quote that no shown passage
prints is never learned. Answers that restate statement rows quote them already, and get nothing more.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from ragtune.answering.prompt import render_chunk
from ragtune.answering.quote import QUOTE, find_span, fold_letters, place_quote, render_quote
from ragtune.datasets.gold import Need
from ragtune.datasets.grounded import holds_answer, is_same_amount, parse_amounts, telling_words
from ragtune.datasets.questions import is_restated
from ragtune.documents.statements import parse_row
from ragtune.records import Passage, Question
from ragtune.retrieval.periods import parse_period

AS_PRINTED, REPAIRED, RENUMBERED = "as printed", "repaired", "cited to another passage"
RESTATED, UNQUOTED, TOO_LONG = "rows restated", "no sentence holds the answer", "over generator.max_new_tokens"
NOWHERE = "a quote stands in no shown passage"
"""What became of a row's quotes: the first three count quotes, the next three rows without a quote; the last drops a row."""
_MOST_QUOTES = 3
_MOST_CHARACTERS = 600
_END = re.compile(r"(?P<end>[.!?][\"”’')]*)\s+(?=[\"“‘'(]?[A-Z])")
_SHORT = re.compile(
    r"(?:\b(?:Inc|Corp|Co|Cos|Ltd|Nos?|Mr|Ms|Mrs|Dr|St|Jr|Sr|vs|approx|Sec|Art|Fig|[A-Z]|"
    r"(?:Item|Note|Part|Section) \d+[A-Z]?|e\.g|i\.e)|\.[A-Z])\.$")
_UNQUOTABLE = re.compile(r"\[\d|\"\s*\[| = |\n\s*\n")  # read as citations or calculations, or ends the quote


def split_units(text: str) -> list[str]:
    """Return the sentences and table rows of a text in order, each as it stands there, line breaks within it included.

    A blank line, a row and a short line in front of a longer one that begins anew (a heading) end a sentence too.
    """
    units, block = list[str](), ""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        row = parse_row(line)
        if is_restated(line.strip()) or (row and len(row.amounts) > 1):
            units += [*_split_sentences(block), line.strip()]
            block = ""
            continue
        block += f"{line}\n"
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if not line.strip() or _is_heading(line.strip(), following):
            units += _split_sentences(block)
            block = ""
    return [unit for unit in (*units, *_split_sentences(block)) if unit]


def _split_sentences(block: str) -> list[str]:
    sentences, start = [], 0
    for match in _END.finditer(block):
        if not _SHORT.search(block[start : match.end("end")]):
            sentences.append(block[start : match.end("end")].strip())
            start = match.end()
    return [*sentences, block[start:].strip()]


def _is_heading(line: str, following: str) -> bool:
    return bool(following[:1].isupper() and line[:1].isupper() and line[-1] not in ".,;:-–—"
                and len(line) < 0.6 * len(following))


def choose_quotes(question: Question, units: Sequence[str]) -> tuple[str, ...]:
    """Return the units that hold the answer: one where one does, else the few that do together, in their order; () where
    these do not either."""
    years = set(map(str, parse_period(question.text).years))
    asked = telling_words(question.text)
    units = [unit for unit in dict.fromkeys(units) if len(unit) <= _MOST_CHARACTERS and not _UNQUOTABLE.search(unit)]

    def fit(unit: str) -> tuple[int, int, int]:
        return sum(year in unit for year in years), len(asked & telling_words(unit)), -len(unit)

    alone = [unit for unit in units if holds_answer(unit, question.answer, question.text)]
    if alone:
        return (max(alone, key=fit),)
    wanted = {unit: _items(question.answer, unit) for unit in units}
    chosen, got = list[str](), set[str]()
    while len(chosen) < _MOST_QUOTES:
        best = max(units, key=lambda unit: (len(wanted[unit] - got), fit(unit)), default="")
        if not best or not wanted[best] - got:
            break
        chosen.append(best)
        got |= wanted[best]
    chosen.sort(key=units.index)
    return tuple(chosen) if len(chosen) > 1 and holds_answer("\n".join(chosen), question.answer, question.text) else ()


def _items(answer: str, unit: str) -> set[str]:
    """Return the numbers and telling words of an answer that a unit holds."""
    printed = parse_amounts(unit)
    said = {amount.text for amount in parse_amounts(answer) if any(is_same_amount(amount, other) for other in printed)}
    return said | (telling_words(answer) & telling_words(unit))


def narrow_needs(question: Question, needs: Sequence[Need]) -> tuple[Need, ...]:
    """Return the needs with only those chunks that show a sentence to be quoted, where any does.

    Evidence that is a long piece of a page lies in several chunks; the answer need not stand in each. A sentence that goes
    over the end of a chunk is quoted as far as it holds the answer.
    """
    narrow = []
    for need in needs:
        quotes = () if need.lines else choose_quotes(question, split_units(need.evidence.text))
        folded = [fold_letters(quote)[0] for quote in quotes]
        shown = {chunk.id: render_chunk(chunk) for chunk in need.chunks} if folded or not need.evidence.text.strip() else {}
        holding = [c for c in need.chunks if folded and all(find_span(shown[c.id], quote) for quote in folded)]
        holding = holding or [c for c in need.chunks if c.id in shown and choose_quotes(question, split_units(shown[c.id]))]
        narrow.append(dataclasses.replace(need, chunks=tuple(holding or need.chunks)))
    return tuple(narrow)


def add_quotes(
    question: Question, completion: str, needs: Sequence[Need], met: Sequence[Passage | None],
    shown: Sequence[Passage],
) -> tuple[str, tuple[str, ...]]:
    """Return the completion with quoted evidence in front, not yet checked, and why there is none: RESTATED or UNQUOTED.

    ``met`` are the passages that show each need. A row that a passage restates is cited as one; what the completion says
    already is not said again.
    """
    lines, why = list[str](), list[str]()
    said = fold_letters(completion.rpartition("\n")[0])[0]
    for need, passage in zip(needs, met):
        if need.lines or passage is None:
            why.append(RESTATED)
            continue
        rows, sentences = _find_units(need, passage)
        chosen = choose_quotes(question, [*rows, *sentences])
        if any(unit not in rows and place_quote(unit, passage.number, shown) is None for unit in chosen):
            evidence = fold_letters(need.evidence.text)[0]
            parts = [unit for unit in split_units(passage.text) if fold_letters(unit)[0] in evidence]
            chosen = choose_quotes(question, [*rows, *parts]) or chosen
        for unit in chosen:
            if unit in rows:
                why.append(RESTATED)
            line = f"{unit} [{passage.number}]" if unit in rows else render_quote(unit, passage.number)
            if fold_letters(unit)[0] not in said and line not in lines:
                lines.append(line)
    return "\n".join([*lines, completion]), tuple(dict.fromkeys(why)) or (() if lines else (UNQUOTED,))


def _find_units(need: Need, passage: Passage) -> tuple[list[str], list[str]]:
    """Return what may be quoted: the passage's restated rows that the evidence holds, and the evidence's other units."""
    text = need.evidence.text if need.evidence.text.strip() else passage.text
    labels = [row.label for row in map(parse_row, text.split("\n")) if row]
    rows = [line for line in passage.text.split("\n") if is_restated(line)
            and (text is passage.text or any(line.startswith(f"{label} ") for label in labels))]

    def is_restated_here(unit: str) -> bool:
        row = parse_row(unit)
        return is_restated(unit) or (row is not None and any(line.startswith(f"{row.label} ") for line in rows))

    return rows, [unit for unit in split_units(text) if not is_restated_here(unit)]


def check_quotes(completion: str, shown: Sequence[Passage]) -> tuple[str, tuple[str, ...]] | None:
    """Return the completion with each quote as a shown passage prints it, and what became of each; None where a quote stands
    in none."""
    outcomes, parts, end = list[str](), list[str](), 0
    for match in QUOTE.finditer(completion):
        cited = int(match["number"])
        placed = place_quote(match["text"], cited, shown)
        if placed is None:
            return None
        outcomes.append(RENUMBERED if placed[1] != cited else AS_PRINTED if placed[0] == match["text"] else REPAIRED)
        parts += [completion[end : match.start()], render_quote(*placed)]
        end = match.end()
    return "".join([*parts, completion[end:]]), tuple(outcomes)
