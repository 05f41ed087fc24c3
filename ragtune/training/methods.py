"""The tuning methods by name: the rows each takes, the weights it tunes and the loop that does it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ragtune.errors import RecipeError, nearest

if TYPE_CHECKING:
    from ragtune.training.job import Fit, Job

Family = Literal["all weights", "transfer", "low rank", "additive", "soft prompts", "preferences", "reinforcement",
                 "retrieval-aware"]
Shape = Literal["prompt_completion", "documents", "pairs", "labels", "prompts", "questions"]

SHAPES: dict[Shape, tuple[str, str]] = {
    "prompt_completion": ("rows of a dataset folder: prompt and completion", "ragtune dataset --recipe FILE"),
    "documents": ("text of the index's documents, those kept for testing left out", "ragtune index --recipe FILE"),
    "pairs": ("pairs of a better and a worse completion (pairs.jsonl)", "ragtune dataset pairs --recipe FILE"),
    "labels": ("completions labelled right or wrong (kto.jsonl)", "ragtune dataset pairs --recipe FILE"),
    "prompts": ("prompts of a dataset folder with their questions, whose answers are drawn and rewarded",
                "ragtune dataset --recipe FILE"),
    "questions": ("questions with answers and pages of evidence, and a tuned run", "ragtune train --recipe FILE"),
}
"""What the rows of a shape are, and the command that makes them."""

LOOPS = {
    "sft": "ragtune.training.supervised.sft:fit_sft",
    "text": "ragtune.training.supervised.text:fit_text",
    "dpo": "ragtune.training.preferences.preference:fit_preference",
    "orpo": "ragtune.training.preferences.preference:fit_preference",
    "kto": "ragtune.training.preferences.preference:fit_preference",
    "simpo": "ragtune.training.preferences.preference:fit_preference",
    "reward": "ragtune.training.preferences.reward:fit_reward",
    "ppo": "ragtune.training.reinforcement.ppo:fit_ppo",
    "grpo": "ragtune.training.reinforcement.policy:fit_policy",
    "rloo": "ragtune.training.reinforcement.policy:fit_policy",
}
"""The loops by name, imported when one is run: each takes a Job and returns a Fit."""
RETRIEVER = "retriever"
"""Stands in a loop's place where retrieval is tuned and not the generator: the adapt stage does that."""


@dataclass(frozen=True)
class Method:
    """One way to tune: ``loop`` is a name in LOOPS, ``weights`` one in the table TUNABLE, ``shape`` one in SHAPES.

    ``lr`` is the peak learning rate for models below 50M parameters, and for larger ones, where the recipe names none;
    ``preset`` is the dataset.preset its rows must be built with.
    """

    description: str
    family: Family
    shape: Shape
    loop: str
    weights: str
    is_4bit: bool = False
    lr: tuple[float, float] = (1e-3, 2e-4)
    preset: str | None = None

    def fit(self, job: Job) -> Fit:
        """Run the loop."""
        module, _, name = LOOPS[self.loop].partition(":")
        loop: Any = getattr(importlib.import_module(module), name)
        fit: Fit = loop(job)
        return fit


def _sft(
    description: str, family: Family, weights: str, lr: tuple[float, float] = (1e-3, 2e-4), is_4bit: bool = False
) -> Method:
    return Method(description, family, "prompt_completion", "sft", weights, is_4bit, lr)


METHODS: dict[str, Method] = {
    "full": _sft("All weights: most memory, and what else the model knew may fade.", "all weights", "full", (3e-4, 2e-5)),
    "continued_pretraining": Method(
        "All weights, on the documents' running text instead of questions.", "all weights", "documents", "text", "full",
        lr=(3e-4, 2e-5)),
    "head": _sft("The output layer alone (untied where it shares the embeddings).", "transfer", "head"),
    "last_layers": _sft("The last layers and the final norm: training.last_layers.", "transfer", "last_layers",
                        (5e-4, 5e-5)),
    "modules": _sft("Parameters chosen by name: training.modules.", "transfer", "modules", (5e-4, 5e-5)),
    "lora": _sft("LoRA on the base in 16 or 32 bits: no quantisation error while tuning (arXiv 2106.09685).", "low rank",
                 "lora"),
    "qlora": _sft("LoRA on a base quantised to 4 bits (NF4, double quantisation): least memory (arXiv 2305.14314).",
                  "low rank", "lora", is_4bit=True),
    "rslora": _sft("LoRA scaled by alpha / sqrt(r), for high ranks (arXiv 2312.03732).", "low rank", "rslora"),
    "dora": _sft("LoRA on the weights' direction, their length learned apart (arXiv 2402.09353).", "low rank", "dora"),
    "pissa": _sft("LoRA that starts from the weights' largest singular vectors (arXiv 2404.02948).", "low rank", "pissa"),
    "olora": _sft("LoRA that starts from an orthonormal basis of the weights (arXiv 2406.01775).", "low rank", "olora"),
    "adalora": _sft("Low rank spread over the layers by importance while tuning (arXiv 2303.10512).", "low rank", "adalora"),
    "bottleneck": _sft("Small layers with a non-linearity after attention and MLP (arXiv 1902.00751).", "additive",
                       "bottleneck"),
    "ia3": _sft("Learned factors on keys, values and inner activations (arXiv 2205.05638).", "additive", "ia3",
                (2e-2, 5e-3)),
    "prompt_tuning": _sft("Learned tokens before the prompt (arXiv 2104.08691).", "soft prompts", "prompt_tuning",
                          (3e-2, 1e-2)),
    "prefix_tuning": _sft("Learned keys and values in each layer (arXiv 2101.00190).", "soft prompts", "prefix_tuning",
                          (1e-2, 1e-3)),
    "p_tuning": _sft("Learned tokens, given by a small network (arXiv 2103.10385).", "soft prompts", "p_tuning",
                     (1e-2, 1e-3)),
    "dpo": Method("The better completion over the worse, against the start (arXiv 2305.18290).", "preferences", "pairs",
                  "dpo", "lora", lr=(1e-4, 5e-6)),
    "orpo": Method("Completion and preference in one loss, no reference (arXiv 2403.07691).", "preferences", "pairs",
                   "orpo", "lora", lr=(3e-4, 2e-5)),
    "kto": Method("Right and wrong completions, not in pairs (arXiv 2402.01306).", "preferences", "labels", "kto", "lora",
                  lr=(1e-4, 5e-6)),
    "simpo": Method("Preference by mean log probability and a margin, no reference (arXiv 2405.14734).", "preferences",
                    "pairs", "simpo", "lora", lr=(1e-4, 5e-6)),
    "reward": Method("A model that scores completions, for reinforcement (arXiv 2203.02155).", "reinforcement", "pairs",
                     "reward", "lora", lr=(5e-4, 1e-4)),
    "ppo": Method("Drawn answers, rewarded; clipped objective with a value head (arXiv 1707.06347).", "reinforcement",
                  "prompts", "ppo", "lora", lr=(3e-4, 1e-5)),
    "grpo": Method("Drawn answers against their group's mean reward (arXiv 2402.03300).", "reinforcement", "prompts",
                   "grpo", "lora", lr=(3e-4, 1e-5)),
    "rloo": Method("Drawn answers against the mean of the others (arXiv 2402.14740).", "reinforcement", "prompts", "rloo",
                   "lora", lr=(3e-4, 1e-5)),
    "raft": Method("QLoRA on rows with the gold passage among distractors, some without it (arXiv 2403.10131).",
                   "retrieval-aware", "prompt_completion", "sft", "lora", is_4bit=True, preset="raft"),
    "ra_dit": Method("QLoRA on rows of one retrieved passage each, RA-DIT's language-model step (arXiv 2310.01352).",
                     "retrieval-aware", "prompt_completion", "sft", "lora", is_4bit=True, preset="ra_dit"),
    "ra_dit_retriever": Method(
        "The query adapter, from the tuned model's likelihoods: RA-DIT's retriever step (arXiv 2310.01352).",
        "retrieval-aware", "questions", RETRIEVER, "query adapter", lr=(1e-3, 1e-3)),
}


def find_method(name: str) -> Method:
    """Return the method of this name. Raises RecipeError naming the nearest one."""
    if name not in METHODS:
        raise RecipeError(
            f"training.method is '{name}'. Allowed: {', '.join(METHODS)}.{nearest(name, METHODS)} "
            "Do: --set training.method=qlora"
        )
    return METHODS[name]
