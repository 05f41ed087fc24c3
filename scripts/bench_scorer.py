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
import re
import string
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from ragtune.evaluation.scoring.alike import Likeness, open_likeness
from ragtune.evaluation.scoring.weigh import Weighed, weigh
from scripts.scorer.fit import KINDS, Labelled, build_rows, fit_weights, read_labelled

FOLDS, SEEDS, DRAWS, COVERAGE = 9, (0, 1, 2), 1000, 0.8
SHOWN = ("all", *KINDS)


@dataclass(frozen=True)
class Verdicts:
    """What a scorer says of each answer: outcome, and how sure it is of correct or not."""

    outcomes: tuple[str, ...]
    confidence: tuple[float, ...]


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return agreement beyond chance; nan where there is nothing to compare."""
    n, left, right = len(a), Counter(a), Counter(b)
    if not n:
        return float("nan")
    seen = sum(x == y for x, y in zip(a, b)) / n
    chance = sum(left[label] * right[label] for label in left) / n**2
    return 1.0 if chance == 1 else (seen - chance) / (1 - chance)


def normal(text: str) -> list[str]:
    """Return SQuAD's normal form: lower case, no articles and punctuation."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def exact_match(row: Labelled) -> float:
    return float(normal(row.question.answer) == normal(row.answer))


def squad_f1(row: Labelled) -> float:
    gold, said = normal(row.question.answer), normal(row.answer)
    same = sum((Counter(gold) & Counter(said)).values())
    return 2 * same / (len(gold) + len(said)) if same else 0.0


def rouge_l(row: Labelled) -> float:
    """ROUGE-L's F measure (longest common subsequence) of lower-case words."""
    gold, said = (re.findall(r"[a-z0-9]+", text.lower()) for text in (row.question.answer, row.answer))
    lengths = [0] * (len(said) + 1)
    for word in gold:
        before = 0
        for position, other in enumerate(said, start=1):
            kept = lengths[position]
            lengths[position] = before + 1 if word == other else max(lengths[position], lengths[position - 1])
            before = kept
    return 2 * lengths[-1] / (len(gold) + len(said)) if lengths[-1] else 0.0


def vectors_of(likeness: Likeness) -> Callable[[str], np.ndarray]:
    """Return a function from a text to the last layer's unit token vectors, shape (tokens, 384); kept for texts seen."""
    kept: dict[str, np.ndarray] = {}

    def read(text: str) -> np.ndarray:
        if text not in kept:
            kept[text] = likeness.layers(likeness.ids(text) or [likeness.tokenizer.token_to_id(".")])[-1]
        return kept[text]

    return read


def cosine(row: Labelled, vectors: Callable[[str], np.ndarray]) -> float:
    """Cosine of the mean token vectors of MiniLM."""
    gold, said = (vectors(text).mean(axis=0) for text in (row.question.answer, row.answer))
    return float(gold @ said / (np.linalg.norm(gold) * np.linalg.norm(said)))


def bert_score(row: Labelled, vectors: Callable[[str], np.ndarray]) -> float:
    """BERTScore's F1 on MiniLM's last layer (its own models cannot be had offline), without idf and rescaling."""
    alike = vectors(row.question.answer) @ vectors(row.answer).T
    recall, precision = alike.max(axis=1).mean(), alike.max(axis=0).mean()
    return float(2 * recall * precision / (recall + precision))


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
        best = max(cuts, key=lambda cut: cohen_kappa([v >= cut for v, _ in seen], [is_right for _, is_right in seen]))
        for position, (value, at) in enumerate(zip(values, folds)):
            if at == fold:
                outcomes[position], confidence[position] = "correct" if value >= best else "wrong", abs(value - best)
    return Verdicts(tuple(outcomes), tuple(confidence))


def agreement(rows: Sequence[Labelled], verdicts: Verdicts, is_interval: bool = True) -> dict[str, Any]:
    """Return kappas by kind of reference with 95% intervals, three-way kappa, accuracy, and accuracy where it is sure."""
    mine, theirs = verdicts.outcomes, [row.label for row in rows]
    right = [(a == "correct", b == "correct") for a, b in zip(mine, theirs)]
    found: dict[str, Any] = {}
    for kind in SHOWN:
        at = [position for position, row in enumerate(rows) if kind in ("all", row.kind)]
        if not at:
            continue
        found[kind] = {
            "n": len(at),
            "correct_or_not": cohen_kappa(*zip(*(right[position] for position in at))),
            "three_way": cohen_kappa([mine[position] for position in at], [theirs[position] for position in at]),
            "accuracy": sum(right[position][0] == right[position][1] for position in at) / len(at),
        }
        if is_interval:
            found[kind]["interval"] = interval([rows[position].question.id for position in at],
                                               [right[position] for position in at])
    surest = sorted(range(len(rows)), key=lambda position: -verdicts.confidence[position])[: round(COVERAGE * len(rows))]
    found["all"]["accuracy_at_80"] = sum(right[position][0] == right[position][1] for position in surest) / len(surest)
    if is_interval:
        found["all"]["three_way_interval"] = interval([row.question.id for row in rows], list(zip(mine, theirs)))
    return found


def interval(ids: Sequence[str], pairs: Sequence[tuple[Any, Any]]) -> tuple[float, float]:
    """Return the 95% interval of kappa, questions drawn with replacement (their answers hang together)."""
    by_question: dict[str, list[tuple[Any, Any]]] = {}
    for question_id, pair in zip(ids, pairs):
        by_question.setdefault(question_id, []).append(pair)
    groups, drawn = list(by_question.values()), np.random.default_rng(0)
    kappas = [cohen_kappa(*zip(*(pair for index in drawn.integers(len(groups), size=len(groups)) for pair in groups[index])))
              for _ in range(DRAWS)]
    low, high = np.quantile(kappas, [0.025, 0.975])
    return float(low), float(high)


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
    values: dict[str, list[float]] = {name: list(map(metric, rows)) for name, metric in (
        ("exact match", exact_match), ("SQuAD F1", squad_f1), ("ROUGE-L", rouge_l))}
    if likeness:
        vectors = vectors_of(likeness)
        values["MiniLM cosine"] = [cosine(row, vectors) for row in rows]
        values["BERTScore, MiniLM"] = [bert_score(row, vectors) for row in rows]
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
