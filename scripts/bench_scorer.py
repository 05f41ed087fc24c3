"""How far the answer scorer agrees with people, beside exact match and SQuAD's F1.

    python scripts/bench_scorer.py ../shared/financebench/completions

reads ``*.jsonl`` with ``question``, ``gold_answer``, ``model_answer`` and ``label`` (Correct Answer, Incorrect Answer,
Refusal).
"""

from __future__ import annotations

import json
import re
import string
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ragtune.evaluation.answers import score_answer
from ragtune.evaluation.rules import kind_of_gold
from ragtune.files import read_jsonl
from ragtune.records import Question

LABELS = {"Correct Answer": "correct", "Incorrect Answer": "wrong", "Refusal": "refused"}
Row = tuple[Question, str, str]


def read_labelled(folder: Path) -> list[Row]:
    """Return (question, answer, a person's outcome) for each labelled completion."""
    return [
        (
            Question(row["financebench_id"], row["question"], str(row["gold_answer"])),
            str(row["model_answer"]),
            LABELS[row["label"]],
        )
        for path in sorted(folder.glob("*.jsonl"))
        for _, row in read_jsonl(path)
    ]


def cohen_kappa(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return agreement beyond chance."""
    n, left, right = len(a), Counter(a), Counter(b)
    seen = sum(x == y for x, y in zip(a, b)) / n
    chance = sum(left[label] * right[label] for label in left) / n**2
    return 1.0 if chance == 1 else (seen - chance) / (1 - chance)


def normal(text: str) -> list[str]:
    """Return SQuAD's normal form: lower case, no articles and punctuation."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def exact_match(question: Question, answer: str) -> str:
    return "correct" if normal(question.answer) == normal(answer) else "wrong"


def squad_f1(question: Question, answer: str) -> str:
    gold, said = normal(question.answer), normal(answer)
    same = sum((Counter(gold) & Counter(said)).values())
    return "correct" if same and 2 * same / (len(gold) + len(said)) >= 0.5 else "wrong"


def ours(question: Question, answer: str) -> str:
    return score_answer(question, answer).outcome or "wrong"


SCORERS: dict[str, Callable[[Question, str], str]] = {"exact match": exact_match, "SQuAD F1 >= .5": squad_f1, "ours": ours}


def agreement(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Return scorer -> kind of reference -> kappa correct-or-not, kappa three-way, accuracy correct-or-not, n."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, scorer in SCORERS.items():
        judged = [(kind_of_gold(question), scorer(question, answer), label) for question, answer, label in rows]
        found[name] = {}
        for kind in ("all", "number", "yes_no", "text"):
            pairs = [(mine, theirs) for k, mine, theirs in judged if kind in ("all", k)]
            right = [(mine == "correct", theirs == "correct") for mine, theirs in pairs]
            found[name][kind] = {
                "n": len(pairs),
                "correct_or_not": cohen_kappa(*map(list, zip(*right))),
                "three_way": cohen_kappa(*map(list, zip(*pairs))),
                "accuracy": sum(a == b for a, b in right) / len(right),
            }
    return found


def main(folder: Path) -> None:
    """Print the table."""
    found = agreement(read_labelled(folder))
    print(f"{'scorer':16} {'reference':10} {'n':>5} {'kappa correct-or-not':>21} {'kappa three-way':>16} {'accuracy':>9}")
    for name, kinds in found.items():
        for kind, row in kinds.items():
            print(
                f"{name:16} {kind:10} {row['n']:5d} {row['correct_or_not']:21.3f} {row['three_way']:16.3f} "
                f"{row['accuracy']:9.3f}"
            )
    if "--json" in sys.argv:
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/financebench/completions"))
