"""What speaks for and against an answer, as named figures: the rules' verdict, its figures, claims, content, apologies."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ragtune.evaluation.scoring.alike import Likeness
from ragtune.evaluation.scoring.claims import balance, core_of, read_claims
from ragtune.evaluation.scoring.content import read_content
from ragtune.evaluation.scoring.figures import (
    contradicted_move,
    is_derived,
    last_numbers,
    match_number,
    signs_agree,
    sort_of,
    wants_percent_of,
)
from ragtune.evaluation.scoring.numbers import Number, parse_numbers, parse_scale
from ragtune.evaluation.scoring.rules import Judged, asks_figures, is_copied, is_short, kind_of_gold
from ragtune.evaluation.scoring.wording import (
    YES_NO,
    final_part,
    find_choice,
    is_firm_refusal,
    is_refusal_text,
    polarity_of,
    refusal_families,
    split_sentences,
)
from ragtune.records import OUTCOMES, Question

MOST = 6
_HOWEVER = re.compile(
    r"\b(?:however|but|nevertheless|still)\b[^.]{0,80}\b(?:we can|can be|calculat|comput|estimat|infer|assum|deriv|"
    r"determin)",
    re.IGNORECASE,
)
_THEREFORE = re.compile(
    r"(?:^|[.\n])\W*(?:therefore|thus|so|hence|overall|in conclusion|in summary|based on)\b", re.IGNORECASE
)
_YES_NO_ASKED = re.compile(
    r"^\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should)\b", re.IGNORECASE
)


def read_signs(question: Question, answer: str, judged: Judged, likeness: Likeness | None = None) -> dict[str, float]:
    """Return every sign of an answer, most of them from -1 to 1; 0 where a sign does not apply.

    ``judged`` is the rules' verdict on it, ``likeness`` adds the embedder's signs where no number is asked for. Names are
    those of the weights file.
    """
    kind = kind_of_gold(question)
    signs = {f"rules_{outcome}": float(judged[0] == outcome) for outcome in OUTCOMES}
    signs |= {f"kind_{name}": float(kind == name) for name in ("number", "yes_no", "text")}
    signs |= read_apology(answer)
    signs |= _figures(question, answer)
    if kind != "number":
        signs |= read_content(question.text, question.answer, answer)
        signs |= _claims(question, answer)
        signs["contradicts"] = float(_contradicts(question, answer, signs))
        signs |= likeness.read(question.text, question.answer, answer) if likeness else {}
    return signs


def _contradicts(question: Question, answer: str, signs: Mapping[str, float]) -> bool:
    """Whether the answer says the opposite of the reference outright: a plain no for a yes, a move that its own figures go
    against, other figures where figures are asked for, or no answer at all but a document that was copied."""
    said, wanted = YES_NO.match(final_part(answer)), YES_NO.match(question.answer)
    is_other = bool(said and wanted and said[1].lower() != wanted[1].lower())
    lacks = bool(signs["kind_text"] and signs.get("figures_asked_missing"))
    return is_other or lacks or is_copied(answer) or bool(signs["rules_wrong"] and signs.get("move_contradicted"))


def read_apology(answer: str) -> dict[str, float]:
    """Return the signs of a refusal, which need no reference."""
    sentences = [sentence for sentence in split_sentences(answer) if sentence.strip()] or [""]
    lead, end = " ".join(sentences[:1]), " ".join(sentences[-2:])
    families = refusal_families(answer)
    found = {f"apology_{name}": 1.0 for name in families}
    return found | {
        "apologies": min(len(families), MOST) / MOST,
        "apologies_lead": min(len(refusal_families(lead)), 4) / 4,
        "apologies_end": min(len(refusal_families(end)), 4) / 4,
        "refuses": float(is_refusal_text(answer)),
        "firm_lead": float(is_firm_refusal(lead)),
        "firm_end": float(is_firm_refusal(end)),
        "however": float(bool(_HOWEVER.search(answer))),
        "concludes": float(bool(_THEREFORE.search(answer))),
        "length": min(math.log1p(len(answer.split())) / 7, 1.5),
        "short": float(is_short(answer)),
        "says_yes_or_no": float(bool(YES_NO.match(answer))),
    }


def _figures(question: Question, answer: str) -> dict[str, float]:
    """Return how the figures of reference and answer meet: shares met, met at the end, near misses, contradicted."""
    gold = parse_numbers(question.answer)
    if not gold:
        return {"figures_none": 1.0}
    scale, percent = parse_scale(question.text), wants_percent_of(question)
    said = parse_numbers(answer)
    last, sentence = last_numbers(answer)
    met = [any(match_number(g, n, scale, percent) is not None for n in said) or is_derived(g, said) for g in gold]
    met_last = [any(match_number(g, n, scale, percent) is not None and signs_agree(g, n, question, sentence) for n in last)
                for g in gold]
    missed = [g for g, is_met in zip(gold, met) if not is_met]
    same_sort = sum(any(sort_of(n) == sort_of(g) for n in said) for g in missed)
    nearest = min((_distance(g, n, scale, percent) for g in gold for n in last), default=9.0)
    return {
        "figures_met": sum(met) / len(gold),
        "figures_met_any": float(any(met)),
        "figures_met_all": float(all(met)),
        "figures_met_last": sum(met_last) / len(gold),
        "figures_contradicted": same_sort / len(gold),
        "figures_said": float(bool(said)),
        "figures_asked_missing": len(missed) / len(gold) if asks_figures(question) else 0.0,
        "figures_at_end": float(bool(last)) and float(answer.rstrip().endswith(sentence.rstrip())),
        "near_miss": float(not any(met_last) and nearest < 0.01),
        "loose_miss": float(not any(met_last) and 0.01 <= nearest < 0.06),
        "move_contradicted": float(bool(contradicted_move(answer))),
    }


def _distance(gold: Number, said: Number, scale: float, percent: bool) -> float:
    """Return the relative distance of two figures, whatever scale of thousands they are in, at most 9."""
    wanted = abs(gold.value) * (gold.scale if gold.has_scale else scale) / (100 if gold.is_percent else 1)
    given = abs(said.value) * (said.scale if said.has_scale else scale) / (100 if said.is_percent else 1)
    if not wanted:
        return 9.0
    factors = (1.0, 1e3, 1e-3, 1e6, 1e-6) + ((0.01, 100.0) if percent or gold.is_percent or said.is_percent else ())
    return min(9.0, *(abs(given * factor / wanted - 1) for factor in factors))


def _claims(question: Question, answer: str) -> dict[str, float]:
    """Return how far the answer's claims side with the reference's yes or no: 1 with it, -1 against it, 0 unknown."""
    if not YES_NO.match(question.answer) and not _YES_NO_ASKED.match(question.text):
        signs = {}
    else:
        wanted_flag = polarity_of(question.answer, core_of(question.text))
        wanted = 0 if wanted_flag is None else 1 if wanted_flag else -1
        claims = read_claims(answer, question.text)
        said = polarity_of(answer, question.text)
        signs = {
            "claims_agree": wanted * balance(claims),
            "claims_side": wanted * float(math.copysign(1, balance(claims))) if claims and balance(claims) else 0.0,
            "claim_first": wanted * (1.0 if claims[0].says_yes else -1.0) if claims else 0.0,
            "claim_last": wanted * (1.0 if claims[-1].says_yes else -1.0) if claims else 0.0,
            "claim_top": wanted * (1.0 if max(claims, key=lambda c: c.weight).says_yes else -1.0) if claims else 0.0,
            "polarity_agrees": wanted * (0.0 if said is None else 1.0 if said else -1.0),
            "claims_none": float(not claims),
            "gold_says_no": float(wanted < 0),
        }
    if choice := find_choice(question.text, question.answer, answer):
        signs["choice_agrees"] = 1.0 if choice[0] == choice[1] else -1.0
    return signs
