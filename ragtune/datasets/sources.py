"""The shapes a question file's entries may have, each told by its keys, and how each is read."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ragtune.datasets.benchmarks import read_financebench, read_finqa, read_squad, read_tatqa
from ragtune.datasets.fields import (
    OWN,
    check_told,
    keep_plain,
    read_answer,
    read_evidence,
    read_id,
    read_metadata,
    read_objects,
    read_page,
    read_text,
    read_texts,
)
from ragtune.errors import QuestionError, nearest
from ragtune.records import Evidence, Question

Row = Mapping[str, Any]
Tells = Callable[[Row], bool]
Reads = Callable[[Row, str], Iterable[Question]]
COLUMNS = ("id", "question", "text", "answer", "document", "page", "evidence", "kind", "justification")
"""The columns of a table that mean something; all others become metadata."""
_ASKED = ("question", "input", "query", "user_input", "text", "prompt")
_TOLD = ("answer", "output", "reference", "ground_truth", "expected_output", "expected", "reference_output")
_HOP = re.compile(r"^<\d+-hop>\s*")
_SOURCES = ("source", "file_path", "file_name", "filename")


def read_own(row: Row, where: str) -> Iterator[Question]:
    """Yield the question of an entry in ragtune's shape. Evidence with a text may leave its page out."""
    text = read_text(row, ("text", "question"), where, f"{OWN}, or of the shapes {', '.join(SHAPES)}")
    evidence = [read_evidence(entry.get("document"), entry.get("page"), str(entry.get("text") or ""), where)
                for entry in read_objects(row, "evidence", where)]
    yield Question(
        id=read_id(row.get("id"), text, where), text=text, answer=read_answer(row.get("answer"), where),
        evidence=tuple(evidence), kind=str(row.get("kind") or ""), justification=str(row.get("justification") or ""),
        metadata=read_metadata(row, where),
    )


def read_ragas(row: Row, where: str) -> Iterator[Question]:
    """Yield the question of a Ragas sample or test set row: user_input, reference and reference_contexts, or the older
    question, ground_truth and contexts.

    What a system retrieved is no evidence: ``retrieved_contexts``, and ``contexts`` beside a system's ``answer``.
    """
    shape = '{"user_input": ..., "reference": ..., "reference_contexts": [...]}'
    text = read_text(row, ("user_input", "question"), where, shape)
    key = next((key for key in ("reference", "ground_truth", "ground_truths") if row.get(key) is not None), "reference")
    check_told(row, key, where)
    told = _cell_list(row[key]) if key == "ground_truths" else row[key]
    answer = read_answer((told or [""])[0] if isinstance(told, list) else told, where)
    is_old = "user_input" not in row
    contexts = row.get("contexts") if is_old and "answer" not in row else None if is_old else row.get("reference_contexts")
    texts = [_HOP.sub("", text) for text in read_texts(_cell_list(contexts), "reference_contexts", where)]
    names = _ragas_sources(row.get("metadata"), len(texts))
    yield Question(
        id=read_id(row.get("id"), text, where), text=text, answer=answer,
        evidence=tuple(Evidence(name, 0, context) for name, context in zip(names, texts) if context) if answer else (),
        kind=str(row.get("synthesizer_name") or row.get("evolution_type") or "ragas"), metadata={"shape": "Ragas"},
    )


def _ragas_sources(metadata: Any, count: int) -> list[str]:
    """Return the document of each context, as the older test sets' metadata name its source; '' where they do not."""
    found = []
    for entry in metadata if isinstance(metadata, list) and len(metadata) == count else [None] * count:
        held = entry if isinstance(entry, dict) else {}
        source = next((held[key] for key in _SOURCES if isinstance(held.get(key), str)), "")
        found.append(PurePath(source.replace("\\", "/")).name)
    return found


def _cell_list(value: Any) -> Any:
    """Return the list that a table's cell writes as Python prints it; any other value as it is."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def read_langsmith(row: Row, where: str) -> Iterator[Question]:
    """Yield the question of a LangSmith example: the text of its inputs, the text of its outputs."""
    shape = '{"inputs": {"question": ...}, "outputs": {"answer": ...}}'
    text = _only_text(row["inputs"], _ASKED, "inputs", where, shape)
    check_told(row, "outputs", where)
    if not isinstance(row["outputs"], Mapping):
        raise QuestionError(f"{where}: outputs is {type(row['outputs']).__name__}, wanted an object. Rows are {shape}")
    answer = _only_text(row["outputs"], _TOLD, "outputs", where, shape)
    yield Question(id=read_id(row.get("id"), text, where), text=text, answer=answer, kind="langsmith",
                   metadata={**read_metadata(row, where), "shape": "LangSmith"})


def _only_text(held: Row, keys: tuple[str, ...], name: str, where: str, shape: str) -> str:
    """Return the text under the first of the keys that is there, else the only text there is."""
    plain = (str, int, float)
    texts = {key: value for key, value in held.items() if isinstance(value, plain) and not isinstance(value, bool)}
    key = next((key for key in keys if key in texts), None)
    if key is None and len(texts) == 1:
        key = next(iter(texts))
    if key is None:
        raise QuestionError(f"{where}: {name} hold the keys {', '.join(map(str, held)) or 'none'}; wanted a text under one "
                            f"of {', '.join(keys)}. Rows are {shape}")
    if name == "inputs":
        return read_text(texts, (key,), where, shape)
    return read_answer(texts[key], where)


def read_columns(row: Row, where: str) -> Iterator[Question]:
    """Yield the question of a table's row: named columns, those of COLUMNS; the cells of others become metadata.

    Raises QuestionError where the question's or the answer's column is missing, naming those found and those allowed.
    """
    for needed in ({"question", "text"}, {"answer"}):
        if not needed & set(row):
            name = "question" if "question" in needed else "answer"
            raise QuestionError(f"{where}: no column '{name}'.{nearest(name, row)} Found: {', '.join(row) or 'none'}. "
                                f"Allowed: {', '.join(COLUMNS)}; 'question' (or 'text') and 'answer' must be there.")
    text = read_text(row, ("question", "text") if row.get("question") else ("text", "question"), where)
    document, page, quoted = row.get("document", "").strip(), read_page(row.get("page", ""), where), row.get("evidence", "")
    evidence: tuple[Evidence, ...] = ()
    if page is not None or quoted.strip():
        evidence = (read_evidence(document, page, quoted, where),)
    metadata = keep_plain({key: value for key, value in row.items() if key and key not in COLUMNS and value.strip()})
    yield Question(
        id=read_id(row.get("id", "").strip(), text, where), text=text, answer=read_answer(row["answer"], where),
        evidence=evidence, kind=row.get("kind", "").strip(), justification=row.get("justification", "").strip(),
        metadata={**metadata, "document": document} if document and not evidence else metadata,
    )


def _is_financebench(row: Row) -> bool:
    entries = row.get("evidence")
    has_number = isinstance(entries, list) and any(isinstance(e, Mapping) and "evidence_page_num" in e for e in entries)
    return "financebench_id" in row or has_number


def _is_finqa(row: Row) -> bool:
    return isinstance(row.get("qa"), Mapping) or ("pre_text" in row and "question" in row)


def _is_tatqa(row: Row) -> bool:
    return isinstance(row.get("questions"), list) and ("table" in row or "paragraphs" in row)


def _is_squad(row: Row) -> bool:
    is_article = isinstance(row.get("paragraphs"), list) and not _is_tatqa(row)
    return is_article or ("context" in row and isinstance(row.get("answers"), Mapping))


def _is_ragas(row: Row) -> bool:
    return "user_input" in row or ("question" in row and ("ground_truth" in row or "ground_truths" in row))


def _is_langsmith(row: Row) -> bool:
    return isinstance(row.get("inputs"), Mapping)


SHAPES: dict[str, tuple[Tells, Reads]] = {
    "FinanceBench": (_is_financebench, read_financebench),
    "FinQA": (_is_finqa, read_finqa),
    "TAT-QA": (_is_tatqa, read_tatqa),
    "SQuAD": (_is_squad, read_squad),
    "Ragas": (_is_ragas, read_ragas),
    "LangSmith": (_is_langsmith, read_langsmith),
}
"""Shape -> (tells whether an entry is of it, reads its questions). The first that tells is taken, else ragtune's own."""


def read_entry(row: Row, where: str, has_columns: bool = False) -> Iterable[Question]:
    """Return the questions of an entry, in whichever shape; ``has_columns`` for the row of a table.

    Raises QuestionError that begins with ``where`` for an entry that is none.
    """
    if has_columns:
        return read_ragas(row, where) if "user_input" in row or "ground_truth" in row else read_columns(row, where)
    return next((reads for tells, reads in SHAPES.values() if tells(row)), read_own)(row, where)
