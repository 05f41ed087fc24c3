"""Reading an answer's words: its final part, sentences, content words, yes or no, a refusal, a named option."""

from __future__ import annotations

import re

from ragtune.answering.prompt import ANSWER, REFUSAL
from ragtune.documents.pack import PackPattern, current_pack

MIN_REFUSAL_SIGNS = 3
BRIEF_WORDS = 40
_OUTRIGHT = frozenset({"sorry", "has_not", "machine", "not_given", "nothing"})
_REFUSAL_SIGNS: dict[str, re.Pattern[str] | PackPattern] = {
    "elsewhere": PackPattern(lambda pack: pack.answers.elsewhere),
    **{name: re.compile(pattern, re.IGNORECASE) for name, pattern in (
        ("sorry", r"\b(sorry|apologi[sz]e|unfortunately|regret)\b|\bI do(n['’]t| not) know\b"),
        ("unable", r"\b(can(not|'t|’t| not)|unable to|not able to|(im|not )possible to|could not|couldn['’]t|"
                   r"wouldn['’]t be able)\b"),
        ("has_not", r"\b(do(es)?|did)(n['’]t| not) have (real-time |direct |any |the |enough |sufficient |access|specific|"
                    r"necessary|immediate)"),
        ("machine", r"\bas an? (AI|artificial|language model|large)|\bAI (developer|language|model|assistant)\b"),
        ("cutoff", r"\b(last|knowledge|training) (update|cut-?off|data)|\bmy (knowledge|training)\b|real-time"),
        ("not_given", r"\b(not|n['’]t) (explicitly |directly |specifically |clearly )?(provide|contain|include|specify|"
                      r"mention|disclose|give|state|available|found|present|report|list)\w*"),
        ("nothing", r"\bno (specific |explicit |direct )?(information|mention|data|details?|figures?|evidence)\b"),
        ("needs", r"\b(would|you['’]d|I['’]d|you|we|would typically) (need|have) (to|the|access|more|additional)\b|"
                  r"\bneed (to know|more)\b"),
        ("please", r"\bplease (provide|refer|consult|check|share|note|visit)|\bif you (can |could |have |provide|need|share|"
                   r"give)"),
        ("without", r"\bwithout (the |access|this |that |these |specific|additional|more|further|any|having|knowing)"),
        ("more", r"\b(insufficient|not enough|more information|additional information|more details|necessary "
                 r"(information|data))\b"),
        ("difficult", r"\b(difficult|hard|challenging|impossible) to (determine|say|assess|provide|answer|calculate|"
                      r"conclude)"),
    )},
}
_SENTENCE = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*[A-Z$\d-])|\n+")
YES_NO = re.compile(r"^\W*(yes|no)\b", re.IGNORECASE)
DENIAL = re.compile(
    r"\b(not|no|never|neither|cannot|nor|none|without|negative|lacks?|unlikely|n['’]t)\b|n['’]t\b|\bfails?\b", re.IGNORECASE
)
_CONCLUSION = re.compile(r"\W*(therefore|thus|so|overall|in conclusion|hence)\b", re.IGNORECASE)
_OPTIONS = re.compile(
    r"\b(?:among|between|of)\s+([^?]{1,300}?),?\s+(?:and|or)\s+([\w -]{1,60}?),?\s+which", re.IGNORECASE
)
_UP = re.compile(r"\b(increas|improv|grow|grew|rose|rise|rising|higher|accelerat|expand|up\b)", re.IGNORECASE)
_DOWN = re.compile(r"\b(decreas|declin|drop|fell|fall|reduc|lower|decelerat|shr[iu]nk|worsen|down\b)", re.IGNORECASE)
_NEGATIVE = re.compile(r"\b(negative|minus|lost|less|contract|shr[ai]nk)", re.IGNORECASE)
_LOSS = PackPattern(lambda pack: pack.answers.losses)
_LISTED = re.compile(r"\b(?:among|between|of)\b[^.]{0,200}?\b(?:and|or)\s+\w+(?: activities)?,", re.IGNORECASE)
_SUPERLATIVE = re.compile(
    r"\b(?:most|highest|largest|least|lowest|biggest|greatest|best|worst|smallest|strongest)\b", re.IGNORECASE
)
_FIRM = re.compile(
    r"\b(?:I|we) (?:do not|don['’]t) know\b|\b(?:cannot|can not|can['’]t|unable to|not able to|not possible to|"
    r"impossible to)\b[^.]{0,40}\b(?:determin|provid|answer|calculat|tell|say|conclu|giv|find|comput|assess|verif|confirm|"
    r"assist)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z][a-z&'’-]*[a-z]|[a-z]", re.IGNORECASE)
_STOP = frozenset(
    """a an and are as at be been both but by can did do does each for from had has have he her his how i if in into is
    it its me more most of on or other our over she so some such than that the their them then there these they this
    those through to under up very was we were what when where which while who will with would you your
    year years primarily due mainly based following given information data during per us also
    among between because since answer question compared approximately about around respectively total
    amount""".split()
)


def is_refusal_text(text: str) -> bool:
    """Whether the text refuses: our own refusal, or three of a dozen signs of an apology for not answering."""
    if not text.strip() or REFUSAL.rstrip(".").lower() in text.lower():
        return True
    return refusal_signs(text) >= MIN_REFUSAL_SIGNS


def refusal_signs(text: str) -> int:
    """Return how many of the signs of a refusal the text shows."""
    return len(refusal_families(text))


def refusal_families(text: str) -> tuple[str, ...]:
    """Return the names of the signs of a refusal that the text shows."""
    return tuple(name for name, sign in _REFUSAL_SIGNS.items() if sign.search(text))


def is_firm_refusal(text: str) -> bool:
    """Whether the text says outright that it cannot answer ('I do not know', 'it is not possible to determine')."""
    return bool(_FIRM.search(text))


def is_brief_refusal(text: str) -> bool:
    """Whether a few words without a figure say outright that something is not known, not given or cannot be told."""
    if len(text.split()) > BRIEF_WORDS or re.search(r"(?<!\[)\d(?![-\d]*[KkQq\]])", text):
        return False
    return is_firm_refusal(text) or not _OUTRIGHT.isdisjoint(refusal_families(text))


def split_sentences(text: str) -> list[str]:
    """Return the sentences and lines of a text; a decimal point ends none."""
    return _SENTENCE.split(text)


def speaks_of_less(text: str) -> bool:
    """Whether the text speaks of a fall, a loss or an outflow, and not of a rise, so that its number may be negative."""
    is_less = any(sign.search(text) for sign in (_DOWN, _NEGATIVE, _LOSS))
    return is_less and not _UP.search(text)


def final_part(text: str) -> str:
    """Return what follows the last 'Answer:', else the whole text."""
    _, found, after = text.rpartition(ANSWER)
    return after if found and after.strip() else text


def polarity_of(text: str, question: str = "") -> bool | None:
    """Return True for yes, False for no, None where the text does not say.

    A text without a plain yes or no is read by the sentence that restates the question most fully: denied, or with the
    opposite direction (increase, decrease) of the question, it says no.
    """
    part = final_part(text)
    if match := YES_NO.match(part):
        return match[1].lower() == "yes"
    asked = content_words(question)
    best, best_overlap = "", 0.0
    for sentence in split_sentences(part):
        said = content_words(sentence)
        overlap = len(asked & said) + (0.5 if _CONCLUSION.match(sentence) else 0.0)
        if match := re.search(r"\b(yes|no)[,.]", sentence, re.IGNORECASE):
            overlap += 1
        if said and overlap >= best_overlap:  # of equals the later one: conclusions stand at the end
            best, best_overlap = sentence, overlap
    if best_overlap < max(1.5, 0.3 * len(asked)):
        return None
    is_denied = bool(DENIAL.search(best))
    directions = [direction_of(question), direction_of(best)]
    is_opposite = all(directions) and directions[0] != directions[1]
    return not (is_denied or is_opposite)


def direction_of(text: str) -> int:
    """Return 1 where the text speaks of a rise, -1 of a fall, 0 of neither or both."""
    return bool(_UP.search(text)) - bool(_DOWN.search(text))


def content_words(text: str) -> set[str]:
    """Return the words that carry content, lower case, cut to their stem's first letters."""
    words = (word.lower().replace("’", "'").removesuffix("'s").strip("'-") for word in _WORD.findall(text))
    common = current_pack().answers.common
    return {stem(word) for word in words if word not in _STOP and word not in common}


def stem(word: str) -> str:
    """Cut the commonest English endings, enough for 'operations' to meet 'operating'."""
    for ending in ("ations", "ation", "ating", "ings", "ing", "ions", "ion", "ies", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def find_choice(question: str, gold: str, text: str) -> tuple[str, str] | None:
    """For 'Among A, B and C, which ... the most': return (the wanted option, the one the text names), else None.

    The sentence with a superlative that restates most of the question names it, the earlier of two alike; in it, the option
    that stands first once the list of options itself is left out.
    """
    match = _OPTIONS.search(question)
    if not match:
        return None
    options = [stem(words[-1]) for part in [*match[1].split(","), match[2].removesuffix(" activities")]
               if (words := re.findall(r"[a-z]+", part.lower()))]
    wanted = [option for option in options if option in content_words(gold)]
    if len(wanted) != 1:
        return None
    asked = content_words(question) - set(options)
    best: tuple[int, str] | None = None
    for sentence in split_sentences(final_part(text)):
        if _SUPERLATIVE.search(sentence):
            rest = _LISTED.sub("", sentence)
            places = {option: place.start() for option in options if (place := _option_in(option, rest))}
            overlap = len(asked & content_words(sentence))
            if places and (best is None or overlap > best[0]):
                best = overlap, min(places, key=lambda option: places[option])
    return (wanted[0], best[1]) if best else None


def _option_in(option: str, text: str) -> re.Match[str] | None:
    """Return where an option's stem stands in its own forms: 'financing' and 'operations', not 'financial'."""
    return re.search(rf"\b{re.escape(option)}(?:ing|ed|s|es|e|y|ies|ion|ions|ations?|ating)?\b", text, re.IGNORECASE)
