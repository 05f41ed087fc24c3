"""Question sets of the Hugging Face Hub, by name or from a local folder of the same shape: hf:OWNER/NAME."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragtune.datasets.entries import Entry
from ragtune.errors import QuestionError, nearest

PREFIX = "hf:"
_PREFERRED = ("test", "validation", "dev")
"""The splits that are taken where none is named, before the only one there is."""


def is_hub(path: Path | str) -> bool:
    """Whether a question file's name is that of a data set: ``hf:PatronusAI/financebench``."""
    return str(path).startswith(PREFIX)


def read_hub(name: str) -> Iterator[Entry]:
    """Yield the rows of ``hf:OWNER/NAME`` or ``hf:FOLDER``, of the split after a # where one is named.

    Without one it is the test split, then validation, then the only one there is. Raises QuestionError where the data set
    cannot be had, its split is not there, or the choice is open.
    """
    place, _, split = name.removeprefix(PREFIX).partition("#")
    rows = _choose(_load(place), split, name)
    for number, row in enumerate(rows, start=1):
        yield Entry(dict(row), f"row {number}", f"{name}, row {number}")


def _load(place: str) -> dict[str, Any]:
    """Return the splits of a data set: split -> rows."""
    import datasets

    from ragtune.models.checkpoint import quiet

    try:
        with quiet():
            if (Path(place) / "dataset_info.json").is_file() or (Path(place) / "dataset_dict.json").is_file():
                found: Any = datasets.load_from_disk(place)
            else:
                found = datasets.load_dataset(place)
    except Exception as error:  # datasets, the hub and the network have a family of errors each
        told = " ".join(str(error).split())[:300] or type(error).__name__
        raise QuestionError(
            f"the data set {place} cannot be had ({type(error).__name__}: {told}). Without a network: name a copy, either a "
            f"folder ({PREFIX}FOLDER) or its rows as a JSONL file. With one: check the name, and log in where it is gated "
            "(hf auth login)."
        ) from error
    return dict(found) if isinstance(found, dict) else {"all": found}


def _choose(splits: dict[str, Any], wanted: str, name: str) -> Any:
    if wanted:
        if wanted not in splits:
            raise QuestionError(f"{name}: there is no split '{wanted}'.{nearest(wanted, splits)} It has {', '.join(splits)}")
        return splits[wanted]
    chosen = next((split for split in _PREFERRED if split in splits), next(iter(splits)) if len(splits) == 1 else None)
    if chosen is None:
        raise QuestionError(f"{name}: it has the splits {', '.join(splits)}. Name one: {name}#{next(iter(splits))}")
    return splits[chosen]
