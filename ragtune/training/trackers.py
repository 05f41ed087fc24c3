"""Trackers that take a run's curve: transformers' own callbacks, each package used only where the recipe names it.

What they write lies beside the run folder, in ``tracking/``: the runs of one assistant are compared there, and a run folder
holds no file that names this machine. Nothing is sent unless the user's environment says so.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ragtune.errors import MissingPackage
from ragtune.files import hash_text
from ragtune.training.job import Job

_set_here: dict[str, str] = {}  # so that the next run of this process may choose another place, but the user's own stays


def run_name(job: Job) -> str:
    """Return the run's name in trackers: method and settings, so that a resumed run goes on under its own."""
    return f"{job.training.method}-{hash_text(job.training.model_dump_json() + str(len(job.train)))[:8]}"


def tracking_folder(job: Job) -> Path:
    """Return where trackers write: beside the run folder."""
    return job.folder.absolute().parent / "tracking"


def open_trackers(job: Job) -> list[str]:
    """Return the recipe's trackers for ``report_to``, told by the environment where to write.

    A variable that the user has set is left as it is: WANDB_MODE=online sends, MLFLOW_TRACKING_URI names a server. Raises
    MissingPackage for one that is not installed.
    """
    names: list[str] = list(dict.fromkeys(job.training.report_to))
    folder = tracking_folder(job)
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingPackage(f"training.report_to names {name}, which is not installed. "
                                 f"Do: pip install 'ragtune[{name}]'")
        for variable, value in _environment(name, folder, run_name(job)).items():
            if os.environ.get(variable) in (None, _set_here.get(variable)):
                os.environ[variable] = _set_here[variable] = value
        (folder / name).mkdir(parents=True, exist_ok=True)
    return names


def _environment(tracker: str, folder: Path, name: str) -> dict[str, str]:
    """Return the variables that keep a tracker on this machine and in its folder."""
    place = folder / tracker
    if tracker == "tensorboard":
        return {"TENSORBOARD_LOGGING_DIR": str(place / name)}
    if tracker == "mlflow":
        return {"MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": "ragtune",
                "MLFLOW_FLATTEN_PARAMS": "TRUE"}
    if tracker == "wandb":
        return {"WANDB_DIR": str(place), "WANDB_MODE": "offline", "WANDB_PROJECT": "ragtune", "WANDB_SILENT": "true"}
    return {"TRACKIO_DIR": str(place)}
