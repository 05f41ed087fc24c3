"""The run folder: an adapter with all it takes to know where it came from and whether it fits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragtune.errors import RunError
from ragtune.files import read_jsonl, read_manifest


@dataclass(frozen=True)
class Run:
    """A run folder that was checked. ``metrics`` are the points of its learning curve: step, loss, eval_loss, ..."""

    folder: Path
    id: str
    manifest: dict[str, Any]
    metrics: tuple[dict[str, float], ...]

    @property
    def adapter(self) -> Path:
        """The folder of the adapter (adapter_model.safetensors, adapter_config.json)."""
        return self.folder / "adapter"


def open_run(folder: Path) -> Run:
    """Return the run in this folder. Raises RunError where it is missing, damaged, of another kind or format."""
    manifest = read_manifest(folder, "run")
    for name in ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "metrics.jsonl"):
        if not (folder / name).is_file():
            raise RunError(f"{folder} is damaged: {name} is missing. Tune again. Do: ragtune train --recipe FILE")
    metrics = tuple(row for _, row in read_jsonl(folder / "metrics.jsonl"))
    return Run(folder, str(manifest.get("id", "")), manifest, metrics)


def check_run_fits(
    run: Run, index_id: str, prompt_hash: str, base_fingerprint: str, allow_mismatch: bool = False,
    grown_from: Collection[str] = (),
) -> str:
    """Raise RunError where a run was tuned with another index, prompt or base model than it is used with.

    An empty value on either side says nothing and is not compared. ``allow_mismatch`` lets the prompt and the index
    differ, never the base model: on other weights an adapter means nothing. ``grown_from`` are ids of indexes that the one
    used differs from by documents alone, as its manifest says: a run of theirs fits, and what differs is returned; else ''.
    """
    pairs = [
        ("base model", str(run.manifest.get("base_fingerprint") or ""), base_fingerprint),
        ("prompt", str(run.manifest.get("prompt_hash") or ""), prompt_hash),
        ("index", str(run.manifest.get("index_id") or ""), index_id),
    ]
    found = [(what, tuned, used) for what, tuned, used in pairs if tuned and used and tuned != used]
    if allow_mismatch:
        found = [item for item in found if item[0] == "base model"]
    grown = [item for item in found if item[0] == "index" and item[1] in grown_from]
    if not [item for item in found if item not in grown]:
        return describe_growth(run, index_id) if grown else ""
    faults = "; ".join(f"it was tuned with {what} {tuned} and is used with {what} {used}" for what, tuned, used in found)
    model = run.manifest.get("base_model", "")
    if found[0][0] == "base model":
        way = f"Use the model it was tuned on ('{model}', unchanged), or tune again: ragtune train --recipe FILE"
    else:
        way = "Tune again (ragtune dataset, then ragtune train), or use it all the same with --allow-mismatch"
    raise RunError(f"the run {run.folder} does not fit: {faults}. {way}")


def describe_growth(run: Run, index_id: str) -> str:
    """Return what is said of a run whose index got or lost documents since."""
    return (f"the run '{run.folder.name}' was tuned with index {run.manifest.get('index_id')}; documents were added or "
            f"removed since (now {index_id}). It answers from all there are; to tune it with them, build the dataset and "
            "train again")
