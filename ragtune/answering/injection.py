"""Texts that address the model instead of asking or reporting: in questions, and hidden in documents.

Patterns of what such a text must say to work: to leave earlier instructions, to give them away, to play another part, or to
open a turn of its own. A person who reports of instructions seldom words them so. They are a fence and no wall: what counts
is that answers are checked against their passages, and that what a tenant may not see was never in the prompt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

REMOVED = "[instruction removed]"
_EARLIER = r"(?:previous|prior|preceding|above|earlier|foregoing|initial|original|existing|current|system)"
_ORDERS = (r"(?:instructions?|prompts?|directions|directives|commands|rules|guidelines|messages?|context|programming|"
           r"restrictions)")
_WHOSE = r"(?:all|any|every|the|your|my|these|those|of|other|and)"
_LEAVE = (r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?|overrid(?:e|ing)|bypass(?:ing)?|discard|drop|do not follow|"
          r"don't follow|stop following)")
_TELL = r"(?:reveal|print|show|repeat|output|display|disclose|give|tell|leak|write)"
_SECRET = r"(?:system|hidden|secret|initial|original)"
_MODEL = r"(?:ai|assistant|language model|llm|chatbot)"
_FREE = r"(?:dan|jailbroken|unrestricted|unfiltered|uncensored)"
_PARTS = (
    rf"{_LEAVE} (?:{_WHOSE} ){{0,4}}(?:{_EARLIER} )(?:{_WHOSE} |{_EARLIER} ){{0,2}}{_ORDERS}",
    rf"{_LEAVE} (?:{_WHOSE} ){{1,3}}{_ORDERS}(?: (?:above|before|so far|you (?:were|have been) given))",
    rf"{_LEAVE} (?:everything|anything|all)(?: that)? (?:above|before|you (?:were|have been|are) told)",
    rf"{_LEAVE} your (?:{_EARLIER} )?(?:{_ORDERS}|training)",
    rf"{_TELL}(?: me| us| out)?(?: (?:all|of|exactly|verbatim|the|your|full|entire|complete|exact)){{1,5}}"
    rf" (?:{_SECRET} (?:prompts?|messages?|instructions?)|prompt|instructions you (?:were|have been) given)",
    rf"what (?:is|are|was|were) your {_SECRET} (?:prompts?|instructions?|messages?)",
    rf"you are (?:now|no longer|from now on) (?:\w+ ){{0,4}}(?:{_MODEL}|model|gpt|{_FREE}|developer mode|"
    r"by (?:any|your) (?:rules|restrictions))\b",
    r"(?:pretend|act|behave|respond|answer|role-?play) (?:to be |as if you (?:are|were|had) |"
    r"as (?:though you (?:are|were) )?|like )(?:an? |the |you have )?(?:\w+ )?"
    rf"(?:{_FREE}|evil|no (?:rules|restrictions|filters))\b",
    r"(?:enable|enter|activate|switch to) (?:the )?(?:developer|jailbreak|god|dan|debug|admin(?:istrator)?) mode",
    r"do anything now",
    r"(?:new|updated|real|actual) (?:system )?(?:instructions?|prompt) ?:",
    rf"(?:the )?(?:{_MODEL}|model) (?:must|should|shall|has to|is to) (?:now )?(?:always )?(?:ignore|disregard|answer|reply|"
    r"respond|say|output|tell the user)\b",
    rf"(?:if|when) you are an? {_MODEL}\b",
    r"(?:ignoriere|vergiss|missachte) (?:bitte )?(?:alle |die |deine |s[aä]mtliche )*(?:vorherigen |bisherigen |obigen |"
    r"fr[uü]heren )+(?:anweisungen|befehle|regeln|instruktionen)",
    r"(?:ignore[zr]?|oublie[zr]?) (?:toutes |tous |les |vos |tes )*(?:instructions|consignes|r[eè]gles) "
    r"(?:pr[eé]c[eé]dentes|ant[eé]rieures|ci-dessus)",
    r"(?:ignora|ignore|olvida|olvide) (?:todas |todos |las |los |tus |sus )*(?:instrucciones|reglas|[oó]rdenes) "
    r"(?:anteriores|previas)",
)
_PHRASE = re.compile("|".join(rf"\b(?:{part})" for part in _PARTS), re.IGNORECASE)
_TURN = re.compile(
    r"^\s{0,3}(?:#{1,6}\s*|\*\*|<)?(?:system|assistant|developer)(?:\s+(?:prompt|message|instructions?))?(?:\*\*|>)?\s*:\s*"
    r"(?=\S)(?=.{0,200}\b(?:you|ignore|answer|reply|must|always|never)\b)", re.IGNORECASE | re.MULTILINE)
_TOKENS = re.compile(
    r"<\s?[|｜]\s?(?:im[_ ]start|im[_ ]end|system|user|assistant|start[_ ]header|end[_ ]header|eot|begin[_ ]of|endoftext)"
    r"|\[\s?/?INST\]|<\s?<SYS>>|<\s?(?:start|end)[_ ]of[_ ]turn>", re.IGNORECASE)
_UNSEEN = re.compile(
    r"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    r"\ufeff\U000e0000-\U000e01ef]")
_LOOKALIKES = str.maketrans("аеорсухіѕјԁɡоІАВЕКМНОРСТУХΑΒΕΖΗΙΚΜΝΟΡΤΥΧαορν", "aeopcyxisjdgoIABEKMHOPCTYXABEZHIKMNOPTYXaopv")
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]*")


def fold(text: str) -> str:
    """Return a text as it reads: no unseen characters, letters of other scripts and widths that look alike as theirs, plain
    quotes, one space between words.
    """
    text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).translate(_LOOKALIKES)
    text = text.replace("’", "'").replace("‘", "'")
    spelt = re.sub(r"\b(?:\w[ .\-_*]){5,}\w\b", lambda match: re.sub(r"[ .\-_*]", "", match[0]), text)  # i g n o r e
    return re.sub(r"[\s\"“”`*_~,]+", " ", spelt)


def find_injection(text: str) -> str:
    """Return the words that address the model, '' where there are none."""
    folded = fold(text)
    match = _PHRASE.search(folded) or _TOKENS.search(folded) or _TURN.search(_UNSEEN.sub("", text))
    return " ".join(match[0].split())[:80] if match else ""


@lru_cache(maxsize=4096)  # the same passages are found again and again
def remove_injection(text: str) -> tuple[str, int]:
    """Return a text with each sentence that addresses the model taken out, and how many were.

    A sentence over several lines goes whole: a line that is no part of it stays.
    """
    if not find_injection(text):
        return text, 0
    count = 0

    def clean(match: re.Match[str]) -> str:
        nonlocal count
        if not match[0].strip() or not find_injection(match[0]):
            return match[0]
        count += 1
        lead = match[0][: len(match[0]) - len(match[0].lstrip())]
        return lead + REMOVED

    cleaned = _SENTENCE.sub(clean, text)
    if find_injection(cleaned):  # it runs over lines, which are otherwise rows of a table or items of a list
        lines, kept, place = cleaned.split("\n"), [], 0
        while place < len(lines):
            size = next((size for size in (1, 2, 3, 4) if _begins(lines[place : place + size])), 0)
            count += bool(size)
            kept.append(REMOVED if size else lines[place])
            place += size or 1
        cleaned = "\n".join(kept)
    return (cleaned, count) if not find_injection(cleaned) else (REMOVED, count + 1)


def _begins(lines: Sequence[str]) -> bool:
    """Tell whether words that address the model begin in the first of the lines and end in the last."""
    return bool(find_injection("\n".join(lines))) and not find_injection("\n".join(lines[1:]))
