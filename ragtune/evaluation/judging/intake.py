"""Answers to be judged: those of an evaluation folder or of a JSONL file, alone or in pairs, with people's labels."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragtune.datasets.entries import read_entries
from ragtune.errors import RunError, nearest
from ragtune.evaluation.judging.rubric import Rubric
from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.evaluation.ladder.graded import Graded, Shown
from ragtune.evaluation.scoring.score_file import ID, read_answers
from ragtune.evaluation.statistics.samples import common_items
from ragtune.files import read_jsonl, read_manifest
from ragtune.records import Question

ANSWERS, PASSAGES = "answers.jsonl", "passages.jsonl"
_NEEDED = "Each line needs 'question', 'gold_answer' or 'reference', and 'model_answer' or 'answer'."
_SAID: Mapping[str, str] = {"correct answer": "correct", "incorrect answer": "wrong", "incorrect": "wrong",
                            "refusal": "refused", "true": "correct", "false": "wrong"}
"""What people's labels call the scorer's outcomes, beside their own names."""


def read_to_judge(source: Path, model: str | None = None, setting: str | None = None) -> list[ToJudge]:
    """Return the answers of an evaluation folder (all, or of one model and setting) or of a JSONL file.

    Raises RunError for a source that is neither, a line without the fields, an unknown model or setting, or no answers.
    """
    if source.is_dir():
        items = _read_evaluation(source, model, setting)
    elif source.is_file():
        if model or setting:
            raise RunError(f"{source} is a file: it has no models and settings to choose from. Leave --model and --setting "
                           "out.")
        items = _read_file(source)
    else:
        raise RunError(f"no file or folder {source}. Give an evaluation folder (ragtune evaluate) or JSONL file. {_NEEDED}")
    if not items:
        raise RunError(f"{source} holds no answers to judge.")
    return items


def _read_evaluation(folder: Path, model: str | None, setting: str | None) -> list[ToJudge]:
    read_manifest(folder, "evaluation")
    rows = [Graded.from_dict(row) for _, row in read_jsonl(folder / ANSWERS)]
    for what, wanted in (("model", model), ("setting", setting)):
        found = sorted({str(getattr(row, what)) for row in rows})
        if wanted and wanted not in found:
            raise RunError(f"{folder} has no {what} '{wanted}'.{nearest(wanted, found)} It has {', '.join(found)}.")
    held = folder / PASSAGES
    texts = {str(row.get("chunk_id")): str(row.get("text", "")) for _, row in read_jsonl(held)} if held.is_file() else {}
    return [
        ToJudge(
            id=f"{row.model}/{row.setting}/{row.question_id}", question=Question(row.question_id, row.question, row.gold),
            answer=f"{row.reasoning}\n{row.answer}".strip(), model=row.model, setting=row.setting, group=row.question_id,
            passages=tuple(f"[{p.number}] {_as_shown(p, texts[p.chunk_id])}" for p in row.passages if p.chunk_id in texts),
            is_refusal=row.is_refusal, final=row.answer,
        )
        for row in rows
        if model in (None, row.model) and setting in (None, row.setting)
    ]  # fmt: skip


def _as_shown(shown: Shown, text: str) -> str:
    """Return a passage's text as the prompt showed it, where the log says how much of it that was."""
    return text[: getattr(shown, "characters", 0) or None]


def _read_file(path: Path) -> list[ToJudge]:
    """Return the lines of a file as `ragtune score` takes it; 'label' and 'passages' (or 'contexts') are read too."""
    items, seen = [], Counter[str]()
    for _, question, answer, row in read_answers(path):
        group = next((str(row[key]) for key in ID if row.get(key) not in (None, "")), question.text)
        seen[group] += 1
        name = group if seen[group] == 1 else f"{group}#{seen[group]}"
        items.append(ToJudge(name, Question(group, question.text, question.answer), answer, passages=_passages(row),
                             label=str(row.get("label") or ""), group=group))
    return items


def _passages(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = next((row[key] for key in ("passages", "contexts", "context") if row.get(key)), ())
    texts = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(str(text.get("text", "")) if isinstance(text, Mapping) else str(text) for text in texts)


def pair_to_judge(a: Sequence[ToJudge], b: Sequence[ToJudge]) -> tuple[list[ToJudge], str]:
    """Return the pairs of answers to the same question (in the same setting, where both have one), and what is left out.

    Questions are matched by their ids, else by their texts. Raises RunError where a side answers one of them twice, or the
    sides share none.
    """
    has_settings = all(item.setting for item in (*a, *b))

    def keyed(items: Sequence[ToJudge], side: str, by_text: bool) -> dict[str, ToJudge]:
        found: dict[str, ToJudge] = {}
        for item in items:
            key = " ".join(item.question.text.split()).casefold() if by_text else item.group
            key = f"{item.setting}/{key}" if has_settings else key
            if key in found:
                models = sorted({i.model for i in items} - {""})
                raise RunError(
                    f"side {side} answers '{item.question.text:.60}' more than once"
                    + (f" (models {', '.join(models)})" if models else "") + ": a pair needs one answer a side. Choose it "
                    "with --model and --setting, or give each line its own id.")
            found[key] = item
        return found

    by_text = not {item.group for item in a} & {item.group for item in b}
    left, right = keyed(a, "a", by_text), keyed(b, "b", by_text)
    common, note = common_items(left, right)
    return [
        dataclasses.replace(left[key], id=key, other=right[key].answer, other_is_refusal=right[key].is_refusal,
                            other_final=right[key].final, model="", label="")
        for key in common
    ], note


def read_labels(path: Path, items: Sequence[ToJudge], rubric: Rubric) -> list[ToJudge]:
    """Return the items with the labels of a file: rows with 'id' and 'label', and 'model' and 'setting' where ids repeat.

    The id is that of the question, or the item's own. Raises RunError for a row without them, a label the rubric does not
    allow, and a file whose rows name none of the items.
    """
    if not path.is_file():
        raise RunError(f"no file {path}. Labels are JSONL or CSV rows with 'id' and 'label'.")
    said: dict[tuple[str, str, str], str] = {}
    for entry in read_entries(path):
        name = next((str(entry.row[key]) for key in ID if entry.row.get(key) not in (None, "")), "")
        if not name or entry.row.get("label") in (None, ""):
            raise RunError(f"{entry.where}: found {', '.join(entry.row)}. A row of labels has 'id' and 'label'.")
        label = normal_label(str(entry.row["label"]), rubric, entry.where)
        said[name, str(entry.row.get("model") or ""), str(entry.row.get("setting") or "")] = label
    labelled = []
    for item in items:
        keys = [(name, model, setting) for name in (item.id, item.group) for model in {item.model, ""}
                for setting in {item.setting, ""}]
        labelled.append(dataclasses.replace(item, label=next((said[key] for key in keys if key in said), "")))
    if not any(item.label for item in labelled):
        raise RunError(f"{path}: none of its {len(said)} ids is that of an answer, such as '{items[0].group}'. Give the ids "
                       "of the questions.")
    return labelled


def own_labels(items: Sequence[ToJudge], rubric: Rubric) -> list[ToJudge]:
    """Return the items with the labels that stood in their rows, as the rubric writes them; others say nothing here."""
    found = []
    for item in items:
        try:
            found.append(dataclasses.replace(item, label=normal_label(item.label, rubric, item.id) if item.label else ""))
        except RunError:  # the field is about something else than this rubric
            found.append(dataclasses.replace(item, label=""))
    return found


def normal_label(label: str, rubric: Rubric, where: str) -> str:
    """Return a person's label as the rubric writes its verdicts. Raises RunError for one that it does not allow."""
    word = label.strip().casefold()
    if rubric.scale:
        number = float(word) if word.replace(".", "", 1).removeprefix("-").isdigit() else math.nan
        if rubric.scale[0] <= number <= rubric.scale[1] and number == int(number):
            return str(int(number))
    else:
        allowed = ("a", "b", "tie") if rubric.asks == "pair" else rubric.verdicts
        for verdict in allowed:
            if word == verdict.casefold() or (rubric.gives_outcomes and _SAID.get(word) == verdict):
                return verdict
    raise RunError(f"{where}: the label is '{label}'. The rubric '{rubric.name}' allows {rubric.allowed}.")
