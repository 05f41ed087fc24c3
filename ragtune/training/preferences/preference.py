"""Tuning by preferences: DPO and KTO by TRL's stable trainers, ORPO and SimPO by those of trl.experimental."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ragtune.errors import RunError
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import portable_name, quiet, read_config, read_context_tokens
from ragtune.models.weights import load_4bit, load_base
from ragtune.recipe.schema import Preference
from ragtune.training.accuracy import open_watch
from ragtune.training.arguments import build_arguments, count_steps
from ragtune.training.job import Fit, Job
from ragtune.training.methods import SHAPES
from ragtune.training.preferences.experimental import load_orpo, load_simpo
from ragtune.training.preferences.pairs import (
    Row,
    as_sequences,
    check_labels,
    check_shape,
    count_tokens,
    encode_labels,
    encode_pairs,
)
from ragtune.training.preferences.reference_rows import build_no_reference, build_reference
from ragtune.training.preferences.tokened import build_trainer, check_rows, run_trainer
from ragtune.training.supervised.sft import count_parameters, find_checkpoint
from ragtune.training.weights.tunable import prepare, save_tuned

SOURCES = {"pairs": ("pairs.jsonl", "pairs_test.jsonl"), "labels": ("kto.jsonl", "kto_test.jsonl")}


@dataclass(frozen=True)
class Algorithm:
    """One way to learn from preferences. ``load`` gives the trainer's settings and class, ``settings`` what the recipe's
    preferences are called there, ``given`` a row as the trainer takes it; ``reference`` names the two columns of the frozen
    policy's log probabilities, where there is one."""

    load: Callable[[], tuple[Any, Any]]
    settings: Callable[[Preference], dict[str, Any]]
    given: Callable[[Row], Row] = dict
    reference: tuple[str, str] | None = None


def _load_stable(name: str) -> tuple[Any, Any]:
    import trl

    return getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")


def _dpo(section: Preference) -> dict[str, Any]:
    losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, section.sft_weight]} if section.sft_weight else {}
    return {"beta": section.beta or 0.1, "precompute_ref_log_probs": True, **losses}


def _kto(section: Preference) -> dict[str, Any]:
    return {"beta": section.beta or 0.1, "precompute_ref_log_probs": True, "desirable_weight": section.desirable_weight,
            "undesirable_weight": section.undesirable_weight}


def _simpo(section: Preference) -> dict[str, Any]:
    return {"loss_type": "simpo", "beta": section.beta or 2.0, "simpo_gamma": section.margin,
            "cpo_alpha": section.sft_weight}


ALGORITHMS = {
    "dpo": Algorithm(partial(_load_stable, "DPO"), _dpo, reference=("ref_chosen_logps", "ref_rejected_logps")),
    "kto": Algorithm(partial(_load_stable, "KTO"), _kto, reference=("ref_logps", "ref_KL_logps")),
    "orpo": Algorithm(load_orpo, lambda section: {"beta": section.beta or 0.1}, as_sequences),
    "simpo": Algorithm(load_simpo, _simpo, as_sequences),
}
"""By the method's loop (methods.LOOPS)."""
_ODDS = {"remove_unused_columns": False}  # what trl.experimental's trainers want, and would say so


def fit_preference(job: Job) -> Fit:
    """Tune the generator's model on pairs or labelled completions and leave ``adapter/`` and ``metrics.jsonl``.

    Where ``job.start`` names an adapter it is tuned further, and DPO and KTO keep to what it said; else to the base. Dropout
    is off, as in TRL: it would be noise in the difference to the reference. Where a checkpoint is complete the run goes on
    from it. Raises RunError for rows of another shape, that do not fit or teach nothing, or a loss that is not a number;
    ModelError for a model that cannot be loaded this way.
    """
    generator, training = job.generator, job.training
    algorithm = ALGORITHMS[job.method.loop]
    chat = load_chat(generator)
    limit = read_context_tokens(read_config(generator.model))
    with quiet():
        rows, test_rows = encode_rows(job, chat, limit)
        config, trainer_class = algorithm.load()
        model = load_4bit(generator) if job.method.is_4bit else load_base(generator)
        last = find_checkpoint(job.checkpoints)
        own = algorithm.settings(training.preference) | ({} if algorithm.reference else _ODDS | {"max_length": limit})
        arguments = build_arguments(job, len(rows), len(test_rows), model.device.type, count_parameters(model),
                                    last is not None, config, **own)
        model = prepare(model, job, count_steps(training, len(rows)))
        exact = {name: each.data for name, each in model.named_parameters() if each.requires_grad}
        base = portable_name(generator.model)
        watch = open_watch(job, chat, lambda tuned, folder: save_tuned(tuned, folder, base))
        trainer = build_trainer(
            trainer_class, model, arguments, [algorithm.given(row) for row in rows],
            [algorithm.given(row) for row in test_rows], rows, chat, job,
            {"ref_model": build_no_reference(model.config)} if algorithm.reference else {}, watch,
        )
        for name, parameter in trainer.model.named_parameters():
            if name in exact:  # TRL rounds the adapters of quantised models to bfloat16, in new tensors
                parameter.data = exact[name]
        check_rows(trainer, rows, test_rows)
        if algorithm.reference:
            _add_reference(trainer, job, rows, test_rows, algorithm.reference)
        return run_trainer(trainer, job, last, watch)


def encode_rows(job: Job, chat: Chat, limit: int) -> tuple[list[Row], list[Row]]:
    """Return the tokens of the job's rows and of its test rows, longest first. Raises RunError for unfit ones."""
    chat.tokenizer.padding_side = "right"
    encoded, sources = [], SOURCES[job.method.shape]
    if not job.train:
        raise RunError(f"{sources[0]} holds no rows to learn from. Do: {SHAPES[job.method.shape][1]}")
    for given, source in zip((job.train, job.test), sources):
        check_shape(given, job.method.shape, job.training.method, source)
    if job.method.shape == "labels":
        check_labels(job.train, sources[0])
    for given, source in zip((job.train, job.test), sources):
        encode: Any = encode_pairs if job.method.shape == "pairs" else partial(encode_labels, seed=job.training.seed)
        encoded.append(encode(given, chat, limit, source))
    rows, test_rows = encoded
    return rows, sorted(test_rows, key=lambda row: -count_tokens(row))


def _add_reference(
    trainer: Any, job: Job, rows: Sequence[Row], test_rows: Sequence[Row], names: tuple[str, str]
) -> None:
    """Put the reference's log probabilities beside the rows of the trainer that the run comes to see."""
    from datasets import Dataset

    order = trainer._get_train_sampler()
    taken = trainer.args.train_batch_size * job.training.accumulation * trainer.args.world_size
    shown = list(itertools.islice(order, count_steps(job.training, len(rows)) * taken))  # all where it is an epoch or more
    found = build_reference(trainer, rows, names, job.start is not None, shown=shown)
    trainer.train_dataset = Dataset.from_list([{**row, **values} for row, values in zip(rows, found)])
    if test_rows:
        found = build_reference(trainer, test_rows, names, job.start is not None)
        trainer.eval_dataset = Dataset.from_list([{**row, **values} for row, values in zip(test_rows, found)])
