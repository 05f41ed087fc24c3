"""What all routes of a server share: the assistant it serves, where its files lie, and the parts that others add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragtune.recipe.schema import Recipe
from ragtune.server.draining import Drain
from ragtune.server.service import Service


@dataclass
class State:
    """One running server. ``folder`` holds keys, uploads, jobs and feedback; it is made when the first of them is written.

    ``keys``, ``jobs``, ``metrics`` and ``probe`` belong to their modules, which put them here when the application is made.
    ``drain`` says whether the server is stopping: what streams without end stops then.
    ``on_open`` is called when the server starts, ``on_close`` in the reverse order when it stops, after the last answer.
    """

    service: Service
    recipe: Recipe
    folder: Path
    keys: Any = None
    jobs: Any = None
    metrics: Any = None
    probe: Any = None
    drain: Drain = field(default_factory=Drain)
    on_open: list[Callable[[], None]] = field(default_factory=list)
    on_close: list[Callable[[], None]] = field(default_factory=list)


def server_folder(recipe: Recipe) -> Path:
    """Return where a recipe's server keeps its files: server.folder, else work/NAME/server."""
    return Path(recipe.server.folder) if recipe.server.folder else Path(recipe.work) / recipe.name / "server"


def open_state(service: Service) -> State:
    """Return the state of a server of this assistant; no file is written."""
    return State(service, service.recipe, server_folder(service.recipe), drain=Drain(service.recipe.server.drain_s))
