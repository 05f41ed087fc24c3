"""Several LoRA adapters of one base made into one: stacked, or merged by weight, through PEFT's add_weighted_adapter."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import RunError, nearest
from ragtune.files import building_folder, hash_file, hash_text, write_manifest
from ragtune.models.adapt import load_adapter
from ragtune.models.checkpoint import explain_loading, fingerprint_model, portable_name, quiet
from ragtune.models.weights import load_base
from ragtune.recipe.schema import Generator
from ragtune.records import Record
from ragtune.training.run import Run, check_run_fits


@dataclass(frozen=True)
class Way:
    """How adapters are merged. ``rank`` says what rank comes out: the ranks' sum, one rank that all must have, or a choice.

    ``has_density`` says that only a share of each update's largest (TIES, magnitude) or drawn (DARE) values is kept.
    """

    description: str
    rank: str
    has_density: bool = False


WAYS: dict[str, Way] = {
    "cat": Way("The exact weighted sum of the updates.", "sum"),
    "svd": Way("The best approximation of that sum with a smaller rank.", "chosen"),
    "linear": Way("Sums of the factors themselves: cheap, and only near the sum of the updates.", "equal"),
    "ties": Way("As linear, small values cut and signs elected (arXiv 2306.01708).", "equal", True),
    "dare_linear": Way("As linear, values dropped at random and the rest scaled up (arXiv 2311.03099).", "equal", True),
    "dare_ties": Way("DARE's dropping, then TIES' election of signs.", "equal", True),
    "magnitude_prune": Way("As linear, small values cut.", "equal", True),
    "ties_svd": Way("TIES on the whole updates, then a smaller rank.", "chosen", True),
    "dare_linear_svd": Way("DARE on the whole updates, then a smaller rank.", "chosen", True),
    "dare_ties_svd": Way("DARE and TIES on the whole updates, then a smaller rank.", "chosen", True),
    "magnitude_prune_svd": Way("The updates' largest values, then a smaller rank.", "chosen", True),
}
"""The ways to merge, by PEFT's names."""


@dataclass(frozen=True)
class Combined(Record):
    """What was merged: the runs with their weights, the way, and the rank that came out."""

    folder: str
    runs: tuple[str, ...]
    weights: tuple[float, ...]
    way: str
    rank: int
    id: str


def combine_adapters(
    section: Generator, runs: Sequence[Run], weights: Sequence[float], out: Path, way: str = "cat", rank: int | None = None,
    density: float | None = None, seed: int = 0,
) -> Combined:
    """Merge the runs' adapters by weight and write a run folder that is asked, evaluated and exported like any other.

    Raises RunError for fewer than two runs, weights that do not go with them, an unknown way, ranks it cannot take, runs of
    another base than ``section`` names, with different prompts, or of another kind than LoRA.
    """
    check_ways(len(runs), weights, way, rank, density)
    fingerprint = fingerprint_model(section.model)
    for run in runs:
        check_run_fits(run, "", str(runs[0].manifest.get("prompt_hash") or ""), fingerprint)
    ranks = [_read_rank(run) for run in runs]
    if WAYS[way].rank == "equal" and len(set(ranks)) > 1:
        raise RunError(f"the way '{way}' sums factors, which must have one rank; found {', '.join(map(str, ranks))}. "
                       "Use cat or svd.")
    with building_folder(out) as folder:
        _write_adapter(section, runs, weights, way, rank, density, seed, folder / "adapter")
        (folder / "metrics.jsonl").touch()
        name = hash_text(hash_file(folder / "adapter" / "adapter_model.safetensors"))
        found = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        parts = [{"run": run.id, "weight": weight, "method": (run.manifest.get("training") or {}).get("method", "")}
                 for run, weight in zip(runs, weights)]
        combined = Combined(str(out), tuple(run.id for run in runs), tuple(weights), way, int(found), name)
        facts = {key: runs[0].manifest.get(key) if len({run.manifest.get(key) for run in runs}) == 1 else ""
                 for key in ("prompt_hash", "index_id")}
        (folder / "README.md").write_text(_render_card(section, combined, parts), encoding="utf-8")
        write_manifest(folder, "run", id=name, base_model=portable_name(section.model), base_fingerprint=fingerprint,
                       merged_from=parts, way=way, rank=int(found), density=density, seed=seed, **facts)
    return combined


def check_ways(runs: int, weights: Sequence[float], way: str, rank: int | None, density: float | None) -> None:
    """Raise RunError for a merge that cannot be, before anything is loaded."""
    if runs < 2:
        raise RunError(f"found {runs} runs to merge. Name two or more: --run FOLDER --run FOLDER")
    if len(weights) != runs:
        raise RunError(f"found {len(weights)} weights for {runs} runs. Give one for each, in their order, or none (1 each).")
    if not all(math.isfinite(weight) and weight for weight in weights):
        raise RunError(f"the weights are {', '.join(map(str, weights))}. Allowed are finite numbers other than 0.")
    if way not in WAYS:
        raise RunError(f"the way is '{way}'. Allowed: {', '.join(WAYS)}.{nearest(way, WAYS)}")
    if rank is not None and (WAYS[way].rank != "chosen" or rank < 1):
        allowed = ", ".join(name for name, each in WAYS.items() if each.rank == "chosen")
        raise RunError(f"found rank {rank} for '{way}'. A rank of 1 or more is chosen with {allowed}.")
    if WAYS[way].has_density != (density is not None) or not 0 < (density or 1) <= 1:
        kept = ", ".join(name for name, each in WAYS.items() if each.has_density)
        raise RunError(f"found density {density} for '{way}'. A share above 0 and up to 1 goes with {kept}, with no "
                       "other way.")


def _read_rank(run: Run) -> int:
    """Return a run's LoRA rank. Raises RunError for an adapter of another kind, or one whose update is no product BA."""
    config = json.loads((run.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    kind = str(config.get("ragtune_type") or config.get("peft_type"))
    if kind.upper() != "LORA" or config.get("use_dora"):
        found = "DoRA" if config.get("use_dora") else kind.lower()
        raise RunError(f"the run {run.folder} holds {found}; merged by weight are LoRA adapters (lora, qlora, rslora). "
                       "Switch between adapters instead: ragtune ask --run FOLDER")
    if config.get("modules_to_save"):
        raise RunError(f"the run {run.folder} holds whole layers ({', '.join(config['modules_to_save'])}) beside its LoRA, "
                       "which cannot be merged by weight.")
    return int(config["r"])


def _write_adapter(
    section: Generator, runs: Sequence[Run], weights: Sequence[float], way: str, rank: int | None, density: float | None,
    seed: int, folder: Path,
) -> None:
    """Load the adapters beside one base and save what PEFT makes of them; only the update's factors are written."""
    import torch

    names = [f"run{place}" for place in range(len(runs))]
    with quiet(), explain_loading(section.model):
        model: Any = load_base(section)
        for run, name in zip(runs, names):
            model = load_adapter(model, run.adapter, portable_name(section.model), name)
        with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            choice = {"svd_rank": rank} if rank else {}
            model.add_weighted_adapter(names, list(weights), "merged", combination_type=way, density=density, **choice)
        # rsLoRA divides by the root of the rank, which the new factors hold already: their scale is 1
        config = model.peft_config["merged"]
        config.use_rslora, config.lora_alpha = False, config.r
        model.save_pretrained(str(folder.parent / "saved"), selected_adapters=["merged"])
    (folder.parent / "saved" / "merged").rename(folder)
    for path in (folder / "README.md", folder.parent / "saved" / "README.md"):
        path.unlink(missing_ok=True)
    (folder.parent / "saved").rmdir()
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    saved.update(base_model_name_or_path=portable_name(section.model), init_lora_weights=True)
    saved["target_modules"] = sorted(saved["target_modules"]) if isinstance(saved["target_modules"], list) else (
        saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _render_card(section: Generator, combined: Combined, parts: Sequence[dict[str, Any]]) -> str:
    rows = "\n".join(f"| {part['run']} | {part['method']} | {part['weight']:g} |" for part in parts)
    return f"""# A ragtune run, merged of others

An adapter for `{portable_name(section.model)}`, rank {combined.rank}, made of {len(parts)} others by `{combined.way}`:
{WAYS[combined.way].description}

| run | method | weight |
| --- | --- | --- |
{rows}

It was not tuned itself: measure it before you serve it (`ragtune evaluate --run FOLDER`).
"""
