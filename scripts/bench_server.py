"""Measure a server: what the layer around embedding and generation costs, load, batches, clients that go, a kill.

    python scripts/bench_server.py --out work/bench/server                       # everything; the load runs 10 minutes
    python scripts/bench_server.py --out work/bench/server --minutes 1           # a trial
    python scripts/bench_server.py --out work/bench/server --only overhead kill

overhead  One client asks an assistant over 100,000 chunks (``bench_scale.py`` draws them and the questions' vectors), whose
          model answers with the first line of the first passage in no time: what is left of a request's time is search,
          prompt, check and HTTP. Every question is a new one. 'cpu' is the processor's time of server and client together,
          which others that run on the machine lengthen less.
load      32 clients ask the demo's questions of `ragtune serve` with the bundled model, streamed and whole, and search, one
          request after the other, for so many minutes. Memory is the server's resident set, its worker's not counted: the
          mean of the last fifth over the mean of the second fifth, the first being the warm-up.
batches   Questions one at a time and sixteen at once, in turns, by answers a second; each engine for itself, and against
          the first engine one at a time.
leaving   Clients open as many streams as there are places, read the first chunk and go; then one more asks.
kill      Documents are uploaded; the server is killed (SIGKILL) while the job that indexes them runs, and started anew:
          every upload that was acknowledged is there, and the job is done.

Prints a table on stderr and one JSON object. The first index is built in ``--out`` and kept there.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("overhead", "load", "batches", "leaving", "kill")
START_S = 180
ENGINES = ("transformers", "ctranslate2")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 2) for share in (50, 95, 99)}


class Server:
    """`ragtune serve` in a process of its own."""

    def __init__(self, out: Path, recipe: str = "demo", settings: Sequence[str] = ()) -> None:
        self.out, self.recipe, self.settings = out, recipe, [f"work={out / 'work'}", *settings]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ragtune.cli.main", words[0], "--recipe", self.recipe, *words[1:],
                *itertools.chain.from_iterable(("--set", setting) for setting in self.settings)]

    def index(self) -> None:
        subprocess.run(self.command("index"), check=True, stdout=sys.stderr, env=environment())

    def start(self) -> float:
        """Start and wait until it is ready; return the seconds that took."""
        import httpx

        begun = time.perf_counter()
        with (self.out / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command("serve", "--port", str(self.port)), stdout=log, stderr=log,
                                            env=environment())
        while True:
            if self.process.poll() is not None or time.perf_counter() - begun > START_S:
                raise SystemExit(f"the server did not come up; see {self.out / 'server.log'}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return round(time.perf_counter() - begun, 2)
            time.sleep(0.1)

    def stop(self, by: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        assert self.process is not None
        self.process.send_signal(by)
        return self.process.wait(60)

    def figures(self) -> dict[str, float]:
        """Return the metrics by name and labels."""
        import httpx

        lines = httpx.get(f"{self.url}/metrics", timeout=20).text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}

    def resident_mb(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@contextlib.contextmanager
def served(out: Path, *settings: str) -> Iterator[Server]:
    """Yield a server of the demo, ready; it ends with SIGTERM."""
    server = Server(out, settings=settings)
    if not (out / "work" / "demo" / "index" / "manifest.json").is_file():
        server.index()
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


def demo_questions() -> list[str]:
    """Return the demo's questions, of all kinds mixed."""
    lines = (ROOT / "data" / "questions.jsonl").read_text().splitlines()
    return random.Random(7).sample([json.loads(line)["text"] for line in lines], len(lines))


def chat(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": question}], **fields}


def measure_overhead(out: Path, chunks: int, requests: int) -> dict[str, Any]:
    """Ask in one process, over HTTP, an assistant whose embedder and model take no time."""
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    import bench_scale
    import faiss
    import numpy as np
    import uvicorn

    from ragtune.cli.serving import bind
    from ragtune.models.fake import EchoGenerator
    from ragtune.recipe.load import load_recipe
    from ragtune.retrieval.search import open_searcher
    from ragtune.server.app import create_app
    from ragtune.server.service import Service

    folder = out / f"index-{chunks}"
    if not (folder / "manifest.json").is_file():
        code = (f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import bench_scale; from pathlib import Path; "
                f"bench_scale.build_folder(Path({str(folder)!r}), {chunks})")
        subprocess.run([sys.executable, "-c", code], check=True, env=environment(), stdout=sys.stderr)
    faiss.omp_set_num_threads(1)
    embedder = bench_scale.DrawnEmbedder()
    recipe = load_recipe("filings", [f"index.folder={folder}", f"work={out / 'overhead'}", "generator.model=echo",
                                      "server.batch_wait_ms=0"])  # an engine that takes no time needs no company
    searcher = open_searcher(folder, recipe.retrieval, embedder)
    draws = np.random.default_rng(11)
    total = int(searcher.index.manifest["chunks"])
    rows = draws.integers(0, total, requests)
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[rows]
    vectors = vectors + draws.normal(size=vectors.shape).astype(np.float32) / vectors.shape[1] ** 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kinds = bench_scale.ask_about(searcher.index.store.chunks_at(rows), draws)
    wanted = {kind: kinds[kind] for kind in ("named", "open", "filter of one filing", "filter of most")}
    for asks in wanted.values():
        embedder.given.update(zip([question for question, _ in asks], vectors))
    embedder.given["warm"] = vectors[0]
    service = Service(recipe, searcher, EchoGenerator(), {})
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    result: dict[str, Any] = {"chunks": total}
    with contextlib.closing(http.client.HTTPConnection(*listener.getsockname(), timeout=60)) as client:

        def post(body: dict[str, Any]) -> dict[str, Any]:
            """Ask with little work of the client's own: it shares the process."""
            client.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = client.getresponse()
            text = response.read()
            assert response.status == 200, text
            found: dict[str, Any] = json.loads(text)
            return found

        for question, where in itertools.chain.from_iterable(asks[:3] for asks in wanted.values()):
            post(chat(question, model="filings-base", ragtune={"where": where}))  # what is opened when first used
        for kind, asks in wanted.items():
            took: list[float] = []
            parts: dict[str, list[float]] = {}
            for question, where in asks[3:]:
                begun, worked = time.perf_counter(), time.process_time()
                answer = post(chat(question, model="filings-base", ragtune={"where": where}))
                seconds, worked = time.perf_counter() - begun, time.process_time() - worked
                timings = answer["ragtune"]["timings_s"]
                generated = timings.pop("generate")  # the wait for company and an echo
                took.append(1000 * (seconds - generated))
                for part, value in timings.items():
                    parts.setdefault(part, []).append(1000 * value)
                parts.setdefault("cpu", []).append(1000 * worked)
                parts.setdefault("http", []).append(1000 * (seconds - timings["total"]))
                parts.setdefault("layer", []).append(1000 * (timings["total"] - generated))
            result[kind] = {"requests": len(took), "overhead_ms": percentiles(took),
                            **{f"{part}_p50_ms": percentiles(values)["p50"] for part, values in parts.items()}}
    server.should_exit = True
    thread.join(20)
    every = [result[kind]["overhead_ms"]["p50"] for kind in wanted]
    layer = statistics.median(result[kind]["layer_p50_ms"] for kind in wanted)
    return {**result, "p50_ms": round(statistics.median(every), 2), "layer_p50_ms": round(layer, 2), "goal_ms": 5}


def measure_load(server: Server, minutes: float, clients: int) -> dict[str, Any]:
    """Keep the clients asking for so many minutes."""
    import httpx

    questions, end = demo_questions(), time.monotonic() + 60 * minutes
    statuses: Counter[str] = Counter()
    took: dict[str, list[float]] = {"answer": [], "stream": [], "first_passages": [], "search": []}
    lock, memory = threading.Lock(), [(time.monotonic(), server.resident_mb())]
    numbers = itertools.count()

    def ask(client: httpx.Client, number: int) -> tuple[str, int, float, float | None, float]:
        question = questions[number % len(questions)]
        kind = ("answer", "stream", "search")[number % 3]
        begun, first = time.perf_counter(), None
        if kind == "search":
            response = client.post("/v1/search", json={"question": f"{question} ({number})"})
            status = response.status_code
        elif kind == "answer":
            response = client.post("/v1/chat/completions", json=chat(question))
            status = response.status_code
        else:
            with client.stream("POST", "/v1/chat/completions", json=chat(question, stream=True)) as response:
                status, last = response.status_code, ""
                for line in response.iter_lines():
                    first = first or (time.perf_counter() - begun if '"passages"' in line else None)
                    last = line or last
                if status == 200 and last != "data: [DONE]":
                    status = 599
        return kind, status, time.perf_counter() - begun, first, float(response.headers.get("retry-after", 1))

    def keep_asking() -> None:
        with httpx.Client(base_url=server.url, timeout=180) as client:
            while time.monotonic() < end:
                try:
                    kind, status, seconds, first, wait_s = ask(client, next(numbers))
                except httpx.HTTPError as error:
                    with lock:
                        statuses[type(error).__name__] += 1
                    continue
                with lock:
                    statuses[str(status)] += 1
                    if status == 200:
                        took[kind].append(1000 * seconds)
                        if first is not None:
                            took["first_passages"].append(1000 * first)
                if status == 429:
                    time.sleep(wait_s)

    threads = [threading.Thread(target=keep_asking, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(2.0, 60 * minutes / 60))
        memory.append((time.monotonic(), server.resident_mb()))
    for thread in threads:
        thread.join(200)
    begun = memory[0][0]
    fifths: list[list[float]] = [[] for _ in range(5)]
    for moment, held in memory:
        fifths[min(4, int(5 * (moment - begun) / (60 * minutes)))].append(held)
    early, late = (statistics.mean(fifths[place] or [0.0]) for place in (1, 4))
    figures = server.figures()
    batches = figures.get("ragtune_batch_size_count", 0)
    return {"clients": clients, "minutes": minutes, "requests": sum(statuses.values()), "statuses": dict(statuses),
            "errors_5xx": sum(count for status, count in statuses.items() if status[0] == "5" or not status.isdigit()),
            **{f"{kind}_ms": percentiles(values) for kind, values in took.items()},
            "requests_per_s": round(statuses["200"] / (60 * minutes), 2),
            "mean_batch": round(figures.get("ragtune_batch_size_sum", 0) / batches, 2) if batches else 0,
            "memory_mb": {"warm": round(early, 1), "end": round(late, 1)},
            "memory_growth_percent": round(100 * (late / early - 1), 2), "goal_growth_percent": 5}


def measure_batches(out: Path, rounds: int, at_once: int = 16) -> dict[str, Any]:
    """Ask one at a time and together, in turns, of each engine; no question twice, as a prompt read before costs less."""
    import httpx

    each = 2 * at_once
    questions = {engine: iter(demo_questions()) for engine in ENGINES}

    def run(engine: str, workers: int) -> tuple[float, float]:
        """Return answers and tokens a second."""

        def ask(question: str) -> int:
            answer = client.post(f"{servers[engine].url}/v1/chat/completions", json=chat(question))
            assert answer.status_code == 200, answer.text
            return int(answer.json()["usage"]["completion_tokens"])

        asked, begun = list(itertools.islice(questions[engine], each)), time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            tokens = sum(pool.map(ask, asked))
        seconds = time.perf_counter() - begun
        return len(asked) / seconds, tokens / seconds

    rates: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=300))  # made once: its certificates cost as much as an answer
        servers = {engine: stack.enter_context(served(out, f"generator.engine={engine}", f"server.folder={out / engine}",
                                                      f"server.max_batch={at_once}"))
                   for engine in ENGINES}
        for engine in ENGINES:
            run(engine, at_once)  # what is opened when first used
        for _ in range(rounds):
            for engine in ENGINES:
                for workers in (1, at_once):
                    rates.setdefault((engine, workers), []).append(run(engine, workers))
    result: dict[str, Any] = {"questions": each, "rounds": rounds, "at_once": at_once, "goal_ratio": 3}
    first = [answers for answers, _ in rates[ENGINES[0], 1]]
    for engine in ENGINES:
        alone, together = rates[engine, 1], rates[engine, at_once]
        result[engine] = {
            **{f"{name}_{unit}_per_s": round(statistics.median(pair[place] for pair in pairs), 2)
               for name, pairs in (("alone", alone), ("together", together))
               for place, unit in enumerate(("answers", "tokens"))},
            "ratio": round(statistics.median(b[0] / a[0] for a, b in zip(alone, together)), 2),
            f"ratio_to_{ENGINES[0]}_alone": round(statistics.median(b[0] / a for a, b in zip(first, together)), 2),
        }
    return result


def measure_leaving(server: Server, streams: int) -> dict[str, Any]:
    """Open streams, go, and see how long their places stay taken and what the next one waits."""
    import httpx

    questions = demo_questions()

    def come_and_go(number: int) -> int:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", timeout=60,
                          json=chat(questions[number % len(questions)], stream=True)) as response:
            next(response.iter_lines())
            return response.status_code

    before = server.figures()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        statuses = Counter(pool.map(come_and_go, range(streams)))
    begun = time.perf_counter()
    while True:
        now = server.figures()
        if not now["ragtune_answers_writing"] + now["ragtune_answers_waiting"]:
            break
        assert time.perf_counter() - begun < 120, "places stay taken"
        time.sleep(0.02)
    freed = time.perf_counter() - begun
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=chat(questions[0]), timeout=120)
    name = 'ragtune_answers_total{end="cancelled"}'
    return {"streams": streams, "statuses": {str(status): count for status, count in statuses.items()},
            "freed_after_ms": round(1000 * freed, 1), "cancelled": int(now[name] - before[name]),
            "next_status": answer.status_code}


def measure_kill(out: Path, uploads: int) -> dict[str, Any]:
    """Kill the server while a job indexes what was uploaded, start it anew and see what is there."""
    import httpx

    server = Server(out, settings=[f"server.folder={out / 'kill'}"])
    server.index()
    server.start()
    lines = [f"Net sales {year}: {4000 + year * 7:,} million; the outlook of plant {number} was kept."
             for year in range(1990, 2024) for number in range(12)]
    names, job = [], ""
    try:
        for number in range(uploads):
            text = "\n".join([f"# Report {number} of plant {number}", *lines])
            file = (f"REPORT_{number}.md", text.encode(), "text/markdown")
            answer = httpx.post(f"{server.url}/v1/documents", files={"file": file}, data={"replace": "true"}, timeout=60)
            assert answer.status_code == 201, answer.text
            names += [each["name"] for each in answer.json()["data"]]
            job = answer.json()["job"]["id"]
        deadline = time.monotonic() + 120
        while (state := httpx.get(f"{server.url}/v1/jobs/{job}", timeout=20).json()["state"]) == "queued":
            assert time.monotonic() < deadline, "the job never begins"
            time.sleep(0.02)
        server.stop(signal.SIGKILL)
        restart_s = server.start()
        deadline = time.monotonic() + 300
        while (found := httpx.get(f"{server.url}/v1/jobs/{job}", timeout=20).json())["state"] in ("queued", "running",
                                                                                                  "interrupted"):
            assert time.monotonic() < deadline, f"the job does not end: {found}"
            time.sleep(0.1)
        listed = httpx.get(f"{server.url}/v1/documents", params={"limit": 10_000}, timeout=20).json()["data"]
        indexed = {each["name"] for each in listed if each["state"] == "indexed"}
        return {"uploads": len(names), "lost": sorted(set(names) - {each["name"] for each in listed}),
                "not_indexed": sorted(set(names) - indexed), "state_when_killed": state, "job": found["state"],
                "interruptions": found["interruptions"], "restart_s": restart_s, "exit_code": server.stop()}
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop(signal.SIGKILL)


def show(report: dict[str, Any]) -> None:
    """Print the figures and their goals as a table."""
    rows: list[tuple[str, str, str, Callable[[], bool]]] = []
    if found := report.get("overhead"):
        rows += [("search, prompt and check, p50", f"{found['layer_p50_ms']} ms", "≤ 5 ms",
                  lambda f=found: f["layer_p50_ms"] <= 5),
                 ("with HTTP and the client, p50", f"{found['p50_ms']} ms", "≤ 5 ms", lambda f=found: f["p50_ms"] <= 5)]
    if found := report.get("load"):
        rows += [(f"{found['clients']} clients, {found['minutes']:g} min: 5xx", str(found["errors_5xx"]), "0",
                  lambda f=found: not f["errors_5xx"]),
                 ("memory growth", f"{found['memory_growth_percent']} %", "< 5 %",
                  lambda f=found: f["memory_growth_percent"] < 5),
                 ("answers p50 / p95 / p99", " / ".join(f"{value:.0f}" for value in found["answer_ms"].values()) + " ms", "",
                  lambda: True)]
    if found := report.get("batches"):
        rows += [(f"{engine}, batched over one at a time", f"{found[engine]['ratio']} ×", "≥ 3 ×",
                  lambda f=found[engine]: f["ratio"] >= 3) for engine in ENGINES]
        best = max(found[engine][f"ratio_to_{ENGINES[0]}_alone"] for engine in ENGINES)
        rows.append((f"batched over {ENGINES[0]} one at a time", f"{best} ×", "≥ 3 ×", lambda b=best: b >= 3))
    if found := report.get("leaving"):
        rows.append(("places of those who left", f"free after {found['freed_after_ms']:.0f} ms", "freed",
                     lambda f=found: f["next_status"] == 200))
    if found := report.get("kill"):
        rows.append(("uploads lost by kill -9", f"{len(found['lost'])} of {found['uploads']}, job {found['job']}", "0, done",
                     lambda f=found: not f["lost"] and found["job"] == "done"))
    for name, value, goal, holds in rows:
        print(f"{name:<40} {value:<28} {goal:<10} {'yes' if holds() else 'NO'}", file=sys.stderr)


def main() -> None:
    """Run the phases and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("work/bench/server"))
    parser.add_argument("--only", nargs="*", choices=PHASES, default=PHASES)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=200, help="questions of each kind for the overhead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--uploads", type=int, default=6)
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"cpus": os.cpu_count()}

    def measure(phase: str, run: Callable[[], dict[str, Any]]) -> None:
        if phase in options.only:
            report[phase] = {**run(), "load_average": round(os.getloadavg()[0], 1)}
            print(json.dumps({phase: report[phase]}), file=sys.stderr, flush=True)

    measure("overhead", lambda: measure_overhead(out, options.chunks, options.requests))
    measure("batches", lambda: measure_batches(out, options.rounds))
    if {"load", "leaving"} & set(options.only):
        with served(out) as server:
            report["ready_after_s"] = None
            measure("leaving", lambda: measure_leaving(server, 64))
            measure("load", lambda: measure_load(server, options.minutes, options.clients))
            report["exit_code"] = server.stop()
    measure("kill", lambda: measure_kill(out, options.uploads))
    report.pop("ready_after_s", None)
    show(report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
