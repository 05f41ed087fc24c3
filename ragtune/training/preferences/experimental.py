"""The one place that imports from trl.experimental.

ORPO and SimPO stand there alone, and what stands there may change or vanish with any release of TRL without notice. So the
imports, and what ragtune relies on in these two trainers, are kept here: a release without them breaks this file only.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import version
from typing import Any

from ragtune.errors import RunError
from ragtune.training.rows import NO_LOSS


def load_orpo() -> tuple[Any, Any]:
    """Return TRL's ORPO settings and trainer. Raises RunError where this TRL has none."""
    return _load("orpo", "ORPO")


def load_simpo() -> tuple[Any, Any]:
    """Return the settings and trainer that hold SimPO: TRL's CPO with that loss. Raises RunError where this TRL has none."""
    return _load("cpo", "CPO")


def _load(module: str, name: str) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        try:
            found = import_module(f"trl.experimental.{module}")
            config, trainer = getattr(found, f"{name}Config"), getattr(found, f"{name}Trainer")
        except (ImportError, AttributeError) as error:
            raise RunError(f"TRL {version('trl')} has no {name} trainer any more. Install trl 1.16, or set training.method "
                           "to dpo or kto, whose trainers are stable.") from error
    return config, _on_our_rows(trainer)


def _on_our_rows(trainer: Any) -> Any:
    """Return the trainer without its own rendering, and with losses of the completions alone."""
    import torch

    class OddsTrainer(trainer):  # type: ignore[misc]
        def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, Any]:
            """The rows are tokens already; TRL's would be rendered otherwise than the model is asked, and cut."""
            return {}

        def concatenated_forward(self, model: Any, batch: Any) -> tuple[Any, ...]:
            """Return mean log probabilities of chosen and rejected, their logits, and the chosen tokens' mean loss.

            TRL makes logits of every position, which for a prompt of passages is most of the memory, and takes ORPO's loss
            over the prompt too: a model would learn to write tables. The paper's is of the completion (equation 6).
            """
            both = self.concatenated_inputs(batch, padding_value=self.processing_class.pad_token_id,
                                            device=self.accelerator.device)
            count = batch["chosen_labels"].shape[0]
            labels = both["concatenated_labels"][:, 1:]
            positions = (labels != NO_LOSS).any(dim=0).nonzero().squeeze(1)
            sent = {"output_router_logits": True} if self.aux_loss_enabled else {}
            if not _is_soft_prompt(model):
                sent["logits_to_keep"] = positions
            outputs = model(input_ids=both["concatenated_input_ids"], attention_mask=both["concatenated_attention_mask"],
                            use_cache=False, **sent)
            logits = outputs.logits
            if _is_soft_prompt(model):  # learned tokens stand before the row's own
                logits = logits[:, -labels.shape[1] - 1 :][:, positions]
            kept = labels[:, positions]
            mask = kept != NO_LOSS
            each = -torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), kept.flatten(), reduction="none",
                                                      ignore_index=NO_LOSS).view(kept.shape)
            means = each.sum(-1) / mask.sum(-1)
            nll = -each[:count].sum() / mask[:count].sum()
            found = (means[:count], means[count:], logits[:count], logits[count:], nll)
            return (*found, outputs.aux_loss) if self.aux_loss_enabled else found

    return OddsTrainer


def _is_soft_prompt(model: Any) -> bool:
    config = getattr(getattr(model, "module", model), "active_peft_config", None)  # module: inside DDP
    return bool(getattr(config, "is_prompt_learning", False))
