"""Check that no filter lets a tenant see another's chunks: so many tenants, so many random and adversarial filters each.

    python scripts/check_tenants.py --tenants 100 --filters 1000

An index of all tenants' documents is made in a temporary folder. Of each filter the rows that pass for the tenant are
checked (what every search is held to); every so many are asked as a whole search too, in several ways of retrieval.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]

from tenants import ATTACKS, make_shared_index, random_filter, tenant_of  # noqa: E402

from ragtune.errors import QuestionError  # noqa: E402
from ragtune.recipe.schema import Retrieval  # noqa: E402
from ragtune.retrieval.filters import parse_filter  # noqa: E402
from ragtune.retrieval.search import open_searcher  # noqa: E402
from ragtune.retrieval.tenancy import OwnSearcher, check_tenant  # noqa: E402

WAYS = ({}, {"returns": "page"}, {"rerank": "none", "expand": ("feedback", "decompose")}, {"route": False})


def main() -> int:
    """Run the check and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--filters", type=int, default=1000)
    parser.add_argument("--search-every", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun, used = time.perf_counter(), time.process_time()
    read = refused = searches = hits = foreign = widened = 0
    with tempfile.TemporaryDirectory() as home:
        recipe = make_shared_index(Path(home), options.tenants)
        folder = Path(recipe.work) / "shared" / "index"
        shared = [open_searcher(folder, Retrieval.model_validate(way)) for way in WAYS]
        names = [document.name for document in shared[0].index.documents()]
        for tenant in range(options.tenants):
            drawn = random.Random(f"{options.seed} {tenant}")
            owned = check_tenant(tenant_of(tenant))
            searchers = [OwnSearcher(searcher, owned) for searcher in shared]
            index = searchers[0].index
            own = [name.startswith(f"T{tenant:03d}_") for name in names]
            is_own = [own[place] for place in index.places[:, 0]]
            assert sum(own) == 2, f"tenant {tenant} has {sum(own)} documents"
            assert list(index.own_rows) == is_own
            for number in range(options.filters):
                text = ATTACKS[number] if number < len(ATTACKS) else random_filter(drawn)
                other = drawn.randrange(options.tenants)
                try:
                    kept = index.rows_kept(parse_filter(text))
                except QuestionError:
                    refused += 1
                    continue
                read += 1
                foreign += int((kept & ~index.own_rows).sum())
                if number % options.search_every == 0:
                    searcher = searchers[number // options.search_every % len(searchers)]
                    question = f"Net sales of Common{other} Corp, as word{other} says?"
                    found, trace = searcher.trace_many([question], 20, text)[0]
                    searches += 1
                    hits += len(found)
                    foreign += sum(not hit.chunk.document.startswith(f"T{tenant:03d}_") for hit in found)
                    said = f"{trace.reasons} {trace.added}"
                    widened += sum(f"T{place:03d}_" in said for place in range(options.tenants) if place != tenant)
    print(f"{options.tenants} tenants x {options.filters} filters: {read:,} read, {refused:,} refused as none of theirs; "
          f"{searches:,} whole searches with {hits:,} hits; foreign chunks: {foreign}; others' names: {widened}; "
          f"{time.process_time() - used:.0f} CPU-s, {time.perf_counter() - begun:.0f} s")
    return int(bool(foreign or widened))


if __name__ == "__main__":
    sys.exit(main())
