"""The dataset folder: train.jsonl and test.jsonl, the questions behind them, a card and the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.datasets.questions import read_questions, save_questions
from ragtune.errors import RunError
from ragtune.files import read_jsonl, read_manifest, write_jsonl
from ragtune.records import Example, Message, Question

ROLES = ("system", "user", "assistant")
_SHAPE = (
    '{"prompt": [{"role": ..., "content": ...}, ...], "completion": [{"role": "assistant", "content": ...}], '
    '"provenance": {"question_id": ..., "passages": [...], "gold": [...], ...}}'
)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset folder that was checked."""

    folder: Path
    manifest: dict[str, Any]
    train: tuple[Example, ...]
    test: tuple[Example, ...]

    def side(self, side: str) -> tuple[Example, ...]:
        """Return the examples of one side, 'train' or 'test'."""
        return self.train if side == "train" else self.test

    def questions(self, side: str = "test") -> list[Question]:
        """Return the questions of one side, 'train' or 'test'."""
        path = self.folder / f"questions_{side}.jsonl"
        return read_questions(path) if path.stat().st_size else []


def open_dataset(folder: Path) -> OpenedDataset:
    """Open a dataset folder. Raises RunError where it is missing, damaged, or a row has another shape (file:line)."""
    folder = Path(folder)
    manifest = read_manifest(folder, "dataset")
    sides = []
    for name in ("train.jsonl", "test.jsonl"):
        if not (folder / name).is_file():
            raise RunError(f"{folder} has no {name}. Build it again. Do: ragtune dataset --recipe FILE")
        sides.append(tuple(read_examples(folder / name)))
    return OpenedDataset(folder, manifest, sides[0], sides[1])


def read_examples(path: Path) -> list[Example]:
    """Return the examples of train.jsonl or test.jsonl. Raises RunError naming file and line of a wrong row."""
    return [parse_row(row, f"{path}:{number}") for number, row in read_jsonl(path)]


def render_row(example: Example) -> dict[str, Any]:
    """Return the row of an example as train.jsonl holds it: the shape TRL trains completions on."""
    return {
        "prompt": [dict(message) for message in example.prompt],
        "completion": [{"role": "assistant", "content": example.completion}],
        "provenance": dict(example.provenance),
    }


def parse_row(row: dict[str, Any], where: str) -> Example:
    """Return the example of a row; provenance may be lacking. Raises RunError that begins with ``where`` otherwise."""
    prompt, completion, provenance = row.get("prompt"), row.get("completion"), row.get("provenance", {})
    do = f"Rows are {_SHAPE}. Do: ragtune dataset --recipe FILE"
    if "chosen" in row:
        raise RunError(f"{where}: found a preference row (chosen, rejected), which this method does not take. {do}")
    if not isinstance(prompt, list) or not isinstance(completion, list) or not isinstance(provenance, dict):
        raise RunError(f"{where}: found the keys {', '.join(sorted(row)) or 'none'}. {do}")
    for message in [*prompt, *completion]:
        if not (isinstance(message, dict) and message.get("role") in ROLES and isinstance(message.get("content"), str)):
            raise RunError(f"{where}: found the message {str(message)[:80]!r}; its role is one of {', '.join(ROLES)}. {do}")
    if not prompt or prompt[-1]["role"] != "user":
        raise RunError(f"{where}: a prompt ends with a message of the user. {do}")
    if len(completion) != 1 or completion[0]["role"] != "assistant" or not completion[0]["content"].strip():
        raise RunError(f"{where}: a completion is exactly one message of the assistant that is not empty. {do}")
    turns = tuple(Message(role=message["role"], content=message["content"]) for message in prompt)
    return Example(turns, completion[0]["content"], provenance)


def save_rows(
    folder: Path, train: Sequence[Example], test: Sequence[Example], train_questions: Sequence[Question],
    test_questions: Sequence[Question],
) -> None:
    """Write the four files of rows and questions."""
    write_jsonl(folder / "train.jsonl", map(render_row, train))
    write_jsonl(folder / "test.jsonl", map(render_row, test))
    save_questions(folder / "questions_train.jsonl", train_questions)
    save_questions(folder / "questions_test.jsonl", test_questions)
