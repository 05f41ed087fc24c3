"""Pairs of a run's own answers: training questions go in, as they would be served, and what the run answers to them is
drawn, scored, or judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.answering.prompt import parse_completion, prompt_hash
from ragtune.datasets.folder import OpenedDataset
from ragtune.datasets.instruct import BuildResult, build_examples
from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.prefer import PairsResult, as_shown, judge_completion
from ragtune.datasets.sampled import NEITHER, NOT_READ, TURNED, Choice, ChooseOf, build_judged_pairs, build_sampled_pairs
from ragtune.errors import ModelError
from ragtune.evaluation.judging.judge import SCORER, AnyJudge, ModelJudge, open_judge
from ragtune.evaluation.judging.rubric import load_rubric
from ragtune.evaluation.judging.verdicts import ToJudge
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.models.language import open_generator
from ragtune.recipe.schema import Recipe
from ragtune.records import OUTCOMES, Example, Outcome, Passage, Question
from ragtune.retrieval.search import open_searcher
from ragtune.seams import Generator, Progress, Report, Sampler, Sampling, progress_of
from ragtune.training.run import check_run_fits, open_run

RUBRIC = "better_cited"
JUDGED_AT_ONCE = 16


@dataclass(frozen=True)
class Sampled:
    """The pairs of a run's answers. ``facts`` count questions, samples and their outcomes."""

    result: PairsResult
    facts: Mapping[str, Any]
    run_id: str
    index_id: str


def score_completion(question: Question, completion: str) -> Outcome:
    """Return the scorer's outcome of a whole completion, as it stands: nothing is put right, no guard looks at it."""
    text, _, _, is_refusal = parse_completion(completion)
    outcome = score_answer(question, text, is_refusal or None).outcome
    assert outcome is not None
    return outcome


def sample_pairs(recipe: Recipe, opened: OpenedDataset, index: Path, run: Path, report: Report | None = None) -> Sampled:
    """Draw ``pairs.samples`` answers of the run to each training question of a dataset and pair the better with the worse.

    The prompts are those that serving would show, without passages of documents kept from training; test questions are not
    asked. Raises RunError where the run is missing or does not fit, ModelError where run or judge cannot be asked.
    """
    section, tuned = recipe.pairs, open_run(run)
    searcher = open_searcher(index, recipe.retrieval)
    generator = open_generator(recipe.generator, adapter=tuned.adapter)
    ours = prompt_hash(recipe.answering.names_rows)
    check_run_fits(tuned, searcher.index.id, ours, str(getattr(generator, "fingerprint", "")))
    if not isinstance(generator, Sampler):
        raise ModelError(f"'{generator.name}' answers the same always. Set generator.model to one that can draw answers.")
    built = _serve(recipe, opened, searcher, generator, report)
    rows = built.examples
    known = {question.id: question for question in opened.questions("train")}
    asked = [known[row.provenance["question_id"]] for row in rows]
    drawn = generator.sample(
        [row.prompt for row in rows], recipe.generator.max_new_tokens,
        Sampling(section.samples, section.temperature, section.top_p, section.seed), progress_of(report, "drawing answers"))
    if section.judge in (None, SCORER):
        made = build_sampled_pairs(rows, asked, drawn, score_completion, per_row=section.per_row)
    else:
        judge = open_judge(section.judge, load_rubric(RUBRIC), recipe.generator, option="pairs.judge")
        choose = choose_by(judge, progress_of(report, "judging answers"))
        made = build_judged_pairs(rows, asked, drawn, choose, judge.name, score_completion)
    skipped = {**built.dropped, **built.skipped, **made.skipped}
    facts = {"questions": len(rows), "samples": sum(map(len, drawn)), **_count_outcomes(rows, asked, drawn)}
    return Sampled(PairsResult(made.pairs, skipped), facts, tuned.id, searcher.index.id)


def _serve(
    recipe: Recipe, opened: OpenedDataset, searcher: Any, generator: Generator, report: Report | None
) -> BuildResult:
    """Return the training questions' rows as they would be served, with what the dataset keeps from training left out."""
    tested = {evidence.document for question in opened.questions("test") for evidence in question.evidence}
    groups = {row.provenance["question_id"]: row.provenance.get("groups", ()) for row in opened.train}
    return build_examples(
        opened.questions("train"), searcher, generator.count_tokens, recipe.dataset, recipe.retrieval, recipe.generator,
        progress_of(report, "finding passages"), is_served=True, groups=groups,
        excluded=tested.union(opened.manifest.get("excluded", ())), names_rows=recipe.answering.names_rows)


def choose_by(judge: AnyJudge, progress: Progress | None = None) -> ChooseOf:
    """Return what asks a judge of pairs for its choices, in both orders. It raises ModelError where the judge is gone."""

    def choose(choices: Sequence[Choice]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(choices), JUDGED_AT_ONCE):
            items = [ToJudge(str(start + place), choice.question, choice.one, choice.other,
                             tuple(map(_head_and_text, choice.passages)))
                     for place, choice in enumerate(choices[start : start + JUDGED_AT_ONCE])]
            verdicts = judge.judge(items)
            if isinstance(judge, ModelJudge) and judge.has_given_up:
                raise ModelError(f"the judge failed too often in a row and was left: {judge.last_problem}")
            found += [TURNED if verdict.is_turned else NEITHER if verdict.verdict == "tie" else verdict.verdict or NOT_READ
                      for verdict in verdicts]
            if progress:
                progress(len(found), len(choices))
        return found

    return choose


def _head_and_text(passage: Passage) -> str:
    return f"[{passage.number}] {passage.title}, page {passage.page}\n{passage.text}"


def _count_outcomes(
    rows: Sequence[Example], questions: Sequence[Question], drawn: Sequence[Sequence[str]]
) -> dict[str, int]:
    """Return how many samples the scorer finds correct, with the right citations, wrong and refused."""
    found = Counter(judge_completion(as_shown(question, row), text, shown_passages(row), score_completion)
                    for row, question, samples in zip(rows, questions, drawn) for text in samples)
    return {outcome: found[outcome] for outcome in OUTCOMES}
