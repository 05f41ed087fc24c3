"""The one prompt: it renders training data, evaluation and serving alike, so that they can never differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from ragtune.documents.pack import Pack, current_pack
from ragtune.documents.statements import restate_rows
from ragtune.documents.terms import name_rows, render_names
from ragtune.files import hash_text
from ragtune.records import ANSWER as ANSWER
from ragtune.records import REFUSAL as REFUSAL
from ragtune.records import Chunk, Hit, Message, Passage, Question

SYSTEM = (
    "Answer the question from the numbered passages. Cite the passage of each fact as [n], show the calculation if there "
    "is one, and end with 'Answer:'. If the passages do not hold the answer, reply: Not found in the documents."
)
_MARKUP = re.compile(
    r"<(?=[|｜])|<(?=[A-Za-z_]{1,40}[|｜]>)|<(?=/?s>)|<(?=</?SYS>>)|<(?=(?:start|end)_of_\w{1,20}>)"
    r"|<(?=/?(?:bos|eos|pad|unk|eot|eod|EOT|EOD|think|tool_call|tool_response)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])")
"""Where the control tokens of the known chat templates begin: ChatML, Llama 2 to 4, Mistral, Gemma, Phi, Qwen, DeepSeek. A
model's own special tokens beside them are broken where its tokenizer is known: ``models.chat``."""


def neutralise(text: str) -> str:
    """Break chat-template tokens such as ``<|im_start|>`` inside documents and questions, so that none takes effect.

    A space behind the first character breaks them; ordinary text (``a < b``, ``[1]``, ``<b>``) stays as it is.
    """
    return _MARKUP.sub(lambda match: match[0] + " ", text)


def title_of(chunk: Chunk) -> str:
    """Return the passage's title: what the pack in force shows of the document (else its name), page and unit."""
    unit = chunk.metadata.get("unit")
    shown = current_pack().describe(chunk.metadata) or chunk.document
    return f"{shown}, page {chunk.page}" + (f" (in {unit})" if unit else "")


def render_chunk(chunk: Chunk) -> str:
    """Return a chunk's text as a passage shows it: statement rows with the year said beside each amount."""
    columns = str(chunk.metadata.get("columns") or "")
    return _render_text(chunk.text, tuple(columns.split("|")) if columns else (), current_pack())


@lru_cache(maxsize=8192)  # building rows renders a chunk tens of times
def _render_text(text: str, columns: tuple[str, ...], pack: Pack) -> str:
    """Return a passage's text as the pack in force reads it, which is an argument so that the cache tells packs apart."""
    return neutralise(restate_rows(text, columns))


def number_passages(hits: Sequence[Hit]) -> tuple[Passage, ...]:
    """Number hits from 1 in the order given."""
    return tuple(
        Passage(
            number=number,
            text=render_chunk(hit.chunk),
            chunk_id=hit.chunk.id,
            document=hit.chunk.document,
            page=hit.chunk.page,
            start=hit.chunk.start,
            end=hit.chunk.end,
            title=neutralise(title_of(hit.chunk)),
            rank=hit.rank,
            score=hit.score,
        )
        for number, hit in enumerate(hits, start=1)
    )


def render_question(question: str, passages: Sequence[Passage] = (), names_rows: bool = True) -> str:
    """Return the question, with the sentence that says what the passages call its line items where they do otherwise."""
    asked = f"Question: {neutralise(question.strip())}"
    named = render_names(name_rows(question, [passage.text for passage in passages])) if names_rows else ""
    return f"{asked}\n{named}" if named else asked


def render_prompt(question: str, passages: Sequence[Passage] = (), names_rows: bool = True) -> tuple[Message, ...]:
    """Return the chat messages for a question: passages first, the question after them; none for closed book."""
    parts = [f"[{passage.number}] {passage.title}\n{passage.text}" for passage in passages]
    parts.append(render_question(question, passages, names_rows))
    return (
        Message(role="system", content=SYSTEM),
        Message(role="user", content="\n\n".join(parts)),
    )


def fit_prompt(
    question: str,
    passages: Sequence[Passage],
    count_tokens: Callable[[Sequence[Message]], int],
    max_tokens: int,
    names_rows: bool = True,
) -> tuple[tuple[Message, ...], tuple[Passage, ...]]:
    """Return the prompt within ``max_tokens`` and the passages it shows.

    The passage of the worst rank is shortened by whole lines, then left out; the question is never cut. Passages keep
    their order and are numbered anew. A question that does not fit alone is returned without passages.
    """
    kept = list(passages)

    def fits(trial: Sequence[Passage]) -> bool:
        return count_tokens(render_prompt(question, trial, names_rows)) <= max_tokens

    while kept and not fits(kept):
        worst = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
        shorter = _shorten(kept, worst, fits)
        if shorter is None:
            del kept[worst]
        else:
            kept[worst] = shorter
        kept = [_renumbered(passage, number) for number, passage in enumerate(kept, start=1)]
    return render_prompt(question, kept, names_rows), tuple(kept)


def _shorten(passages: list[Passage], position: int, fits: Callable[[Sequence[Passage]], bool]) -> Passage | None:
    """Return the passage with as many of its first lines as fit, or None where fewer than two lines would remain."""
    lines = passages[position].text.split("\n")
    low, high = 1, len(lines) - 1  # invariant: `low` lines may fit, more than `high` do not
    while low < high:
        middle = (low + high + 1) // 2
        trial = list(passages)
        trial[position] = _with_text(passages[position], "\n".join(lines[:middle]))
        if fits(trial):
            low = middle
        else:
            high = middle - 1
    if low < 2:
        return None
    return _with_text(passages[position], "\n".join(lines[:low]))


def _with_text(passage: Passage, text: str) -> Passage:
    return Passage.from_dict({**passage.to_dict(), "text": text})


def _renumbered(passage: Passage, number: int) -> Passage:
    return passage if passage.number == number else Passage.from_dict({**passage.to_dict(), "number": number})


def render_completion(question: Question, gold: Sequence[Passage]) -> str:
    """Return the completion to learn: cited justification lines, then ``Answer: ...``; the refusal without gold.

    ``gold`` are the shown passages that hold the evidence. A justification line that is not a calculation is cited to
    the gold passage that holds its text, else to the first.
    """
    if not question.is_answerable or not gold:
        return REFUSAL
    lines = [line.strip() for line in question.justification.split("\n") if line.strip()]
    if not lines:
        return f"{ANSWER} {question.answer} {''.join(f'[{passage.number}]' for passage in gold)}"
    cited = []
    for line in lines:
        holder = next((passage for passage in gold if line in passage.text), gold[0])
        cited.append(line if " = " in line else f"{line} [{holder.number}]")
    answer = f"{ANSWER} {question.answer}"
    if cited == lines:  # a calculation alone cites nothing
        answer += f" {''.join(f'[{passage.number}]' for passage in gold)}"
    return "\n".join([*cited, answer])


def parse_completion(completion: str) -> tuple[str, str, tuple[int, ...], bool]:
    """Return (answer, reasoning, cited passage numbers in order of first mention, whether it refuses)."""
    text = completion.strip()
    numbers = tuple(dict.fromkeys(int(n) for group in re.findall(r"\[([\d,\s]{1,20})\]", text)
                                  for n in re.findall(r"\d+", group)))
    before, found, after = text.rpartition(ANSWER)
    answer = (after if found else text).strip()
    is_refusal = not answer or REFUSAL.rstrip(".").lower() in answer.lower()
    answer = re.sub(r"\s*\[[\d,\s]{1,20}\]", "", answer).strip()
    return answer, before.strip() if found else "", numbers, is_refusal


def prompt_hash(names_rows: bool = True) -> str:
    """Return the hash that every manifest carries: it changes when any rendering of the prompt changes."""
    chunk = Chunk("c", "d", "NAME", "In millions\n2021 2020\nNet sales $ 4,210 $ (3,900)\nProse <|x|>.", 7, 7, 0, 1,
                  {"company": "Acme", "form": "10-K", "fiscal_year": 2021, "unit": "millions"})
    passages = number_passages([Hit(chunk, 1.0, 1, "dense")])
    question = Question("q", "What was turnover?", "$4,210 million", justification="Net sales 2021: 4,210\n1 + 1 = 2")
    samples = [render_prompt(question.text, passages, names_rows), *(render_completion(question, p) for p in (passages, ()))]
    terms = [(term.names, term.labels) for term in current_pack().terms] if names_rows else []
    return hash_text(repr([samples, terms]))
