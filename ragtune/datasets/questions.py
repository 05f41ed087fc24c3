"""Question files of many shapes, checked entry by entry, and our own JSONL to save them in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ragtune.datasets.entries import Entry, is_table, read_entries
from ragtune.datasets.fields import OWN, read_id, read_text
from ragtune.datasets.hub import is_hub, read_hub
from ragtune.datasets.sources import SHAPES, read_entry
from ragtune.datasets.steps import CALCULATION, RESTATED
from ragtune.errors import QuestionError
from ragtune.files import write_jsonl
from ragtune.records import Question


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a file: JSONL or JSON in ragtune's own shape or one of SHAPES, which is told by its keys;
    CSV or TSV with named columns, which is told by the suffix; or a data set's rows (``hf:PatronusAI/financebench``).

    Evidence whose page the file does not say has page 0: ``locate_evidence`` finds it in an index. Raises QuestionError
    naming file and line, or entry, for what is not a question, an empty question, a page that is none, an id that was
    there before, and for a file that is missing or holds no question.
    """
    has_columns = is_table(Path(path))

    def read(entry: Entry) -> Iterable[Question]:
        return read_entry(entry.row, entry.where, has_columns)

    return _read_each(path, read, "Mend dataset.questions (or evaluation.questions) in the recipe.",
                      f"{OWN}, or of the shapes {', '.join(SHAPES)}")


def read_asked(path: Path) -> list[Question]:
    """Return the questions of a JSONL file as somebody asks them: id and text alone, in the file's order.

    Nothing else in a row is looked at, so that what is found for a question cannot depend on its document, evidence or
    answer, and rows without them will do. The id stands under 'financebench_id', 'question_id' or 'id', or is made from
    the text. Raises QuestionError naming file and line, as ``read_questions`` does.
    """

    def read(entry: Entry) -> Iterator[Question]:
        row = entry.row
        text = read_text(row, ("question", "text"), entry.where)
        found = next((row[key] for key in ("financebench_id", "question_id", "id") if row.get(key) not in (None, "")), None)
        yield Question(read_id(found, text, entry.where), text)

    return _read_each(path, read, "Name one that is there.", '{"id": ..., "text": ...}')


def _read_each(path: Path, read: Callable[[Entry], Iterable[Question]], mend: str, shape: str) -> list[Question]:
    """Return the questions of each entry; ``mend`` says what to do where there is no file, ``shape`` what a row is."""
    path = Path(path)
    if not path.is_file() and not is_hub(path):
        raise QuestionError(f"no question file {path}. {mend}")
    questions: list[Question] = []
    places: dict[str, str] = {}
    for entry in read_hub(str(path)) if is_hub(path) else read_entries(path):
        for question in _read_whole(read, entry):
            if question.id in places:
                raise QuestionError(f"{entry.where}: the id '{question.id}' stands in {places[question.id]} already. "
                                    "Give each question its own id.")
            places[question.id] = entry.place
            questions.append(question)
    if not questions:
        raise QuestionError(f"{path} holds no question. Rows are {shape}")
    return questions


def _read_whole(read: Callable[[Entry], Iterable[Question]], entry: Entry) -> list[Question]:
    """Return an entry's questions. QuestionError: holds half a character (\\ud800), which JSON writes but no file holds."""
    try:
        questions = list(read(entry))
        json.dumps([question.to_dict() for question in questions], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = error.object[error.start]
        raise QuestionError(f"{entry.where}: holds half a character ({found!a}). Write the text anew.") from None
    return questions


def save_questions(path: Path, questions: Iterable[Question]) -> int:
    """Write questions as JSONL in ragtune's own shape; return how many."""
    return write_jsonl(path, (question.to_dict() for question in questions))


def is_restated(line: str) -> bool:
    """Tell whether a line of a justification is a statement row as a passage shows it: ``Net sales 2021: 4,210``."""
    return bool(RESTATED.match(line))


def is_calculation(line: str) -> bool:
    """Tell whether a line of a justification is a calculation: ``4,210 / 3,900 - 1 = 7.9%``."""
    return bool(CALCULATION.match(line))
