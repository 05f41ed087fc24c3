"""Entries of published question sets: FinanceBench, FinQA, TAT-QA and SQuAD, read from the files a user has.

Shapes as documented: github.com/patronus-ai/financebench, github.com/czyssrs/FinQA (arXiv 2109.00122),
github.com/NExTplusplus/TAT-QA (ACL 2021), rajpurkar.github.io/SQuAD-explorer (1.1 and 2.0).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ragtune.datasets.fields import (
    check_told,
    keep_plain,
    read_answer,
    read_id,
    read_objects,
    read_text,
    read_texts,
)
from ragtune.datasets.steps import CALCULATION, RESTATED, render_formula, render_program
from ragtune.errors import QuestionError
from ragtune.records import Evidence, Question

FINQA = "FinQA"
"""What ``metadata["shape"]`` says of a FinQA question: its pages are those of FinTabNet's reports, which the user's files
may count otherwise, so ``locate_evidence`` looks them up by their text."""
_FINQA_PLACE = re.compile(r"(?P<document>.+)/page_(?P<page>\d{1,6})\.pdf(?:-\d+)?")
_FINQA_NEGATIVE = re.compile(r"-\s?(?P<amount>[\d.,]+ ?%?) (?P<printed>\( (?P=amount) ?%? ?\))")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[\"'(\[]?[A-Z0-9])")
_NUMBER = re.compile(r"\d+(?:,\d+)*(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]")
_SCALES = ("thousand", "million", "billion", "percent")


def read_financebench(row: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Yield the question of a FinanceBench row; its pages count from 0. Free prose of a justification becomes metadata."""
    text = read_text(row, ("question", "text"), where)
    evidence = []
    for entry in read_objects(row, "evidence", where):
        document = entry.get("evidence_doc_name") or entry.get("doc_name") or row.get("doc_name")
        number = entry.get("evidence_page_num")
        if not isinstance(document, str) or not document:
            raise QuestionError(f"{where}: evidence names no document. Wanted 'doc_name' or 'evidence_doc_name'.")
        if isinstance(number, bool) or not re.fullmatch(r"[0-9]{1,9}", str(number)):
            raise QuestionError(f"{where}: evidence_page_num is {number!r}, wanted a number counted from 0.")
        evidence.append(Evidence(document, int(str(number)) + 1, str(entry.get("evidence_text") or "")))
    justification = str(row.get("justification") or "").strip()
    lines = [line.strip() for line in justification.split("\n") if line.strip()]
    fits = bool(lines) and all(RESTATED.match(line) or CALCULATION.match(line) for line in lines)
    metadata = keep_plain({key: row.get(key) for key in ("company", "doc_name", "question_reasoning") if row.get(key)})
    yield Question(
        id=read_id(row.get("financebench_id") or row.get("id"), text, where), text=text,
        answer=read_answer(row.get("answer"), where), evidence=tuple(evidence), kind=str(row.get("question_type") or ""),
        justification=justification if fits else "",
        metadata=metadata if fits or not justification else {**metadata, "justification": justification},
    )


def read_finqa(row: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Yield the question of a FinQA entry, 'qa' nested or its fields beside the texts.

    ``ADI/2009/page_49.pdf`` is page 49 of the document ``ADI_2009``. The supporting facts are the evidence, a table's row
    as its cells; a program of plain arithmetic that gives the answer is the justification.
    """
    found = row.get("qa")
    qa: Mapping[str, Any] = found if isinstance(found, Mapping) else row
    shape = '{"qa": {"question": ..., "answer": ..., "program": ..., "gold_inds": {...}}, "filename": ..., "table": [...]}'
    text = read_text(qa, ("question",), where, shape)
    stated = next((qa[key] for key in ("answer", "final_result", "exe_ans") if qa.get(key) not in (None, "")), None)
    check_told({"answer": stated}, "answer", where)
    place = _FINQA_PLACE.fullmatch(str(row.get("filename") or row.get("id") or ""))
    document, page = (place["document"].replace("/", "_"), int(place["page"])) if place else ("", 0)
    facts = _finqa_facts(row, qa, where)
    evidence = [Evidence(document, page, fact) for fact in facts]
    if not facts and page:
        evidence = [Evidence(document, page)]
    answer = read_answer(stated, where)
    yield Question(
        id=read_id(row.get("id"), text, where), text=text, answer=answer, evidence=tuple(evidence), kind="finqa",
        justification=render_program(str(qa.get("program") or ""), answer, facts), metadata={"shape": FINQA},
    )


def _finqa_facts(row: Mapping[str, Any], qa: Mapping[str, Any], where: str) -> list[str]:
    """Return the supporting facts: lines of text, and the cells of table rows, as 'table_3' tells their number."""
    gold = qa.get("gold_inds") or {}
    if not isinstance(gold, Mapping):
        return read_texts(gold, "gold_inds", where)
    table = row.get("table")
    rows = {f"table_{number}": cells for number, cells in enumerate(table if isinstance(table, list) else ())
            if isinstance(cells, list)}
    facts = []
    for key, fact in gold.items():
        if key in rows:  # its fact is the row in made-up words; a negative cell stands in the row twice over
            fact = _FINQA_NEGATIVE.sub(r"\g<printed>", _join_cells(rows[key]))
        facts += read_texts(fact, f"gold_inds['{key}']", where)
    return facts


def _join_cells(cells: Sequence[Any]) -> str:
    """Return a table row as a line of text."""
    return " ".join(str(cell).strip() for cell in cells if cell is not None and str(cell).strip())


def read_tatqa(row: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Yield the questions of a TAT-QA entry, a table with its paragraphs.

    Nothing says which document it is of. The evidence are the paragraphs named, and the rows of the table that hold what
    the derivation or the answer tells, else the whole table.
    """
    shape = '{"table": {"table": [[...]]}, "paragraphs": [{"order": 1, "text": ...}], "questions": [{"question": ...}]}'
    held = row.get("table")
    table = held.get("table") if isinstance(held, Mapping) else held
    rows = [cells for cells in table if isinstance(cells, list) and cells] if isinstance(table, list) else []
    paragraphs = {str(p.get("order")): str(p.get("text") or "") for p in read_objects(row, "paragraphs", where, shape)}
    for number, asked in enumerate(read_objects(row, "questions", where, shape), start=1):
        place = f"{where}, question {number}"
        text = read_text(asked, ("question",), place, shape)
        check_told(asked, "answer", place)
        answer = _tatqa_answer(asked, place)
        told = asked.get("rel_paragraphs")
        named = [str(order) for order in told] if isinstance(told, list) else []
        texts = [paragraphs[order] for order in named if paragraphs.get(order, "").strip()]
        derivation = str(asked.get("derivation") or "")
        if "table" in str(asked.get("answer_from") or "table") and rows:
            is_counted = str(asked.get("answer_type")).startswith("count")
            told_by = derivation if is_counted or _NUMBER.search(derivation) else answer
            texts = [*_tatqa_rows(rows, told_by), *(texts if asked.get("answer_from") != "table" else [])]
        scale = " percent" if asked.get("scale") == "percent" else ""
        yield Question(
            id=read_id(asked.get("uid"), text, place), text=text, answer=answer,
            evidence=tuple(Evidence("", 0, text) for text in texts if text.strip()),
            kind=str(asked.get("answer_type") or "tat-qa"),
            justification=render_formula(derivation, f"{asked.get('answer')}{scale}") if derivation else "",
            metadata={"shape": "TAT-QA"},
        )


def _tatqa_answer(asked: Mapping[str, Any], where: str) -> str:
    """Return the answer with its scale; several spans are joined by semicolons."""
    answer, scale = asked["answer"], asked.get("scale")
    parts = [read_answer(part, where) for part in (answer if isinstance(answer, list) else [answer])]
    word = str(scale) if scale in _SCALES else ""

    def scaled(part: str) -> str:
        is_bare = word and re.fullmatch(r"\W*\d[\d,. ]*\)?", part)
        return f"{part}%" if is_bare and word == "percent" else f"{part} {word}" if is_bare else part

    return "; ".join(scaled(part) for part in parts if part)


def _tatqa_rows(rows: Sequence[Sequence[Any]], told: str) -> list[str]:
    """Return the rows whose label is told, and the fewest that hold the numbers told, taken greedily; else the whole table.

    Rows without a word are heads of columns and hold nothing.
    """
    lines = [_join_cells(cells) for cells in rows]
    labels = {part.strip().casefold() for part in re.split("##|; ", told)}
    chosen = {n for n, cells in enumerate(rows) if str(cells[0]).strip() and str(cells[0]).strip().casefold() in labels}
    wanted = {number.replace(",", "") for number in _NUMBER.findall(told)}
    held = [{number.replace(",", "") for number in _NUMBER.findall(line)} & wanted if _WORD.search(line) else set[str]()
            for line in lines]
    left = set().union(*held).difference(*(held[n] for n in chosen))
    while left:
        best = max(range(len(lines)), key=lambda n: (len(held[n] & left), -n))
        chosen.add(best)
        left -= held[best]
    return [lines[n] for n in sorted(chosen)] or ["\n".join(line for line in lines if line)]


def read_squad(row: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Yield the questions of a SQuAD article (title -> document): of its paragraphs, or of one entry with a 'context'.

    The evidence is the sentence that holds the answer most often given. An impossible question has no evidence.
    """
    shape = '{"title": ..., "paragraphs": [{"context": ..., "qas": [{"id": ..., "question": ..., "answers": [...]}]}]}'
    title = row.get("title") if isinstance(row.get("title"), str) else ""
    flat = [{"context": row.get("context"), "qas": [row]}]
    paragraphs = read_objects(row, "paragraphs", where, shape) if "paragraphs" in row else flat
    for count, paragraph in enumerate(paragraphs, start=1):
        context = paragraph.get("context")
        if not isinstance(context, str):
            raise QuestionError(f"{where}, paragraph {count}: the context is {type(context).__name__}, wanted text. "
                                f"Rows are {shape}")
        for number, asked in enumerate(read_objects(paragraph, "qas", where, shape), start=1):
            place = f"{where}, paragraph {count}, question {number}" if "paragraphs" in row else where
            text = read_text(asked, ("question",), place, shape)
            answer, sentence = _squad_answer(asked, context, place)
            yield Question(
                id=read_id(asked.get("id"), text, place), text=text, answer=answer,
                evidence=(Evidence(str(title), 0, sentence),) if sentence else (),
                kind="squad" if answer else "unanswerable",
                metadata={"shape": "SQuAD", **({"document": str(title)} if title else {})},
            )


def _squad_answer(asked: Mapping[str, Any], context: str, where: str) -> tuple[str, str]:
    """Return the answer and the sentence of the context that holds it; both empty for an impossible question."""
    if asked.get("is_impossible") is True:
        return "", ""
    answers = asked.get("answers")
    if isinstance(answers, Mapping):  # the columns of a Parquet or Hugging Face export
        texts, starts = answers.get("text"), answers.get("answer_start")
        if texts == []:
            return "", ""
        texts, starts = read_texts(texts, "answers", where), starts if isinstance(starts, list) else []
        answers = [{"text": text, "answer_start": start} for text, start in zip_longest(texts, starts[: len(texts)])]
    given = [(a["text"], a.get("answer_start")) for a in read_objects({"answers": answers}, "answers", where)
             if isinstance(a.get("text"), str) and a["text"].strip()]
    if not given:
        raise QuestionError(f"{where}: the question has no answer and is not marked 'is_impossible'. Mend or delete it.")
    text = Counter(answer for answer, _ in given).most_common(1)[0][0]
    start = next(start for answer, start in given if answer == text)
    if not isinstance(start, int) or not context.startswith(text, start) or start < 0:
        start = context.find(text)
    return text.strip(), _sentence_at(context, start, start + len(text)) if start >= 0 else context.strip()


def _sentence_at(context: str, start: int, end: int) -> str:
    """Return the sentence of a text that holds the span; both sentences where the span lies in two."""
    begin = max((match.end() for match in _SENTENCE.finditer(context, 0, start)), default=0)
    after = next((match.start() for match in _SENTENCE.finditer(context, end)), len(context))
    return context[begin:after].strip()
