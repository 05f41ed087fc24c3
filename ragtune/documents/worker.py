"""The process that reads files for ragtune.documents.read: a line of JSON in (a path), a line of JSON out (its pages).

A broken or hostile file can only take down this process. It is started by command and not by multiprocessing, so that
it neither imports the caller's main module nor shares memory with it, and it never loads torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path


def main(max_memory_mb: int) -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when Ctrl-C ends the reading
    limit_memory(max_memory_mb)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints must not mix with the replies
    for line in sys.stdin:
        try:
            reply = json.dumps(answer(Path(json.loads(line)["path"])))
        except MemoryError:
            reply = json.dumps({"error": memory_reason(max_memory_mb)})
        replies.write(reply + "\n")
        replies.flush()


def memory_reason(max_memory_mb: int) -> str:
    """Return what is said of a file that needs more memory than the recipe allows."""
    return f"reading needs more than documents.max_memory_mb = {max_memory_mb}. Raise it, or leave the file out."


def answer(path: Path) -> dict[str, object]:
    """Return {"pages", "without_text"} or {"error"} for one file."""
    from ragtune.documents.formats import read_pages
    from ragtune.errors import DocumentError

    try:
        pages, without_text = read_pages(path)
        return {"pages": pages, "without_text": without_text}
    except DocumentError as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"the file cannot be opened ({error.strerror or error}). Check its permissions."}
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # a library's failure on a strange file concerns this file alone
        return {"error": f"the file is broken ({type(error).__name__}: {str(error)[:200]}). Fetch or export it again."}


def limit_memory(max_memory_mb: int) -> None:
    """Let the operating system refuse memory above the limit, where it can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (max_memory_mb << 20, max_memory_mb << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
