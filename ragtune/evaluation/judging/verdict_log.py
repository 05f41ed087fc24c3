"""The log of verdicts: one JSON line each, written as they come, gone on with after a kill or a provider's failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ragtune.evaluation.judging.judge import Verdict
from ragtune.files import write_json, write_jsonl

LOG = "verdicts.jsonl"
KEY = "key.json"


class VerdictLog:
    """Appends verdicts to ``verdicts.jsonl`` of a folder and knows those that are there.

    ``key`` stands for all that a verdict depends on beside the item itself: judge, rubric, prompt. A folder begun under
    another key is emptied; ``finished`` is a folder whose verdicts are taken over under the same key. Only verdicts of
    ``wanted`` items are kept, so that a changed answer is judged anew. Where an item was judged twice the later counts.
    """

    def __init__(self, folder: Path, key: str, wanted: Sequence[str], finished: Path) -> None:
        self.path = folder / LOG
        self.verdicts: dict[str, Verdict] = {}
        if _key(folder) != key:
            self.path.unlink(missing_ok=True)
            if _key(finished) == key and (finished / LOG).is_file():
                shutil.copyfile(finished / LOG, self.path)
        if self.path.is_file():
            self._take_up(set(wanted))
        write_json(folder / KEY, {"key": key})

    def _take_up(self, wanted: set[str]) -> None:
        with self.path.open("rb") as file:
            for line in file:
                try:
                    verdict = Verdict.from_dict(json.loads(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    break
                if line.endswith(b"\n") and verdict.id in wanted:
                    self.verdicts[verdict.id] = verdict
        write_jsonl(self.path, (verdict.to_dict() for verdict in self.verdicts.values()))

    def append(self, verdicts: Iterable[Verdict]) -> None:
        """Write verdicts and hand them to the operating system: a kill loses at most the batch in work."""
        with self.path.open("a", encoding="utf-8") as file:
            for verdict in verdicts:
                file.write(json.dumps(verdict.to_dict(), ensure_ascii=False) + "\n")
                self.verdicts[verdict.id] = verdict


def _key(folder: Path) -> str:
    try:
        found = json.loads((folder / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(found.get("key", "")) if isinstance(found, dict) else ""
