"""Rubrics: what a judge is asked, and which verdicts it may give. Shipped ones by name, a user's own by file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ragtune.errors import RunError, nearest
from ragtune.files import hash_text
from ragtune.records import OUTCOMES, Record

PARTS = ("question", "reference", "passages", "answer")
"""What a rubric may show, in the order in which it is shown."""
SIDES = ("A", "B", "tie")
"""The verdicts of a rubric that asks for the better of a pair."""
MAX_STEPS = 101
_FIELDS = ("name", "asks", "verdicts", "scale", "shows", "text")
_SHAPE = (
    "A rubric is a YAML file with 'name', 'text' (the instructions), and either 'verdicts' (words, e.g. [correct, wrong, "
    "refused]) or 'scale' (two whole numbers, e.g. [1, 5]), or 'asks: pair' for the better of two; 'shows' is a list "
    f"of {', '.join(PARTS)}."
)


@dataclass(frozen=True)
class Rubric(Record):
    """``asks`` is 'answer' or 'pair'; ``verdicts`` are words, none where there is a ``scale`` (lowest, highest)."""

    name: str
    text: str
    asks: str = "answer"
    verdicts: tuple[str, ...] = ()
    scale: tuple[int, int] | None = None
    shows: tuple[str, ...] = ("question", "reference", "answer")

    @property
    def hash(self) -> str:
        """16 hex digits of all that a judge is asked by."""
        return hash_text(repr(sorted(self.to_dict().items())))

    @property
    def gives_outcomes(self) -> bool:
        """Whether its verdicts are the scorer's: correct and wrong, with refused or without."""
        return {"correct", "wrong"} <= set(self.verdicts) <= set(OUTCOMES)

    @property
    def allowed(self) -> str:
        """The verdicts as a judge is told them: 'correct, wrong or refused', 'a whole number from 1 to 5'."""
        if self.scale:
            return f"a whole number from {self.scale[0]} to {self.scale[1]}"
        return f"{', '.join(self.verdicts[:-1])} or {self.verdicts[-1]}"


def shipped_rubrics() -> dict[str, Path]:
    """Return the shipped rubrics: name -> YAML file."""
    folder = Path(str(resources.files("ragtune.evaluation.judging").joinpath("rubrics")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_rubric(name_or_file: str) -> Rubric:
    """Return the rubric of a file, or the shipped one of that name. Raises RunError for what is no rubric."""
    path, shipped = Path(name_or_file), shipped_rubrics()
    if not path.is_file():
        if name_or_file not in shipped:
            raise RunError(f"no rubric '{name_or_file}': there is no such file, and the shipped ones are "
                           f"{', '.join(shipped)}.{nearest(name_or_file, shipped)} {_SHAPE}")
        path = shipped[name_or_file]
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = getattr(error, "problem", "") or "no UTF-8 text"
        raise RunError(f"{path}: not YAML ({told}). {_SHAPE}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: found {type(values).__name__}. {_SHAPE}")
    return _check(values, path)


def _check(values: Mapping[Any, Any], path: Path) -> Rubric:
    """Return the rubric these values make. Raises RunError naming the first field that is wrong."""
    for key in values:
        if key not in _FIELDS:
            raise RunError(f"{path}: unknown field '{key}'.{nearest(str(key), _FIELDS)} Allowed: {', '.join(_FIELDS)}.")
    text, asks = values.get("text"), values.get("asks", "answer")
    if not isinstance(text, str) or not text.strip():
        raise RunError(f"{path}: 'text' holds no instructions. {_SHAPE}")
    if asks not in ("answer", "pair"):
        raise RunError(f"{path}: asks is {asks!r}. Allowed: answer, pair.")
    shows = values.get("shows", ["question", "reference", "answer"])
    if not isinstance(shows, list) or "answer" not in shows or not set(map(str, shows)) <= set(PARTS):
        raise RunError(f"{path}: shows is {shows!r}. Allowed is a list of {', '.join(PARTS)}, with 'answer' in it.")
    verdicts, scale = _check_verdicts(values, asks, path)
    name = str(values.get("name") or path.stem)
    if not all(c.isalnum() or c in "-_" for c in name):
        raise RunError(f"{path}: name is {name!r}. Allowed are letters, digits, - and _: it names a folder.")
    return Rubric(name, text.strip(), asks, verdicts, scale, tuple(part for part in PARTS if part in shows))


def _check_verdicts(values: Mapping[Any, Any], asks: str, path: Path) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    words, scale = values.get("verdicts"), values.get("scale")
    if asks == "pair":
        if words or scale:
            raise RunError(f"{path}: a rubric that asks for a pair has the verdicts {', '.join(SIDES)} and no others. Leave "
                           "'verdicts' and 'scale' out.")
        return SIDES, None
    if (words is None) == (scale is None):
        raise RunError(f"{path}: found {'both' if words else 'neither'} of 'verdicts' and 'scale'. Give one. {_SHAPE}")
    if scale is not None:
        is_pair = isinstance(scale, list) and len(scale) == 2 and all(type(step) is int for step in scale)
        if not is_pair or not 0 < scale[1] - scale[0] < MAX_STEPS:
            raise RunError(f"{path}: scale is {scale!r}. Allowed are two whole numbers, the lowest first, e.g. [1, 5].")
        return (), (scale[0], scale[1])
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise RunError(f"{path}: verdicts is {words!r}. Allowed is a list of words; quote 'yes' and 'no', which YAML reads "
                       "as truth values.")
    kept = tuple(word.strip() for word in words)
    if len({word.casefold() for word in kept}) < max(2, len(kept)):
        raise RunError(f"{path}: verdicts is {words!r}. Allowed are at least two different words.")
    return kept, None
