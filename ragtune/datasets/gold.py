"""Which chunks hold a question's evidence, and which hold its answer somewhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.answering.prompt import render_chunk
from ragtune.answering.quote import find_span, fold_letters
from ragtune.datasets.questions import is_restated
from ragtune.documents.pack import current_pack
from ragtune.documents.statements import parse_row
from ragtune.records import Chunk, Evidence, Passage, Question, Value
from ragtune.seams import Searcher

_NUMBER = re.compile(r"(?<![\d.,])\d[\d,]*(?:\.\d+)?(?!\d)")
_LONG = 200  # characters; longer evidence is a piece of a page, compared by its words


@dataclass(frozen=True)
class Need:
    """One piece of evidence: the chunks of its page that hold it, best first, and the lines a passage must show."""

    evidence: Evidence
    chunks: tuple[Chunk, ...]
    lines: tuple[str, ...]

    def is_met_by(self, passage: Passage) -> bool:
        """Tell whether a passage, shortened or not, shows this evidence."""
        if passage.chunk_id not in {chunk.id for chunk in self.chunks}:
            return False
        if self.lines:
            shown = set(passage.text.split("\n"))
            return all(line in shown for line in self.lines)
        if passage.text == next(render_chunk(chunk) for chunk in self.chunks if chunk.id == passage.chunk_id):
            return True
        row = parse_row(self.evidence.text)
        if row is not None:  # rendered with the year beside each amount
            return any(line.startswith(f"{row.label} ") for line in passage.text.split("\n"))
        return bool(find_span(passage.text, fold_letters(self.evidence.text)[0]))


def squeeze(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())


def justified_lines(question: Question) -> list[str]:
    """Return the lines of the justification that restate a statement row."""
    lines = [line.strip() for line in question.justification.split("\n")]
    return [line for line in lines if is_restated(line)]


def find_needs(question: Question, searcher: Searcher) -> tuple[Need, ...] | None:
    """Return what each piece of evidence needs, or None where a page of the index does not hold its evidence.

    Without evidence text every chunk of the page will do.
    """
    needs = []
    lines = justified_lines(question)
    for evidence in question.evidence:
        on_page = searcher.chunks_on_page(evidence.document, evidence.page)
        holders = [chunk for chunk in on_page if holds_evidence(chunk, evidence)]
        if not holders:
            return None
        row = parse_row(evidence.text)
        own = [line for line in lines if row is None or line.startswith(f"{row.label} ")]
        shown = {chunk.id: set(render_chunk(chunk).split("\n")) for chunk in holders}
        own = [line for line in own if any(line in text for text in shown.values())]
        # A chunk that shows every line the completion will cite goes before one that only holds the raw row.
        holders.sort(key=lambda chunk: -sum(line in shown[chunk.id] for line in own))
        whole = [chunk for chunk in holders if all(line in shown[chunk.id] for line in own)]
        needs.append(Need(evidence, tuple(whole or holders), tuple(own if whole else ())))
    return tuple(needs)


def holds_evidence(chunk: Chunk, evidence: Evidence) -> bool:
    """Tell whether a chunk of the evidence's page holds its text: the row itself, or most words of a longer piece."""
    if not evidence.text.strip():
        return True
    wanted, text = squeeze(evidence.text), squeeze(chunk.text)
    if wanted in text:
        return True
    row = parse_row(wanted)
    if row is not None and any(parse_row(line) == row for line in chunk.text.split("\n")):
        return True
    if find_span(chunk.text, fold_letters(wanted)[0]):  # with marks of another form
        return True
    if len(wanted) <= _LONG:
        return False
    words = set(text.split())
    return len(words & set(wanted.split())) >= 0.8 * len(words)


def find_same_rows(question: Question, needs: Sequence[Need], chunks: Sequence[Chunk]) -> tuple[Need, ...]:
    """Return the needs, widened by those of ``chunks`` that show the very same lines in documents of the same owner.

    Two reports of a company hold the year they share; either is good evidence.
    """
    wider = []
    for need in needs:
        known = {chunk.id for chunk in need.chunks}
        owner = owner_of(need.chunks[0])
        same = [
            chunk for chunk in chunks
            if need.lines and chunk.id not in known and owner is not None and owner_of(chunk) == owner
            and set(need.lines) <= set(render_chunk(chunk).split("\n"))
        ]
        wider.append(Need(need.evidence, (*need.chunks, *same), need.lines))
    return tuple(wider)


def holds_answer(chunk: Chunk, question: Question, needs: Sequence[Need]) -> bool:
    """Tell whether a chunk gives away the answer, so that it can be no distractor.

    It does when it is gold itself, or of the same document or company and holds a number the answer rests on. Numbers
    of one or two figures stand everywhere and count only with their row. An answer in words counts where it is quoted.
    """
    if any(chunk.id == gold.id for need in needs for gold in need.chunks):
        return True
    lines = justified_lines(question)
    texts = [line.rpartition(": ")[2] for line in lines] or [question.answer]
    numbers = {number for text in texts for number in _NUMBER.findall(text)}
    if not numbers:
        return bool(question.answer) and squeeze(question.answer).lower() in squeeze(chunk.text).lower()
    if not is_about_same(chunk, question, needs):
        return False
    if any(line in render_chunk(chunk).split("\n") for line in lines):
        return True
    telling = {number for number in numbers if len(number) > 2}
    return bool(telling.intersection(_NUMBER.findall(chunk.text)))


def is_about_same(chunk: Chunk, question: Question, needs: Sequence[Need]) -> bool:
    """Tell whether a chunk is of a document or company that the evidence is from; unknown companies count as the same."""
    if chunk.document in {need.evidence.document for need in needs}:
        return True
    owners = {owner_of(gold) for need in needs for gold in need.chunks[:1]}
    return None in owners or owner_of(chunk) in {None, *owners}


def owner_of(chunk: Chunk) -> Value:
    """Return whose document a chunk is from, by the pack in force."""
    return chunk.metadata.get(current_pack().metadata.owner.column)
