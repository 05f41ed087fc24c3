"""Yes or no, set right from the figures the answer itself states: comparing two numbers is the calculator's work too."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ragtune.answering.quote import CITED_ROW

_AMOUNT = r"[-−]?\$?\d[\d,]*(?:\.\d+)?%?(?: (?:thousand|million|billion)s?)?"
_MOVED = re.compile(
    rf"^(?P<said>Yes|No), (?P<name>.+?) (?P<move>rose|fell|increased|decreased|grew|declined) from (?P<old>{_AMOUNT}) to "
    rf"(?P<new>{_AMOUNT})(?P<end>\.?)$"
)
_BESIDE = re.compile(
    rf"^(?P<said>Yes|No), (?P<name>.+?) of (?P<left>{_AMOUNT}) (?P<be>was|were) (?P<place>above|below) (?P<other>.+?) of "
    rf"(?P<right>{_AMOUNT})(?P<end>\.?)$"
)
_UP = re.compile(r"\b(?:increase[ds]?|grow|grew|rise|rose|higher|greater|larger|above|exceed(?:ed|s)?|more)\b", re.I)
_DOWN = re.compile(r"\b(?:decrease[ds]?|decline[ds]?|fall|fell|lower|smaller|below|less|drop(?:ped)?|shrink|shrank)\b", re.I)
_MOVES = {"rose": "fell", "increased": "decreased", "grew": "declined"}


@dataclass(frozen=True)
class Verdict:
    """A yes-or-no answer before and after it was set right."""

    said: str
    found: str


def set_verdict_right(question: str, answer: str, reasoning: str) -> Verdict | None:
    """Return the answer with its move and its yes or no as its own figures have them; None where nothing is to be set right.

    Read are ``Yes, X rose from A to B.`` and ``No, X of A was below Y of B.``, for questions that ask in one direction. Two
    cited rows of one label and two years say which figure is the earlier. Negative amounts and different units are left
    alone: what a rise is then is not said by the size.
    """
    is_up, is_down = bool(_UP.search(question)), bool(_DOWN.search(question))
    if is_up == is_down:
        return None
    if match := _MOVED.match(answer):
        old, new = match["old"], match["new"]
        rows = {row["year"]: _bare(row["amount"]) for row in CITED_ROW.finditer(reasoning)}
        if len(rows) == 2 and [_bare(new), _bare(old)] == [rows[year] for year in sorted(rows)] and _bare(old) != _bare(new):
            old, new = new, old
        rises = _compare(old, new)
        if rises is None:
            return None
        move = match["move"]
        up = next((word for word, opposite in _MOVES.items() if move in (word, opposite)), move)
        moved = up if rises else _MOVES[up]
        found = f"{_yes(rises == is_up)}, {match['name']} {moved} from {old} to {new}{match['end']}"
    elif match := _BESIDE.match(answer):
        above = _compare(match["right"], match["left"])
        places = [question.lower().find(match[part].lower()) for part in ("name", "other")]
        if above is None or not 0 <= places[0] < places[1]:
            return None
        place = "above" if above else "below"
        found = (f"{_yes(above == is_up)}, {match['name']} of {match['left']} {match['be']} {place} {match['other']} of "
                 f"{match['right']}{match['end']}")
    else:
        return None
    return Verdict(answer, found) if found != answer else None


def _yes(is_so: bool) -> str:
    return "Yes" if is_so else "No"


def _bare(amount: str) -> str:
    return re.sub(r"[^\d.]", "", amount).rstrip(".")


def _compare(first: str, second: str) -> bool | None:
    """Whether the second amount is larger; None where they are equal, negative or of different kinds."""
    kinds = [re.sub(r"[\d.,]", "", amount) for amount in (first, second)]
    if kinds[0] != kinds[1] or kinds[0][:1] in ("-", "−") or float(_bare(first)) == float(_bare(second)):
        return None
    return float(_bare(second)) > float(_bare(first))
