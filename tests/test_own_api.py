"""ragtune's own API: ask, search, upload, delete, what the work folder holds; through HTTP, the index jobs included."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huey")
pytest.importorskip("fastapi")

from fastapi.testclient import TestClient
from served_home import QUESTION, make_served

from ragtune.errors import DocumentError
from ragtune.recipe.schema import Recipe
from ragtune.server import auth
from ragtune.server.app import create_app
from ragtune.server.jobs import jobs as jobs_module
from ragtune.server.jobs.process import do_job
from ragtune.server.library import Library
from ragtune.server.service import open_service
from ragtune.server.state import open_state
from ragtune.server.uploads import safe_name

HAND = "# Hand Corp annual report\n\n(in millions)\n2021 2020\nNet sales $ 88 $ 77\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_served(tmp_path_factory.mktemp("home"))


@pytest.fixture
def client(home: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A server whose jobs wait until ``run_jobs`` does them; its index is a copy."""
    import shutil

    shutil.copytree(Path(home.work), tmp_path / "work")
    recipe = home.model_copy(update={"work": str(tmp_path / "work"), "server": home.server.model_copy(
        update={"max_upload_mb": 1, "max_documents": 8})})
    monkeypatch.setattr(jobs_module.Jobs, "_run_worker", lambda self: None)
    service = open_service(recipe)
    app = create_app(service, open_state(service))
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000), raise_server_exceptions=False) as client:
        client.jobs = app.state.ragtune.jobs
        yield client


def run_jobs(client: TestClient) -> None:
    """Do what is queued, in the order of the queue, by the code of the jobs' process."""
    store, queue = client.jobs._open()
    for job_id in queue.waiting():
        queue.huey.dequeue()
        assert store.claim(job_id, "test")
        do_job(store, job_id)
        job = store.find(job_id)
        assert job.state == "done", job.error
        client.jobs.take_in(job)


def upload(client: TestClient, name: str, data: bytes | str, **form: Any) -> Any:
    return client.post("/v1/documents", files={"files": (name, data)}, data=form)


def found(client: TestClient, question: str, **body: Any) -> list[str]:
    answer = client.post("/v1/search", json={"question": question, "k": 3, **body})
    assert answer.status_code == 200, answer.text
    return [hit["document"] for hit in answer.json()["hits"]]


def test_ask_and_search(client: TestClient) -> None:
    answer = client.post("/v1/ask", json={"question": QUESTION, "k": 2})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert "4,484" in said["answer"]
    assert said["text"].startswith(said["answer"])
    assert "[1]" in said["text"]
    cited = said["citations"][0]
    assert (cited["document"], cited["page"]) == ("COIL_2021_10K", 1)
    assert cited["end"] > cited["start"] >= 0
    assert said["passages"][0]["score"] > 0
    assert {"search", "generate", "total"} <= set(said["timings_s"])
    hits = client.post("/v1/search", json={"question": "net sales", "k": 5, "where": {"company": "Bolt"}}).json()
    assert {hit["document"] for hit in hits["hits"]} == {"BOLT_2021_10K"}
    assert "Bolt" in hits["filter"]
    for path, body, status in (("ask", {"question": " "}, 400), ("ask", {"question": "x", "model": "no"}, 404),
                               ("search", {"question": "x", "where": "nonsense ="}, 400), ("search", {}, 400),
                               ("ask", {"question": "x", "tenant": "y"}, 400)):
        answer = client.post(f"/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"]


def test_a_stream_says_what_was_found_then_the_draft_then_the_answer(client: TestClient) -> None:
    text = client.post("/v1/ask", json={"question": QUESTION, "stream": True}).text
    events = [(block.split("\n")[0].removeprefix("event: "), json.loads(block.split("data: ", 1)[1]))
              for block in text.strip().split("\n\n")]
    names = [name for name, _ in events]
    assert names[0] == "found"
    assert "draft" in names
    assert names[-1] == "done"
    assert events[0][1]["passages"][0]["document"] == "COIL_2021_10K"
    assert events[-1][1]["answer"] == client.post("/v1/ask", json={"question": QUESTION}).json()["answer"]


def test_an_answer_names_the_model_that_was_asked_and_a_seed_is_kept_to(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, askings = client.app.state.ragtune.service, []
    ask = service.ask

    def tuned_meanwhile(asking: Any, on_event: Any) -> Any:
        askings.append(asking)
        service.add_adapter("late", Path("late"))  # the default from now on
        return ask(asking, on_event)

    monkeypatch.setattr(service, "ask", tuned_meanwhile)
    said = client.post("/v1/ask", json={"question": QUESTION, "temperature": 0.5, "seed": 0})
    assert said.json()["model"] == "home-base"
    assert client.post("/v1/ask", json={"question": QUESTION, "model": "home-base", "temperature": 0.5}).status_code == 200
    assert [asking.is_seeded for asking in askings] == [True, False]


def test_an_upload_is_kept_then_found_then_deleted(client: TestClient) -> None:
    answer = upload(client, "../HAND_2021_10K.md", HAND, metadata=json.dumps({"company": "Hand", "tenant": "a"}),
                    region="north")
    assert answer.status_code == 201, answer.text
    said = answer.json()
    assert (said["data"][0]["name"], said["data"][0]["state"]) == ("HAND_2021_10K", "waiting")
    assert said["job"]["state"] == "queued"
    library = Library(client.jobs.folder)
    assert library.path_of(library.entries()[0]).read_text() == HAND
    assert "HAND_2021_10K" not in found(client, "net sales of Hand")
    second = upload(client, "IVY_2021_10K.md", HAND.replace("Hand", "Ivy"))
    assert second.json()["job"]["id"] == said["job"]["id"]  # the one that waits takes in both
    run_jobs(client)
    assert found(client, "net sales of Hand", where="tenant = 'a' and region = 'north'") == ["HAND_2021_10K"]
    listed = {each["name"]: each for each in client.get("/v1/documents").json()["data"]}
    assert len(listed) == 7
    hand = listed["HAND_2021_10K"]
    assert (hand["state"], hand["source"], hand["pages"], hand["bytes"]) == ("indexed", "upload", 1, len(HAND))
    assert hand["chunks"] > 0
    assert hand["metadata"]["tenant"] == "a"
    assert listed["ACME_2021_10K"]["source"] == "folder"
    assert client.delete("/v1/documents/HAND_2021_10K").status_code == 202
    assert client.delete("/v1/documents/ACME_2021_10K").status_code == 202
    assert client.delete("/v1/documents/HAND_2021_10K").status_code == 409
    states = {each["name"]: each["state"] for each in client.get("/v1/documents").json()["data"]}
    assert states["HAND_2021_10K"] == states["ACME_2021_10K"] == "leaving"
    run_jobs(client)
    assert {"HAND_2021_10K", "ACME_2021_10K"}.isdisjoint(found(client, "net sales of Hand and Acme", k=20))
    assert client.get("/v1/documents").json()["total"] == 5
    assert client.delete("/v1/documents/HAND_2021_10K").status_code == 404
    run_again = client.post("/v1/jobs", json={"kind": "index"})
    assert run_again.status_code == 202
    run_jobs(client)
    assert client.get("/v1/documents").json()["total"] == 5
    assert Path(client.jobs.recipe.documents.folder, "ACME_2021_10K.md").is_file()


def test_a_document_is_replaced_where_that_is_said(client: TestClient) -> None:
    assert upload(client, "HAND_2021_10K.md", HAND).status_code == 201
    run_jobs(client)
    assert upload(client, "hand_2021_10k.txt", HAND).status_code == 409
    assert upload(client, "HAND_2021_10K.txt", HAND.replace("88", "99"), replace="true").status_code == 201
    assert [each.file for each in Library(client.jobs.folder).entries()] == ["HAND_2021_10K.txt"]
    run_jobs(client)
    assert "99" in client.post("/v1/search", json={"question": "net sales of Hand", "k": 1}).json()["hits"][0]["text"]


def test_what_cannot_be_read_is_listed(client: TestClient) -> None:
    assert upload(client, "broken.md", "text").status_code == 201
    library = Library(client.jobs.folder)
    library.path_of(library.entries()[0]).write_bytes(b"\x00\xff" * 50)
    run_jobs(client)
    listed = {each["name"]: each for each in client.get("/v1/documents?state=unreadable").json()["data"]}
    assert set(listed) == {"broken"}
    assert listed["broken"]["reason"]
    assert listed["broken"]["bytes"] == 100, "the sidecar says what the file holds"


def test_the_same_bytes_are_taken_once(client: TestClient) -> None:
    """An index holds them once: a second name for them would never be found."""
    twin = Path(client.jobs.recipe.documents.folder, "BOLT_2021_10K.md").read_bytes()
    for name, data, other in (("twin.md", twin, "'BOLT_2021_10K'"), ("HAND_2021_10K.md", HAND, ""),
                              ("HAND_2.md", HAND, "'HAND_2021_10K'")):
        answer = upload(client, name, data)
        if other:
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "duplicate_document")
            assert f"the same bytes as {other}" in answer.json()["error"]["message"]
    both = client.post("/v1/documents", files=[("files", ("a.md", b"one")), ("files", ("b.md", b"one"))])
    assert (both.status_code, both.json()["error"]["code"]) == (409, "duplicate_document")
    assert [each.document for each in Library(client.jobs.folder).entries()] == ["HAND_2021_10K"]
    assert upload(client, "HAND_2021_10K.md", HAND, replace="true", region="north").status_code == 201
    run_jobs(client)
    assert found(client, "net sales of Hand", where="region = 'north'") == ["HAND_2021_10K"]
    assert upload(client, "HAND_2021_10K.md", HAND.replace("88", "99"), replace="true").status_code == 201
    assert upload(client, "HAND_2.md", HAND).status_code == 201, "those bytes are in the index still, and on their way out"
    assert client.delete("/v1/documents/BOLT_2021_10K").status_code == 202
    assert upload(client, "BOLT_AGAIN.md", twin).status_code == 201
    run_jobs(client)
    assert found(client, "net sales of Bolt", k=1) == ["BOLT_AGAIN"]
    assert client.get("/v1/documents?state=unreadable").json()["total"] == 0


def test_a_twin_that_the_caller_may_not_know_of_is_not_named(client: TestClient) -> None:
    client.app.dependency_overrides[auth.identify] = lambda: auth.Caller("ann", "company = 'Acme'", True)
    try:
        answer = upload(client, "mine.md", Path(client.jobs.recipe.documents.folder, "BOLT_2021_10K.md").read_bytes())
        assert answer.status_code == 409
        assert "another document" in answer.json()["error"]["message"]
        assert "BOLT" not in answer.text
    finally:
        client.app.dependency_overrides.clear()


@pytest.mark.parametrize(("name", "data", "form", "status"), [
    ("x.exe", b"text", {}, 415), ("x.pdf", b"no pdf", {}, 415), ("x.txt", b"%PDF-1.7", {}, 415), ("x.md", b"", {}, 415),
    ("...md", b"text", {}, 415), ("ACME_2021_10K.txt", b"text", {}, 409), ("x.md", b"text", {"metadata": "no json"}, 400),
    ("x.md", b"text", {"page": "3"}, 400), ("x.md", b"text", {"replace": "perhaps"}, 400),
    ("x.md", b"text", {"index": "0"}, 400),
    ("x.md", b"a" * (1 << 21), {}, 413), ("x.md", b"a" * ((1 << 20) + 1), {}, 413)])
def test_what_is_not_taken_leaves_nothing(client: TestClient, name: str, data: bytes, form: dict, status: int) -> None:
    answer = upload(client, name, data, **form)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    library = Library(client.jobs.folder)
    assert library.entries() == []
    assert list(library.folder.glob(".incoming/*")) == []
    assert client.jobs.find_all() == []


def test_a_file_in_another_part_is_not_passed_over(client: TestClient) -> None:
    for stray in ("metadata", "attachment"):
        answer = client.post("/v1/documents", files=[("files", ("a.md", b"A")), (stray, ("b.json", b"{}"))])
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, stray)
    assert Library(client.jobs.folder).entries() == []


def test_one_bad_file_keeps_all_out_and_there_is_a_limit(client: TestClient) -> None:
    both = [("files", ("a.md", b"A")), ("files", ("b.exe", b"B"))]
    assert client.post("/v1/documents", files=both).status_code == 415
    assert Library(client.jobs.folder).entries() == []
    many = [("files", (f"d{number}.md", b"text %d" % number)) for number in range(4)]
    answer = client.post("/v1/documents", files=many)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_documents")
    assert client.post("/v1/documents", json={}).status_code == 415
    assert client.post("/v1/documents", data={"x": "y"}, files={"other": b""}).status_code == 400


def test_who_may_not_change_things(client: TestClient) -> None:
    app = client.app
    app.dependency_overrides[auth.identify] = lambda: auth.Caller("ann", "company = 'Bolt'", False)
    try:
        assert upload(client, "x.md", b"text").status_code == 403
        for method, path in (("DELETE", "/v1/documents/x"), ("GET", "/v1/jobs"), ("GET", "/v1/runs"),
                             ("GET", "/v1/jobs/x/log")):
            assert client.request(method, path).status_code == 403
        listed = client.get("/v1/documents").json()
        assert [each["name"] for each in listed["data"]] == ["BOLT_2021_10K"]
        assert set(found(client, "net sales of Acme")) == {"BOLT_2021_10K"}
    finally:
        app.dependency_overrides.clear()


def test_jobs_over_http(client: TestClient) -> None:
    job = client.post("/v1/jobs", json={"kind": "dataset", "settings": {"dataset.ask_count": 5}, "name": "few"})
    assert job.status_code == 202, job.text
    shown = client.get(f"/v1/jobs/{job.json()['id']}").json()
    assert (shown["state"], shown["settings"]) == ("queued", {"dataset.ask_count": 5, "name": "few"})
    assert client.get(f"/v1/jobs/{shown['id']}/log").text == ""
    assert [each["id"] for each in client.get("/v1/jobs?state=queued").json()["data"]] == [shown["id"]]
    assert client.delete(f"/v1/jobs/{shown['id']}").json()["state"] == "cancelled"
    events = client.get(f"/v1/jobs/{shown['id']}/events").text
    assert events.startswith("event: cancelled\ndata: ")
    assert client.delete(f"/v1/jobs/{shown['id']}").status_code == 409
    for body, status in (({"kind": "none"}, 400), ({"kind": "train", "settings": {"training.folder": "/x"}}, 400), ({}, 400),
                         ({"kind": "train", "dataset": "none"}, 404), ({"kind": "index", "name": "x"}, 400)):
        assert client.post("/v1/jobs", json=body).status_code == status, body
    assert client.get("/v1/jobs/none").status_code == client.get("/v1/jobs/none/events").status_code == 404
    kinds = {each["kind"]: each for each in client.get("/v1/jobs/kinds").json()["data"]}
    assert "training.max_steps" in kinds["train"]["settings"]


def test_the_work_folder_in_figures(client: TestClient) -> None:
    home = Path(client.jobs.recipe.work) / client.jobs.recipe.name
    for name, manifest in (("evaluation", {"kind": "evaluation", "created": "2026", "ladder": [{"model": "base"}]}),
                           ("evaluation-a", {"kind": "evaluation", "created": "2027"}),
                           ("run-x", {"kind": "run", "id": "r"})):
        (home / name).mkdir()
        (home / name / "manifest.json").write_text(json.dumps({**manifest, "secret": "/path"}))
    (home / "evaluation" / "report.html").write_text("<h1>Report</h1>")
    assert client.get("/v1/datasets").json()["data"] == []
    listed = client.get("/v1/evaluations").json()["data"]
    assert [each["name"] for each in listed] == ["evaluation-a", "evaluation"]
    assert listed[1]["ladder"] == [{"model": "base"}]
    assert "/path" not in json.dumps(listed)
    assert client.get("/v1/runs").json()["data"][0]["id"] == "r"
    report = client.get("/v1/evaluations/evaluation/report")
    assert report.text == "<h1>Report</h1>"
    assert "sandbox" in report.headers["content-security-policy"]
    for name in ("evaluation-a", "none", "..%2Findex"):
        assert client.get(f"/v1/evaluations/{name}/report").status_code == 404


def test_names_are_made_safe() -> None:
    assert safe_name("../../etc/Report 1.PDF") == "Report 1.pdf"
    assert safe_name("C:\\x\\a\u202eb\n*?.md") == "ab__.md"
    assert len(safe_name("é" * 500 + ".txt").encode()) <= 255
    for name in ("", ".md", "x", "x.exe", "///", "_.md"[:0]):
        with pytest.raises(DocumentError):
            safe_name(name)




def test_what_is_answered_as_taken_is_on_disk(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, sidecar and the names in the folders are forced out before the 201: a power cut loses none of them."""
    forced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        forced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert upload(client, "HAND_2021_10K.md", HAND).status_code == 201
    server = str(client.jobs.folder.resolve())
    assert [path.removeprefix(server) for path in forced][-1] == "/uploads", "the folder last, with all names in it"
    assert any(path.startswith(f"{server}/uploads/.incoming/") for path in forced)
    assert any(path.startswith(f"{server}/uploads/.HAND_2021_10K.md.json") for path in forced)
    assert server in forced, "that there is a folder of uploads"


def test_a_kill_between_sidecar_and_file_is_mended(client: TestClient) -> None:
    upload(client, "HAND_2021_10K.md", HAND)
    run_jobs(client)
    library = Library(client.jobs.folder)
    before = library.entries()[0]
    sidecar = library.folder / ".HAND_2021_10K.md.json"
    sidecar.write_text(json.dumps({**before.to_dict(), "sha256": "0" * 64, "bytes": 3}))
    (library.folder / ".x.json.1234.tmp").write_text("{")
    (library.folder / ".incoming").mkdir(exist_ok=True)
    (library.folder / ".incoming" / "left.md").write_text("half")
    library.sweep(older_than_s=-1)
    assert library.entries() == [before]
    assert not list(library.folder.glob("*.tmp"))
    assert not list((library.folder / ".incoming").iterdir())
    assert client.get("/v1/documents?state=waiting").json()["total"] == 0


def test_two_servers_of_one_folder_take_a_name_once(client: TestClient) -> None:
    """Each looks while the other cannot write."""
    library = Library(client.jobs.folder)
    answers: list[int] = []
    with library.changing():
        threads = [threading.Thread(target=lambda n=n: answers.append(
            upload(client, "HAND_2021_10K.md", f"{HAND}{n}").status_code)) for n in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        assert answers == []
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, 409, 409]
