"""Held-out answer accuracy while a model is tuned: what early stopping goes by, and which adapter is kept.

The loss of a completion falls on while answers get no better, or worse; what counts is whether the model's own answers are
right. A measure writes them greedily to prompts as they are served and has the evaluator score them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragtune.answering.prompt import parse_completion
from ragtune.datasets.lineage import shown_passages
from ragtune.datasets.prefer import as_shown, judge_completion
from ragtune.errors import RunError
from ragtune.evaluation.scoring.answers import score_answer
from ragtune.files import write_json
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import quiet
from ragtune.models.local import find_stop_ids
from ragtune.records import Example, Outcome, Pair, Question
from ragtune.training.job import Job

if TYPE_CHECKING:
    from transformers import TrainerCallback

Save = Callable[[Any, Path], None]
"""Writes the adapter of a model being tuned into a folder."""


def outcome_of(question: Question, completion: str) -> Outcome:
    """Return the scorer's outcome of a whole completion as it stands."""
    text, _, _, is_refusal = parse_completion(completion)
    return score_answer(question, text, is_refusal or None).outcome or "wrong"


def open_watch(job: Job, chat: Chat, save: Save) -> AnswerWatch | None:
    """Return the watch on held-out accuracy that ``training.stop_patience`` asks for, None where it is 0.

    Raises RunError where no held-out row has a question with a reference to measure by.
    """
    return AnswerWatch(job, chat, save) if job.training.stop_patience > 0 else None


class AnswerWatch:
    """Measures accuracy every ``stop_steps``, keeps the best adapter, and says when ``stop_patience`` is used up.

    What was measured stands beside the best adapter in the run folder in the making: a resumed run, which takes the same
    steps again, knows it and measures none twice.
    """

    def __init__(self, job: Job, chat: Chat, save: Save) -> None:
        self._job, self._chat, self._save = job, chat, save
        self._rows = held_out(job)
        self._best = job.folder / "best"
        self._record = job.folder / "accuracy.json"
        self.is_main = True  # of several processes, which all measure the same, one writes
        self.measures: dict[int, float] = {}
        if self._record.is_file() and self._best.is_dir():
            self.measures = {int(step): value for step, value in json.loads(self._record.read_text("utf-8")).items()}

    def is_due(self, step: int) -> bool:
        """Whether accuracy is to be measured after this step."""
        return step > 0 and step % self._job.training.stop_steps == 0

    def note(self, model: Any, step: int) -> float:
        """Return the accuracy after ``step``, measured once; the adapter is kept where it is the best so far."""
        if step not in self.measures:
            value = self.measure(model)
            if self.is_main and value > max(self.measures.values(), default=-1.0):
                partial = self._best.with_name("best.partial")
                shutil.rmtree(partial, ignore_errors=True)
                self._save(model, partial)
                shutil.rmtree(self._best, ignore_errors=True)
                partial.rename(self._best)
            self.measures[step] = value
            if self.is_main:
                write_json(self._record, self.measures)
        return self.measures[step]

    def is_over(self, step: int) -> bool:
        """Whether the last ``stop_patience`` measures up to ``step`` brought no gain over those before them."""
        values = [value for at, value in sorted(self.measures.items()) if at <= step]
        patience = self._job.training.stop_patience
        return len(values) > patience and max(values[-patience:]) <= max(values[:-patience])

    def finish(self, model: Any, step: int, adapter: Path) -> None:
        """Measure the last step too, and put the best adapter where the last one was saved."""
        self.note(model, step)
        if not self.is_main:
            return
        shutil.rmtree(adapter, ignore_errors=True)
        shutil.copytree(self._best, adapter)

    def measure(self, model: Any) -> float:
        """Return the share of held-out questions that the model answers rightly now, refusals of the unanswerable too."""
        replies = write_answers(model, self._chat, [example for example, _ in self._rows],
                                self._job.generator.max_new_tokens, self._job.generator.batch_size)
        right = sum(judge_completion(question, reply, shown_passages(example), outcome_of) == "correct"
                    for (example, question), reply in zip(self._rows, replies))
        return right / len(self._rows)

    def callback(self) -> TrainerCallback:
        """Return the trainer's callback; its attribute ``log`` is to be the trainer's, so that trackers get ``accuracy``."""
        from transformers import TrainerCallback

        watch = self

        class Watch(TrainerCallback):
            log: Callable[[dict[str, float]], None] | None = None

            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                if not watch.is_due(state.global_step):
                    return
                watch.is_main = state.is_world_process_zero
                value = watch.note(model, state.global_step)
                if self.log is not None:
                    is_due = control.should_log  # the loss of this step, which logging anything takes for logged
                    self.log({"accuracy": value})
                    control.should_log = is_due
                else:
                    state.log_history.append({"accuracy": value, "step": state.global_step, "epoch": state.epoch})
                if watch.is_over(state.global_step):
                    control.should_training_stop = True

        return Watch()


def held_out(job: Job) -> list[tuple[Example, Question]]:
    """Return the held-out rows that are asked, each with its question as its passages allow it to be answered.

    Rows that pairs or labels were made from come once. Raises RunError where there is none.
    """
    found: dict[str, tuple[Example, Question]] = {}
    for row in job.held_out:
        example = _as_example(row)
        question = job.questions.get(str(example.provenance.get("question_id"))) if example else None
        if example is not None and question is not None:
            found.setdefault(repr(example.prompt), (example, as_shown(question, example)))
    if not found:
        raise RunError("training.stop_patience measures answers to training questions that are held out, and no row has one "
                       "with a reference. Name a dataset folder with its questions, or set training.stop_patience to 0.")
    return list(found.values())[: job.training.stop_questions]


def _as_example(row: Any) -> Example | None:
    if isinstance(row, Example):
        return row
    if isinstance(row, Pair):
        return Example(row.prompt, row.chosen, row.provenance)
    if isinstance(row, dict) and row.get("label") and row.get("prompt"):
        return Example(tuple(row["prompt"]), str(row["completion"][-1]["content"]), row.get("provenance") or {})
    return None


def write_answers(
    model: Any, chat: Chat, examples: Sequence[Example], max_new_tokens: int, batch_size: int
) -> list[str]:
    """Return the model's greedy completions of the examples' prompts, in their order; its mode is as before afterwards."""
    import torch
    from transformers import GenerationConfig

    pad = chat.tokenizer.pad_token_id
    settings = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=find_stop_ids(model, chat),
                                pad_token_id=pad)
    encoded = [chat.encode_prompt(example.prompt) for example in examples]
    order = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
    replies = [""] * len(encoded)
    with answering(model), torch.no_grad(), quiet():
        device = next(model.parameters()).device
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            width = max(len(encoded[place]) for place in places)
            rows = [[pad] * (width - len(encoded[place])) + encoded[place] for place in places]
            mask = [[0] * (width - len(encoded[place])) + [1] * len(encoded[place]) for place in places]
            written = model.generate(input_ids=torch.tensor(rows, device=device),
                                     attention_mask=torch.tensor(mask, device=device), generation_config=settings)
            for place, row in zip(places, written):
                replies[place] = chat.decode(row[width:].tolist())
    return replies


@contextlib.contextmanager
def answering(model: Any) -> Iterator[None]:
    """Put the model into eval mode inside the block, and each of its modules back into its own mode afterwards.

    Gradients that are being gathered stay. A 4-bit model must come from load_4bit, which keeps bitsandbytes from repacking
    its weights at the first pass in eval mode.
    """
    modes = {module: module.training for module in model.modules()}
    cached = getattr(model.config, "use_cache", None)
    model.eval()
    try:
        model.config.use_cache = True
        yield
    finally:
        model.config.use_cache = cached
        for module, mode in modes.items():
            module.training = mode
