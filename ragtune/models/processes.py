"""Several processes that tune one model, as `accelerate launch` and torchrun start them: who is who, and waiting for all.

Nothing here distributes: accelerate does, by its configuration. What ragtune must know is which process writes, which GPU
is whose, and how many rows a step takes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ragtune.files import building_folder


def world_size() -> int:
    """Return how many processes tune together; 1 where none were launched."""
    return int(os.environ.get("WORLD_SIZE") or 1) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Return this process's number among all, from 0."""
    return int(os.environ.get("RANK") or 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Return this process's number on this machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or 0) if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes folders and prints."""
    return rank() == 0


def is_sharded() -> bool:
    """Whether accelerate was told to lay the model's parameters in parts on the GPUs (FSDP, DeepSpeed)."""
    return world_size() > 1 and "true" in (os.environ.get("ACCELERATE_USE_FSDP", "").lower(),
                                          os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower())


def wait_for_all(device: str) -> None:
    """Wait until every process is here. The first call joins them, over gloo on a CPU and over NCCL on CUDA."""
    if world_size() > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu").wait_for_everyone()


@contextlib.contextmanager
def building_together(target: Path, device: str) -> Iterator[Path]:
    """``files.building_folder`` with ``keep_partial`` for several processes: the first builds, all see the same folder.

    All must see the same disk: on several machines the folder lies on a shared one. A process that fails ends, and whoever
    launched them ends the others.
    """
    if is_main():
        with building_folder(target, keep_partial=True) as folder:
            wait_for_all(device)
            yield folder
            wait_for_all(device)
    else:
        wait_for_all(device)
        target = Path(os.path.abspath(target))
        yield target.with_name(target.name + ".partial")
        wait_for_all(device)
    wait_for_all(device)


def on_main(device: str, step: Callable[..., Any], *given: Any) -> None:
    """Do a step in the process that writes, while the others wait."""
    if is_main():
        step(*given)
    wait_for_all(device)
