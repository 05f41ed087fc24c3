"""Where the harness's tasks lie, by name, without the half minute in which it reads each of its 14,000 YAML files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_DECLARED = re.compile(
    rb"""^["']?(?P<key>task|group|tag)["']?[ \t]*:[ \t]*(?P<named>\S.*)$|^[ \t]*-[ \t]+(?P<listed>\S.*)$""", re.MULTILINE)
_NAME = re.compile(r"[\w.+-]+")
_SUFFIXES = ("", ".yaml", ".yml")  # templates that others include have none


@lru_cache(maxsize=1)
def declared_tasks() -> tuple[Mapping[str, frozenset[Path]], tuple[str, ...]]:
    """Return name -> the harness's folders that speak of it (task, group, tag, or entry of a list), and the names declared.

    Read as text, in a second; a folder too many costs little, since what a task is says the harness.
    """
    spec = find_spec("lm_eval")
    root = Path(((spec and spec.submodule_search_locations) or ["."])[0]) / "tasks"
    folders: dict[str, set[Path]] = {}
    declared: set[str] = set()
    for path in root.rglob("*"):
        if path.suffix not in _SUFFIXES or not path.is_file():
            continue
        folder = root / path.relative_to(root).parts[0]
        for match in _DECLARED.finditer(path.read_bytes()):
            said = (match["named"] or match["listed"]).decode("utf-8", "replace").partition(" #")[0]
            for part in said.strip("[] \t\r").split(","):
                name = part.strip(" \t\"'")
                if _NAME.fullmatch(name):
                    folders.setdefault(name, set()).add(folder)
                    if match["key"]:
                        declared.add(name)
    return {name: frozenset(found) for name, found in folders.items()}, tuple(sorted(declared))


def reached_names(index: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """Return the names and those of the tasks and groups that they are made of, as far as the harness's index says."""
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            entry = index.get(name)
            waiting += _members((entry.cfg or {}).get("task") if entry else None)
    return reached


def _members(task: Any) -> Iterator[str]:
    """Yield the names in a group's list: plain ones, with settings of their own, and those of groups written there."""
    for member in task if isinstance(task, list) else []:
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping):
            inner = member.get("task")
            yield from [inner] if isinstance(inner, str) else _members(inner)
            if inner is None and isinstance(member.get("group"), str):
                yield member["group"]
