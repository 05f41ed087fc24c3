"""Tuning the embedder within the adapt stage: rows from the mined triples, and the gate on documents embedded anew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.documents.context import context_line
from ragtune.files import building_folder, write_manifest
from ragtune.models.embed import SentenceEmbedder
from ragtune.retrieval.adapter import next_version, set_current
from ragtune.retrieval.gate import judge_ranks
from ragtune.retrieval.index import Index
from ragtune.retrieval.mine import vectors_at
from ragtune.seams import progress_of
from ragtune.stages.material import Fitted, Material
from ragtune.training.embedder import Row, start_model, tune_embedder

if TYPE_CHECKING:
    import numpy as np


def fit_tuned_embedder(material: Material, root: Path) -> Fitted:
    """Tune the index's embedder and write it as the next version under ``root``, to be named by index.embedder.

    The first fold is held out: of its documents, up to ``adapting.embedder_documents`` are embedded with both models and
    searched by their vectors alone. What is written is the very model that was measured.
    """
    settings = material.recipe.adapting
    start = start_model(material.index.manifest["embedder"]["name"])
    held = set(material.folds[0])
    rows = make_rows(material, [n for n in range(len(material.questions)) if n not in held])
    with tempfile.TemporaryDirectory() as scratch:
        loss = tune_embedder(start, rows, settings, Path(scratch), progress_of(material.report, "tuning the embedder"))
        before, after, documents = measure(material, sorted(held), SentenceEmbedder(scratch))
        verdict = judge_ranks(before, after, settings.k, settings.max_p)
        facts: dict[str, Any] = {"start": Path(start).name, "rows": len(rows), "loss": round(loss, 4), "measured": documents}
        if not verdict.is_accepted:
            return Fitted("embedder", verdict, None, facts)
        folder = next_version(root)
        with building_folder(folder) as partial:
            shutil.copytree(scratch, partial, dirs_exist_ok=True)
            write_manifest(partial, "embedder", **material.facts(), fit=facts, verdict=verdict.reason,
                           recall=[row.to_dict() for row in verdict.rows])
    set_current(folder)
    return Fitted("embedder", verdict, folder, facts)


def make_rows(material: Material, numbers: Sequence[int]) -> list[Row]:
    """Return question, first positive and hard negatives as embedded texts.

    Questions with too few negatives are left out; where that would be most of them, no row has negatives of its own.
    """
    triples, count = material.triples, material.recipe.adapting.embedder_negatives
    full = [number for number in numbers if count <= (triples.negatives[number] >= 0).sum()]
    if len(full) < len(numbers) / 2:
        full, count = list(numbers), 0
    rows = []
    for number in full:
        places = [triples.positives[number, 0], *triples.negatives[number, :count]]
        texts = embedded_texts(material.index, [int(triples.rows[place]) for place in places])
        rows.append((material.questions[number].text, *texts))
    return rows


def embedded_texts(index: Index, rows: Sequence[int]) -> list[str]:
    """Return the texts that the vectors of these chunk rows were made of."""
    has_line = index.manifest["recipe"]["index"]["context_line"]
    return [f"{context_line(chunk)}\n{chunk.text}" if has_line else chunk.text for chunk in index.store.chunks_at(rows)]


def measure(
    material: Material, numbers: Sequence[int], tuned: SentenceEmbedder
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Return the ranks by vectors alone with the index's embedder and with the tuned one, and the documents searched."""
    import numpy as np

    trial, index = material.trial, material.index
    wanted: list[int] = []
    for number in numbers:
        wanted += [document for document in sorted(trial.documents[number]) if document not in wanted]
    wanted = wanted[: material.recipe.adapting.embedder_documents]
    asked = [number for number in numbers if trial.documents[number] <= set(wanted)]
    rows = np.flatnonzero(np.isin(index.places[:, 0], wanted))
    new = tuned.embed_passages(embedded_texts(index, rows.tolist()), progress_of(material.report, "embedding anew"))
    questions = {"before": material.vectors[asked],
                 "after": tuned.embed_questions([material.questions[number].text for number in asked])}
    ranks: dict[str, dict[str, np.ndarray]] = {}
    for side, vectors in (("before", vectors_at(trial, rows)), ("after", new)):
        cosines = questions[side] @ vectors.T
        own = np.array([[place in trial.documents[number] for place in index.places[rows, 0]] for number in asked])
        gold = np.array([np.isin(rows, trial.gold[number]) for number in asked])
        ranks[side] = {f"{len(wanted)} documents": _first(cosines, gold),
                       "document": _first(np.where(own, cosines, -np.inf), gold)}
    return ranks["before"], ranks["after"], [index.store.documents[position].name for position in wanted]


def _first(cosines: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the rank of the best row of ``gold`` for each question; other rows with its very cosine come before it."""
    import numpy as np

    best = np.where(gold, cosines, -np.inf).max(axis=1, keepdims=True)
    ranks: np.ndarray = 1 + ((cosines >= best) & ~gold).sum(axis=1)
    return ranks
