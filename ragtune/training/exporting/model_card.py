"""The card of an exported model: what it is made of, how it was compared with its adapter, how it is loaded."""

from __future__ import annotations

from ragtune.training.exporting.parity import Parity, parity_rows
from ragtune.training.run import Run

_LOADING = {
    "safetensors": "`AutoModelForCausalLM.from_pretrained(FOLDER)`, `vllm serve FOLDER`, or `generator.model: FOLDER` in a "
                   "ragtune recipe.",
    "ctranslate2": "`ctranslate2.Generator(FOLDER)`; prompts are rendered and tokenised with the tokenizer beside it "
                   "(`AutoTokenizer`). Stop tokens are not the engine's own: name the end of turn as `end_token`.",
    "gguf": "`llama-server -m FILE`, or Ollama with `FROM ./FILE`. What was compared are its weights as transformers reads "
            "them back: llama.cpp's own tokenizer and kernels were not run.",
    "adapter": "`PeftModel.from_pretrained(base, FOLDER)`, or `vllm serve BASE --enable-lora --lora-modules NAME=FOLDER` "
               "for a LoRA.",
}


def render_card(run: Run, name: str, format_name: str, numbers: str, parity: Parity | None) -> str:
    """Return the README of an exported model."""
    facts = run.manifest
    method = (facts.get("training") or {}).get("method", "")
    base, prompt = facts.get("base_model", ""), facts.get("prompt_hash", "")
    return f"""---
library_name: {"peft" if format_name == "adapter" else format_name if format_name == "gguf" else "transformers"}
base_model: {base}
tags: [ragtune, question-answering]
---
# {name or "A tuned adapter"}

{"An adapter for" if format_name == "adapter" else "One model of"} `{base}` (fingerprint {facts.get("base_fingerprint", "")})
{"tuned" if format_name == "adapter" else "and an adapter tuned"} with `{method}` (run {run.id}) to answer questions from
numbered passages. Format {format_name}, numbers {numbers}. The base model's licence holds for it too.

Load it with {_LOADING[format_name]}

It answers prompts rendered as ragtune renders them (prompt {prompt}), cites the passages it is shown, and should refuse
without them. Check its numbers against the cited pages.
{_render_parity(parity)}"""


def _render_parity(parity: Parity | None) -> str:
    if parity is None:
        return ""
    head, *rows = parity_rows(parity)
    lines = ["", "## Compared with the adapter", "",
             f"{parity.n} held-out questions, answered greedily by the adapter beside its base and by what was made of it.",
             "",
             f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    if parity.faults:
        lines += ["", "**It differs beyond noise and was written all the same, as asked for**: "
                  + "; ".join(parity.faults) + "."]
    return "\n".join([*lines, ""])
