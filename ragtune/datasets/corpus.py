"""Other shapes from the same source: text to go on pre-training, plain instructions, classification rows, RL prompts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ragtune.answering.prompt import REFUSAL, neutralise, parse_completion
from ragtune.datasets.folder import OpenedDataset
from ragtune.errors import RunError
from ragtune.records import ANSWER, Document, Example, Question
from ragtune.seams import Progress

CountMany = Callable[[Sequence[str]], Sequence[int]]
"""Returns the tokens of each text, as they count when the texts are joined."""
LABELS = ("not_answerable", "answerable")
_RUN = 3  # consecutive lines that were seen before are a repeated passage; fewer may be a table's rows
_BATCH = 1024  # lines counted together


@dataclass(frozen=True)
class Texts:
    """Rows of running text, and what was read, kept and left out."""

    rows: tuple[dict[str, Any], ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def build_texts(
    documents: Iterable[Document], count_many: CountMany, max_tokens: int, end: str = "", progress: Progress | None = None,
    total: int = 0,
) -> Texts:
    """Return the documents' text packed into rows of at most ``max_tokens`` tokens, cut between lines.

    Pages that were seen before and runs of three or more lines that were seen before, in any of the documents, are left
    out; single repeated lines stay, since statement rows repeat rightly. ``end`` is the tokenizer's end-of-text token: it
    follows each document, so that a row can hold several. Inside the documents it and chat-template tokens are broken.
    Raises RunError where nothing is left.
    """
    seen, packer, read = _Seen(), _Packer(count_many, max_tokens, end), 0
    rows: list[dict[str, Any]] = []
    for read, document in enumerate(documents, start=1):
        rows += packer.add(document.name, seen.keep_new(document, end))
        if progress:
            progress(read, max(read, total))
    rows += packer.flush()
    counts = {"documents": read, "pages": seen.pages, "repeated_pages": seen.counts["pages"],
              "repeated_lines": seen.counts["lines"], "tokens": packer.tokens, "rows": len(rows)}
    if not rows:
        raise RunError(f"no text is left of {read} document(s) that are not kept for testing. Index more documents, or "
                       "lower dataset.test_share, and build the dataset again.")
    return Texts(tuple(rows), counts)


class _Seen:
    """Remembers the pages and runs of lines that were read, by their hash."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.pages = 0
        self.counts: Counter[str] = Counter()

    def _is_new(self, lines: Sequence[str]) -> bool:
        key = hashlib.blake2b("\n".join(lines).encode(), digest_size=10).digest()
        is_new = key not in self.keys
        self.keys.add(key)
        return is_new

    def keep_new(self, document: Document, end: str) -> list[str]:
        """Return the document's lines without those that repeat, safe to stand in a row."""
        lines: list[str] = []
        for page in document.pages:
            own = [line for line in page.text.split("\n") if line.strip()]
            self.pages += 1
            if own and not self._is_new(["page", *map(_plain, own)]):
                self.counts["pages"] += 1
            else:
                lines += own
        plain, repeated = [_plain(line) for line in lines], set[int]()
        for start in range(len(lines) - _RUN + 1):
            if not self._is_new(plain[start : start + _RUN]):
                repeated.update(range(start, start + _RUN))
        self.counts["lines"] += len(repeated)
        return [_safe(line, end) for number, line in enumerate(lines) if number not in repeated]


def _plain(line: str) -> str:
    return " ".join(line.lower().split())


def _safe(line: str, end: str) -> str:
    """Break the end-of-text token and chat-template tokens inside a document."""
    safe = neutralise(line)
    return safe.replace(end, f"{end[0]} {end[1:]}") if end else safe


class _Packer:
    """Fills rows with lines, document after document; what is over goes into the next row."""

    def __init__(self, count_many: CountMany, max_tokens: int, end: str) -> None:
        self.count_many, self.max_tokens, self.end = count_many, max_tokens, end
        self.pieces: list[tuple[str, str, int]] = []  # text, document, tokens
        self.tokens = 0

    def add(self, document: str, lines: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows that become full."""
        pieces = [f"{line}\n" for line in lines]
        if pieces:
            pieces[-1] = lines[-1] + (self.end or "\n\n")
        for start in range(0, len(pieces), _BATCH):
            batch = pieces[start : start + _BATCH]
            for piece, count in self._cut(batch, self.count_many(batch)):
                if self._size() + count > self.max_tokens:
                    yield from self.flush(is_last=False)
                self.pieces.append((piece, document, count))

    def flush(self, is_last: bool = True) -> Iterator[dict[str, Any]]:
        """Yield what is there as one row, or several where tokens count more together than apart."""
        while self.pieces:
            kept = list(self.pieces)
            while (tokens := self.count_many(["".join(text for text, _, _ in kept)])[0]) > self.max_tokens and len(kept) > 1:
                kept.pop()
            text = "".join(text for text, _, _ in kept).strip("\n")
            self.pieces = self.pieces[len(kept) :]
            if text:
                self.tokens += tokens
                yield {"text": text, "documents": list(dict.fromkeys(document for _, document, _ in kept))}
            if not is_last:
                return

    def _size(self) -> int:
        return sum(count for _, _, count in self.pieces)

    def _cut(self, pieces: Sequence[str], counts: Sequence[int]) -> Iterator[tuple[str, int]]:
        """Yield pieces with their tokens; one that is longer than a row is halved, between words where it can be."""
        for piece, count in zip(pieces, counts):
            if count <= self.max_tokens or len(piece) < 2:
                yield piece, count
                continue
            middle = piece.rfind(" ", 1, len(piece) // 2) + 1 or len(piece) // 2
            halves = [piece[:middle], piece[middle:]]
            yield from self._cut(halves, self.count_many(halves))


def render_instruction(question: Question) -> dict[str, Any]:
    """Return a chat of the bare question and its answer: no passage, no system message, no citation."""
    lines = [line.strip() for line in question.justification.split("\n") if line.strip()]
    answer = "\n".join([*lines, f"{ANSWER} {question.answer}"]) if question.is_answerable else REFUSAL
    return {"messages": [{"role": "user", "content": question.text}, {"role": "assistant", "content": answer}]}


def build_instructions(dataset: OpenedDataset, side: str) -> Iterator[dict[str, Any]]:
    """Yield a chat for each question of one side, each text once."""
    questions = {question.text: question for question in dataset.questions(side)}
    yield from map(render_instruction, questions.values())


def label_answerable(dataset: OpenedDataset, side: str) -> Iterator[dict[str, Any]]:
    """Yield each prompt's passages and question with whether the passages hold the answer: 1 or 0, as LABELS names it."""
    for example in dataset.side(side):
        label = int(bool(example.provenance.get("gold")))
        yield {"text": example.prompt[-1]["content"], "label": label, "label_text": LABELS[label]}


def label_kinds(dataset: OpenedDataset, side: str) -> Iterator[dict[str, Any]]:
    """Yield each question of one side with its kind; labels count the kinds of both sides in order of the alphabet."""
    kinds = sorted({question.kind for name in ("train", "test") for question in dataset.questions(name)})
    for question in dataset.questions(side):
        yield {"text": question.text, "label": kinds.index(question.kind), "label_text": question.kind or "not named"}


def build_rl_prompts(dataset: OpenedDataset, side: str) -> Iterator[dict[str, Any]]:
    """Yield each prompt with what a reward needs: the answer that is right for these passages, and where it stands.

    ``answer`` is the refusal where the passages do not hold the answer; ``reference`` is a whole right completion. TRL's
    GRPO and RLOO hand all columns but ``prompt`` to the reward functions.
    """
    questions = {question.id: question for question in dataset.questions(side)}
    for example in dataset.side(side):
        provenance = dict(example.provenance)
        yield {
            "prompt": [dict(message) for message in example.prompt],
            "answer": _find_answer(example, questions.get(str(provenance.get("question_id")))),
            "is_answerable": bool(provenance.get("gold")),
            "kind": str(provenance.get("kind") or ""),
            "reference": example.completion,
            "provenance": provenance,
        }


def _find_answer(example: Example, question: Question | None) -> str:
    if not example.provenance.get("gold"):
        return REFUSAL
    return question.answer if question is not None else parse_completion(example.completion)[0]
