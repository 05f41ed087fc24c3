"""How far the answer scorer agrees with people, beside the metrics of the field.

    python scripts/bench_scorer.py ../shared/financebench/completions [--json] [--errors]

reads ``*.jsonl`` with ``question``, ``gold_answer``, ``model_answer`` and ``label`` (Correct Answer, Incorrect Answer,
Refusal). The scorer's weights are fitted anew for each fold (scripts/scorer/fit.py), so that no answer is judged by weights
that have seen its question; further lines leave its run, or its whole model family, out as well. Each baseline takes its
threshold from the other folds. Intervals are bootstrapped over questions. What remains optimistic: the rules and the signs
themselves were thought out with these answers in sight.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from ragtune.evaluation.metrics.bertscore import score_bertscore
from ragtune.evaluation.metrics.text import TextMetric, score_exact_match, score_f1, score_rouge_l
from ragtune.evaluation.scoring.alike import Likeness, open_likeness
from ragtune.evaluation.scoring.weigh import Weighed, weigh
from ragtune.evaluation.statistics.agreement import cohen_kappa, measure_agreement
from ragtune.models.embed import MiniLMEmbedder
from scripts.scorer.fit import KINDS, Labelled, build_rows, fit_weights, read_labelled

FOLDS, SEEDS, COVERAGE = 9, (0, 1, 2), 0.8
SHOWN = ("all", *KINDS)


@dataclass(frozen=True)
class Verdicts:
    """What a scorer says of each answer: outcome, and how sure it is of correct or not."""

    outcomes: tuple[str, ...]
    confidence: tuple[float, ...]


def kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return agreement beyond chance; 1 where both only ever say one and the same thing."""
    found = cohen_kappa(a, b)
    return 1.0 if found is None else found


def score_cosine(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return the cosine of MiniLM's sentence vectors."""
    said, wanted = (MiniLMEmbedder().embed_passages(list(texts)) for texts in (answers, references))
    return [float(a @ b) for a, b in zip(said, wanted)]


def folds_of(rows: Sequence[Labelled], seed: int) -> list[int]:
    """Return each row's fold; a question's rows are in one."""
    ids = sorted({row.question.id for row in rows})
    order = dict(zip(np.random.default_rng(seed).permutation(len(ids)), range(len(ids))))
    place = {question_id: order[position] % FOLDS for position, question_id in enumerate(ids)}
    return [place[row.question.id] for row in rows]


def cross_validate(
    rows: Sequence[Labelled], built: Sequence[Labelled], is_alike: bool, left_out: str = ""
) -> Verdicts:
    """Return verdicts by weights that have seen neither the answer's question nor its ``left_out`` ('run', 'family')."""
    chances = np.zeros((len(rows), 2))
    for seed in SEEDS if not left_out else SEEDS[:1]:
        folds = folds_of(rows, seed)
        for fold in range(FOLDS):
            unseen = {row.question.id for row, at in zip(rows, folds) if at == fold}
            for group in sorted({getattr(row, left_out) for row in rows}) if left_out else [None]:
                trained = [row for row in (*rows, *built) if row.question.id not in unseen
                           and (group is None or getattr(row, left_out) != group)]
                weights = fit_weights(trained, is_alike)
                for position, row in enumerate(rows):
                    if row.question.id in unseen and (group is None or getattr(row, left_out) == group):
                        found = weigh(weights, row.kind, row.signs)
                        chances[position] += found.correct, found.refused
    chances /= 1 if left_out else len(SEEDS)
    weighed = [Weighed(correct, refused, ()) for correct, refused in chances]
    return Verdicts(tuple(w.outcome for w in weighed), tuple(w.confidence for w in weighed))


def threshold(rows: Sequence[Labelled], values: Sequence[float]) -> Verdicts:
    """Return verdicts by the threshold that agrees best with people on the other folds."""
    folds = folds_of(rows, SEEDS[0])
    outcomes, confidence = [""] * len(rows), [0.0] * len(rows)
    for fold in range(FOLDS):
        seen = [(value, row.label == "correct") for value, row, at in zip(values, rows, folds) if at != fold]
        cuts = sorted({value for value, _ in seen})[:: max(1, len(seen) // 200)]
        best = max(cuts, key=lambda cut: kappa([v >= cut for v, _ in seen], [is_right for _, is_right in seen]))
        for position, (value, at) in enumerate(zip(values, folds)):
            if at == fold:
                outcomes[position], confidence[position] = "correct" if value >= best else "wrong", abs(value - best)
    return Verdicts(tuple(outcomes), tuple(confidence))


def agreement(rows: Sequence[Labelled], verdicts: Verdicts) -> dict[str, Any]:
    """Return kappas by kind of reference with 95% intervals, three-way kappa, accuracy, and accuracy where it is sure.

    The intervals draw questions with replacement, since their answers hang together.
    """
    mine, theirs, ids = verdicts.outcomes, [row.label for row in rows], [row.question.id for row in rows]
    right = [(a == "correct", b == "correct") for a, b in zip(mine, theirs)]
    found: dict[str, Any] = {}
    for kind in SHOWN:
        at = [position for position, row in enumerate(rows) if kind in ("all", row.kind)]
        if not at:
            continue
        two = [[str(right[position][side]) for position in at] for side in (0, 1)]
        found[kind] = {
            "n": len(at),
            "correct_or_not": kappa(*two),
            "three_way": kappa([mine[position] for position in at], [theirs[position] for position in at]),
            "accuracy": sum(right[position][0] == right[position][1] for position in at) / len(at),
            "interval": measure_agreement(*two, clusters=[ids[position] for position in at]).interval,
        }
    surest = sorted(range(len(rows)), key=lambda position: -verdicts.confidence[position])[: round(COVERAGE * len(rows))]
    found["all"]["accuracy_at_80"] = sum(right[position][0] == right[position][1] for position in surest) / len(surest)
    found["all"]["three_way_interval"] = measure_agreement(mine, theirs, clusters=ids).interval
    return found


def measure(rows: Sequence[Labelled], likeness: Likeness | None) -> dict[str, Verdicts]:
    """Return every scorer's verdicts."""
    built = build_rows(rows, likeness)
    found = {}
    if likeness:
        found["ours"] = cross_validate(rows, built, True)
        found["ours, run unseen"] = cross_validate(rows, built, True, "run")
        found["ours, family unseen"] = cross_validate(rows, built, True, "family")
    found["ours, no embedder"] = cross_validate(rows, built, False)
    found["rules alone"] = Verdicts(tuple(row.rules for row in rows), (1.0,) * len(rows))
    answers, references = [row.answer for row in rows], [row.question.answer for row in rows]
    baselines: dict[str, TextMetric] = {"exact match": score_exact_match, "SQuAD F1": score_f1, "ROUGE-L": score_rouge_l}
    if likeness:  # BERTScore's own models cannot be had offline
        baselines |= {"MiniLM cosine": score_cosine, "BERTScore, MiniLM": score_bertscore}
    values = {name: metric(answers, references) for name, metric in baselines.items()}
    return found | {name: threshold(rows, of_name) for name, of_name in values.items()}


def print_table(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a line for each scorer."""
    print(f"{'':20} {'kappa correct or not':>22} {'number':>7} {'yes/no':>7} {'text':>7} {'three-way':>20} {'accuracy':>9} "
          f"{'at 80%':>7}")
    for name, kinds in found.items():
        row = kinds["all"]
        spans = ["[{:.2f}, {:.2f}]".format(*row[key]) for key in ("interval", "three_way_interval")]
        print(f"{name:20} {row['correct_or_not']:7.3f} {spans[0]:>14} "
              + " ".join(f"{kinds[kind]['correct_or_not']:7.3f}" if kind in kinds else f"{'-':>7}" for kind in KINDS)
              + f" {row['three_way']:6.3f} {spans[1]:>13} {row['accuracy']:9.3f} {row['accuracy_at_80']:7.3f}")


def print_errors(rows: Sequence[Labelled], verdicts: Verdicts) -> None:
    """Print each answer that people judge otherwise, the surest first."""
    order = sorted(range(len(rows)), key=lambda position: -verdicts.confidence[position])
    for position in order:
        row, outcome = rows[position], verdicts.outcomes[position]
        if outcome != row.label:
            print(f"\n{outcome} ({verdicts.confidence[position]:.2f}), a person {row.label}: {row.run}, {row.question.id}, "
                  f"{row.kind}\n  {row.question.text}\n  reference: {row.question.answer}\n  answer: {row.answer[:600]}")


def main(folder: Path) -> None:
    """Print the table."""
    likeness, started = open_likeness(), time.perf_counter()
    rows = read_labelled(folder, likeness)
    if not rows:
        raise SystemExit(f"{folder} holds no labelled completions (*.jsonl). Do: python scripts/bench_scorer.py FOLDER")
    print(f"{len(rows)} answers, {len({row.question.id for row in rows})} questions, {len({row.run for row in rows})} runs, "
          f"{len({row.family for row in rows})} model families; "
          f"{1000 * (time.perf_counter() - started) / len(rows):.0f} ms an answer\n")
    verdicts = measure(rows, likeness)
    found = {name: agreement(rows, of_name) for name, of_name in verdicts.items()}
    print_table(found)
    if "--json" in sys.argv:
        print(json.dumps(found))
    if "--errors" in sys.argv:
        print_errors(rows, verdicts["ours" if likeness else "ours, no embedder"])


if __name__ == "__main__":
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    main(Path(folders[0] if folders else "../shared/financebench/completions"))
