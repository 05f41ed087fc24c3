"""Question files: ragtune's own JSONL and FinanceBench's shape, checked line by line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ragtune.errors import QuestionError, RunError
from ragtune.files import hash_text, read_jsonl, write_jsonl
from ragtune.records import Evidence, Question, Value

_SHAPE = '{"id": ..., "text": ..., "answer": ..., "evidence": [{"document": ..., "page": 1, "text": ...}]}'
_RESTATED = re.compile(r"^\S.*\b(?:19|20)\d\d: [-(—–]*[\d,.]*[)%]*$")
_CALCULATION = re.compile(r"^[-(\d][-\d,.%/*+() ]* = -?[\d,.]+%?$")


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSONL file in ragtune's own shape or FinanceBench's, which is told by its keys.

    FinanceBench counts pages from 0; the records count from 1. Raises QuestionError naming file and line for a line that
    is not a question, an empty question, a page that is none, an id that was there before, and for a file that is missing
    or holds no question.
    """

    def read(row: Mapping[str, Any], where: str) -> Question:
        return _read_financebench(row, where) if _is_financebench(row) else _read_own(row, where)

    return _read_rows(path, read, "Mend dataset.questions (or evaluation.questions) in the recipe.", _SHAPE)


def read_asked(path: Path) -> list[Question]:
    """Return the questions of a JSONL file as somebody asks them: id and text alone, in the file's order.

    Nothing else in a row is looked at, so that what is found for a question cannot depend on its document, evidence or
    answer, and rows without them will do. The id stands under 'financebench_id', 'question_id' or 'id', or is made from
    the text. Raises QuestionError naming file and line, as ``read_questions`` does.
    """

    def read(row: Mapping[str, Any], where: str) -> Question:
        text = _text(row, ("question", "text"), where)
        found = next((row[key] for key in ("financebench_id", "question_id", "id") if row.get(key) not in (None, "")), None)
        return Question(_id(found, text, where), text)

    return _read_rows(path, read, "Name one that is there.", '{"id": ..., "text": ...}')


def _read_rows(path: Path, read: Callable[[Mapping[str, Any], str], Question], mend: str, shape: str) -> list[Question]:
    """Return the question of each line; ``mend`` says what to do where there is no file, ``shape`` what a row is."""
    path = Path(path)
    if not path.is_file():
        raise QuestionError(f"no question file {path}. {mend}")
    questions: list[Question] = []
    lines_of: dict[str, int] = {}
    try:
        for number, row in read_jsonl(path):
            where = f"{path}:{number}"
            question = read(row, where)
            if question.id in lines_of:
                raise QuestionError(f"{where}: the id '{question.id}' stands in line {lines_of[question.id]} already. "
                                    "Give each question its own id.")
            lines_of[question.id] = number
            questions.append(question)
    except RunError as error:
        raise QuestionError(f"{error} Rows are {shape}") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8 JSONL.") from error
    if not questions:
        raise QuestionError(f"{path} holds no question. Rows are {shape}")
    return questions


def save_questions(path: Path, questions: Iterable[Question]) -> int:
    """Write questions as JSONL in ragtune's own shape; return how many."""
    return write_jsonl(path, (question.to_dict() for question in questions))


def is_restated(line: str) -> bool:
    """Tell whether a line of a justification is a statement row as a passage shows it: ``Net sales 2021: 4,210``."""
    return bool(_RESTATED.match(line))


def is_calculation(line: str) -> bool:
    """Tell whether a line of a justification is a calculation: ``4,210 / 3,900 - 1 = 7.9%``."""
    return bool(_CALCULATION.match(line))


def _is_financebench(row: Mapping[str, Any]) -> bool:
    entries = row.get("evidence")
    has_number = isinstance(entries, list) and any(isinstance(e, Mapping) and "evidence_page_num" in e for e in entries)
    return "financebench_id" in row or has_number


def _read_own(row: Mapping[str, Any], where: str) -> Question:
    """Return the question of a row in ragtune's shape."""
    text = _text(row, ("text", "question"), where)
    evidence = []
    for entry in _entries(row, where):
        document, page = entry.get("document"), entry.get("page")
        if not isinstance(document, str) or not document:
            raise QuestionError(f"{where}: evidence names the document {document!r}, wanted a file name without suffix.")
        if not isinstance(page, int) or isinstance(page, bool) or page < 1:
            raise QuestionError(f"{where}: evidence names page {page!r}, wanted a number counted from 1.")
        evidence.append(Evidence(document, page, str(entry.get("text") or "")))
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise QuestionError(f"{where}: metadata is {type(metadata).__name__}, wanted an object of columns and values.")
    return Question(
        id=_id(row.get("id"), text, where), text=text, answer=_answer(row, where), evidence=tuple(evidence),
        kind=str(row.get("kind") or ""), justification=str(row.get("justification") or ""), metadata=_plain(metadata),
    )


def _read_financebench(row: Mapping[str, Any], where: str) -> Question:
    """Return the question of a FinanceBench row. Its free-prose justification stays in the metadata."""
    text = _text(row, ("question", "text"), where)
    evidence = []
    for entry in _entries(row, where):
        document = entry.get("evidence_doc_name") or entry.get("doc_name") or row.get("doc_name")
        number = entry.get("evidence_page_num")
        if not isinstance(document, str) or not document:
            raise QuestionError(f"{where}: evidence names no document. Wanted 'doc_name' or 'evidence_doc_name'.")
        if isinstance(number, bool) or not re.fullmatch(r"\d+", str(number)):
            raise QuestionError(f"{where}: evidence_page_num is {number!r}, wanted a number counted from 0.")
        evidence.append(Evidence(document, int(str(number)) + 1, str(entry.get("evidence_text") or "")))
    justification = str(row.get("justification") or "").strip()
    lines = [line.strip() for line in justification.split("\n") if line.strip()]
    fits = bool(lines) and all(is_restated(line) or is_calculation(line) for line in lines)
    metadata = _plain({key: row.get(key) for key in ("company", "doc_name", "question_reasoning") if row.get(key)})
    return Question(
        id=_id(row.get("financebench_id") or row.get("id"), text, where), text=text, answer=_answer(row, where),
        evidence=tuple(evidence), kind=str(row.get("question_type") or ""), justification=justification if fits else "",
        metadata=metadata if fits or not justification else {**metadata, "justification": justification},
    )


def _text(row: Mapping[str, Any], keys: tuple[str, str], where: str) -> str:
    found = next((row[key] for key in keys if key in row), None)
    if found is None:
        raise QuestionError(f"{where}: found the keys {', '.join(row) or 'none'}, but no '{keys[0]}'. Rows are {_SHAPE}")
    if not isinstance(found, str) or not found.strip():
        raise QuestionError(f"{where}: the question is empty. Write a question, or delete the line.")
    return found.strip()


def _answer(row: Mapping[str, Any], where: str) -> str:
    """Return the answer; a number is written out, none is an unanswerable question."""
    answer = row.get("answer")
    if isinstance(answer, (list, dict, bool)):
        raise QuestionError(f"{where}: the answer is {type(answer).__name__}, wanted text; empty for unanswerable.")
    return "" if answer is None else str(answer).strip()


def _id(found: Any, text: str, where: str) -> str:
    if found is None or found == "":
        return hash_text(text)
    if not isinstance(found, (str, int)) or isinstance(found, bool):
        raise QuestionError(f"{where}: the id is {type(found).__name__}, wanted text or a number.")
    return str(found)


def _entries(row: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    entries = row.get("evidence") or []
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise QuestionError(f"{where}: evidence is {type(entries).__name__}, wanted a list of objects. Rows are {_SHAPE}")
    return entries


def _plain(metadata: Mapping[str, Any]) -> dict[str, Value]:
    """Return the metadata that are plain values."""
    plain = (str, int, float, bool, type(None))
    return {str(key): value for key, value in metadata.items() if isinstance(value, plain)}
