"""Evaluation folders read back, and the questions that several of them have in common."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragtune.documents.pack import use_pack
from ragtune.errors import RagtuneError, RunError, nearest
from ragtune.evaluation.ladder.graded import Graded, rescore
from ragtune.evaluation.ladder.log import ASKED, LOG
from ragtune.evaluation.ladder.trail import Asked
from ragtune.files import read_jsonl, read_manifest
from ragtune.recipe.schema import Recipe
from ragtune.records import Question

CHIEF = ("tuned", "base")
"""The model of an evaluation that is compared where none is named: the first of these that it has."""
Key = tuple[str, ...]
"""What tells that two questions are one: text and reference, and the id where these occur twice."""


@dataclass(frozen=True)
class Side:
    """One evaluation folder: its answers, judged by today's scorer, and what it remembers of its questions.

    ``rejudged`` counts the answers whose outcome was another when they were logged. ``asked`` is empty for a folder of an
    older ragtune.
    """

    label: str
    folder: Path
    recipe: Recipe
    rows: tuple[Graded, ...]
    asked: Mapping[str, Asked] = field(default_factory=dict)
    index_id: str = ""
    prompt_hash: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    rejudged: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The models that answered."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @property
    def chief(self) -> str:
        """The model that is compared where none is named."""
        return next((name for name in CHIEF if name in self.names), self.names[0])

    def questions(self) -> dict[str, Question]:
        """Return the questions by id; those of an older folder lack their evidence."""
        found = {row.question_id: Question(row.question_id, row.question, row.gold, kind=row.kind) for row in self.rows}
        return {**found, **{i: entry.question for i, entry in self.asked.items() if i in found}}


def read_sides(folders: Sequence[Path]) -> tuple[Side, ...]:
    """Read evaluation folders, each under a label that tells it from the others.

    Raises RunError for a folder that is missing, damaged, unfinished or of another kind, and for one that is named twice.
    """
    places = [Path(os.path.realpath(folder)) for folder in folders]
    if twice := next((folder for folder, place in zip(folders, places) if places.count(place) > 1), None):
        raise RunError(f"{twice} is named twice. Name folders of different evaluations.")
    sides = [read_side(folder) for folder in folders]
    return tuple(dataclasses.replace(side, label=label) for side, label in zip(sides, _labels(sides)))


def read_side(folder: Path) -> Side:
    """Read one evaluation folder. Raises RunError as ``read_sides`` does."""
    partial = folder.with_name(folder.name + ".partial")
    if not folder.exists() and (partial / LOG).is_file():
        raise RunError(f"{folder} is unfinished: its evaluation was stopped. The same command goes on from there: "
                       "ragtune evaluate --recipe FILE")
    manifest = read_manifest(folder, "evaluation", RunError)
    try:
        logged = [Graded.from_dict(row) for _, row in read_jsonl(folder / LOG)]
        asked = [Asked.from_dict(row) for _, row in read_jsonl(folder / ASKED)] if (folder / ASKED).is_file() else []
        recipe = Recipe.model_validate(_known(manifest["recipe"]))
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise RunError(f"{folder} cannot be read ({type(error).__name__}: {error}). Do: ragtune evaluate") from error
    if not logged:
        raise RunError(f"{folder} holds no answers. Evaluate again: ragtune evaluate --recipe FILE")
    entries = {entry.question.id: entry for entry in asked}
    rows = _judge(logged, entries, recipe)
    return Side(
        recipe.name, folder, recipe, rows, entries, str(manifest.get("index_id", "")), str(manifest.get("prompt_hash", "")),
        dict(manifest.get("models", {})), sum(new.outcome != old.outcome for new, old in zip(rows, logged)),
    )  # fmt: skip


def _known(recipe: Mapping[str, object]) -> Mapping[str, object]:
    """Return a manifest's recipe without the sections and fields that this ragtune no longer has."""
    kept: dict[str, object] = {}
    for name, value in recipe.items():
        section = Recipe.model_fields.get(name)
        fields = getattr(getattr(section, "annotation", None), "model_fields", None)
        if fields is not None and isinstance(value, Mapping):
            kept[name] = {key: inner for key, inner in value.items() if key in fields}
        elif section is not None:
            kept[name] = value
    return kept


def _judge(rows: Sequence[Graded], asked: Mapping[str, Asked], recipe: Recipe) -> tuple[Graded, ...]:
    """Return the rows as today's scorer judges them, so that two folders are judged alike; an answer that turned out lost
    or right keeps no stage. Where the recipe's pack is gone they stay as they are.
    """
    try:
        with use_pack(recipe.pack):
            return tuple(_judge_one(row, asked.get(row.question_id)) for row in rows)
    except RagtuneError:
        return tuple(rows)


def _judge_one(row: Graded, entry: Asked | None) -> Graded:
    question = entry.question if entry else Question(row.question_id, row.question, row.gold, kind=row.kind)
    new = rescore(question, row)
    return new if new.outcome == row.outcome else dataclasses.replace(new, lost_at="", lost_why="")


def _labels(sides: Sequence[Side]) -> list[str]:
    """Return the recipes' names where they differ, else the parts of the paths that do."""
    names = [side.recipe.name for side in sides]
    if len(set(names)) == len(names):
        return names
    parts = [list(Path(os.path.realpath(side.folder)).parts) for side in sides]
    while len({tuple(own[:1]) for own in parts}) == 1 and all(len(own) > 1 for own in parts):
        parts = [own[1:] for own in parts]
    while len({tuple(own[-1:]) for own in parts}) == 1 and all(len(own) > 1 for own in parts):
        parts = [own[:-1] for own in parts]
    return ["/".join(own) for own in parts]


@dataclass(frozen=True)
class Common:
    """The questions that all sides asked: for each of them the id on every side, in the order of the first side.

    ``notes`` say in plain sentences what is left out and why.
    """

    ids: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def find_common(sides: Sequence[Side]) -> Common:
    """Return the questions with one text and one reference on all sides, whatever their ids.

    Raises RunError where there is none.
    """
    asked = [side.questions() for side in sides]
    counts = [Counter(_texts(question) for question in questions.values()) for questions in asked]
    several = {texts for count in counts for texts, times in count.items() if times > 1}
    keyed = [{_key(question, several): question_id for question_id, question in questions.items()} for questions in asked]
    common = [key for key in keyed[0] if all(key in keys for keys in keyed[1:])]
    if not common:
        sizes = ", ".join(f"{side.label} {len(keys)}" for side, keys in zip(sides, keyed))
        raise RunError(f"the evaluations have no question in common (questions asked: {sizes}). Evaluate them on one "
                       "question file: ragtune evaluate --set evaluation.questions=FILE")
    left_out = [note for place, side in enumerate(sides) if (note := _left_out(side, place, asked, keyed))]
    notes = [f"{len(common)} questions are common to all and compared.", *left_out] if left_out else []
    return Common(tuple(tuple(keys[key] for keys in keyed) for key in common), tuple(notes))


def _texts(question: Question) -> Key:
    return " ".join(question.text.split()).casefold(), " ".join(question.answer.split()).casefold()


def _key(question: Question, several: set[Key]) -> Key:
    texts = _texts(question)
    return (*texts, question.id) if texts in several else texts


def _left_out(side: Side, place: int, asked: Sequence[Mapping[str, Question]], keyed: Sequence[Mapping[Key, str]]) -> str:
    """Return a sentence on a side's questions that another has not, with the reasons counted; '' where there is none."""
    reasons: Counter[str] = Counter()
    for key, question_id in keyed[place].items():
        lacking = [other for other, keys in enumerate(keyed) if key not in keys]
        if lacking:
            own, others = asked[place][question_id], asked[lacking[0]]
            namesake = others.get(question_id)
            if any(_texts(question)[0] == _texts(own)[0] for question in others.values()):
                reasons["with another reference there"] += 1
            elif namesake is not None:
                reasons["with another text under the same id there"] += 1
            else:
                reasons["not asked there"] += 1
    if not reasons:
        return ""
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{reasons.total()} questions of {side.label} are left out: {told}."


def choose_models(side: Side, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the models of a side to compare: those wanted, else its chief one. Raises RunError for one it has not."""
    for name in wanted:
        if name not in side.names:
            raise RunError(f"{side.folder} holds no answers of '{name}', it has {', '.join(side.names)}."
                           f"{nearest(name, side.names)} Do: ragtune evaluate, or leave out --model.")
    return tuple(dict.fromkeys(wanted)) or (side.chief,)


def list_columns(sides: Sequence[Side], wanted: Sequence[str] = ()) -> list[tuple[str, int, str]]:
    """Return (label, place of its side, model) of each column to compare; the model is named where a side has several."""
    chosen = [choose_models(side, wanted) for side in sides]
    return [(side.label if len(models) == 1 else f"{side.label} {model}", place, model)
            for place, (side, models) in enumerate(zip(sides, chosen)) for model in models]


def settle(sides: Sequence[Side], common: Common, wanted: Sequence[str] = ()) -> tuple[list[Graded], dict[str, Asked]]:
    """Return the common answers of all columns under the first side's ids, ``model`` being the column's label; and what the
    first side that says so knows of the questions.
    """
    found: list[Graded] = []
    for label, place, model in list_columns(sides, wanted):
        ids = {own[place]: own[0] for own in common.ids}
        found += [dataclasses.replace(row, model=label, question_id=ids[row.question_id])
                  for row in sides[place].rows if row.model == model and row.question_id in ids]
    order = {own[0]: number for number, own in enumerate(common.ids)}
    found.sort(key=lambda row: order[row.question_id])
    asked: dict[str, Asked] = {}
    for own in common.ids:
        known = next((side.asked[i] for side, i in zip(sides, own) if i in side.asked), None)
        if known is not None:
            asked[own[0]] = dataclasses.replace(known, question=dataclasses.replace(known.question, id=own[0]))
    return found, asked


def describe_settings(sides: Sequence[Side]) -> list[str]:
    """Return plain sentences on what differs between the sides beside the model: index, prompt, retrieval."""
    notes = []
    for name, values in (
        ("indexes", [side.index_id for side in sides]), ("prompts", [side.prompt_hash for side in sides]),
        ("retrieval settings", [side.recipe.retrieval.model_dump_json() for side in sides]),
        ("answering settings", [side.recipe.answering.model_dump_json() for side in sides]),
    ):
        if len(set(values)) > 1:
            notes.append(f"They were measured with different {name}{_differing(sides, name)}.")
    notes += [f"{side.rejudged} answers of {side.label} were judged otherwise when they were logged; today's scorer counts."
              for side in sides if side.rejudged]
    return notes


def _differing(sides: Sequence[Side], name: str) -> str:
    """Return which fields of retrieval differ, in parentheses."""
    if name != "retrieval settings":
        return ""
    dumps = [json.loads(side.recipe.retrieval.model_dump_json()) for side in sides]
    fields = [key for key in dumps[0] if len({json.dumps(dump.get(key)) for dump in dumps}) > 1]
    return " (" + "; ".join(f"{key}: {', '.join(str(dump.get(key)) for dump in dumps)}" for key in fields) + ")"
