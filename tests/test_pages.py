"""The page's routes: what a key may see, what a browser may load, pages of documents, feedback and reports."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from document_files import STATEMENT, write_pdf
from fastapi.testclient import TestClient

from ragtune.datasets.thumbs import Thumb, read_thumbs
from ragtune.recipe.load import check_recipe
from ragtune.server.app import create_app
from ragtune.server.auth import Caller, identify
from ragtune.server.feedback import append
from ragtune.server.pages import FOLDER
from ragtune.server.reports import is_valid, make_ticket
from ragtune.server.service import open_service
from ragtune.server.state import open_state
from ragtune.stages.index import run_index

QUESTION = "What were net sales of Acme Corporation in fiscal 2021?"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("pages")
    (home / "documents").mkdir()
    write_pdf(home / "documents" / "ACME_2021_10K.pdf", [["cover"], STATEMENT])
    (home / "documents" / "BOLT_2020_10K.md").write_text("# Bolt\n\n" + "\n".join(STATEMENT).replace("Acme", "Bolt"))
    (home / "documents" / "sub").mkdir()
    (home / "documents" / "sub" / "BOLT_2020_10K.md").write_text("# Another of this name\n\nNothing.")
    (home / "meta.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (
        {"document": "ACME_2021_10K", "company": "Acme", "fiscal_year": 2021, "tenant": "a"},
        {"document": "BOLT_2020_10K", "company": "Bolt", "fiscal_year": 2020, "tenant": "b"})))
    run_index(recipe_of(home))
    return home


def recipe_of(home):
    return check_recipe({
        "name": "t", "work": str(home / "work"), "index": {"embedder": "hash"}, "generator": {"model": "extractive"},
        "documents": {"folder": str(home / "documents"), "metadata": str(home / "meta.jsonl"), "workers": 1}}, "test")


@pytest.fixture
def server(home):
    """The application's client, and who asks, which a test may change."""
    service = open_service(recipe_of(home))
    app, who = create_app(service, open_state(service)), {"caller": Caller()}
    app.dependency_overrides[identify] = lambda: who["caller"]
    client = TestClient(app, "http://localhost", client=("127.0.0.1", 50000))
    client.who = who
    yield client
    service.close()


def test_the_page_and_its_files_load_nothing_from_elsewhere(server):
    answer = server.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
        if path.name != "index.html":
            assert server.get(f"/static/{path.name}").headers["x-content-type-options"] == "nosniff"
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


@pytest.mark.parametrize("name", ["index.html", "..%2fpages.py", "%2e%2e/pages.py", "nothing.js", "pages.py"])
def test_only_the_pages_own_files_are_given_out(server, name):
    assert server.get(f"/static/{name}").status_code == 404


def test_the_assistant_is_described_as_far_as_the_key_sees(server):
    all_of_it = server.get("/v1/assistant").json()
    assert all_of_it["documents"] == 3
    assert [facet["column"] for facet in all_of_it["facets"]][:2] == ["company", "fiscal_year"]
    assert [model["label"] for model in all_of_it["compare"]] == ["Base", "Base, without documents"]
    server.who["caller"] = Caller("b", "tenant = 'b'", False)
    part = server.get("/v1/assistant").json()
    assert (part["documents"], part["is_admin"], part["facets"], part["examples"]) == (1, False, [], [])
    assert "Acme" not in json.dumps(part)
    assert server.get("/v1/filter", params={"where": "fiscal_year > 0"}).json() == {"documents": 1, "problem": ""}
    assert server.get("/v1/filter", params={"where": "x = 1) or (page > 0"}).json()["problem"]
    assert server.get("/v1/filter", params={"where": "tenant = 'a' or page > 0"}).json()["documents"] == 1


def test_a_cited_page_has_its_text_and_its_places(server):
    page = server.get("/documents/ACME_2021_10K/pages/2", params={"quote": "Net income 2020: 280"}).json()
    assert page["text"][slice(*page["span"])].startswith("Net income $ 310")
    assert page["has_picture"]
    assert len(page["lines"]) == len(page["amount"]) == 1
    picture = server.get("/documents/ACME_2021_10K/pages/2/picture", params={"width": 300})
    assert picture.content[:4] == b"\x89PNG"
    text = server.get("/documents/BOLT_2020_10K/pages/1", params={"quote": "Net income 2020: 280"}).json()
    assert (text["has_picture"], text["lines"]) == (False, [])
    assert text["span"]
    assert server.get("/documents/BOLT_2020_10K/pages/1/picture").status_code == 404
    assert "Another" in server.get("/documents/sub%2FBOLT_2020_10K/pages/1").json()["text"]


@pytest.mark.parametrize("path", ["NONE/pages/1", "ACME_2021_10K/pages/3", "ACME_2021_10K/pages/0", "..%2f..%2fmeta/pages/1",
                                  "ACME_2021_10K/pages/99999999999999999999", "ACME_2021_10K/pages/-1/picture"])
def test_pages_that_are_not_there(server, path):
    assert server.get(f"/documents/{path}").status_code == 404


def test_a_key_sees_no_page_of_another_tenant(server):
    server.who["caller"] = Caller("b", "tenant = 'b'", False)
    assert server.get("/documents/BOLT_2020_10K/pages/1").status_code == 200
    foreign = server.get("/documents/ACME_2021_10K/pages/1")
    assert foreign.status_code == server.get("/documents/ACME_2021_10K/pages/2/picture").status_code == 404
    assert "cover" not in foreign.text
    assert server.get("/documents/NONE_2021_10K/pages/1").json()["error"]["type"] == foreign.json()["error"]["type"]


def test_no_answer_tells_a_tenant_of_the_documents_of_another(server):
    """A foreign document, page, passage, value or column is answered like one that never was."""
    passages = server.post("/v1/search", json={"question": QUESTION}).json()["hits"]
    foreign = [hit for hit in passages if hit["document"] == "ACME_2021_10K"]
    index = server.app.state.ragtune.service.index
    page_id = f"{index.document('ACME_2021_10K').id}#page=2"
    assert index.chunk(page_id).document == "ACME_2021_10K"
    server.who["caller"] = Caller("b", "tenant = 'b'", False)

    def answers(name, company, chunk_ids):
        told = [server.get(f"/documents/{name}/pages/{number}{end}") for number in (1, 2) for end in ("", "/picture")]
        told += [server.get("/v1/filter", params={"where": where}) for where in (
            f"company = '{company}'", f"document = '{name}'", f"company = '{company}' or tenant = 'a'", "compny = 'x'",
            "fiscal_year = 2021", "not (tenant = 'b')")]
        judged = {"question": "q", "model": "t-base", "verdict": "up"}
        told += [server.post("/v1/feedback", json={**judged, "passages": [chunk_id]}) for chunk_id in chunk_ids]
        request_id = re.compile(r'"request_id":\s*"[^"]*"')
        return [(each.status_code, request_id.sub("", each.text).replace(name, "NAME").replace(company, "X"))
                for each in told]

    never = answers("AXME_2021_10K", "Axme", ["nothing"] * (len(foreign) + 1))
    assert answers("ACME_2021_10K", "Acme", [page_id, *(hit["chunk_id"] for hit in foreign)]) == never
    assert foreign
    assert {status for status, _ in never} == {200, 404, 409}
    assert not any("ACME" in text.upper() for _, text in never)


def test_a_pdf_that_has_changed_is_shown_as_text(home, server):
    path = home / "documents" / "ACME_2021_10K.pdf"
    kept = shutil.copy2(path, home / "kept.pdf")
    try:
        write_pdf(path, [["other"], ["other"], ["other"]])
        page = server.get("/documents/ACME_2021_10K/pages/2", params={"quote": "Net income"}).json()
        assert (page["has_picture"], page["lines"]) == (False, [])
        assert "Net income" in page["text"]
    finally:
        shutil.move(kept, path)


def test_personal_data_is_shown_and_kept_nowhere_where_it_is_masked(server, tmp_path):
    state = server.app.state.ragtune
    personal = state.recipe.guardrails.personal_data.model_copy(update={"passages": "mask", "question": "mask"})
    guardrails = state.recipe.guardrails.model_copy(update={"personal_data": personal})
    recipe = state.recipe.model_copy(update={"guardrails": guardrails})
    documents = recipe.documents.model_copy(update={"folder": str(tmp_path / "documents"), "metadata": None})
    recipe = recipe.model_copy(update={"documents": documents, "work": str(tmp_path)})
    (tmp_path / "documents").mkdir()
    write_pdf(tmp_path / "documents" / "LETTER.pdf", [["Write to jane.doe@example.com about it", *STATEMENT]])
    run_index(recipe)
    service = open_service(recipe)
    state = open_state(service)
    with TestClient(create_app(service, state), "http://localhost", client=("127.0.0.1", 50000)) as client:
        page = client.get("/documents/LETTER/pages/1", params={"quote": "Net income 2020: 280"}).json()
        assert "[email removed]" in page["text"]
        assert "jane" not in json.dumps(page)
        assert page["text"][slice(*page["span"])].startswith("Net income $ 310")
        assert not page["has_picture"]
        assert client.get("/documents/LETTER/pages/1/picture").status_code == 404
        found = client.post("/v1/search", json={"question": "Who is written to about net income?"}).json()
        assert "[email removed]" in found["hits"][0]["text"]
        assert "jane" not in json.dumps(found)
        asked = {"question": "What did jane.doe@example.com say of net income?", "model": "t-base", "verdict": "up"}
        assert client.post("/v1/feedback", json=asked).status_code == 201
    kept = (state.folder / "feedback.jsonl").read_text()
    assert "[email removed]" in kept
    assert "jane" not in kept


def judgement(server, **values):
    said = server.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": QUESTION}]}).json()
    passages = [passage["chunk_id"] for passage in said["ragtune"]["passages"]]
    return {"question": QUESTION, "model": said["model"], "verdict": "down", "completion": "Answer: 1", "answer": "1",
            "passages": passages, **values}


def test_feedback_holds_the_prompt_that_was_asked(server):
    state = server.app.state.ragtune
    said = []
    stream, state.service.engine.stream = state.service.engine.stream, None
    state.service.engine.stream = lambda wishes, say: said.append(wishes[0].messages) or stream(wishes, say)
    answer = server.post("/v1/feedback", json=judgement(server, right_answer="$4,210 million"))
    assert answer.status_code == 201
    row = json.loads((state.folder / "feedback.jsonl").read_text().splitlines()[-1])
    assert row["prompt"] == [dict(message) for message in said[0]]
    assert row["right_completion"].endswith("Answer: $4,210 million")
    assert (row["id"], row["index_id"], row["model"]) == (answer.json()["id"], state.service.index.id, "t-base")
    assert oct((state.folder / "feedback.jsonl").stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(("values", "status"), [
    ({"passages": ["gone"]}, 409), ({"model": "other"}, 404), ({"verdict": "meh"}, 400), ({"question": "  "}, 400),
    ({"completion": "x" * 20_001}, 400),
])
def test_feedback_that_is_not_taken(server, values, status):
    assert server.post("/v1/feedback", json=judgement(server, **values)).status_code == status


def test_half_a_judgement_is_not_left_on_a_full_disk(tmp_path, monkeypatch):
    path, write = tmp_path / "feedback.jsonl", os.write
    thumb = Thumb("thumb_1", "up", "q", (), "c", "a", "m", "i", "h")
    append(path, thumb)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(OSError, match="No space left"):
            append(path, thumb)
    append(path, thumb)
    assert [each.id for each in read_thumbs(path)] == ["thumb_1", "thumb_1"]


def test_feedback_brings_no_passage_of_another_tenant(server):
    foreign = judgement(server)
    server.who["caller"] = Caller("b", "tenant = 'b'", False)
    assert server.post("/v1/feedback", json=foreign).status_code == 409


def test_a_report_opens_with_its_ticket_only(home, server):
    folder = home / "work/t/evaluation"
    folder.mkdir(exist_ok=True)
    rungs = [{"model": model, "setting": setting, "n": 140, "correct": correct} for model, setting, correct in (
        ("base", "closed_book", 18), ("base", "retrieval", 77), ("extractive", "retrieval", 135))]
    (folder / "manifest.json").write_text(json.dumps({"kind": "evaluation", "ladder": [*rungs, {"setting": "retrieval"}]}))
    (folder / "report.md").write_text("# Evaluation\n\n**Better** by 3.\n")
    (folder / "report.html").write_text("<h1>ladder</h1>")
    (report,) = server.get("/v1/reports").json()["reports"]
    assert report["headline"] == "Better by 3."
    assert report["scores"] == [{"label": "Base", "correct": 77, "questions": 140},
                                {"label": "Extractive, no model", "correct": 135, "questions": 140}]
    opened = server.get(f"/{report['url']}")
    assert "ladder" in opened.text
    assert "sandbox" in opened.headers["content-security-policy"]
    assert server.get("/reports/1-0/evaluation").status_code == 404
    assert server.get(f"/{report['url']}x").status_code == 404
    server.who["caller"] = Caller("b", "tenant = 'b'", False)
    assert server.get("/v1/reports").json() == {"reports": []}


def test_a_ticket_is_of_one_report_and_ends(monkeypatch):
    ticket = make_ticket("evaluation")
    assert is_valid(ticket, "evaluation")
    assert not is_valid(ticket, "other")
    assert not is_valid(f"9{ticket}", "evaluation")
    assert not is_valid("é-é", "evaluation")
    import ragtune.server.reports as reports

    begun = reports.time.time()
    monkeypatch.setattr(reports.time, "time", lambda: begun + reports.VALID_S + 2)
    assert not is_valid(ticket, "evaluation")
