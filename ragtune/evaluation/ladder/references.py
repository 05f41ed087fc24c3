"""How surprising the references are to each model: their perplexity without passages, with retrieval, on the oracle page.

No answer is written and no scorer judges, so that a small gain shows sooner than in right answers; it says how likely a
model finds the reference, not that it would say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragtune.answering.answerer import Answerer
from ragtune.answering.prompt import ANSWER
from ragtune.evaluation.metrics.perplexity import Perplexity, measure_perplexity, total_perplexity
from ragtune.evaluation.statistics.paired import ScoreComparison, compare_scores
from ragtune.models.language import TransformersGenerator
from ragtune.records import Hit, Question, Record, Setting
from ragtune.seams import Generator, Report, progress_of

HEADER = ("model", "setting", "references", "perplexity", "bits a character", "against base", "p")
UNMEASURED = (
    "Perplexity of the references is not measured for {}: it needs the probabilities of a model that ragtune loads itself, "
    "with generator.engine transformers."
)


@dataclass(frozen=True)
class Surprise(Record):
    """The references of n questions to one model on one rung: all tokens' ``perplexity`` and ``bits_per_character``.

    ``comparison`` is tuned against base in bits a character, question by question and by whole documents; less is better.
    Perplexities of models with other tokenizers do not compare, bits a character do.
    """

    model: str
    setting: Setting
    n: int
    perplexity: float
    bits_per_character: float
    comparison: ScoreComparison | None = None


def measure_references(
    generator: Generator, questions: Sequence[Question], shown: Mapping[str, Sequence[Hit]], answerer: Answerer,
    report: Report | None = None, task: str = "",
) -> dict[str, Perplexity] | None:
    """Return question id -> the perplexity of its reference after the prompt that it is asked with.

    Questions without a reference and those that nothing is ``shown`` for are left out; None where the generator does not
    give its probabilities.
    """
    if not isinstance(generator, TransformersGenerator):
        return None
    asked = [question for question in questions if question.is_answerable and question.answer and question.id in shown]
    prompts = answerer.fit_prompts([(question.text, shown[question.id]) for question in asked])
    found = measure_perplexity(
        generator.model, generator.chat.tokenizer, [f"{ANSWER} {question.answer}" for question in asked],
        [generator.chat.render_text(messages) for messages, _ in prompts], progress=progress_of(report, task))
    return {question.id: one for question, one in zip(asked, found)}


def sum_up(
    found: Mapping[tuple[str, Setting], Mapping[str, Perplexity]], clusters: Mapping[str, str], confidence: float = 0.95
) -> tuple[Surprise, ...]:
    """Return a row for each model and rung that has a reference; ``clusters`` maps a question id to its document."""
    rows = []
    for (model, setting), of_model in found.items():
        if not of_model:
            continue
        base, comparison = found.get(("base", setting)), None
        both = [question_id for question_id in of_model if model == "tuned" and base and question_id in base]
        if base and both:
            before, after = ([side[i].bits_per_character for i in both] for side in (base, of_model))
            comparison = compare_scores(before, after, [clusters[i] for i in both], confidence)
        total = total_perplexity(list(of_model.values()))
        rows.append(Surprise(model, setting, len(of_model), total.perplexity, total.bits_per_character, comparison))
    return tuple(rows)
