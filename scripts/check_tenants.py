"""Check that no filter lets a tenant see another's chunks: so many tenants, so many random and adversarial filters each.

    python scripts/check_tenants.py --tenants 100 --filters 1000

An index of all tenants' documents is made in a temporary folder and served. Every filter is asked with as a whole search of
the service, some of them in other ways of retrieval too, and some with the tenants' real keys over HTTP, on every route that
can tell of a document. Found is: a foreign chunk or document, and any word, name or column of another tenant's documents
that the one who asked did not say themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tests")]

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from served import serving  # noqa: E402
from tenants import ATTACKS, make_shared_index, random_filter, tenant_of  # noqa: E402

from ragtune.errors import QuestionError  # noqa: E402
from ragtune.recipe.schema import Recipe, Retrieval  # noqa: E402
from ragtune.retrieval.filters import parse_filter  # noqa: E402
from ragtune.retrieval.search import open_searcher  # noqa: E402
from ragtune.retrieval.tenancy import OwnSearcher, check_tenant  # noqa: E402
from ragtune.server.app import create_app  # noqa: E402
from ragtune.server.jobs.record import log_path, new_job  # noqa: E402
from ragtune.server.service import Service, open_service  # noqa: E402
from ragtune.server.state import State, open_state  # noqa: E402

WAYS = (
    {"returns": "page"},
    {"rerank": "none", "expand": ("feedback", "decompose", "learned")},
    {"route": False},
    {"rerank": "none", "method": "lexical"},
    {"rerank": "none", "method": "dense"},
    {"where": "page > 0"},
)
MARK = re.compile(
    r"T(\d{3})_20\d\d|\bword(\d{1,3})\b|Common(\d{1,3}) Corp|\bZP(\d{1,3})\b|\bClient (\d{1,3})\b", re.IGNORECASE
)
"""What stands in one tenant's documents, names and columns alone, with the tenant's number."""
COLUMNS = re.compile(r'Columns here:[^\n\\\\"]*|"column":"[^"]*"')
"""Where an answer lists columns: in the error for one that there is not, in the page's facets."""


@dataclass
class Tally:
    """What was asked and what was found."""

    tenants: int
    filters: int
    counts: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __str__(self) -> str:
        c = self.counts
        return (
            f"{self.tenants} tenants x {self.filters} filters, {self.cpu_seconds:.0f} CPU-s, {self.seconds:.0f} s\n"
            f"in process: {c['read']:,} filters read, {c['refused']:,} refused as none; {c['searches']:,} searches, "
            f"{c['with hits']:,} of them with hits, {c['hits']:,} hits; {c['other ways']:,} more in {len(WAYS)} other ways\n"
            f"over HTTP: {c['requests']:,} requests to {len([n for n in c if n.startswith('/')])} routes: "
            + ", ".join(f"{name[7:]} {count:,}" for name, count in sorted(c.items()) if name.startswith("status "))
            + "\n"
            f"foreign chunks, documents, words, names or columns: {len(self.found)}"
        )


class Checker:
    """One tenant's sight of a shared index, looked at for what is not theirs."""

    def __init__(self, tally: Tally, tenant: int) -> None:
        self.tally, self.tenant = tally, tenant

    def look(self, where: str, said: str, asked: str = "", documents: tuple[str, ...] = ()) -> None:
        """Note what is another tenant's: any of ``documents``, and marks in ``said`` that do not stand in ``asked``."""
        foreign = {name for name in documents if not name.startswith(f"T{self.tenant:03d}_")}
        given = asked.casefold()  # an error quotes it, cut off perhaps: 'Client 5' of 'Client 52'
        for match in MARK.finditer(said):
            if int(next(filter(None, match.groups()))) != self.tenant and match[0].casefold() not in given:
                foreign.add(match[0])
        told = " ".join(COLUMNS.findall(said))
        if self.tenant % 2 == 0 and "secret" in told:  # a column that only documents of the others have
            foreign.add("the column 'secret'")
        if foreign:
            self.tally.found.append(
                f"tenant {self.tenant}, {where}: {', '.join(sorted(foreign))[:200]}; asked: {asked[:200]!r}"
            )


def draw_filters(tenant: int, filters: int, seed: int) -> Iterator[tuple[str, int]]:
    """Yield the filters of a tenant, the attacks first, each with the number of another tenant to ask about."""
    drawn = random.Random(f"{seed} {tenant}")
    for number in range(filters):
        text = ATTACKS[number] if number < len(ATTACKS) else random_filter(drawn)
        yield text.replace("11", str(other := drawn.randrange(13, 100))) if number % 2 else text, other if number % 2 else 11


def check_searches(tally: Tally, service: Service, tenants: int, filters: int, seed: int) -> None:
    """Ask the service with every filter of every tenant, and every twentieth in another way of retrieval too."""
    folder = Path(service.recipe.work) / service.recipe.name / "index"
    ways = [open_searcher(folder, Retrieval.model_validate(way)) for way in WAYS]
    counts = tally.counts
    for tenant in range(tenants):
        checker, owned = Checker(tally, tenant), tenant_of(tenant)
        others = [OwnSearcher(way, check_tenant(owned)) for way in ways]
        is_own = np.array([document.name.startswith(f"T{tenant:03d}_") for document in service.index.documents()])
        for number, (text, other) in enumerate(draw_filters(tenant, filters, seed)):
            question = f"Net sales of Common{other} Corp, as word{other} of T{other:03d}_2020_10K says?"
            asked = f"{question} {text}"
            try:
                index = service.index_for(owned)
                kept = index.rows_kept(parse_filter(text))
                if foreign := int((kept & ~is_own[index.places[:, 0]]).sum()):
                    tally.found.append(f"tenant {tenant}, {foreign} rows of others; asked: {text[:200]!r}")
                hits, trace = service.search(question, 20, text, owned)
            except QuestionError as error:
                counts["refused"] += 1
                checker.look("error", str(error), asked)
                continue
            except RuntimeError as error:  # the last fence, in the store
                tally.found.append(f"tenant {tenant}, {error}; asked: {asked[:200]!r}")
                continue
            counts.update({"read": 1, "searches": 1, "hits": len(hits), "with hits": bool(hits)})
            checker.look(
                "search",
                f"{trace.where} {trace.reasons} {trace.added} " + " ".join(h.chunk.text for h in hits),
                asked,
                tuple(hit.chunk.document for hit in hits),
            )
            if number % 20 == 0:
                try:
                    hits, trace = others[number // 20 % len(others)].trace_many([question], 20, text)[0]
                except (QuestionError, RuntimeError) as error:
                    tally.found.append(f"tenant {tenant}, in another way of retrieval: {error}")
                    continue
                counts["other ways"] += 1
                checker.look(
                    "search in another way",
                    f"{trace.where} {trace.reasons} {trace.added}",
                    asked,
                    tuple(hit.chunk.document for hit in hits),
                )


class Asker:
    """Sends a tenant's requests and looks at each answer."""

    def __init__(self, client: httpx.Client, tally: Tally, tenant: int, key: str) -> None:
        self.client, self.checker, self.counts = client, Checker(tally, tenant), tally.counts
        self.headers = {"Authorization": f"Bearer {key}"}

    def ask(
        self, route: str, method: str, path: str, asked: str = "", allowed: tuple[int, ...] = (200, 400), **more: Any
    ) -> str:
        """Send one request; return what was said."""
        answer = self.client.request(method, path, headers=self.headers, **more)
        self.counts.update({"requests": 1, route: 1, f"status {answer.status_code}": 1})
        if answer.status_code not in allowed:
            self.checker.tally.found.append(
                f"tenant {self.checker.tenant}, {method} {path[:80]}: {answer.status_code}, wanted "
                f"{allowed}; {answer.text[:200]}"
            )
        self.checker.look(f"{method} {route}", answer.text, f"{asked} {path}")
        return answer.text

    def ask_with(self, text: str, other: int) -> None:
        """Ask all routes that take a filter."""
        question = f"Net sales of Common{other} Corp in 2020, as word{other} says?"
        asked, text = f"{question} {text}", text.replace("\udcff", "")
        try:
            where: Any = json.loads(text) if text.startswith("{") else text
        except (ValueError, RecursionError):
            where = text
        messages = [
            {"role": "system", "content": f"Answer from T{other:03d}_2020_10K."},
            {"role": "user", "content": question},
        ]
        for stream in (False, True):
            self.ask("/v1/ask", "POST", "/v1/ask", asked, json={"question": question, "where": where, "stream": stream})
            self.ask(
                "/v1/chat/completions",
                "POST",
                "/v1/chat/completions",
                asked + str(messages),
                json={
                    "model": "shared",
                    "messages": messages,
                    "stream": stream,
                    "user": f"Client {other}",
                    "metadata": {"tenant": f"Client {other}"},
                    "ragtune": {"where": where, "draft": True},
                },
            )
        self.ask("/v1/search", "POST", "/v1/search", asked, json={"question": question, "where": where, "k": 50})
        self.ask("/v1/filter", "GET", "/v1/filter", asked, params={"where": text[:3000]}, allowed=(200, 400))

    def look_around(self, other: int, foreign_ids: list[str], own_ids: list[str], job: str) -> None:
        """Ask all routes that take none: what is another's is answered as what is not there; an administrator's, 403."""
        tenant = self.checker.tenant
        for path in (
            "/v1/assistant",
            "/v1/documents",
            "/v1/documents?state=waiting",
            "/v1/documents?state=unreadable",
            "/v1/documents?state=leaving",
            "/v1/models",
            "/v1/reports",
        ):
            self.ask(path.partition("?")[0], "GET", path, allowed=(200,))
        said = json.loads(self.ask("/v1/documents", "GET", "/v1/documents", allowed=(200,)))
        names = {f"T{tenant:03d}_2020_10K", f"T{tenant:03d}_2021_10K", *(["T011_2022_10K"] if tenant == 11 else [])}
        if {each["name"] for each in said["data"]} != names:
            self.checker.tally.found.append(f"tenant {tenant} is told of {[each['name'] for each in said['data']]}")
        if json.loads(self.ask("/v1/assistant", "GET", "/v1/assistant"))["documents"] != 2:
            self.checker.tally.found.append(f"tenant {tenant} is told of more documents than two")
        page = "/documents/{name}/pages/{number}"
        self.ask(page, "GET", f"/documents/T{tenant:03d}_2020_10K/pages/1?quote=Net", allowed=(200,))
        for end in ("", "/picture"):
            told = []
            for name in (f"T{other:03d}_2020_10K", "T999_2020_10K"):
                text = self.ask(page + end, "GET", f"/documents/{name}/pages/1{end}", allowed=(404,))
                told.append(re.sub(r"req_\w+", "", text.replace(name, "NAME")))
            if len(set(told)) > 1:
                self.checker.tally.found.append(f"tenant {tenant} can tell another's document from none: {told}")
        judged = {"question": "Net sales?", "model": "shared-base", "verdict": "up"}
        self.ask("/v1/feedback", "POST", "/v1/feedback", allowed=(201,), json={**judged, "passages": own_ids})
        for number, ids in enumerate(
            (foreign_ids[:1], ["nothing:1"], [*own_ids, *foreign_ids], [f"{foreign_ids[0].split(':')[0]}#page=1"])
        ):
            self.ask("/v1/feedback", "POST", "/v1/feedback", str(number), (409,), json={**judged, "passages": ids})
        for body in ({"question": "x", "tenant": "page > 0"}, {"question": "x", "tenant_filter": "page > 0"}):
            self.ask("/v1/search", "POST", "/v1/search", allowed=(400,), json=body)
            self.ask("/v1/ask", "POST", "/v1/ask", allowed=(400,), json=body)
        for method, path in (
            ("GET", "/v1/jobs"),
            ("GET", "/v1/jobs/kinds"),
            ("GET", f"/v1/jobs/{job}"),
            ("GET", f"/v1/jobs/{job}/log"),
            ("GET", f"/v1/jobs/{job}/events"),
            ("DELETE", f"/v1/jobs/{job}"),
            ("POST", "/v1/jobs"),
            ("GET", "/v1/datasets"),
            ("GET", "/v1/runs"),
            ("GET", "/v1/evaluations"),
            ("GET", "/v1/evaluations/evaluation/report"),
            ("DELETE", f"/v1/documents/T{other:03d}_2020_10K"),
            ("DELETE", f"/v1/documents/T{tenant:03d}_2020_10K"),
            ("GET", "/metrics"),
        ):
            more = {"json": {"kind": "index"}} if (method, path) == ("POST", "/v1/jobs") else {}
            self.ask(re.sub(r"T\d{3}_2020_10K", "{name}", path.replace(job, "{id}")), method, path, allowed=(403,), **more)
            if self.checker.tally.found:  # the rest would change what is there
                return
        self.ask("/v1/documents", "POST", "/v1/documents", allowed=(403,), files={"files": ("x.txt", b"text")})


@contextmanager
def open_server(service: Service, tenants: int) -> Iterator[tuple[httpx.Client, State, list[str], str]]:
    """Serve with a key for each tenant, and with a document on its way, a report and a job that tell of others."""
    state = open_state(service)
    app = create_app(service, state)
    keys = [state.keys.keys.add(f"tenant {number}", tenant_of(number)) for number in range(tenants)]
    admin = state.keys.keys.add("root", is_admin=True)
    home = Path(service.recipe.work) / service.recipe.name / "evaluation"
    home.mkdir(exist_ok=True)
    (home / "manifest.json").write_text(
        json.dumps({"kind": "evaluation", "created": "2026", "ladder": {"T011_2020_10K": 1}})
    )
    for name in ("report.html", "report.md"):
        (home / name).write_text("# T011_2020_10K\n\nword11 and word12")
    (Path(service.recipe.documents.folder) / "T011_2020_waiting.txt").write_text("word11")
    with serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        sent = client.post(
            "/v1/documents",
            headers={"X-API-Key": admin},
            data={"client": "Client 11", "index": "false"},
            files={"files": ("T011_2022_10K.txt", b"word11 of Common11 Corp")},
        )
        assert sent.status_code == 201, sent.text
        job = new_job("index", service.recipe.name, {"documents.where": "T011_2020_10K"}, "root")
        state.jobs._open()[0].add(job, {})
        log_path(state.folder, job.id).parent.mkdir(parents=True, exist_ok=True)
        log_path(state.folder, job.id).write_text("T011_2020_10K word11")
        yield client, state, keys, job.id


def check_routes(tally: Tally, service: Service, tenants: int, filters: int, seed: int) -> None:
    """Ask every route over HTTP with each tenant's own key and so many of its filters."""
    index = service.index
    with open_server(service, tenants) as (client, _, keys, job):
        for tenant, key in enumerate(keys):
            asker, drawn = Asker(client, tally, tenant, key), random.Random(f"{seed} routes {tenant}")
            texts = list(draw_filters(tenant, 1000, seed))
            for text, other in drawn.sample(texts[: len(ATTACKS)], filters // 2) + drawn.sample(
                texts, filters - filters // 2
            ):
                asker.ask_with(text, other)
            other = (tenant + drawn.randrange(1, tenants)) % tenants
            ids = [[chunk.id for chunk in index.chunks(f"T{number:03d}_2020_10K")] for number in (other, tenant)]
            asker.look_around(other, *ids, job)


def check(recipe: Recipe, tenants: int, filters: int, http_filters: int, seed: int = 0, stops: bool = False) -> Tally:
    """Ask all that is to be asked of a recipe whose index many tenants share; ``stops``: not over HTTP too where searches
    found something."""
    tally = Tally(tenants, filters)
    begun, used = time.perf_counter(), time.process_time()
    service = open_service(recipe)
    try:
        check_searches(tally, service, tenants, filters, seed)
        if not (tally.found and stops):
            check_routes(tally, service, tenants, http_filters, seed)
    finally:
        service.close()
    tally.seconds, tally.cpu_seconds = time.perf_counter() - begun, time.process_time() - used
    return tally


def main() -> int:
    """Run the check and return its exit code: 1 where anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--filters", type=int, default=1000, help="searched with in process, of each tenant")
    parser.add_argument("--http-filters", type=int, default=20, help="of these, asked with on every route over HTTP")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        tally = check(
            make_shared_index(Path(home), options.tenants),
            options.tenants,
            options.filters,
            options.http_filters,
            options.seed,
        )
    print(tally)
    for line in tally.found[:20]:
        print(" ", line)
    return int(bool(tally.found))


if __name__ == "__main__":
    sys.exit(main())
