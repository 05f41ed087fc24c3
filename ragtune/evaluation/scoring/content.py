"""How much of a reference's content an answer holds: telling words, the reference's head, its names, where they stand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ragtune.documents.names import read_common_words
from ragtune.evaluation.scoring.wording import content_words, final_part, split_sentences, stem

RARE_WEIGHT = 3.0
"""What a name, or a word that no common report holds, weighs against a common word."""
WINDOW = 3
"""Sentences that are read together where the best place of an answer is looked for."""
_WORD = re.compile(r"[A-Za-z][A-Za-z&'’-]*[A-Za-z]|[A-Za-z]")
_LIGHT = frozenset(map(stem, (
    "biggest largest highest greatest lowest smallest least most best worst experience experienced report reported perform "
    "performed performance show showed segment category type region overall present presented amongst"
).split()))
"""Words of an answer's frame, which say nothing by themselves."""
_HEAD_ENDS = re.compile(
    r"[.;(](?:\s|$)|\s\(|,?\s\b(?:because|since|as|whereas|while|primarily|mainly|mostly|due to|driven|which|with|its|but|"
    r"and (?:the|its)|followed|representing|from|by)\b",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[,;\n]|\band\b|\(\d\)")


def weigh_words(text: str, asked: Iterable[str] = ()) -> dict[str, float]:
    """Return the text's content words with their weights, those of the question (``asked``) left out.

    Names (a capital within a sentence) and words that common reports do not hold weigh RARE_WEIGHT.
    """
    common, leave = read_common_words(), set(asked)
    weights: dict[str, float] = {}
    for sentence in split_sentences(text):
        for match in _WORD.finditer(sentence):
            for word in content_words(match[0]) - leave:
                is_name = match[0][0].isupper() and bool(sentence[: match.start()].strip("*\"'( -•"))
                weight = RARE_WEIGHT if is_name or match[0].lower() not in common else 1.0
                weights[word] = max(weights.get(word, 0.0), weight)
    return weights


def share_held(wanted: Mapping[str, float], said: Iterable[str]) -> float:
    """Return the weighted share of the wanted words that are said; 1 where nothing is wanted."""
    total, held = sum(wanted.values()), set(said)
    return sum(weight for word, weight in wanted.items() if word in held) / total if total else 1.0


def head_of(gold: str) -> str:
    """Return what a reference begins with, up to its first full stop, bracket or reason."""
    end = _HEAD_ENDS.search(gold, 3)
    return gold[: end.start()] if end else gold


def read_content(question: str, gold: str, answer: str) -> dict[str, float]:
    """Return shares from 0 to 1 of the reference's content in the answer, by where and how it is looked for."""
    asked = content_words(question)
    wanted = weigh_words(gold, asked) or weigh_words(gold)
    plain = dict.fromkeys(wanted, 1.0)
    told = {word: weight for word, weight in wanted.items() if word not in _LIGHT} or wanted
    head = {word: weight for word, weight in told.items() if word in content_words(head_of(gold))} or told
    rare = {word: weight for word, weight in wanted.items() if weight > 1}
    part = final_part(answer)
    sentences = [sentence for sentence in split_sentences(part) if sentence.strip()] or [""]
    words = [content_words(sentence) for sentence in sentences]
    everything = set().union(*words)
    windows = [set().union(*words[start : start + WINDOW]) for start in range(max(len(words) - WINDOW + 1, 1))]
    focus = max(words, key=lambda said: len(asked & said))
    said = weigh_words(part, asked)
    names = {word: weight for word, weight in said.items() if weight > 1}
    items = [weights for item in _BREAK.split(gold) if (weights := weigh_words(item, asked))]
    return {
        "recall": share_held(plain, everything),
        "weighted_recall": share_held(wanted, everything),
        "head_recall": share_held(head, everything),
        "rare_recall": share_held(rare, everything) if rare else share_held(wanted, everything),
        "window_recall": max(share_held(wanted, window) for window in windows),
        "focus_recall": share_held(wanted, focus),
        "head_focus": share_held(head, focus),
        "lead_recall": share_held(head, set().union(*words[:2])),
        "end_recall": share_held(head, set().union(*words[-2:])),
        "names_shared": share_held(names, set(wanted)) if names else 0.0,
        "items_met": sum(share_held(item, everything) >= 0.5 for item in items) / len(items) if items else 1.0,
        "gram_recall": _gram_recall(question, gold, part),
        "wanted_few": 1.0 / (1.0 + len(wanted)),
    }


def _gram_recall(question: str, gold: str, answer: str) -> float:
    """Return the share of the reference's four-letter runs, those of the question left out, that the answer holds."""
    wanted = (_grams(gold) - _grams(question)) or _grams(gold)
    return len(wanted & _grams(answer)) / len(wanted) if wanted else 1.0


def _grams(text: str, size: int = 4) -> set[str]:
    plain = " ".join(re.findall(r"[a-z0-9]+", text.lower()))
    return {plain[start : start + size] for start in range(len(plain) - size + 1)}
