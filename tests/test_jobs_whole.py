"""Real jobs in their own processes, on a tiny model and the hash embedder: from an upload to a tuned model that is asked."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huey")
pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from served_home import make_served, served_recipe
from tiny_home import home_recipe, make_home

from ragtune.recipe.schema import Recipe
from ragtune.server.app import create_app
from ragtune.server.service import open_service

HAND = "# Hand Corp annual report\n\n(in millions)\n2021 2020\nNet sales $ 88 $ 77\n"


@contextlib.contextmanager
def served(recipe: Recipe) -> Iterator[TestClient]:
    """A server of a recipe, with its worker."""
    app = create_app(open_service(recipe))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        yield client


def end_of(client: TestClient, answer: Any) -> dict[str, Any]:
    """Follow a job that was just queued to its end."""
    assert answer.status_code in (201, 202), answer.text
    job = answer.json().get("job") or answer.json()
    until = time.monotonic() + 300
    while (job := client.get(f"/v1/jobs/{job['id']}").json())["state"] not in ("done", "failed", "cancelled"):
        assert time.monotonic() < until, job
        time.sleep(0.05)
    assert job["state"] == "done", (job["error"], client.get(f"/v1/jobs/{job['id']}/log").text)
    return job


def found(client: TestClient, question: str) -> list[str]:
    answer = client.post("/v1/search", json={"question": question, "k": 20})
    assert answer.status_code == 200, answer.text
    return [hit["document"] for hit in answer.json()["hits"]]


def test_what_a_job_indexed_is_found_when_it_is_done(tmp_path: Path) -> None:
    make_served(tmp_path)
    with served(served_recipe(tmp_path)) as client:
        job = end_of(client, client.post("/v1/documents", files={"files": ("HAND_2021_10K.md", HAND)}))
        assert found(client, "net sales of Hand")[0] == "HAND_2021_10K", "at once, and nothing was asked before"
        assert (job["result"]["added"], job["result"]["unchanged"]) == (1, 5)
        assert str(tmp_path) not in json.dumps(job), "places on the server's disk are not told"
        end_of(client, client.delete("/v1/documents/HAND_2021_10K"))
        assert "HAND_2021_10K" not in found(client, "net sales of Hand")


@pytest.mark.real
def test_from_an_upload_to_a_tuned_model_and_its_report_and_a_restart(tmp_path: Path) -> None:
    recipe = home_recipe(make_home(tmp_path))
    with served(recipe) as client:
        assert "t-tuned" not in client.get("/v1/models").text
        first = end_of(client, client.post("/v1/jobs", json={"kind": "train", "settings": {"training.max_steps": 1}}))
        assert first["result"]["folder"] == "run"
        end_of(client, client.post("/v1/documents", files={"files": ("HAND_2021_10K.md", HAND)}))
        end_of(client, client.post("/v1/jobs", json={"kind": "dataset", "name": "grown"}))
        end_of(client, client.post("/v1/jobs", json={"kind": "train", "dataset": "dataset-grown"}))
        models = {model["id"]: model["ragtune"].get("warning", "") for model in client.get("/v1/models").json()["data"]}
        assert models["t-tuned"] == "documents were added or removed since it was tuned"
        assert models["t-2"] == ""
        for model in ("t-tuned", "t-2"):
            answer = client.post("/v1/ask", json={"question": "What were net sales of Hand in fiscal 2021?", "model": model})
            assert answer.status_code == 200, answer.text
            assert answer.json()["passages"][0]["document"] == "HAND_2021_10K"
        end_of(client, client.post("/v1/jobs", json={"kind": "evaluate", "run": "run-2", "name": "second", "settings": {
            "evaluation.limit": 2, "evaluation.settings": ["retrieval"]}}))
        assert [report["name"] for report in client.get("/v1/reports").json()["reports"]] == ["evaluation-second"]
        assert "<html" in client.get("/v1/evaluations/evaluation-second/report").text
    with served(recipe) as client:
        again = {model["id"]: model["ragtune"].get("warning", "") for model in client.get("/v1/models").json()["data"]}
        assert again == models
        assert "HAND_2021_10K" in found(client, "net sales of Hand")
    home = Path(recipe.work) / recipe.name
    assert not [path.name for path in home.iterdir() if path.name.endswith((".partial", ".old", ".lock"))]
