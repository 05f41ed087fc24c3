"""The web page in a real browser: ask, cited page, compare, filter, thumbs, keys, hostile documents, no complaint at all."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from document_files import write_pdf

from ragtune.recipe.load import check_recipe
from ragtune.server.app import create_app
from ragtune.server.keys import open_keys
from ragtune.server.service import open_service
from ragtune.server.state import open_state
from ragtune.stages.feedback import run_feedback
from ragtune.stages.index import run_index

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no browser: none of chromium, chromium-browser, google-chrome is on PATH. Do: apt-get install chromium",
                allow_module_level=True)
from playwright import sync_api as playwright  # noqa: E402 - of the extra 'dev'; where there is a browser it is no choice

HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
QUESTION = "What were net sales of Acme in fiscal 2021?"
BOLT = "What were total assets of Bolt in fiscal 2021?"


def statement(company, factor):
    return [f"{company} Corp", "Consolidated Statements of Income", "(in millions)", "2021 2020",
            f"Net sales $ {4210 + factor:,} $ {3900 + factor:,}", f"Cost of sales {2000 + factor:,} {1800 + factor:,}",
            f"Total assets $ {9123 + factor:,} $ {9000 + factor:,}"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    home = tmp_path_factory.mktemp("page")
    folder = home / "documents"
    folder.mkdir()
    write_pdf(folder / "ACME_2021_10K.pdf", [["Acme Corp annual report"], statement("Acme", 0)])
    write_pdf(folder / "BOLT_2021_10K.pdf", [statement("Bolt", 137)])
    (folder / "HOSTILE_2020_10K.md").write_text("\n".join([f"# Evil {HOSTILE}", *statement("Evil", 700), HOSTILE]))
    rows = [{"document": f"{name.upper()}_{year}_10K", "company": name, "fiscal_year": year}
            for name, year in (("Acme", 2021), ("Bolt", 2021))]
    rows.append({"document": "HOSTILE_2020_10K", "company": f"Evil {HOSTILE}", "fiscal_year": 2020})
    (home / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = check_recipe({
        "name": "t", "work": str(home / "work"), "index": {"embedder": "hash"}, "generator": {"model": "extractive"},
        "documents": {"folder": str(folder), "metadata": str(home / "metadata.jsonl"), "workers": 1},
    }, "test")
    run_index(made)
    report = home / "work/t/evaluation"
    report.mkdir()
    (report / "manifest.json").write_text(json.dumps({"kind": "evaluation", "created": "2026-01-02T03:04:05+00:00"}))
    (report / "report.md").write_text("# Evaluation of t\n\nTuned is better by 14 points.\n")
    (report / "report.html").write_text("<!doctype html><title>Evaluation of t</title><h1>The ladder</h1>")
    return made


@contextlib.contextmanager
def serving(app):
    import uvicorn

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{taken.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def served(recipe):
    service = open_service(recipe)
    with serving(create_app(service, open_state(service))) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as opened:
        launched = opened.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser, served):
    """A page that fails its test when the browser complained, or asked anything of another host."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    complaints = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: None if asked.url.startswith((served, "blob:")) else complaints.append(asked.url))
    opened.goto(served)
    opened.locator("#about", has_text="3 documents").wait_for()
    yield opened
    title = opened.title()
    context.close()
    assert complaints == []
    assert title == "t"


def ask(page, question=QUESTION):
    page.fill("#question", question)
    page.press("#question", "Enter")
    turn = page.locator(".turn").first
    turn.locator(".acts").first.wait_for()
    return turn


def test_an_answer_comes_with_its_sources_and_its_page_is_marked(page):
    turn = ask(page)
    assert turn.locator(".said").inner_text().startswith("$4,210 million")
    assert turn.locator(".source q").first.inner_text() == "Net sales 2021: 4,210"
    turn.locator(".source").first.click()
    page.locator("#source .hit.amount").wait_for()
    assert "Page 2 of 2" in page.locator("#source").inner_text()
    image = page.locator("#source img").bounding_box()
    line, amount = page.locator("#source .hit").first.bounding_box(), page.locator("#source .hit.amount").bounding_box()
    assert image["x"] < line["x"] < amount["x"] < line["x"] + line["width"]
    assert amount["height"] < image["height"] / 30
    page.get_by_role("button", name="As text").click()
    assert page.locator("#source mark").inner_text() == "Net sales $ 4,210 $ 3,900"


def test_the_draft_is_shown_while_it_is_written_and_gives_way_to_the_checked_text(page):
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => {
            const draft = document.querySelector('.draft');
            if (draft?.textContent) window.seen.push(draft.textContent);
        }).observe(document.getElementById('turns'), { subtree: true, childList: true, characterData: true });
    }""")
    turn = ask(page)
    assert "Answer: $4,210 million" in page.evaluate("window.seen.at(-1)")
    assert turn.locator(".draft").count() == 0
    assert page.locator("#status").inner_text().startswith("Answer: $4,210 million")


def test_by_keys_alone(page):
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.locator(".turn .source").first.wait_for()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.className") == "source"
    page.keyboard.press("Enter")
    page.locator("#source .hit").first.wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#source").is_hidden()
    assert page.evaluate("document.activeElement.className") == "source"
    page.keyboard.press("1")
    page.locator("#source .hit").first.wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("/")  # as the hint says, by one who is there already
    assert page.input_value("#question") == ""
    page.keyboard.type("and/or")
    assert page.input_value("#question") == "and/or"


def test_every_control_is_reached_by_tab_and_shows_where_it_is(page):
    ask(page)
    page.locator("#question").focus()
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("""() => { const e = document.activeElement;
            return [e.id || e.className || e.tagName, getComputedStyle(e).outlineStyle]; }"""))
    names = [name for name, _ in seen]
    assert names[:4] == ["filter-button", "compare", "model", "send"]
    assert {"cite", "source", "SUMMARY"} <= set(names)
    assert all(style != "none" for name, style in seen if name != "BODY")


def test_two_models_side_by_side(page):
    page.check("#compare")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.locator(".turn .acts").nth(1).wait_for()
    assert page.locator(".answer h3").all_inner_texts() == ["Base", "Base, without documents"]
    left, right = (page.locator(".answer").nth(n).bounding_box() for n in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] < right["x"]


def test_filters_by_ticks_and_by_words(page):
    page.click("#filter-button")
    page.check("input[data-column='fiscal_year'][value='2021']")
    page.locator("#filter-says", has_text="Keeps 2 of 3 documents").wait_for()
    page.fill("#where", "compny = 'Acme'")
    page.press("#where", "Enter")
    page.locator("#filter-says", has_text="Did you mean 'company'?").wait_for()
    assert page.get_attribute("#where", "aria-invalid") == "true"
    page.fill("#where", "company != 'Acme'")
    page.press("#where", "Enter")
    page.locator("#filter-says", has_text="Keeps 1 of 3 documents").wait_for()
    turn = ask(page)
    assert turn.locator(".scope").inner_text() == "fiscal_year = 2021 and (company != 'Acme')"
    assert "Not found" in turn.locator(".said").inner_text()
    page.get_by_role("button", name="Remove the filter company").click()
    assert "$4,210 million" in ask(page).locator(".said").inner_text()


def test_thumbs_become_preference_data(page, recipe):
    turn = ask(page, BOLT)
    turn.get_by_role("button", name="Good answer").click()
    turn.locator(".acts", has_text="Saved").wait_for()
    turn = ask(page)
    turn.get_by_role("button", name="Bad answer").click()
    turn.locator(".right input").fill("$3,900 million")
    turn.get_by_role("button", name="Save").click()
    turn.locator(".acts", has_text="with the right answer").wait_for()
    summary = run_feedback(recipe)
    assert (summary.judgements, summary.pairs, dict(summary.labels)) == (3, 1, {"desirable": 2, "undesirable": 1})
    pair = json.loads((Path(summary.folder) / "pairs.jsonl").read_text())
    assert pair["chosen"][0]["content"] == "Net sales 2020: 3,900 [1]\nAnswer: $3,900 million"
    assert pair["rejected"][0]["content"].endswith("Answer: $4,210 million")
    assert QUESTION in pair["prompt"][-1]["content"]


def test_a_hostile_document_is_only_text(page):
    page.click("#filter-button")
    assert HOSTILE in page.locator("#filter .ticks").first.inner_text()
    page.keyboard.press("Escape")
    turn = ask(page, f"What were net sales of Evil in fiscal 2020? {HOSTILE}")
    turn.locator("summary").click()
    turn.locator(".passage .link").first.click()
    page.locator("#source .words", has_text="<script>").wait_for()
    assert page.locator("main script, #source script, #turns img").count() == 0


def test_an_answer_of_markup_is_only_text(page):
    source = {"number": 1, "document": HOSTILE, "page": 1, "start": 0, "end": 1, "quote": HOSTILE, "chunk_id": "c"}
    last = {"answer": f"{HOSTILE} <b>bold</b>", "reasoning": f"{HOSTILE} [1]", "citations": [source], "is_refusal": False,
            "passages": [{**source, "title": HOSTILE, "text": HOSTILE}], "problems": [HOSTILE], "notes": [HOSTILE],
            "reasons": [HOSTILE], "filter": HOSTILE, "timings_s": {"total": 1}, "model": HOSTILE}
    events = ({"draft": HOSTILE}, last)
    stream = "".join(f"data: {json.dumps({'ragtune': each})}\n\n" for each in events) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=stream, content_type="text/event-stream"))
    turn = ask(page, HOSTILE)
    assert turn.locator(".said").inner_text().startswith(f"{HOSTILE} <b>bold</b>")
    assert turn.locator("b, script, img").count() == 0


def test_an_upload_is_followed_to_the_index_and_can_be_deleted(browser, recipe, tmp_path):
    service = open_service(recipe.model_copy(update={"work": str(copy_work(recipe, tmp_path))}))
    with serving(create_app(service, open_state(service))) as address:
        context = browser.new_context(viewport={"width": 1000, "height": 800})
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{address}#documents")
        page.locator("#view-documents td", has_text="ACME_2021_10K").wait_for()
        coil = write_pdf(tmp_path / "COIL_2021_10K.pdf", [statement("Coil", 500)])
        page.set_input_files("#files", str(coil))
        row = page.locator("#view-documents tr", has_text="COIL_2021_10K")
        row.locator(".badge", has_text="on its way").wait_for()
        row.filter(has_not=page.locator(".badge")).wait_for()
        page.get_by_role("link", name="Jobs").click()
        page.locator("#view-jobs .card .badge.done").wait_for()
        page.get_by_role("link", name="Ask", exact=True).click()
        page.locator("#about", has_text="4 documents").wait_for()
        assert "$4,710 million" in ask(page, "What were net sales of Coil in fiscal 2021?").locator(".said").inner_text()
        page.get_by_role("link", name="Documents").click()
        page.get_by_role("button", name="Delete COIL_2021_10K").click()
        page.get_by_role("button", name="Delete COIL_2021_10K", exact=True).click()
        row.wait_for(state="detached")
        context.close()


def test_a_key_is_asked_for_and_kept_in_the_tab(browser, recipe, tmp_path):
    kept = recipe.model_copy(update={"server": recipe.server.model_copy(update={"folder": str(tmp_path / "server")})})
    service = open_service(kept)
    state = open_state(service)
    right = open_keys(kept, state.folder).add("reader", tenant="company = 'Acme'")
    with serving(create_app(service, state)) as address:
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.locator("#key-why", has_text="This server wants one").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter it").click()
        page.locator("#key").fill("wrong")
        page.keyboard.press("Enter")
        page.locator("#key-why", has_text="does not hold").wait_for()
        page.locator("#key").fill(right)
        page.keyboard.press("Enter")
        page.locator("#about", has_text="1 document").wait_for()
        turn = ask(page)
        turn.locator(".source").first.click()
        page.locator("#source img").wait_for()
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 1, ""]
        assert "Not found" in ask(page, BOLT).locator(".said").inner_text()
        assert page.get_by_role("link", name="Jobs").count() == 0
        page.get_by_role("link", name="Documents").click()
        page.locator("#view-documents td", has_text="ACME_2021_10K").wait_for()
        assert page.locator("#files, .delete").count() == 0
        assert "BOLT" not in page.content().upper().replace(BOLT.upper(), "")
        context.close()


def copy_work(recipe, folder):
    return Path(shutil.copytree(recipe.work, folder / "work"))


def test_reports_are_listed_and_open_cut_off_from_the_server(page, served):
    page.get_by_role("link", name="Reports").click()
    card = page.locator("#view-reports .card")
    card.wait_for()
    assert "Tuned is better by 14 points." in card.inner_text()
    with page.context.expect_page() as opened:
        card.click()
    report = opened.value
    report.locator("h1", has_text="The ladder").wait_for()
    assert report.evaluate("window.origin") == "null"


def test_what_failed_can_be_asked_again(page):
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body="data: {}\n\n", content_type="text/event-stream"),
               times=1)
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.locator(".turn .error", has_text="The answer broke off").wait_for()
    assert page.locator("#send").inner_text() == "Ask"
    page.evaluate("""said => { const fetch = window.fetch; let times = 0; window.fetch = (path, options) => (
        String(path).includes("chat") && !times++ ? Promise.resolve(new Response(said, { status: 429 }))
        : fetch(path, options)); }""", json.dumps({"error": {"message": "64 questions wait already."}}))
    page.get_by_role("button", name="Ask again").click()
    page.locator(".turn .error", has_text="64 questions wait already.").wait_for()
    page.get_by_role("button", name="Ask again").press("Enter")
    page.locator(".turn .acts").wait_for()
    assert page.locator(".turn .said").inner_text().startswith("$4,210 million")
    assert page.locator(".turn .answer").count() == 1


def test_an_answer_is_stopped(page):
    page.evaluate("""() => { const fetch = window.fetch; window.fetch = (path, options) => (String(path).includes("chat")
        ? new Promise((_, fail) => options.signal.addEventListener("abort", () => fail(new DOMException("", "AbortError"))))
        : fetch(path, options)); }""")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.locator("#send", has_text="Stop").click()
    page.locator(".turn .faint", has_text="Stopped.").wait_for()
    page.locator("#send", has_text="Ask").wait_for()


def test_a_document_opens_from_the_list_and_the_arrows_turn_its_pages(page):
    page.get_by_role("link", name="Documents").click()
    page.locator("#view-documents [role=status]", has_text="3 documents, 4 pages").wait_for()
    page.get_by_role("button", name="ACME_2021_10K", exact=True).click()
    page.locator("#source img").wait_for()
    page.get_by_role("button", name="Next page").click()
    page.locator("#source", has_text="Page 2 of 2").wait_for()
    page.get_by_role("button", name="As text").click()
    page.locator("#source .words", has_text="Total assets").wait_for()
    assert page.get_by_role("button", name="Next page").is_disabled()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "name"


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("document.getElementById('key-button').hidden = false")
    turn = ask(page)
    assert page.locator("#theme").bounding_box()["x"] + page.locator("#theme").bounding_box()["width"] <= 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    turn.locator(".source").first.click()
    page.locator("#source .hit").first.wait_for()
    assert page.locator("#source").bounding_box()["width"] == 390
    page.get_by_role("button", name="Close the page").click()
    for view in ("documents", "jobs", "reports"):
        page.evaluate(f"location.hash = '#{view}'")
        page.locator(f"#view-{view} > :nth-child(2)").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
