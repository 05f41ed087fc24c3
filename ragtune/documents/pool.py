"""The processes that read files side by side: one for each thread, which starts it anew when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ragtune.documents.worker import memory_reason
from ragtune.seams import Progress

PROGRAM = ("import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
           "from ragtune.documents.worker import main; main(int(sys.argv[2]))")


class Pool:
    """Files being read by so many processes (0: one a core), the first files first. A process ends when no file is left."""

    def __init__(self, paths: Sequence[Path], processes: int, timeout_s: float, max_memory_mb: int) -> None:
        self.count = len(paths)
        self.started_at = self.ended_at = time.perf_counter()
        self.todo: queue.SimpleQueue[tuple[int, Path]] = queue.SimpleQueue()
        for place in enumerate(paths):
            self.todo.put(place)
        self.done: queue.SimpleQueue[tuple[int, dict[str, Any] | Exception]] = queue.SimpleQueue()
        count = min(processes or os.cpu_count() or 1, len(paths))
        self.workers = [Worker(timeout_s, max_memory_mb) for _ in range(count)]
        self.threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self.workers]
        for thread in self.threads:
            thread.start()

    @property
    def seconds(self) -> float:
        """From the start until the last file was read."""
        return self.ended_at - self.started_at

    def _work(self, worker: Worker) -> None:
        """Read by this process as long as there are files."""
        with contextlib.suppress(queue.Empty):
            while True:
                position, path = self.todo.get_nowait()
                try:
                    self.done.put((position, worker.read(path)))
                except Exception as error:  # raised where the replies are taken
                    self.done.put((position, error))
                self.ended_at = time.perf_counter()
        worker.stop()

    def replies(self, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
        """Yield the reply for each path, in their order; those that come early wait. ``progress`` counts all that came."""
        early: dict[int, dict[str, Any]] = {}
        came = 0
        for wanted in range(self.count):
            while wanted not in early:
                position, reply = self.done.get()
                if isinstance(reply, Exception):
                    raise reply
                early[position], came = reply, came + 1
                if progress:
                    progress(came, self.count)
            yield early.pop(wanted)

    def stop(self) -> None:
        """Leave the other files unread and end the processes."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.todo.get_nowait()
        for worker, thread in zip(self.workers, self.threads):
            while thread.is_alive():
                worker.stop()
                thread.join(0.02)


class Worker:
    """A reading process, started when first needed and anew after it died or was stopped for taking too long."""

    def __init__(self, timeout_s: float, max_memory_mb: int) -> None:
        self.timeout_s = timeout_s
        self.max_memory_mb = max_memory_mb
        self.process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        """Return the worker's reply; a worker that hangs or dies gives ``{"error": reason}`` for this file alone."""
        process = self.process = self.process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            process.kill()

        timer = threading.Timer(self.timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            process.stdin.write(json.dumps({"path": str(path)}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            reply: dict[str, Any] = json.loads(line)
            if reply.get("error") == memory_reason(self.max_memory_mb):
                self.stop()  # a process at its limit would fail on the next file as well
            return reply
        code = process.wait()
        self.stop()
        if is_late.is_set():
            return {"error": f"reading took longer than documents.timeout_s = {self.timeout_s:g}. Raise it, or leave the "
                             "file out."}
        return {"error": f"the reading process died on it (exit {code}), perhaps at documents.max_memory_mb = "
                         f"{self.max_memory_mb}. Fetch the file again, raise the limit, or leave the file out."}

    def _start(self) -> subprocess.Popen[str]:
        """Start a process with this one's import paths."""
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([path or os.getcwd() for path in sys.path]), str(self.max_memory_mb)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )

    def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
