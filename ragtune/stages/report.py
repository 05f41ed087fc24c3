"""Report: evaluation folders -> their common questions -> ladder, paired tests and waterfalls side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ragtune.errors import RunError
from ragtune.evaluation.reporting.sides import read_sides
from ragtune.evaluation.reporting.versus import Versus, compare_sides, write_versus
from ragtune.files import building_folder, write_manifest


def run_report(folders: Sequence[Path], out: Path | None = None, models: Sequence[str] = ()) -> Versus:
    """Compare two or more evaluation folders and, with ``out``, write report.html, report.md and report.json there.

    ``models`` names the models to compare; the tuned one of each folder, else base, where none is named. Raises RunError for
    fewer than two folders, one that cannot be read, and where no question is common to all.
    """
    if len(folders) < 2:
        raise RunError(f"found {len(folders)} evaluation folder. Two or more can be compared. "
                       "Do: ragtune report FOLDER FOLDER")
    sides = read_sides(folders)
    versus = compare_sides(sides, models)
    if out is not None:
        with building_folder(out) as partial:
            write_versus(partial, versus)
            write_manifest(partial, "report", evaluations=[str(side.folder) for side in sides], models=list(models),
                           common=versus.common)
    return versus
