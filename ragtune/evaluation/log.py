"""The log of answers: one JSON line an answer, written as it goes, gone on with after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from ragtune.evaluation.ladder import Graded

LOG = "answers.jsonl"
KEY = "key.txt"


def _read_key(folder: Path) -> str:
    path = folder / KEY
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class AnswerLog:
    """Appends graded answers to ``answers.jsonl`` of a folder and knows which are there already.

    ``key`` stands for everything an answer depends on. A folder begun under another key is emptied first, and a last
    line that a kill cut off is dropped. ``finished`` is an evaluation folder whose answers are taken over where it was
    made under the same key.
    """

    def __init__(self, folder: Path, key: str, finished: Path | None = None) -> None:
        self.path = folder / LOG
        self.rows: dict[tuple[str, str, str], Graded] = {}
        key_path = folder / KEY
        if _read_key(folder) != key:
            for file in folder.iterdir():
                if file.is_file():
                    file.unlink()
            if finished and _read_key(finished) == key and (finished / LOG).is_file():
                shutil.copyfile(finished / LOG, self.path)
            key_path.write_text(key, encoding="utf-8")
        if self.path.is_file():
            self._take_up()

    def _take_up(self) -> None:
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                try:
                    row = Graded.from_dict(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    break
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                self.rows[row.model, row.setting, row.question_id] = row
        with self.path.open("r+b") as file:
            file.truncate(whole)

    def has(self, model: str, setting: str, question_id: str) -> bool:
        """Whether the answer is in the log."""
        return (model, setting, question_id) in self.rows

    def append(self, rows: Iterable[Graded]) -> None:
        """Write rows and hand them to the operating system, so that a kill loses at most the batch in work."""
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
                self.rows[row.model, row.setting, row.question_id] = row
