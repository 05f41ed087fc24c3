"""A model that scores completions: TRL's RewardTrainer on pairs (arXiv 2203.02155), and its use as a reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.models.adapt import FILES, check_adapter
from ragtune.models.chat import Chat, load_chat
from ragtune.models.checkpoint import (
    explain_loading,
    locate_model,
    portable_name,
    quiet,
    read_config,
    read_context_tokens,
)
from ragtune.models.weights import build_skeleton, choose_device, choose_dtype
from ragtune.recipe.schema import Generator
from ragtune.records import Message
from ragtune.training.arguments import build_arguments
from ragtune.training.job import Fit, Job
from ragtune.training.preferences.pairs import as_whole
from ragtune.training.preferences.preference import encode_rows
from ragtune.training.preferences.tokened import build_trainer, check_rows, run_trainer
from ragtune.training.supervised.sft import count_parameters, find_checkpoint

TASK = "SEQ_CLS"
_WEIGHTS: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


def fit_reward(job: Job) -> Fit:
    """Tune the generator's model, with one number as its output, to score a pair's better half higher.

    Leaves ``adapter/`` and ``metrics.jsonl``, whose points hold ``pair_accuracy`` and ``eval_pair_accuracy``: the share of
    pairs, tuned on and held out, that are ordered rightly. ``job.start`` is a supervised run's LoRA or an earlier reward
    model's. Raises RunError for rows that cannot be learned, weights other than low-rank ones and a start of another kind;
    ModelError for a model that cannot be loaded this way.
    """
    weights = job.training.weights or job.method.weights
    if weights not in _WEIGHTS:
        raise RunError(f"training.weights is '{weights}'; a reward model tunes {', '.join(_WEIGHTS)}. "
                       "Do: --set training.weights=lora")
    if job.method.is_4bit:
        raise RunError("a reward model is tuned on a base in 16 or 32 bits. Do: --set training.method=reward")
    generator = job.generator
    chat = load_chat(generator)
    with quiet():
        rows, test_rows = encode_rows(job, chat, read_context_tokens(read_config(generator.model)))
        from trl import RewardConfig, RewardTrainer  # type: ignore[attr-defined]

        model = _load_scorer(generator, chat, job.training.seed)
        last = find_checkpoint(job.checkpoints)
        arguments = build_arguments(job, len(rows), len(test_rows), model.device.type, count_parameters(model),
                                    last is not None, RewardConfig)
        model = _wrap(model, job, weights)
        trainer = build_trainer(RewardTrainer, model, arguments, [as_whole(row) for row in rows],
                                [as_whole(row) for row in test_rows], rows, chat, job, {})
        check_rows(trainer, rows, test_rows)
        return run_trainer(trainer, job, last)


def _load_scorer(section: Generator, chat: Chat, seed: int = 0) -> Any:
    """Return the base with one output instead of the vocabulary. Its weights are new until an adapter brings them."""
    from transformers import AutoModelForSequenceClassification, set_seed

    config = read_config(section.model)
    device = choose_device(section.device)
    with quiet(), explain_loading(section.model):
        parameters = sum(parameter.numel() for parameter in build_skeleton(config).parameters())
        set_seed(seed)
        model = AutoModelForSequenceClassification.from_pretrained(
            locate_model(section.model), num_labels=1, dtype=choose_dtype(section.dtype, device, config, parameters),
            device_map={"": device}, use_safetensors=True, trust_remote_code=False,
        )
    model.config.get_text_config().pad_token_id = chat.tokenizer.pad_token_id  # by it the last token is found
    return model.eval()


def _wrap(model: Any, job: Job, weights: str) -> Any:
    """Return the model with LoRA and its head to be tuned. From a supervised run's LoRA, which fits the same layers, the
    head alone is new; an earlier reward model's is taken whole."""
    from peft import LoraConfig, TaskType, get_peft_model

    training = job.training
    if job.start:
        wrapped: Any = _start_from(model, job.start)
    else:
        targets = "all-linear" if training.target_modules == ("all-linear",) else list(training.target_modules)
        config = LoraConfig(r=training.r, lora_alpha=training.alpha, lora_dropout=training.dropout, target_modules=targets,
                            task_type=TaskType.SEQ_CLS, **_WEIGHTS[weights])
        wrapped = get_peft_model(model, config)  # which tunes and saves the head ("score") whole
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return wrapped


def _start_from(model: Any, start: Path) -> Any:
    from peft import PeftConfig, TaskType, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    settings = json.loads((start / FILES[0]).read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA":
        raise RunError(f"the run to start from, {start}, tuned {settings.get('peft_type', 'other weights')}; a reward model "
                       "starts from a run of lora, qlora, rslora or dora, or of a reward model. "
                       "Do: --start RUN, the folder of such a run")
    config: Any = PeftConfig.from_pretrained(str(start))
    config.inference_mode, config.init_lora_weights, config.task_type = False, True, TaskType.SEQ_CLS
    wrapped: Any = get_peft_model(model, config)
    own, tensors = get_peft_model_state_dict(wrapped), load_file(str(start / FILES[1]))
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            raise RunError(f"the run to start from, {start}, does not fit the model: it has other weights at {name}. "
                           "Start from a run on the same base.")
    set_peft_model_state_dict(wrapped, {**own, **tensors})
    return wrapped


class RewardModel:
    """A base with a reward model's adapter on it. Scores have no scale or zero: only their differences mean something."""

    def __init__(self, model: Any, chat: Chat, max_tokens: int, batch_size: int) -> None:
        self._model, self._chat, self._max_tokens, self._batch_size = model, chat, max_tokens, batch_size

    def score(self, prompts: Sequence[Sequence[Message]], completions: Sequence[str]) -> list[float]:
        """Return one number per completion of the prompt at its place: the higher the better.

        exp(a - b) are the odds that the completion scored a is preferred to that scored b. Raises RunError where a prompt
        with its completion is longer than the model reads.
        """
        import torch

        halves = [self._chat.encode_example(prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        encoded = [prompt + completion for prompt, completion in halves]
        if too_long := sum(len(ids) > self._max_tokens for ids in encoded):
            raise RunError(f"{too_long} of {len(encoded)} completions are with their prompts longer than the "
                           f"{self._max_tokens} tokens the reward model reads. Lower generator.max_prompt_tokens.")
        order = sorted(range(len(encoded)), key=lambda number: -len(encoded[number]))
        scores = [0.0] * len(encoded)
        for first in range(0, len(order), self._batch_size):
            numbers = order[first : first + self._batch_size]
            width = len(encoded[numbers[0]])
            pad = self._chat.tokenizer.pad_token_id
            ids = torch.tensor([encoded[n] + [pad] * (width - len(encoded[n])) for n in numbers], device=self._model.device)
            mask = torch.tensor([[1] * len(encoded[n]) + [0] * (width - len(encoded[n])) for n in numbers],
                                device=self._model.device)
            with torch.inference_mode():
                values = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits.squeeze(-1).float().tolist()
            for number, value in zip(numbers, values):
                scores[number] = value
        return scores


def load_reward_model(section: Generator, adapter: Path) -> RewardModel:
    """Return the reward model that a run of method 'reward' left: ``adapter`` is the run's adapter folder, ``section`` the
    generator it was tuned on. Raises RunError for another adapter or one that does not fit, ModelError for the model."""
    from peft import PeftModel
    from safetensors import SafetensorError

    path = check_adapter(adapter, TASK)
    chat = load_chat(section)
    with quiet():
        base = _load_scorer(section, chat)
        try:
            model = PeftModel.from_pretrained(base, str(path)).eval()
        except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0][:300]
            raise RunError(f"the reward model at {path} does not fit '{portable_name(section.model)}': {first}. Tune it on "
                           "this model. Do: ragtune train --recipe FILE --method reward") from error
    return RewardModel(model, chat, read_context_tokens(read_config(section.model)), section.batch_size)
