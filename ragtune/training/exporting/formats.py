"""The formats a run is exported in: base and adapter merged, converted, and each compared with the adapter on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import RecipeError, nearest
from ragtune.models.adapt import load_adapter
from ragtune.models.chat import Chat
from ragtune.models.checkpoint import portable_name
from ragtune.models.convert import explain_converting, write_weights
from ragtune.models.gguf import NUMBERS, convert_gguf, load_gguf
from ragtune.models.language import TransformersGenerator
from ragtune.models.local import find_stop_ids
from ragtune.models.weights import choose_device, load_base
from ragtune.recipe.schema import Generator, Recipe
from ragtune.records import Example, Question
from ragtune.seams import Report, progress_of
from ragtune.training.exporting.merge import merge_weights
from ragtune.training.exporting.parity import Asked, Parity, ParityGate, SideParity

_FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Format:
    """A format a run is exported in. ``numbers`` are the number types it has, the first one by default."""

    description: str
    numbers: tuple[str, ...]


FORMATS: dict[str, Format] = {
    "safetensors": Format("One model folder of base and adapter, for transformers, vLLM, SGLang, TGI.", _FLOATS),
    "ctranslate2": Format("CTranslate2's format, for fast answers on CPUs.",
                          ("int8", "float32", "float16", "bfloat16", "int8_float32", "int8_float16", "int8_bfloat16")),
    "gguf": Format("One file for llama.cpp, Ollama and LM Studio.", ("float16", "float32", "bfloat16", "q8_0")),
    "adapter": Format("The adapter alone, for PEFT, vLLM and others that load it beside its base.", ("as tuned",)),
}


@dataclass(frozen=True)
class ExportJob:
    """What the steps of an export share; ``floats`` is the number type of the merged weights."""

    recipe: Recipe
    adapter: Path
    format: str
    numbers: str
    floats: str
    chat: Chat
    converter: Path | None
    max_seconds: float
    report: Report | None

    def section(self, model: Path | None = None) -> Generator:
        """The recipe's generator in the number type of the merged weights, with another model where one is given."""
        changes: dict[str, object] = {"dtype": self.floats, "engine": "transformers"}
        return self.recipe.generator.model_copy(update={**changes, **({"model": str(model)} if model else {})})


def check_format(name: str, numbers: str | None) -> str:
    """Return the number type of an export, the format's own where none is named. Raises RecipeError for unknown ones."""
    if name not in FORMATS:
        raise RecipeError(f"the format is '{name}'. Allowed: {', '.join(FORMATS)}.{nearest(name, FORMATS)}")
    allowed = FORMATS[name].numbers
    if numbers is not None and numbers not in allowed:
        raise RecipeError(f"the number type is '{numbers}'. Allowed for {name}: {', '.join(allowed)}."
                          f"{nearest(numbers, allowed)}")
    return numbers or allowed[0]


def build_model(job: ExportJob, folder: Path, rows: Sequence[tuple[Example, Question]]) -> Parity:
    """Leave the model in the folder and return how it compares with the adapter. One model at a time is in memory."""
    new_tokens = job.recipe.generator.max_new_tokens
    model = load_adapter(load_base(job.section()), job.adapter, portable_name(job.recipe.generator.model))
    gate = ParityGate([row for row, _ in rows], [question for _, question in rows], _ask_model(job, "adapter", model),
                      new_tokens, progress_of(job.report, "asking the adapter"))
    del model
    merged = folder if job.format == "safetensors" else folder / "merged"
    merge_weights(job.section(), job.adapter, merged, job.floats)
    sides = [gate.compare(_ask_model(job, "merged", load_base(job.section(merged))),
                          progress_of(job.report, "asking the merged model"))]
    if job.format != "safetensors":
        sides.append(_CONVERT[job.format](job, merged, folder, gate))
        shutil.rmtree(merged)
    return gate.report(sides)


def _ask_model(job: ExportJob, name: str, model: object, numbers: str = "") -> Asked:
    """Return a model of transformers as the gate asks it."""
    generator = TransformersGenerator(job.section(), model, job.chat)
    return Asked(name, generator, generator.row_logits, numbers or job.floats)


def _to_ctranslate2(job: ExportJob, merged: Path, folder: Path, gate: ParityGate) -> SideParity:
    """Convert the merged model and compare what came out."""
    from ragtune.models.ctranslate import ConvertedGenerator

    weights = folder / "weights"
    model = load_base(job.section(merged).model_copy(update={"device": "cpu"}), "float32")
    stop_ids = find_stop_ids(model, job.chat)
    with explain_converting(portable_name(job.recipe.generator.model)):
        write_weights(str(merged), model, job.chat.tokenizer, job.numbers, weights)
    del model
    for path in weights.iterdir():
        path.rename(folder / path.name)
    weights.rmdir()
    job.chat.tokenizer.save_pretrained(str(folder))
    generator = ConvertedGenerator(job.section(), job.chat, folder, job.numbers, stop_ids)
    return gate.compare(Asked("CTranslate2", generator, generator.row_logits, job.numbers),
                        progress_of(job.report, "asking the converted model"))


def _to_gguf(job: ExportJob, merged: Path, folder: Path, gate: ParityGate) -> SideParity:
    """Have llama.cpp convert the merged model, and compare what transformers reads back from the file."""
    assert job.converter is not None
    file = folder / f"{job.recipe.name}-{NUMBERS[job.numbers]}.gguf"
    convert_gguf(merged, file, job.numbers, job.converter, job.max_seconds)
    model = load_gguf(file, choose_device(job.recipe.generator.device))
    return gate.compare(_ask_model(job, "GGUF", model, job.numbers), progress_of(job.report, "asking the GGUF file"))


_CONVERT: dict[str, Callable[[ExportJob, Path, Path, ParityGate], SideParity]] = {
    "ctranslate2": _to_ctranslate2,
    "gguf": _to_gguf,
}
