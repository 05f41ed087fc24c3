"""From a question to a citing answer: retrieve, render the one prompt, generate, parse citations, check numbers."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

from ragtune.answering.calculate import recompute
from ragtune.answering.guard import NumberGuard, find_amounts
from ragtune.answering.guardrails import Guardrails
from ragtune.answering.prompt import REFUSAL, fit_prompt, number_passages, parse_completion
from ragtune.answering.quote import QUOTE, mend_rows, verify_citations, verify_quotes
from ragtune.answering.verdict import set_verdict_right
from ragtune.documents.pack import use_pack
from ragtune.errors import QuestionError, RecipeError
from ragtune.recipe.schema import Recipe
from ragtune.records import Answer, Citation, Hit, Message, Passage, Trace
from ragtune.seams import Generator, Progress, Searcher

MAX_QUESTION_CHARACTERS = 4000
logger = logging.getLogger(__name__)


def check_question(question: str) -> str:
    """Return the question without outer spaces. Raises QuestionError where it is empty or too long."""
    text = question.strip()
    if not text:
        raise QuestionError("the question is empty. Ask something: ragtune ask 'What were net sales in 2021?'")
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise QuestionError(
            f"the question has {len(text)} characters, {MAX_QUESTION_CHARACTERS} are allowed. Ask it in fewer words."
        )
    return text


def search_traced(searcher: Searcher, question: str, k: int, where: str | None) -> tuple[list[Hit], Trace]:
    """Return the hits and, from a searcher that tells it, how they were found."""
    trace_many = getattr(searcher, "trace_many", None)
    if trace_many is None:
        return searcher.search(question, k, where), Trace()
    found: list[tuple[list[Hit], Trace]] = trace_many([question], k, where)
    return found[0]


class Answerer:
    """Answers questions with one generator and one searcher, by one recipe.

    The searcher may be None where every call brings its own hits.
    """

    def __init__(
        self, generator: Generator, searcher: Searcher | None, recipe: Recipe, guardrails: Guardrails | None = None
    ) -> None:
        self.generator = generator
        self.searcher = searcher
        self.recipe = recipe
        self.guardrails = guardrails or open_guardrails(recipe, searcher)

    def answer(self, question: str, k: int | None = None, where: str | None = None) -> Answer:
        """Search, then answer. Raises QuestionError for an empty or over-long question or a bad filter."""
        text = check_question(question)
        if self.searcher is None:
            raise QuestionError("there is no index to search. Do: ragtune index --recipe FILE")
        begun = time.perf_counter()
        checked = self.guardrails.check_question(text)
        if checked.refusal:
            return checked.answer()
        text = checked.question
        hits, trace = search_traced(self.searcher, text, k or self.recipe.retrieval.k, where)
        found = time.perf_counter()
        answer = self.answer_prompts([(text, hits)])[0]
        if trace.is_fallback:
            problems = (*(f"search: {reason}" for reason in trace.reasons), *answer.problems)
            answer = dataclasses.replace(answer, problems=problems)
        if checked.problems:
            answer = dataclasses.replace(answer, problems=(*checked.problems, *answer.problems))
        timings = {"search": round(found - begun, 4), "generate": round(time.perf_counter() - found, 4)}
        logger.info("answered %r: refusal=%s citations=%d %s", text, answer.is_refusal, len(answer.citations), timings)
        return dataclasses.replace(answer, timings_s=timings)

    def answer_prompts(
        self, items: Sequence[tuple[str, Sequence[Hit]]], progress: Progress | None = None
    ) -> list[Answer]:
        """Answer questions whose hits are already chosen, in batches; a question without hits is closed book."""
        fitted = self.fit_prompts(items)
        with use_pack(self.recipe.pack):
            completions = self.generator.generate(
                [messages for messages, _ in fitted], self.recipe.generator.max_new_tokens, progress
            )
        return [
            self.read(question, completion, passages)
            for (question, _), (_, passages), completion in zip(items, fitted, completions)
        ]

    def fit_prompts(
        self, items: Sequence[tuple[str, Sequence[Hit]]]
    ) -> list[tuple[tuple[Message, ...], tuple[Passage, ...]]]:
        """Return the prompt of each question within the token budget, and its passages as they stand there."""
        limit = min(
            self.recipe.generator.max_prompt_tokens,
            self.generator.context_tokens - self.recipe.generator.max_new_tokens,
        )
        names_rows, clean = self.recipe.answering.names_rows, self.guardrails.clean_passages
        with use_pack(self.recipe.pack):
            return [
                fit_prompt(question, clean(number_passages(hits)), self.generator.count_tokens, limit, names_rows)
                for question, hits in items
            ]

    def read(self, question: str, completion: str, passages: tuple[Passage, ...]) -> Answer:
        """Turn a completion into an answer: figures and verdicts set right, citations resolved, numbers guarded."""
        quoted, misquotes = mend_rows(completion, passages)
        computed, calculations = recompute(quoted)
        corrected = sum(not calculation.is_right for calculation in calculations)
        computed, moved = verify_citations(computed, passages)
        computed, requoted = verify_quotes(computed, passages)
        text, reasoning, numbers, is_refusal = parse_completion(computed)
        verdict = None if is_refusal else set_verdict_right(question, text, reasoning)
        text = verdict.found if verdict else text
        problems = [f"{corrected} calculation result(s) were wrong and recomputed"] if corrected else []
        problems += [f"'{m.row}' was misquoted: {m.said}, where [{m.passage}] prints {m.printed}" for m in misquotes]
        problems += [f"the verdict was set right from its figures; it said '{verdict.said}'"] if verdict else []
        problems += [f"the citation [{old}] was mended: its line stands in [{new}]" for old, new in moved]
        shown = {passage.number: passage for passage in passages}
        problems += [f"the quote of [{q.cited}] was set right: as [{q.number}] prints it" for q in requoted]
        problems += [f"the cited passage [{number}] does not exist" for number in numbers if number not in shown]
        cited = [shown[number] for number in numbers if number in shown]
        inferred = {new for _, new in moved} | {q.number for q in requoted if q.number != q.cited}
        if not cited and passages and not is_refusal:
            cited = _holders(text, passages)
            inferred = {passage.number for passage in cited}
            problems.append("the answer cites no passage" if not cited else "the citation was inferred from the numbers")
        said = f"{reasoning}\n{text}"
        quotes = {int(match["number"]): match["text"] for match in QUOTE.finditer(reasoning)}
        citations = () if is_refusal else tuple(_cite(p, said, p.number in inferred, quotes.get(p.number)) for p in cited)
        answer = Answer(question, text, citations, passages, is_refusal, reasoning, completion, tuple(problems))
        return self.guardrails.check_answer(self._guarded(answer))

    def _guarded(self, answer: Answer) -> Answer:
        """Apply the recipe's guard: refuse, flag or nothing. Closed-book answers have nothing to be checked against."""
        mode = self.recipe.answering.guard
        if mode == "none" or answer.is_refusal or not answer.passages:
            return answer
        found = NumberGuard().check(answer)
        if not answer.citations:
            found = (*found, "no passage supports the answer")
        if not found:
            return answer
        answer = dataclasses.replace(answer, problems=(*answer.problems, *found))
        if mode == "flag":
            return answer
        self.guardrails.count_numbers()
        return dataclasses.replace(answer, text=REFUSAL, citations=(), is_refusal=True)


def open_guardrails(
    recipe: Recipe, searcher: Searcher | None, on_trip: Callable[[str], None] | None = None
) -> Guardrails:
    """Return a recipe's guardrails; topics by example are told by the embedder of the searcher's index, loaded when needed.

    Raises RecipeError where they are wanted and there is no index.
    """
    topic, index = recipe.guardrails.topic, getattr(searcher, "index", None)
    if (topic.allowed or topic.denied) and index is None and searcher is not None:
        raise RecipeError("guardrails.topic has example questions, which only a search by an index can compare. Use "
                          "allowed_words and denied_words instead.")
    return Guardrails(recipe.guardrails, None if index is None else lambda texts: index.embedder.embed_questions(texts),
                      on_trip)


def _holders(text: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the first passage that holds the most of the answer's numbers, where one holds any."""
    wanted = set(find_amounts(text))
    if not wanted:
        return []
    counts = [len(wanted & set(find_amounts(passage.text))) for passage in passages]
    best = max(counts, default=0)
    return [passages[counts.index(best)]] if best else []


def _cite(passage: Passage, said: str, is_inferred: bool, quoted: str | None = None) -> Citation:
    """Return the citation, its quote what was quoted, else the passage's line that shares most with what was said."""
    words = set(said.lower().split())
    nearest = max(passage.text.split("\n"), key=lambda line: len(words & set(line.lower().split())))
    quote = quoted if quoted and quoted in passage.text else nearest
    return Citation(
        passage.number, passage.document, passage.page, passage.chunk_id, passage.start, passage.end, quote, is_inferred
    )
