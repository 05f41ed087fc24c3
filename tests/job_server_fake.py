"""A server in little, for tests that kill it: the jobs of a folder, and a line on standard output once they are open."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace


def main():
    """Open the jobs of a folder and wait to be killed."""
    from ragtune.recipe.load import check_recipe
    from ragtune.server.jobs import jobs

    jobs.WORKER, folder = "job_fakes", Path(sys.argv[1])
    recipe = check_recipe({"name": "t", "work": str(folder / "work"),
                           "documents": {"folder": str(folder / "documents")}}, "t")
    opened = jobs.Jobs(SimpleNamespace(), recipe, folder / "server")
    opened.take_in = lambda job: None
    opened.open()
    if len(sys.argv) > 2:
        print(opened.submit("index").id, flush=True)
    print("open", flush=True)
    time.sleep(120)
