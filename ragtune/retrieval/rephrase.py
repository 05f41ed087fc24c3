"""A question in other words and in parts: by rules, or by a language model whose reply is parsed with care."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence

from ragtune.records import Message
from ragtune.retrieval.lexical import tokenise
from ragtune.seams import Generator

log = logging.getLogger(__name__)
MOST = 3  # questions taken from a reply, and parts of a question
MAX_CHARACTERS = 300
PROMPTS = {
    "multi_query": "Rewrite the question in three other ways, with the words that a report, manual or statement would use. "
                   "Keep names and years. One rewriting a line, nothing else.",
    "decompose": "If the question needs several facts, write one short question for each fact, at most three. Keep names "
                 "and years. One question a line, nothing else. If it needs one fact, repeat it.",
    "hyde": "Write the passage of a document that answers the question, in two or three sentences in the document's own "
            "words. Make up figures where needed. Nothing but the passage.",
}
_WORDS = r"(?:what|how|why|which|who|when|where|did|does|do|is|are|was|were|has|have|can)"
_SENTENCE = re.compile(rf"(?<=[?!;])\s+|(?<=[a-z0-9)]\.)\s+(?=[A-Z])|,?\s+and\s+(?={_WORDS}\b)", re.IGNORECASE)
_OPERATOR = re.compile(
    r"\b(?:defined|calculated|computed|measured)\s+(?:as|by)\s*:?|\b(?:equals|divided by|minus|multiplied by)\b"
    r"|\s[-/×*÷+−]\s|\)\s*[-/×*÷+−]|[-/×*÷+−]\s*\(", re.IGNORECASE)
_NAMED = re.compile(r"(?<=[a-z,] )(?:\d*[A-Z][\w&.-]*\w|(?:19|20)\d\d)\b")  # names and years, first words of sentences aside
_BULLET = re.compile(r"^\s*(?:[-*•–]+|\(?\d{1,2}[.):]|(?:q|question)\s*\d*\s*:)\s*", re.IGNORECASE)


def split_question(question: str) -> list[str]:
    """Return the parts of a question that asks several things, by rules; none where it asks one.

    Parts are sentences, clauses that begin with a question word after 'and', and the operands of a formula it spells out.
    Those with fewer than two telling words are left out; names and years of the whole question are said with each.
    """
    named = dict.fromkeys(_NAMED.findall(question[:5000]))
    parts: list[str] = []
    for sentence in _SENTENCE.split(question[:5000]):
        pieces = [piece.strip(" ()[].,:;?") for piece in _OPERATOR.split(sentence)]
        parts += pieces if len(pieces) > 1 else [sentence.strip()]
    telling = [part for part in parts if sum(not stem.isdigit() for stem in tokenise(part)) >= 2]
    distinct = [part[:MAX_CHARACTERS] for part in dict.fromkeys(telling) if part != question.strip()]
    if len(distinct) < 2:
        return []
    return [" ".join([part, *(name for name in named if name not in part)][:12]) for part in distinct[:MOST]]


def ask_questions(question: str, generator: Generator | None, task: str) -> list[str]:
    """Return the questions a language model writes for the task 'multi_query' or 'decompose'; none where it fails."""
    known = {question.strip().casefold()}
    questions = []
    for line in parse_lines(_complete(question, generator, task)):
        if line.casefold() not in known and tokenise(line):
            known.add(line.casefold())
            questions.append(line)
    return questions[:MOST]


def ask_passage(question: str, generator: Generator | None) -> str:
    """Return the passage a language model imagines as the answer, '' where it fails or writes nothing."""
    reply = re.sub(r"\s+", " ", strip_reply(_complete(question, generator, "hyde")))[:1500].strip()
    return reply if tokenise(reply) else ""


def _complete(question: str, generator: Generator | None, task: str) -> str:
    if generator is None:
        log.warning("expansion '%s' has no language model; the question is searched as it is", task)
        return ""
    # Chat-template tokens inside a question must not take effect.
    asked = re.sub(r"<(?=\|)|\[(?=/?INST\])", lambda match: match[0] + " ", question[:2000])
    messages: list[Message] = [{"role": "system", "content": PROMPTS[task]}, {"role": "user", "content": asked}]
    try:
        replies = generator.generate([messages], 200)
        return str(replies[0]) if replies else ""
    except Exception as error:  # any provider's: a search must not fail because its help did
        log.warning("expansion '%s' failed (%s: %s); the question is searched as it is", task, type(error).__name__,
                    str(error)[:200])
        return ""


def strip_reply(reply: str) -> str:
    """Return a reply without its thoughts and the fences around it."""
    reply = re.sub(r"<think>.*?(?:</think>|$)", "", reply, flags=re.DOTALL | re.IGNORECASE)
    return re.sub(r"^\s*```\w*\s*$", "", reply, flags=re.MULTILINE).strip()


def parse_lines(reply: str) -> list[str]:
    """Return the lines of a reply, or the strings of a JSON list, without bullets, numbers, quotes and announcements."""
    bare = strip_reply(reply)
    lines: Sequence[object] = bare.split("\n")
    if bare.startswith(("[", "{")):
        try:
            value = json.loads(bare)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            value = next((item for item in value.values() if isinstance(item, list)), None)
        lines = value if isinstance(value, list) else lines
    found = []
    for line in lines:
        text = _BULLET.sub("", line).strip(" \t\"'“”*`,") if isinstance(line, str) else ""
        if 3 <= len(text) <= MAX_CHARACTERS and not text.endswith(":"):
            found.append(text)
    return found
