"""Jobs without a model: the processes are real, the stage of kind 'index' counts on a file, step by step.

``worker_main`` and ``process_main`` stand in for the two programs of ragtune.server.jobs; they run them with this stage.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ragtune.errors import DocumentError
from ragtune.records import Record


@dataclass(frozen=True)
class Counted(Record):
    """What the stage says at its end."""

    steps: int
    resumed_at: int


def count(recipe, order, report):
    """Count to what the documents folder's file 'steps' says, going on where an earlier process was stopped."""
    folder = Path(order.folder)
    steps, word = (Path(recipe.documents.folder) / "steps").read_text().split()
    done = folder / "counted"
    begun = at = int(done.read_text()) if done.is_file() else 0
    (folder / "job.pid").write_text(str(os.getpid()))
    print("counting", flush=True)
    if word == "fail":
        raise DocumentError("there is nothing to count. Write numbers.")
    if word == "crash":
        raise ValueError("a fault of the program")
    if word == "die":
        os.kill(os.getpid(), 9)
    if word == "deaf":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while at < int(steps):
        time.sleep(0.02)
        at += 1
        temporary = folder / "counted.tmp"
        temporary.write_text(str(at))
        os.replace(temporary, done)
        report("counting", at, int(steps))
    done.unlink(missing_ok=True)
    return Counted(int(steps), begun)


def use():
    """Have the kind 'index' count."""
    import dataclasses

    from ragtune.server.jobs import kinds, process

    kinds.KINDS["index"] = dataclasses.replace(kinds.KINDS["index"], run=count)
    process.EACH_S = 0.02
    process.NICE = 0


def main():
    """The worker."""
    from ragtune.server.jobs import worker

    worker.PROCESS, worker.LOOK_S, worker.GRACE_S = "job_process_fake", 0.03, 1.0
    worker.main()
