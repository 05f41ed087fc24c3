"""The command line as a table: arguments, exit code, what is said. Whole pipeline on fakes, in milliseconds."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ragtune.cli.main import COMMANDS, ragtune
from ragtune.cli.terminal import run_guarded
from ragtune.files import hash_manifest

ROOT = Path(__file__).parent.parent
PAGE = """# Acme Corp annual report

Consolidated Statements of Income
(in millions)
2021 2020
Net sales $ 4,210 $ 3,900
Cost of sales (2,000) (1,900)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a recipe on fakes and one document, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/ACME_2021_10K.md").write_text(PAGE)
    (tmp_path / "documents/ZENITH_2020_10K.txt").write_text("Zenith makes clocks.\nTotal clocks 2020 were many.")
    (tmp_path / "r.yaml").write_text("name: t\nindex: {embedder: hash}\ngenerator: {model: echo}\n")
    return tmp_path


@pytest.fixture
def indexed(place):
    assert run_guarded(ragtune, ["index", "--recipe", "r.yaml"]) == 0
    return place


def run(capsys, *arguments):
    capsys.readouterr()
    code = run_guarded(ragtune, list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_every_command_has_help(capsys):
    for name in COMMANDS:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert out.startswith("Usage: ragtune " + name)


def test_stage_commands_take_the_same_options(capsys):
    for name in ("index", "dataset", "train", "evaluate", "demo"):
        _, out, _ = run(capsys, name, "--help")
        assert all(option in out for option in ("--recipe", "--set", "--out", "--json"))


def test_options_that_errors_name_are_there(capsys):
    for name in ("train", "ask", "evaluate"):
        assert "--allow-mismatch" in run(capsys, name, "--help")[1]


def test_search_prints_document_page_score_text(indexed, capsys):
    code, out, _ = run(capsys, "search", "Acme net sales", "--recipe", "r.yaml", "--json")
    hits = json.loads(out)
    assert code == 0
    assert hits[0]["document"] == "ACME_2021_10K"
    assert hits[0]["page"] == 1
    assert "Net sales $ 4,210 $ 3,900" in hits[0]["text"]
    assert hits[0]["score"] >= hits[-1]["score"]


def question_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evidence(document, page):
    entry = {"evidence_doc_name": document, "evidence_page_num": page, "evidence_text": "x"}
    return {"doc_name": document, "evidence": [entry]}


def test_search_for_a_question_file_prints_one_line_a_question(indexed, capsys):
    file = question_file(indexed / "q.jsonl", {"financebench_id": "fb_1", "question": "Acme net sales?"},
                         {"id": "own", "text": "Who makes clocks?"})
    code, out, err = run(capsys, "search", "--questions", file, "--recipe", "r.yaml", "--k", "20", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["question_id"], row["filter"]) for row in rows] == [("fb_1", "company = 'Acme'"), ("own", "")]
    assert rows[0]["reasons"][0] == "company Acme named in the question"
    first = [(row["hits"][0]["document"], row["hits"][0]["page"]) for row in rows]
    assert first == [("ACME_2021_10K", 1), ("ZENITH_2020_10K", 1)]
    assert "Zenith makes clocks." in rows[1]["hits"][0]["text"]
    assert [hit["score"] for hit in rows[0]["hits"]] == sorted((hit["score"] for hit in rows[0]["hits"]), reverse=True)
    assert "searching: 2 of 2" in err


def test_search_looks_at_nothing_of_a_question_but_its_text(indexed, capsys):
    """Right, exchanged, broken or no documents, evidence and answers: the same output."""
    texts = {"a": "Acme net sales 2021?", "b": "How many clocks did Zenith make?"}
    right = {"a": evidence("ACME_2021_10K", 0), "b": evidence("ZENITH_2020_10K", 0)}
    variants = [
        right, {"a": right["b"], "b": right["a"]}, {"a": {}, "b": {}},
        {"a": {"doc_name": 7, "evidence": "none", "company": ["x"]},
         "b": {"evidence": [{"evidence_page_num": -3}], "answer": [1]}},
    ]
    printed = set()
    for number, extra in enumerate(variants):
        rows = [{"financebench_id": id, "question": text, **extra[id]} for id, text in texts.items()]
        file = question_file(indexed / f"q{number}.jsonl", *rows)
        code, out, _ = run(capsys, "search", "--questions", file, "--recipe", "r.yaml", "--k", "5", "--json")
        assert code == 0
        printed.add(out)
    assert len(printed) == 1
    assert printed.pop().count("\n") == 2


def test_search_for_a_question_file_says_the_filter(indexed, capsys):
    file = question_file(indexed / "q.jsonl", {"id": "a", "text": "net sales"})
    options = ("search", "--questions", file, "--recipe", "r.yaml", "--where", "fiscal_year = 2020")
    row = json.loads(run(capsys, *options, "--json")[1])
    assert row["filter"] == "fiscal_year = 2020"
    assert {hit["document"] for hit in row["hits"]} == {"ZENITH_2020_10K"}
    both = json.loads(run(capsys, *options, "--json", "--set", "retrieval.where=company = 'Acme'")[1])
    assert (both["filter"], both["hits"]) == ("company = 'Acme' and fiscal_year = 2020", [])
    mapping = '{"$or": [{"fiscal_year": {"$gt": 2020}}, {"company": "Zenith"}]}'
    mixed = json.loads(run(capsys, *options[:-1], mapping, "--json", "--set", "retrieval.where=form = '10-K'")[1])
    assert mixed["filter"] == "form = '10-K' and (fiscal_year > 2020 or company = 'Zenith')"  # can be given to --where
    _, out, _ = run(capsys, *options)
    assert out.startswith("a: net sales\n  where fiscal_year = 2020\n  1. ZENITH_2020_10K, page 1  (score ")


@pytest.mark.parametrize(("lines", "says"), [
    ('{"id": "a", "text": "x"}\n{"id": "b"}\n', "q.jsonl:2: found the keys id, but no 'question'"),
    ('{"id": "a", "text": " "}\n', "q.jsonl:1: the question is empty"),
    ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "q.jsonl:2: the id 'a' stands in line 1"),
    ('{"id": "a", "text": "x"}\nnot json\n', "q.jsonl:2: not JSON"),
    ('{"id": "a", "text": "' + "x" * 100_000 + '"}\n', "characters"),
    ("\n", "holds no question"),
    (None, "no question file q.jsonl"),
])
def test_a_bad_question_file_is_one_clear_error(indexed, capsys, lines, says):
    if lines is not None:
        (indexed / "q.jsonl").write_text(lines)
    code, out, err = run(capsys, "search", "--questions", "q.jsonl", "--recipe", "r.yaml", "--json")
    assert (code, out) == (1, "")
    assert says in err
    assert err.count("Error: ") == 1


@pytest.mark.parametrize(("arguments", "says"), [(["x", "--questions", "q.jsonl"], "found both"), ([], "found neither")])
def test_search_takes_a_question_or_a_file(indexed, capsys, arguments, says):
    code, out, err = run(capsys, "search", *arguments, "--recipe", "r.yaml")
    assert (code, out) == (2, "")
    assert says in err


def test_results_go_to_stdout_progress_to_stderr(place, capsys):
    code, out, err = run(capsys, "index", "--recipe", "r.yaml", "--json")
    assert code == 0
    assert json.loads(out)["documents"] == 2
    assert "embedding" in err


def test_index_add_remove_inspect_audit(indexed, capsys):
    (indexed / "documents/CORK_2019_10K.txt").write_text("Cork makes corks.")
    code, out, _ = run(capsys, "index", "add", "documents/CORK_2019_10K.txt", "--recipe", "r.yaml", "--json")
    assert (code, json.loads(out)["documents"], json.loads(out)["added"]) == (0, 3, 1)
    code, out, _ = run(capsys, "index", "remove", "ZENITH_2020_10K", "--recipe", "r.yaml")
    assert code == 0
    assert re.search(r"^removed +1$", out, re.MULTILINE)
    code, out, _ = run(capsys, "index", "inspect", "--recipe", "r.yaml", "--json")
    facts = json.loads(out)
    assert (code, facts["documents"], facts["edits"]["removed"]) == (0, 2, ["ZENITH_2020_10K.txt"])
    code, out, _ = run(capsys, "index", "inspect", "--index", "work/t/index")
    assert "fiscal_year (number): 2 of 2 documents, 2 values, e.g. 2019, 2021" in out
    assert "vectors.npy" in out
    code, out, _ = run(capsys, "index", "audit", "--recipe", "r.yaml")
    assert code == 0
    assert "files not read: 0" in out
    assert json.loads(run(capsys, "index", "audit", "--index", "work/t/index", "--json")[1])["chunks"] == facts["chunks"]
    _, out, _ = run(capsys, "index", "--recipe", "r.yaml", "--reset", "--json")
    assert json.loads(out)["documents"] == 3


@pytest.mark.parametrize(("arguments", "says"), [
    (["index"], "Missing option '--recipe'"),
    (["index", "inspect"], "Name an index: --index FOLDER, or --recipe FILE"),
    (["index", "add", "--recipe", "r.yaml"], "Missing argument 'FILES...'"),
    (["index", "--recipe", "r.yaml", "add", "x.txt"], "Options stand after the command"),
    (["index", "nosuch"], "No such command 'nosuch'"),
])
def test_wrong_use_of_index(indexed, capsys, arguments, says):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_second_index_skips_unchanged_files(indexed, capsys):
    _, out, _ = run(capsys, "index", "--recipe", "r.yaml", "--json")
    assert json.loads(out)["unchanged"] == 2


def test_ask_answers_with_a_page(indexed, capsys):
    code, out, _ = run(capsys, "ask", "What were Acme's net sales?", "--recipe", "r.yaml", "--json",
                       "--set", "answering.guard=none")
    answer = json.loads(out)
    assert code == 0
    assert answer["citations"][0]["page"] == 1
    assert answer["passages"][0]["document"] == "ACME_2021_10K"


def test_filter_that_matches_nothing_returns_nothing(indexed, capsys):
    code, out, _ = run(capsys, "search", "sales", "--recipe", "r.yaml", "--json", "--where", "fiscal_year = 1999")
    assert (code, json.loads(out)) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", " ", "--recipe", "r.yaml"], "the question is empty"),
        (["ask", "", "--recipe", "r.yaml"], "the question is empty"),
        (["search", "x", "--recipe", "r.yaml", "--where", "compny = 'Acme'"], "Did you mean 'company'"),
        (["search", "x", "--recipe", "r.yaml", "--where", "company = "], "company"),
        (["search", "x", "--recipe", "nowhere.yaml"], "no recipe 'nowhere.yaml'"),
        (["search", "x", "--recipe", "r.yaml", "--index", "nowhere"], "no index folder at nowhere"),
        (["search", "x", "--recipe", "r.yaml", "--set", "index.embeder=minilm"], "Did you mean 'embedder'"),
        (["ask", "x", "--recipe", "r.yaml", "--model", "tuned"], "there is no tuned model"),
        (["ask", "x", "--recipe", "r.yaml", "--run", "nowhere"], "there is no tuned model at nowhere"),
        (["index", "--recipe", "r.yaml", "--set", "documents.folder=nowhere"], "does not exist"),
        (["index", "--recipe", "r.yaml", "--set", "index.embedder=no/such-model"], "no/such-model"),
        (["index", "--recipe", "r.yaml", "--set", "index.chunker=row"], "rows"),
        (["dataset", "--recipe", "r.yaml", "--index", "nowhere"], "no index folder at nowhere"),
        (["train", "--recipe", "r.yaml", "--dataset", "nowhere"], "no dataset folder at nowhere"),
        (["evaluate", "--recipe", "r.yaml"], "no questions at work/t/dataset"),
        (["recipe", "check", "r.yaml", "--set", "training.method=qlorra"], "Did you mean 'qlora'"),
        (["recipe", "copy", "demo", "r.yaml"], "exists and is not overwritten"),
    ],
)
def test_bad_input_is_one_clear_error(indexed, capsys, arguments, says):
    before = sorted(str(p) for p in indexed.rglob("*"))
    code, out, err = run(capsys, *arguments)
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (code, out, len(errors)) == (1, "", 1), err
    assert says in err
    assert "Traceback" not in err
    assert sorted(str(p) for p in indexed.rglob("*")) == before


def test_index_of_another_embedder_is_refused(indexed, capsys):
    manifest = indexed / "work/t/index/manifest.json"
    entries = json.loads(manifest.read_text().replace("hash:256", "other:256"))
    manifest.write_text(json.dumps({**entries, "manifest_sha256": hash_manifest(entries)}))
    code, _, err = run(capsys, "search", "x", "--recipe", "r.yaml")
    assert code == 1
    assert "other:256" in err
    assert "hash:256" in err


def test_empty_folder(place, capsys):
    shutil.rmtree(place / "documents")
    (place / "documents").mkdir()
    code, _, err = run(capsys, "index", "--recipe", "r.yaml")
    assert code == 1
    assert "holds no file" in err
    assert not (place / "work/t/index").exists()


def test_unreadable_files_are_listed_and_the_rest_is_indexed(place, capsys):
    (place / "documents/empty.pdf").write_bytes(b"")
    (place / "documents/lie.pdf").write_bytes(b"PK\x03\x04 not a pdf")
    (place / "documents/cut.pdf").write_bytes(b"%PDF-1.7\n1 0 obj\n<<")
    (place / "documents/noise.txt").write_bytes(bytes(range(256)) * 20)
    code, out, _ = run(capsys, "index", "--recipe", "r.yaml")
    assert code == 0
    for name in ("empty.pdf", "lie.pdf", "cut.pdf", "noise.txt"):
        assert f"not read: {name}: " in out


def test_wrong_usage_exits_with_2(capsys):
    assert run(capsys, "search")[0] == 2
    code, _, err = run(capsys, "serach")
    assert code == 2
    assert "Did you mean 'search'" in err


def test_ctrl_c_exits_with_130(place):
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's & turns it off
        "from ragtune.cli import main\nimport ragtune.stages.index as stage\n"
        "def slow(*a, **k):\n    print('ready', flush=True); time.sleep(60)\n"
        "stage.run_index = slow\nsys.argv = ['ragtune', 'index', '--recipe', 'r.yaml']\nmain.main()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Interrupted" in err


def test_recipe_commands(place, capsys):
    assert "demo" in run(capsys, "recipe", "list")[1]
    assert run(capsys, "recipe", "copy", "demo", "mine.yaml")[0] == 0
    assert run(capsys, "recipe", "check", "mine.yaml")[1].endswith("mine.yaml: fine\n")
    shown = json.loads(run(capsys, "recipe", "show", "mine.yaml", "--json", "--set", "retrieval.k=7")[1])
    assert shown["retrieval"]["k"] == 7


def test_search_without_a_recipe_takes_the_only_index(indexed, capsys):
    file = question_file(indexed / "q.jsonl", {"id": "a", "text": "Who makes clocks?"})
    code, out, _ = run(capsys, "search", "--questions", file, "--k", "20", "--json")
    assert code == 0
    assert json.loads(out)["hits"][0]["document"] == "ZENITH_2020_10K"
    index = next(indexed.glob("work/*/index"))
    again = run(capsys, "search", "--questions", file, "--k", "20", "--json", "--index", str(index))
    assert again[1] == out
    shutil.copytree(index.parent, index.parent.with_name("other"))
    code, _, err = run(capsys, "search", "clocks", "--json")
    assert code == 2
    assert "found 2 indexes" in err
