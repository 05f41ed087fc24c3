"""Evaluate: questions -> hits, once for all models -> answers on each rung, logged as they come -> figures -> report."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ragtune.answering.answerer import Answerer
from ragtune.answering.prompt import prompt_hash
from ragtune.documents.pack import in_recipe_pack
from ragtune.errors import QuestionError, RunError
from ragtune.evaluation.grounding.footing import Footing, measure_footing
from ragtune.evaluation.ladder.counts import BASELINES, build_ladder, compare_baselines, compare_models
from ragtune.evaluation.ladder.graded import Graded, grade, rescore
from ragtune.evaluation.ladder.log import ASKED, LOG, PASSAGES, AnswerLog
from ragtune.evaluation.ladder.references import UNMEASURED, Surprise, measure_references, sum_up
from ragtune.evaluation.ladder.rungs import Rungs, keep_questions, list_passages, open_rungs
from ragtune.evaluation.losses.waterfall import attribute_all, build_waterfalls
from ragtune.evaluation.metrics.perplexity import Perplexity
from ragtune.evaluation.metrics.ranking import Level, score_page_recall, score_rankings
from ragtune.evaluation.reporting.summary import EvaluationSummary
from ragtune.evaluation.statistics.detectable import describe_detectable
from ragtune.evaluation.statistics.samples import clusters_of
from ragtune.files import building_folder, hash_text, write_json, write_jsonl, write_manifest
from ragtune.models.language import UNTUNABLE
from ragtune.recipe.places import dataset_folder, evaluation_folder, index_folder, run_folder
from ragtune.recipe.schema import Recipe
from ragtune.records import Question, Setting
from ragtune.seams import Generator, Report, Searcher, progress_of

VERSION = 5
"""Raise it when answers come about in another way: logs of an earlier version are then not gone on with."""
logger = logging.getLogger(__name__)
Opener = Callable[[], Generator]
BATCHES_AT_ONCE = 4
NO_RUN = "There is no tuned run yet, so only the base model was measured. Do: ragtune train, then ragtune evaluate."
UNANSWERABLE = (
    "Unanswerable from the documents: {} of the questions. A refusal is the correct answer to them; they have no gold page, "
    "so their oracle rung shows what retrieval finds."
)
NO_EVIDENCE = "Without an evidence page: {} of the questions. Their oracle rung shows what retrieval finds."
LEFT_OUT = "Left out of retrieval and oracle: {} of the questions, because the index lacks what they are about{}: {}."
SHUT_OUT = " or retrieval.where shuts it out"
UNLOCATED = "Without a page: {} of {} pieces of evidence ({}). Their questions are measured as ones without evidence."
NO_TEXT = "Evidence page without text in the index, so that the oracle rung shows nothing: {} of the questions: {}."


@in_recipe_pack
def run_evaluate(
    recipe: Recipe,
    out: Path | None = None,
    index: Path | None = None,
    dataset: Path | None = None,
    run: Path | None = None,
    models: Sequence[str] = ("base", "tuned"),
    allow_mismatch: bool = False,
    report: Report | None = None,
) -> EvaluationSummary:
    """Measure base, tuned and the recipe's baselines on the ladder and write the evaluation folder; goes on after a kill.

    Raises RunError where questions or a folder are missing, or the run does not fit index, prompt or base model.
    """
    from ragtune.retrieval.search import open_searcher

    questions = _read(recipe, dataset or dataset_folder(recipe))
    searcher = None
    if set(recipe.evaluation.settings) != {"closed_book"} or recipe.evaluation.where:
        searcher = open_searcher(index or index_folder(recipe), recipe.retrieval)
    index_id = str(getattr(getattr(searcher, "index", None), "id", ""))
    questions, notes = _locate(questions, searcher)
    run_path = run or run_folder(recipe)
    can_tune = recipe.generator.model not in UNTUNABLE
    is_tuned = "tuned" in models and (run is not None or (can_tune and (run_path / "manifest.json").is_file()))
    if "tuned" in models and can_tune and not is_tuned:
        notes.append(NO_RUN)
    openers, ids = _open_models(recipe, run_path if is_tuned else None, index_id, allow_mismatch)
    openers = {name: openers[name] for name in models if name in openers}
    for name, opener in open_baselines(recipe).items():
        openers[name], ids[name] = opener, str(getattr(opener(), "fingerprint", name))
    return evaluate_models(
        recipe, questions, searcher, openers, out or evaluation_folder(recipe), index_id, ids,
        run_path if is_tuned else None, notes, report,
    )


def open_baselines(recipe: Recipe) -> dict[str, Opener]:
    """Return what opens the recipe's baselines, the generator itself left out: it is there as base."""
    return {name: UNTUNABLE[name] for name in recipe.evaluation.baselines if name != recipe.generator.model}


def _open_models(
    recipe: Recipe, run: Path | None, index_id: str, allow_mismatch: bool
) -> tuple[dict[str, Opener], dict[str, str]]:
    """Return what opens base and, where there is a run, tuned; and their fingerprints.

    One generator serves both, the run's adapter being switched on for tuned: nothing is loaded twice. A run that does not
    fit is refused before anything is asked.
    """
    from ragtune.models.language import open_generator
    from ragtune.training.run import check_run_fits, open_run

    opened = open_run(run) if run else None
    generator = open_generator(recipe.generator)
    fingerprint = str(getattr(generator, "fingerprint", "") or generator.name)
    if opened is None:
        return {"base": lambda: generator}, {"base": fingerprint}
    adapter = opened.adapter
    check_run_fits(opened, index_id, prompt_hash(recipe.answering.names_rows), fingerprint, allow_mismatch)
    attach = getattr(generator, "attach", None)
    if attach is None:  # a remote or fake model: opening it with an adapter says why it cannot be tuned
        open_generator(recipe.generator, adapter=adapter)

    def with_adapter(path: Path | None) -> Generator:
        if attach is not None:
            attach(path)
        return generator

    openers: dict[str, Opener] = {"base": lambda: with_adapter(None), "tuned": lambda: with_adapter(adapter)}
    return openers, {"base": fingerprint, "tuned": str(opened.id)}


def _read(recipe: Recipe, dataset: Path) -> list[Question]:
    """Return the questions the recipe names, else the dataset's test questions."""
    from ragtune.datasets.hub import is_hub
    from ragtune.datasets.questions import read_questions

    path = Path(recipe.evaluation.questions) if recipe.evaluation.questions else dataset / "questions_test.jsonl"
    if not path.is_file() and not is_hub(path):
        raise RunError(
            f"no questions at {path}. Evaluating needs evaluation.questions in the recipe, or a dataset folder with test "
            "questions. Do: ragtune dataset --recipe FILE"
        )
    return read_questions(path)


def _locate(questions: Sequence[Question], searcher: Searcher | None) -> tuple[list[Question], list[str]]:
    """Return the questions with their evidence on pages of the index, and a note on what was found on none."""
    from ragtune.datasets.locate import LOCATED, locate_evidence

    index = getattr(searcher, "index", None)
    if index is None:
        return list(questions), []
    located, outcomes = locate_evidence(questions, index)
    lost = {outcome: count for outcome, count in sorted(outcomes.items()) if outcome not in LOCATED}
    counts = ", ".join(f"{count} {outcome}" for outcome, count in lost.items())
    return located, [UNLOCATED.format(sum(lost.values()), sum(outcomes.values()), counts)] if lost else []


def evaluate_models(
    recipe: Recipe,
    questions: Sequence[Question],
    searcher: Searcher | None,
    openers: Mapping[str, Opener],
    folder: Path,
    index_id: str = "",
    model_ids: Mapping[str, str] | None = None,
    run: Path | None = None,
    notes: Sequence[str] = (),
    report: Report | None = None,
) -> EvaluationSummary:
    """Ask every model on every rung and write the evaluation folder. ``openers`` maps 'base', 'tuned' and
    baselines to a loader.

    Hits are found once, so that both models see the same passages. A model is opened only where answers are missing: those
    of a start that was stopped, or of a finished evaluation of the same models, index, questions and recipe, are kept.
    ``model_ids`` are their fingerprints, ``run`` the folder whose learning curve is drawn.
    """
    from ragtune.evaluation.reporting.report import write_report

    begun = time.perf_counter()
    if searcher is not None:
        questions = keep_questions(questions, searcher, recipe.evaluation.where, recipe.evaluation.limit)
    else:
        questions = list(questions[: recipe.evaluation.limit or None])
    _check_questions(questions, recipe)
    model_ids = dict(model_ids or {})
    key = _key_of(recipe, questions, index_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building_folder(folder, keep_partial=True) as partial:
        log = AnswerLog(partial, key, {name: model_ids.get(name, "") for name in openers}, finished=folder)
        settings = recipe.evaluation.settings
        rungs = open_rungs(questions, searcher, settings, recipe.retrieval.k, recipe.evaluation.recall_at,
                           progress_of(report, "finding passages"))
        for model, opener in openers.items():
            _ask_model(recipe, questions, rungs, model, opener, log, report)
        graded = _in_order(log, openers, settings, questions)
        graded = attribute_all(graded, rungs.asked, rungs.shown.get("retrieval", {}), recipe.retrieval.k)
        write_jsonl(partial / LOG, (row.to_dict() for row in graded))
        write_jsonl(partial / ASKED, (entry.to_dict() for entry in rungs.asked.values()))
        passages = list_passages(rungs)
        write_jsonl(partial / PASSAGES, (passage.to_dict() for passage in passages.values()))
        summary = _summarise(recipe, questions, rungs, graded, folder, notes)
        summary = dataclasses.replace(summary, footing=_measure_footing(recipe, questions, searcher, graded))
        if recipe.evaluation.perplexity:
            references, unmeasured = _measure_references(recipe, questions, rungs, openers, report)
            summary = dataclasses.replace(summary, references=references, notes=(*summary.notes, *unmeasured))
        summary = dataclasses.replace(summary, seconds=time.perf_counter() - begun)
        write_json(partial / "summary.json", summary.to_dict())
        write_report(partial, summary, graded, recipe, run, rungs.asked, passages)
        write_manifest(
            partial, "evaluation", recipe=json.loads(recipe.model_dump_json()), key=key, index_id=index_id, models=model_ids,
            prompt_hash=prompt_hash(recipe.answering.names_rows), questions=len(questions),
            ladder=summary.to_dict()["ladder"],
        )
    return summary


def _check_questions(questions: Sequence[Question], recipe: Recipe) -> None:
    if not questions:
        where = f" that meet evaluation.where ({recipe.evaluation.where})" if recipe.evaluation.where else ""
        raise QuestionError(
            f"there are no questions{where}. Name a question file in evaluation.questions, or widen the filter."
        )
    ids = [question.id for question in questions]
    if double := next((i for i in ids if ids.count(i) > 1), None):
        raise QuestionError(
            f"the question id '{double}' occurs {ids.count(double)} times. Give every question its own id."
        )


def _key_of(recipe: Recipe, questions: Sequence[Question], index_id: str) -> str:
    """Return the hash of all that the answers depend on but the models: a log under another key is not gone on with."""
    values = recipe.model_dump_json(include={"retrieval", "generator", "answering", "evaluation"},
                                    exclude={"evaluation": {"baselines", "perplexity"}})  # neither changes an answer
    asked = [question.to_dict() for question in questions]
    entries = [values, asked, index_id, prompt_hash(recipe.answering.names_rows), VERSION]
    return hash_text(json.dumps(entries, sort_keys=True, default=str))


def _ask_model(
    recipe: Recipe,
    questions: Sequence[Question],
    rungs: Rungs,
    model: str,
    opener: Opener,
    log: AnswerLog,
    report: Report | None,
) -> None:
    """Answer what the log lacks for one model, batch by batch, rung after rung."""
    work = {
        setting: [question for question in questions
                  if question.id in rungs.shown.get(setting, {}) and not log.has(model, setting, question.id)]
        for setting in recipe.evaluation.settings
    }  # fmt: skip
    if not any(work.values()):
        return
    answerer = Answerer(opener(), None, recipe)
    for setting, asked in work.items():
        task, size = f"{model}, {setting.replace('_', ' ')}", recipe.generator.batch_size * BATCHES_AT_ONCE
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            log.append(_answer_batch(answerer, batch, rungs, model, setting))
            if report:
                report(task, start + len(batch), len(asked))


def _answer_batch(
    answerer: Answerer, batch: Sequence[Question], rungs: Rungs, model: str, setting: Setting
) -> list[Graded]:
    begun = time.perf_counter()
    answers = answerer.answer_prompts([(question.text, rungs.shown[setting][question.id]) for question in batch])
    seconds = (time.perf_counter() - begun) / len(batch)
    return [grade(question, answer, model, setting, seconds) for question, answer in zip(batch, answers)]


def _in_order(
    log: AnswerLog, models: Mapping[str, Opener], settings: Sequence[Setting], questions: Sequence[Question]
) -> list[Graded]:
    """Return the log's rows in the order of models, rungs and questions, whatever order they were answered in.

    They are scored anew, so that answers taken up from an earlier start are judged by the scorer of today.
    """
    keys = [(model, setting, question) for model in models for setting in settings for question in questions]
    return [
        rescore(question, log.rows[model, setting, question.id])
        for model, setting, question in keys
        if log.has(model, setting, question.id)
    ]


def _measure_footing(
    recipe: Recipe, questions: Sequence[Question], searcher: Searcher | None, graded: Sequence[Graded]
) -> tuple[Footing, ...]:
    """Return what the answers stand on; nothing where there is no index to look the cited passages up in."""
    index = getattr(searcher, "index", None)
    if index is None:
        return ()
    return measure_footing(graded, questions, index.chunk, clusters_of(questions), recipe.evaluation.confidence)


def _measure_references(
    recipe: Recipe, questions: Sequence[Question], rungs: Rungs, openers: Mapping[str, Opener], report: Report | None
) -> tuple[tuple[Surprise, ...], list[str]]:
    """Return how surprising the references are to base and tuned on each rung, and a note on a model that cannot say."""
    found: dict[tuple[str, Setting], dict[str, Perplexity]] = {}
    unmeasured = []
    for model in (name for name in openers if name not in BASELINES):
        generator = openers[model]()
        answerer = Answerer(generator, None, recipe)
        for setting in recipe.evaluation.settings:
            task = f"perplexity, {model}, {setting.replace('_', ' ')}"
            measured = measure_references(generator, questions, rungs.shown.get(setting, {}), answerer, report, task)
            if measured is None:
                unmeasured.append(UNMEASURED.format(model))
                break
            found[model, setting] = measured
    return sum_up(found, clusters_of(questions), recipe.evaluation.confidence), unmeasured


def _summarise(
    recipe: Recipe, questions: Sequence[Question], rungs: Rungs, graded: Sequence[Graded], folder: Path, notes: Sequence[str]
) -> EvaluationSummary:
    notes = list(notes)
    unanswerable = sum(not question.is_answerable for question in questions)
    if unanswerable and "oracle" in recipe.evaluation.settings:
        notes.append(UNANSWERABLE.format(unanswerable))
    if (unnamed := sum(q.is_answerable and not q.evidence for q in questions)) and "oracle" in recipe.evaluation.settings:
        notes.append(NO_EVIDENCE.format(unnamed))
    if rungs.missing_documents:
        documents = sorted({document for lacking in rungs.missing_documents.values() for document in lacking})
        notes.append(LEFT_OUT.format(len(rungs.missing_documents), SHUT_OUT if recipe.retrieval.where else "",
                                      ", ".join(documents)))
    if rungs.pages_without_text:
        notes.append(NO_TEXT.format(len(rungs.pages_without_text), ", ".join(rungs.pages_without_text)))
    searched = [(q, rungs.found[q.id]) for q in questions if q.id in rungs.found and q.is_answerable]
    recall = score_page_recall(searched, recipe.evaluation.recall_at)
    ranked = [(question, hits) for question, hits in searched if question.evidence]
    levels: tuple[Level, ...] = ("page", "document")
    ranking = {str(level): score_rankings(ranked, level, recipe.evaluation.recall_at).means
               for level in levels if ranked}
    confidence, clusters = recipe.evaluation.confidence, clusters_of(questions)
    comparisons = compare_models(graded, confidence=confidence, clusters=clusters)
    notes += [f"Tuned against base with retrieval: {describe_detectable(c.n, c.discordant, confidence=confidence)}"
              for setting, c in comparisons if setting == "retrieval"]
    return EvaluationSummary(
        name=recipe.name,
        folder=str(folder),
        ladder=build_ladder(graded, confidence),
        comparisons=comparisons,
        against_baselines=compare_baselines(graded, confidence, clusters),
        recall=recall.any_page if recall.n else {},
        recall_every_page=recall.every_page if recall.n else {},
        recall_n=recall.n,
        ranking=ranking,
        questions=len(questions),
        unanswerable=unanswerable,
        missing_documents=rungs.missing_documents,
        pages_without_text=tuple(rungs.pages_without_text),
        notes=tuple(notes),
        confidence=confidence,
        waterfalls=build_waterfalls(graded, rungs.asked, recipe.retrieval.k),
    )
