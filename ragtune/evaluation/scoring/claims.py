"""What an answer claims about a yes-or-no question: each clause that restates the question, affirmed or denied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ragtune.evaluation.scoring.wording import DENIAL, YES_NO, content_words, direction_of, final_part, split_sentences

MIN_OVERLAP = 0.25
_CLAUSE = re.compile(
    r"\s*(?:;|:\s|—|,?\s+(?:but|however|whereas|while|although|though|even though|yet)\b,?)\s*", re.IGNORECASE
)
_CONCESSION = re.compile(
    r"^\W*(?:while|although|though|even though|despite|in spite of|whereas)\b[^,]{0,300},", re.IGNORECASE
)
_NO_CLAIM = re.compile(
    r"^\W*(?:if|whether|to (?:determine|assess|evaluate|answer|calculate|find|conclude|understand|confirm)|in order to|when|"
    r"once|please|let(?:'|’)?s|we (?:need|can|must|have to|would)|you|typically|generally|usually|"
    r"an? \w+ \w+ (?:above|below|of))\b",
    re.IGNORECASE,
)
_LACKS = re.compile(
    r"\b(?:(?:not|n['’]t|no) (?:\w+ ){0,2}(?:provid|contain|includ|specif|mention|disclos|giv|stat|availab|report|list|"
    r"enough|sufficient|information|data|access|detail)|cannot|can['’]t|unable|difficult to|without|would need|"
    r"(?:would|could|might|should) be (?:considered )?(?:necessary|needed|required))",
    re.IGNORECASE,
)
_NO_DENIAL = re.compile(
    r"\bnot (?:only|just|merely|least|include|including)\b|\bno (?:doubt|less than)\b", re.IGNORECASE
)
_RATHER = re.compile(r"\b(?:rather than|instead of|as opposed to|far from)\b", re.IGNORECASE)
_REMARK = re.compile(r"\([^()]{0,300}\)")
_TYPICAL = re.compile(r"\b(?:typical|usual|general|normal)(?:ly)?\b|\bwould\b", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"^\W*(?:therefore|thus|so|overall|in (?:conclusion|summary|short|fact)|hence|consequently|accordingly|answer)\b"
    r"|\b(?:indicat|suggest|mean|impl|show|demonstrat|conclu|appear|reflect)\w*\b",
    re.IGNORECASE,
)
_OPPOSITES = tuple(
    (re.compile(rf"\b(?:{a})", re.IGNORECASE), re.compile(rf"\b(?:{b})", re.IGNORECASE))
    for a, b in (
        (r"positive", r"negative|deficit"),
        (r"improv|better|strengthen", r"worsen|deteriorat|weaken|declin|decreas|worse"),
        (r"consisten|stable|steady|unchanged", r"inconsisten|fluctuat|volatil|unstable|var(?:y|ied|iable)|unsteady"),
        (r"healthy|strong|robust|adequate|sufficient|comfortable|solid",
         r"unhealthy|weak|poor|inadequate|insufficient|concern|struggl|may not be able|strain"),
        (r"high(?:er|ly)?\b|large|significant|substantial|material",
         r"low(?:er)?\b|small|minor|insignificant|immaterial|modest|moderate"),
        (r"above|exceed|more than|greater|over\b", r"below|less than|fewer|short of|under\b"),
        (r"profit|gain", r"loss"),
        (r"relevant|useful|meaningful|applicable", r"irrelevant|not (?:\w+ )?(?:useful|relevant|meaningful|applicable)"),
    )
)


@dataclass(frozen=True)
class Claim:
    """A clause that speaks to the question: whether it affirms, how much of the question it restates (0 to 1), and where
    in the answer it stands (0 first, 1 last)."""

    text: str
    says_yes: bool
    weight: float
    place: float


def read_claims(text: str, question: str) -> tuple[Claim, ...]:
    """Return the claims of an answer in order. Conditions, plans and what is said to lack are no claims."""
    question = core_of(question)
    asked = content_words(question)
    sentences = split_sentences(final_part(text))
    found = []
    for position, sentence in enumerate(sentences):
        place = position / max(len(sentences) - 1, 1)
        if match := YES_NO.match(sentence):
            found.append(Claim(sentence, match[1].lower() == "yes", 2.0, place))
            continue
        for clause in _CLAUSE.split(_CONCESSION.sub("", sentence)):
            said = content_words(clause)
            overlap = len(asked & said) / max(len(asked), 1)
            is_conclusion = bool(_CONCLUSION.search(sentence))
            if overlap < MIN_OVERLAP or not said or not _is_claim(clause):
                continue
            found.append(Claim(clause, affirms(clause, question), overlap + 0.3 * is_conclusion, place))
    return tuple(found)


def _is_claim(clause: str) -> bool:
    """Whether a clause states something of its own: no condition, plan, question, lack of data or word on what is usual."""
    return not (_NO_CLAIM.match(clause) or _LACKS.search(clause) or _TYPICAL.search(clause) or clause.endswith("?"))


def affirms(clause: str, question: str) -> bool:
    """Whether a clause that restates a question says yes to it: each denial and each opposite turns it round."""
    is_denied = bool(DENIAL.search(_NO_DENIAL.sub(" ", clause)) or _RATHER.search(clause))
    return not (is_denied or is_opposite(clause, question))


def core_of(question: str) -> str:
    """Return the question without its remarks: nothing in parentheses, nothing after the question mark."""
    return _REMARK.sub(" ", question).partition("?")[0]


def is_opposite(clause: str, question: str) -> bool:
    """Whether the clause uses the opposite of a word of the question, and not that word itself."""
    directions = direction_of(question), direction_of(clause)
    if all(directions):
        return directions[0] != directions[1]
    for pair in _OPPOSITES:
        for mine, other in (pair, pair[::-1]):
            if mine.search(question) and not other.search(question):
                if mine.search(clause):
                    return False
                if other.search(clause):
                    return True
    return False


def balance(claims: Sequence[Claim]) -> float:
    """Return what the claims say on the whole, from -1 (no) to 1 (yes), by the square of their weights; 0 where none is."""
    total = sum(claim.weight**2 for claim in claims)
    return sum((1 if claim.says_yes else -1) * claim.weight**2 for claim in claims) / total if total else 0.0
