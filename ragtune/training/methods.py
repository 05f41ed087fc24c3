"""The tuning methods by name: what each trains, and on which weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ragtune.errors import RecipeError, nearest
from ragtune.recipe.schema import Training

if TYPE_CHECKING:
    from peft import PeftConfig

Shape = Literal["prompt_completion", "preference", "documents"]


@dataclass(frozen=True)
class Method:
    """One way to tune: the weights it starts from, the rows it takes and the PEFT configuration it builds."""

    description: str
    family: str
    shape: Shape
    is_4bit: bool
    build_peft: Callable[[Training], PeftConfig]


def _build_lora(training: Training) -> PeftConfig:
    """LoRA on every linear layer but the head, as QLoRA has it (arXiv 2305.14314): y = Wx + alpha/r BAx."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        r=training.r,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )


METHODS: dict[str, Method] = {
    "qlora": Method(
        "LoRA on a base quantised to 4 bits (NF4, double quantisation): least memory.",
        "low rank", "prompt_completion", True, _build_lora,
    ),
    "lora": Method(
        "LoRA on the base in 16 or 32 bits: more memory, no quantisation error while tuning.",
        "low rank", "prompt_completion", False, _build_lora,
    ),
}


def find_method(name: str) -> Method:
    """Return the method of this name. Raises RecipeError naming the nearest one."""
    if name not in METHODS:
        raise RecipeError(
            f"training.method is '{name}'. Allowed: {', '.join(METHODS)}.{nearest(name, METHODS)} "
            "Do: --set training.method=qlora"
        )
    return METHODS[name]
