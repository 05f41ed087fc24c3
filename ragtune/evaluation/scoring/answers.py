"""Scoring an answer against its reference: correct, wrong or refused, how sure, and why. No language model needed.

Rules judge first; their verdict and the answer's other signs are then weighed by what people said of published answers
(scripts/bench_scorer.py measures the agreement on questions that the weights have not seen).
"""

from __future__ import annotations

from ragtune.evaluation.scoring.alike import open_likeness
from ragtune.evaluation.scoring.rules import judge_by_rules, kind_of_gold
from ragtune.evaluation.scoring.signs import read_apology, read_signs
from ragtune.evaluation.scoring.weigh import REFUSED, load_weights, weigh
from ragtune.evaluation.scoring.wording import is_brief_refusal, is_refusal_text
from ragtune.records import Outcome, Question, Score

METRIC = "answer"
Found = tuple[Outcome, float, str]


def score_answer(question: Question, answer_text: str, is_refusal: bool | None = None) -> Score:
    """Return the outcome of an answer as a Score (metric 'answer', value 1 where correct) with confidence and reason.

    ``is_refusal`` True says that the answerer declared a refusal; otherwise the text is searched for one. An unanswerable
    question (empty reference) is answered correctly by a refusal and by nothing else. The confidence, 0.5 to 1, is that of
    correct or not. The bundled MiniLM is used where it is installed, which it is with ragtune's own dependencies; without
    it, weights that were fitted without it serve, which agree less with people.
    """
    kind = kind_of_gold(question)
    found: Found
    if kind == "none":
        chance = 1.0 if is_refusal or not answer_text.strip() else chance_of_refusal(answer_text)
        found = ("correct", chance, "refused, and the documents hold no answer") if chance > 0.5 else (
            "wrong", 1 - chance, "answered, though the documents hold no answer")
    elif not answer_text.strip():
        found = ("refused", 1.0, "empty answer")
    elif is_refusal:
        found = ("refused", 1.0, "says that it cannot answer")
    else:
        found = _judge(question, answer_text, kind)
    outcome, confidence, reason = found
    return Score(METRIC, 1.0 if outcome == "correct" else 0.0, reason, question.id, outcome, confidence)


def chance_of_refusal(text: str) -> float:
    """Return how probable it is, 0 to 1, that a text refuses rather than answers, whatever was asked."""
    refuses = is_refusal_text(text)
    chance = load_weights()["plain"][REFUSED].probability({**read_apology(text), "rules_refused": float(refuses)})
    return max(chance, 0.9 if refuses else 0.7 if is_brief_refusal(text) else 0.0)


def _judge(question: Question, text: str, kind: str) -> Found:
    outcome, reason = judged = judge_by_rules(question, text)
    likeness = None if kind == "number" else open_likeness()
    signs = read_signs(question, text, judged, likeness)
    weighed = weigh(load_weights()["plain" if likeness is None else "alike"], kind, signs)
    if weighed.outcome == outcome:
        return outcome, weighed.confidence, reason
    told = " and ".join(weighed.told) or "its other signs weigh more"
    return weighed.outcome, weighed.confidence, f"{told}; by the rules alone it would be {outcome} ({reason})"
