"""The log of answers: one JSON line an answer, written as it goes, gone on with after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ragtune.evaluation.ladder.graded import Graded
from ragtune.files import write_json, write_jsonl

LOG = "answers.jsonl"
KEY = "key.json"
ASKED = "questions.jsonl"
"""The questions, how their hits were found, and what became of their evidence (evaluation.ladder.trail.Asked)."""
PASSAGES = "passages.jsonl"
"""Every passage that a prompt was made of, whole; answers name them by chunk id."""


class AnswerLog:
    """Appends graded answers to ``answers.jsonl`` of a folder and knows which are there already.

    ``key`` stands for everything an answer depends on but the model, ``models`` for each model (name -> fingerprint). A
    folder begun under another key is emptied first; answers of a model that has changed since and a last line that a
    kill cut off are dropped. ``finished`` is an evaluation folder whose answers are taken over on the same terms.
    """

    def __init__(self, folder: Path, key: str, models: Mapping[str, str], finished: Path | None = None) -> None:
        self.path = folder / LOG
        self.rows: dict[tuple[str, str, str], Graded] = {}
        begun = _read_key(folder)
        if begun.get("key") != key:
            _empty(folder)
            begun = _read_key(finished) if finished else {}
            if finished and begun.get("key") == key and (finished / LOG).is_file():
                shutil.copyfile(finished / LOG, self.path)
        if self.path.is_file():
            known = begun.get("models", {})
            self._take_up({name for name in models if known.get(name) == models[name]})
        write_json(folder / KEY, {"key": key, "models": dict(models)})

    def _take_up(self, models: set[str]) -> None:
        with self.path.open("rb") as file:
            for line in file:
                try:
                    row = Graded.from_dict(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    break
                if line.endswith(b"\n") and row.model in models:
                    self.rows[row.model, row.setting, row.question_id] = row
        write_jsonl(self.path, (row.to_dict() for row in self.rows.values()))

    def has(self, model: str, setting: str, question_id: str) -> bool:
        """Whether the answer is in the log."""
        return (model, setting, question_id) in self.rows

    def append(self, rows: Iterable[Graded]) -> None:
        """Write rows and hand them to the operating system, so that a kill loses at most the batch in work."""
        with self.path.open("a", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row.to_dict(), ensure_ascii=False) + "\n")
                self.rows[row.model, row.setting, row.question_id] = row


def _read_key(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.is_file():
            file.unlink()
