"""Fit the query adapter to the tuned model: passages after which it finds the reference answer likely are to be found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path

from ragtune.answering.prompt import fit_prompt, number_passages, prompt_hash, render_completion
from ragtune.errors import QuestionError, RecipeError
from ragtune.models.language import TransformersGenerator, open_generator
from ragtune.recipe.places import supervised_folder
from ragtune.records import Hit, Message
from ragtune.retrieval.adapter import Adapter, Kind
from ragtune.retrieval.distil import Likelihoods, fit_to_likelihoods
from ragtune.retrieval.fit import Fitting
from ragtune.retrieval.mine import vectors_at
from ragtune.retrieval.trial import SCOPES
from ragtune.seams import progress_of
from ragtune.stages.adapt_adapter import keep_best, try_kind
from ragtune.stages.material import Fitted, Material
from ragtune.training.run import check_run_fits, open_run


def fit_by_likelihoods(material: Material, root: Path) -> Fitted:
    """Fit the recipe's kinds of query adapter to the tuned run's likelihoods; the best that passes the gate is written.

    RA-DIT's retriever step (arXiv 2310.01352): see ``fit_to_likelihoods``. Each question's ``adapting.passages`` best hits
    by vectors, in the whole index and in its own documents taken in turn, are weighed by the mean log probability of the
    reference completion after each alone, in the prompt that serves. Raises RunError without a run that fits the index,
    QuestionError where no question has an answer, RecipeError where the generator has no weights.
    """
    recipe, settings = material.recipe, material.recipe.adapting
    likelihoods, numbers = measure_likelihoods(material, open_tuned(material))
    place = {number: at for at, number in enumerate(numbers)}

    def fit_part(kind: Kind, chosen: Sequence[int]) -> tuple[Adapter, Fitting]:
        return fit_to_likelihoods(likelihoods.part([place[n] for n in chosen if n in place]), kind, settings)

    trials = [try_kind(material, kind, fit_part) for kind in settings.kinds]
    best = max(trials, key=lambda trial: (trial.verdict.is_accepted, trial.verdict.gain))
    facts = {"learned_from": "likelihoods", "run": str(supervised_folder(recipe).name), "passages": settings.passages,
             "answerable": len(numbers), "tried": {trial.kind: trial.verdict.reason for trial in trials}}
    return keep_best(material, root, best, facts, lambda: fit_part(best.kind, numbers))


def open_tuned(material: Material) -> TransformersGenerator:
    """Return the recipe's generator with its supervised run. Raises RunError where there is none that fits the index."""
    recipe = material.recipe
    run = open_run(supervised_folder(recipe))
    section = recipe.generator.model_copy(update={"engine": "transformers"})  # the engine that gives probabilities
    generator = open_generator(section, run.adapter)
    if not isinstance(generator, TransformersGenerator):
        raise RecipeError(f"generator.model is '{recipe.generator.model}', which gives no probabilities to learn from. Name "
                          "'bundled', a folder or a Hugging Face model.")
    check_run_fits(run, material.index.id, prompt_hash(recipe.answering.names_rows), generator.fingerprint)
    return generator


def measure_likelihoods(material: Material, generator: TransformersGenerator) -> tuple[Likelihoods, list[int]]:
    """Return the likelihoods of the material's answerable questions, and which of its questions these are."""
    import numpy as np

    numbers = [n for n, question in enumerate(material.questions) if question.is_answerable]
    if not numbers:
        raise QuestionError("none of the questions has an answer whose likelihood could be weighed. Give questions with "
                            "answers: --questions FILE")
    found = choose_passages(material)
    limit = material.recipe.generator
    prompts: list[Sequence[Message]] = []
    completions: list[str] = []
    for n in numbers:
        question = material.questions[n]
        for chunk in material.index.store.chunks_at(found[n]):
            passages = number_passages([Hit(chunk, 1.0, 1, "dense")])
            prompt, _ = fit_prompt(question.text, passages, generator.count_tokens, limit.max_prompt_tokens,
                                   material.recipe.answering.names_rows)
            prompts.append(prompt)
            completions.append(render_completion(question, passages))
    scores = iter(generator.score_completions(prompts, completions, progress_of(material.report, "weighing passages")))
    k = material.recipe.adapting.passages
    passages_of = np.zeros((len(numbers), k, material.vectors.shape[1]), np.float32)
    weighed = np.full((len(numbers), k), -np.inf, np.float32)
    for at, n in enumerate(numbers):
        passages_of[at, : len(found[n])] = vectors_at(material.trial, found[n])
        weighed[at, : len(found[n])] = [next(scores) for _ in found[n]]
    return Likelihoods(material.vectors[numbers], passages_of, weighed, tuple(material.parts[n] for n in numbers)), numbers


def choose_passages(material: Material) -> list[list[int]]:
    """Return the chunk rows whose likelihoods are weighed for each question: the best by vectors, both scopes in turn."""
    found = [material.trial.find_dense(material.vectors, scope) for scope in SCOPES]
    chosen = []
    for lists in zip(*found):
        ranked = chain.from_iterable(zip_longest(*([row for row, _ in rows] for rows in lists)))
        chosen.append(list(dict.fromkeys(row for row in ranked if row is not None))[: material.recipe.adapting.passages])
    return chosen
