"""Domain packs: opened and checked, in force, kept by an index, drafted from documents."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ragtune.answering.prompt import prompt_hash, title_of
from ragtune.cli.main import ragtune
from ragtune.datasets.wording import ask_amount, call_line
from ragtune.documents.chunk import chunk_document
from ragtune.documents.context import context_line
from ragtune.documents.draft import draft_pack, find_file_patterns, find_headings
from ragtune.documents.glossary import find_function_words, learn_glossary
from ragtune.documents.metadata import read_metadata
from ragtune.documents.pack import copy_pack, current_pack, open_pack, shipped_packs, use_pack
from ragtune.documents.sections import sections_of_page
from ragtune.documents.statements import parse_columns, parse_unit
from ragtune.documents.terms import find_terms, name_rows
from ragtune.errors import IndexFolderError, RecipeError
from ragtune.recipe.load import load_recipe
from ragtune.recipe.schema import Retrieval
from ragtune.records import Chunk, Document, Page
from ragtune.retrieval import audit
from ragtune.retrieval.asked import read_asked
from ragtune.retrieval.build import build_index
from ragtune.retrieval.index import open_index
from ragtune.retrieval.lexical import tokenise
from ragtune.retrieval.life import add_files
from ragtune.retrieval.search import open_searcher
from ragtune.retrieval.twins import sign_texts

PUMPS = """name: pumps
description: Pump manuals.
terms:
  - names: [head, delivery height]
    labels: ['(?:total )?head(?: loss)?']
    sections: [curves]
    also: [delivery height in metres]
topics:
  - {name: noise, asked: ['\\bhum'], sections: [faults], also: [troubleshooting]}
sections:
  - {name: curves, headings: [pump curves?]}
  - {name: faults, headings: [troubleshooting], asked: ['\\bfaults?\\b'], items: ['Sheet 4']}
headings: {numbered: 'Sheet \\d+\\b.{0,80}', prefixes: ['sheet\\d+[.:]*']}
metadata:
  file_names: ['^(?P<model>[a-z]+\\d+)_(?P<year>\\d{4})$']
  numbers: [year]
  cover: [{column: maker, pattern: 'made by (?P<value>\\w+)'}]
  title: ['{model}']
  context: ['{model}', 'of {year}']
tables:
  header_words: [model|year]
  units: [bar, metres]
"""


@pytest.fixture
def pumps(tmp_path: Path) -> Path:
    folder = tmp_path / "pumps"
    folder.mkdir()
    (folder / "pack.yaml").write_text(PUMPS)
    return folder


def write(folder: Path, text: str, name: str = "pack.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_the_shipped_packs_open_and_their_patterns_compile() -> None:
    assert list(shipped_packs()) == ["finance", "plain"]
    for name in shipped_packs():
        pack = open_pack(name)
        assert pack.name == name
        assert len(pack.hash) == 16
        for section in pack.sections:
            assert section.headings or section.rows
            _ = section.asked, section.unless
        for term in pack.terms:
            assert term.asked.search(f"What was {term.names[0].rstrip('*')}?")
    finance = open_pack("finance")
    assert len(finance.topics) >= 40
    assert all(term.sections and term.also for term in finance.terms)
    assert open_pack("plain").terms == ()


def test_nothing_is_read_at_import_and_a_pack_opens_fast() -> None:
    code = ("import time, yaml\nyaml.load = None\nimport ragtune.documents.terms, ragtune.documents.sections, "
            "ragtune.retrieval.build\nprint('fine')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.stdout.strip() == "fine", done.stderr


def test_a_pack_of_ones_own(pumps: Path) -> None:
    pack = open_pack(pumps)
    assert open_pack(str(pumps)) is pack
    assert find_terms("What is the delivery height?", pack)[0][1] is pack.terms[0]
    assert name_rows("What is the head?", ["Head loss 2021: 3"], pack=pack) == [("head", ("Head loss",))]
    names = [section.name for section in pack.sections]
    assert read_asked("Why does it hum?", pack).of_topics == {names.index("faults"): 1.0}
    asked = read_asked("What does Sheet 4 say of the head?", pack)
    assert (asked.named, asked.of_terms) == ({names.index("faults"): 1.0}, {names.index("curves"): 1.0})
    assert read_asked("Why does it hum under the head?", pack).added == ("delivery height in metres", "troubleshooting")
    assert sections_of_page("Sheet 4: Troubleshooting\nIt hums.", pack) == ("faults",)
    found = read_metadata(Path("px7_2021.pdf"), ["made by Acme"], pack=pack)
    assert found == {"model": "px7", "year": 2021, "maker": "Acme"}
    assert pack.describe({"model": "px7", "year": 2021}) == "px7"
    assert pack.describe({"model": "px7", "year": 2021}, has_context=True) == "px7 of 2021"


def test_a_pack_is_read_anew_where_its_files_changed(pumps: Path) -> None:
    before = open_pack(pumps)
    write(pumps, PUMPS.replace("Pump manuals.", "Pumps."))
    os.utime(pumps / "pack.yaml", ns=(1, 1))
    assert open_pack(pumps).description == "Pumps."
    assert open_pack(pumps).hash != before.hash
    write(pumps, f"# a remark\n{PUMPS}")
    os.utime(pumps / "pack.yaml", ns=(2, 2))
    assert open_pack(pumps).hash == before.hash  # remarks say nothing


def test_the_pack_in_force(pumps: Path) -> None:
    chunk = Chunk("c", "d", "px7_2021", "Head 3", 4, 4, 0, 6, {"model": "px7", "year": 2021, "company": "Acme"})
    assert title_of(chunk) == "Acme, page 4"
    finance_hash = prompt_hash()
    with use_pack(pumps) as pack:
        assert current_pack() is pack
        assert title_of(chunk) == "px7, page 4"
        assert context_line(chunk) == "px7 of 2021, page 4"
        assert find_terms("What is the head of revenue?")[0][0] == "head"
        assert parse_unit("pressure in bar") == "bar"
        assert parse_columns("Model Year 2020 2021") == ("2020", "2021")
        assert prompt_hash() != finance_hash
        with use_pack("plain"):
            assert find_terms("What is the head of revenue?") == []
    assert [phrase for phrase, _ in find_terms("What is the head of revenue?")] == ["revenue"]
    assert prompt_hash() == finance_hash


def test_headings_of_chunks_are_the_packs(pumps: Path) -> None:
    pages = (Page(1, "Sheet 2 Curves\nThe head is three."), Page(2, "Item 3. Legal\nNone."))
    document = Document("d", "m", "m.pdf", pages)

    def headings(pack: str | Path) -> list[str]:
        return [c.heading for c in chunk_document(document, "rows", 60, 0, lambda text: len(text.split()),
                                                    pack=open_pack(pack))]

    assert headings(pumps) == ["Sheet 2 Curves", "Item 3. Legal"]
    assert headings("finance") == ["", "Item 3. Legal"]  # a heading by its form alone is one in any pack


def test_questions_are_worded_by_the_pack() -> None:
    import random

    from ragtune.datasets.facts import Fact

    fact = Fact("Net sales", (("2021", "4,210"),), "d", 1, "Net sales 4,210", "millions", False, True)
    asked = call_line(fact, random.Random(1))
    assert re.search(r"fiscal|FY2021", ask_amount(asked, "Acme", "2021", False, random.Random(1), "millions"))
    with use_pack("plain"):
        assert ask_amount(call_line(fact, random.Random(1)), "Acme", "2021", False, random.Random(1)) == (
            "What were Acme's net sales in 2021?")


@pytest.mark.parametrize(("text", "words"), [
    ("name: x\nterm: []", ["pack.yaml: term: unknown key", "Did you mean 'terms'?", "Allowed here: name, description"]),
    ("name: x\nterms:\n  - {names: [head], labels: ['(head'], name: y}",
     ["terms[1] (", ".labels[1]: found '(head'", "no regular expression", "at character 1",
      ".name: unknown key", "2 faults"]),
    ("name: x\nterms: [{names: [head], labels: [a], sections: [curves]}]\nsections: [{name: curve}]",
     ["terms (head): no section 'curves'", "Did you mean 'curve'?"]),
    ("name: x\nsections: [{name: a}, {name: a}]", ["sections: 'a' stands there twice"]),
    ("name: x\nmetadata: {cover: [{column: year, pattern: '2021'}]}", ["cover[1] (year)", "no group (?P<value>...)"]),
    ("name: x\nmetadata: {title: ['company']}", ["'company' must hold one column in braces"]),
    ("name: x\nwording: {flows: ['What is {thing}?']}", ["'What is {thing}?' cannot be filled in", "places are be"]),
    ("name: x\nheadings: {numbered: '*'}", ["headings.numbered: found '*'", "nothing to repeat"]),
    ("description: x", ["name: Field required"]),
    ("name: x\nterms: }", ["pack.yaml:2: not YAML"]),
    ("name: x\ntopics: [{name: t, asked: ['(?i)hum']}]", ["topics[1] (t).asked[1]", "global flags", "character 4"]),
    ("name: x\nsections: [{name: s, headings: ['a[ ]b']}]", ["sections[1] (s).headings[1]", "unterminated character set"]),
    ("name: x\nterms: [{names: [a], labels: [a]}]\nmeasures: [{names: [m], needs: [a], quotient: number}]",
     ["measures[1] (m)", "'m' is a quotient of two line items; needs has one"]),
    ("name: x\nlabels: {same: [[stock]]}", ["labels.same[1]"]),
    ("name: x\nwording: {percent: '(?i)share'}", ["wording.percent: found '(?i)share'", "global flags"]),
    ("name: x\nterms: [{names: [a], labels: ['(?P<x>a)']}]", ["terms[1] (a).labels[1]", "must name no group"]),
    ("- a\n- b", ["found list, wanted keys such as 'terms:'"]),
])
def test_faults_are_named_with_file_and_place(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        open_pack(write(tmp_path / "bad", text))
    for word in words:
        assert word in str(error.value)


def test_a_key_stands_in_one_file(pumps: Path) -> None:
    write(pumps, "terms: []", "terms.yaml")
    with pytest.raises(RecipeError, match=r"'terms' stands in pack.yaml already"):
        open_pack(pumps)


def test_an_unknown_pack_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"shipped packs are finance, plain\. Did you mean 'finance'\?"):
        open_pack("finanse")
    with pytest.raises(RecipeError, match="holds no .yaml file"):
        open_pack(tmp_path)


@given(st.dictionaries(st.sampled_from(["name", "terms", "topics", "sections", "metadata", "x"]),
                       st.recursive(st.none() | st.text(max_size=8) | st.integers(),
                                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
                                        st.sampled_from(["name", "names", "labels", "asked", "headings", "cover"]), inner,
                                        max_size=2), max_leaves=5)))
def test_any_yaml_opens_or_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, values: dict) -> None:
    folder = write(tmp_path_factory.mktemp("pack") / "p", yaml.safe_dump(values))
    try:
        assert open_pack(folder).name == values["name"]
    except RecipeError as error:
        assert str(folder) in str(error)  # noqa: PT017 - either outcome is right


def test_a_recipe_names_a_pack_beside_it(tmp_path: Path, pumps: Path) -> None:
    (tmp_path / "my.yaml").write_text("pack: pumps\n")
    assert open_pack(load_recipe(str(tmp_path / "my.yaml")).pack).name == "pumps"
    assert load_recipe("demo").pack == "finance"
    assert load_recipe("demo", ["pack=plain"]).pack == "plain"


def test_an_index_keeps_its_pack_and_a_change_cuts_anew(tmp_path: Path, pumps: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "px7_2021.txt").write_text("Sheet 2 Curves\nThe head is three metres, made by Acme.\n")
    recipe = load_recipe("demo", [f"documents.folder={docs}", "documents.metadata=null", "index.embedder=hash",
                                  f"pack={pumps}"])
    build_index(recipe, tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert index.manifest["settings"]["pack"] == {"name": "pumps", "hash": open_pack(pumps).hash}
    assert index.documents()[0].metadata == {"model": "px7", "year": 2021, "maker": "Acme"}
    assert index.chunks("px7_2021")[0].heading == "Sheet 2 Curves"
    write(pumps, PUMPS.replace("Sheet \\d+", "Leaf \\d+"))
    os.utime(pumps / "pack.yaml", ns=(3, 3))
    assert index.pack.hash != open_pack(pumps).hash  # the index has a copy of its own
    assert index.pack.folder == tmp_path / "index" / "pack"
    with use_pack(pumps), pytest.raises(IndexFolderError, match=r"was built with the pack 'pumps' .*Index again"):
        open_searcher(tmp_path / "index", Retrieval())
    assert open_searcher(tmp_path / "index", Retrieval()).index.pack is index.pack  # no recipe, no other pack
    build_index(recipe, tmp_path / "index")
    again = open_index(tmp_path / "index")
    assert again.chunks("px7_2021")[0].heading == ""
    assert again.pack.hash == open_pack(pumps).hash


def test_what_is_done_with_an_index_is_done_in_its_pack(tmp_path: Path, pumps: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in (7, 8):
        (docs / f"px{number}_2021.txt").write_text(f"The head of pump {number} is three metres in all, made by Acme.\n")
    recipe = load_recipe("demo", [f"documents.folder={docs}", "documents.metadata=null", "index.embedder=hash",
                                  f"pack={pumps}"])
    build_index(recipe, tmp_path / "index")
    (docs / "px9_2022.txt").write_text("The head of pump 9 is four metres in all, made by Bolt.\n")
    add_files(recipe, tmp_path / "index", [docs / "px9_2022.txt"])
    index = open_index(tmp_path / "index")
    assert index.document("px9_2022").metadata == {"model": "px9", "year": 2022, "maker": "Bolt"}
    router = open_searcher(tmp_path / "index", Retrieval()).router
    assert (router.entity, router.year) == ("company", "year")
    signs = audit._sign(index, index.store.all_chunks())  # of the texts alone: what stands above them is left out
    tokens = [tokenise(chunk.text) for chunk in index.store.all_chunks()]
    vocabulary = index.lexical.vocab_dict
    numbers = np.array([vocabulary[token] for text in tokens for token in text])
    ends = np.cumsum([len(text) for text in tokens])
    assert (signs == sign_texts(numbers, ends - [len(text) for text in tokens], ends)).all()


def test_a_copy_has_the_same_hash(tmp_path: Path) -> None:
    copy_pack(open_pack("finance"), tmp_path / "copy")
    assert open_pack(tmp_path / "copy").hash == open_pack("finance").hash


MANUAL = """# Installation
Fill the tank before the Acme Pump starts. The pressure relief valve (PRV) opens at 4 bar.
Ask the Acme Pump service, says Acme Pump. Cavitation means the formation of bubbles.
Flow rate 1,200 1,350
Discharge volume 1,200 1,350
# Troubleshooting
The motor hums: call.
"""


@pytest.fixture
def manuals(tmp_path: Path) -> Path:
    folder = tmp_path / "manuals"
    folder.mkdir()
    (folder / "acme-pump_v2.1_2019.md").write_text(MANUAL)
    (folder / "acme-fan_v3.0_2021.md").write_text(MANUAL.replace("Pump", "Fan") + "# Care of the Fan\nOil it.\n")
    (folder / "guide.txt").write_text("Sheet 1 Basics\nA few words.\n")
    return folder


def test_a_pack_is_drafted_from_documents_and_opens(manuals: Path, tmp_path: Path) -> None:
    pack = draft_pack(manuals, tmp_path / "acme")
    assert pack.name == "acme"
    assert pack.labels.light == open_pack("plain").labels.light == {"total", "number"}
    assert {section.name for section in pack.sections} == {"table of contents", "installation", "troubleshooting"}
    assert sections_of_page("2. Troubleshooting\nIt hums.", pack) == ("troubleshooting",)
    names = {frozenset(name.lower() for name in term.names) for term in pack.terms}
    assert {frozenset({"prv", "pressure relief valve"}), frozenset({"flow rate", "discharge volume"}),
            frozenset({"cavitation", "formation of bubbles"})} == names
    assert read_metadata(Path("acme-mixer_v1.0_2022.md"), [""], pack=pack) == {
        "title": "acme-mixer", "version": "v1.0", "year": 2022}
    assert "Acme Pump: 1" in (tmp_path / "acme" / "metadata.yaml").read_text()
    assert not (tmp_path / ".acme.partial").exists()
    with pytest.raises(RecipeError, match="exists and is not overwritten"):
        draft_pack(manuals, tmp_path / "acme")


def test_a_draft_that_fails_leaves_nothing(manuals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragtune.documents.draft.render_draft", lambda *_: {"pack.yaml": "name: '*'"})
    with pytest.raises(RecipeError):
        draft_pack(manuals, tmp_path / "acme")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manuals"]


@pytest.mark.parametrize(("stems", "stem", "columns"), [
    (["a_2019", "b_2020"], "my-report_2021", {"title": "my-report", "year": "2021"}),
    (["memo 2021-03-04", "memo 2022-01-31"], "note 2020-02-02", {"title": "note", "date": "2020-02-02"}),
    (["x_2019_spec", "y_2019_spec", "z_2020_test", "u_2020_test"], "w_2021_spec",
     {"title": "w", "year": "2021", "kind": "spec"}),
])
def test_file_names_suggest_patterns(stems: list[str], stem: str, columns: dict[str, str]) -> None:
    pattern, found = find_file_patterns(stems)[0]
    match = re.match(pattern, stem)
    assert match
    assert match.groupdict() == columns
    assert set(found) == set(columns)
    assert find_file_patterns(["readme", "notes"]) == []


@given(st.lists(st.text(max_size=200), min_size=1, max_size=3))
def test_any_documents_are_drafted(texts: list[str]) -> None:
    documents = [Document(str(i), f"d{i}", f"d{i}.txt", (Page(1, text),)) for i, text in enumerate(texts)]
    assert all(len(names) > 1 and source for names, source in learn_glossary(documents))
    assert all(count >= 1 for _, count in find_headings(documents))


def test_function_words_define_nothing() -> None:
    texts = [f"Of the {word} and that it is: see this. {body}" for word, body in (
        ("one", "This means that objects take more space."), ("two", "A node refers to a machine in the cluster."),
        ("three", "Latency is defined as the delay before an answer."), ("four", "Some of it means to wait."),
        ("five", '"That" means the thing shown before.'))]
    documents = [Document(str(i), f"d{i}", f"d{i}.txt", (Page(1, text),)) for i, text in enumerate(texts)]
    assert {"that", "of", "this"} <= find_function_words(documents)
    assert find_function_words(documents[:4]) == frozenset()  # four documents are too few to tell
    names = {names[0] for names, _ in learn_glossary(documents)}
    assert "Latency" in names
    assert "That" in names  # quoted, so it is meant
    assert "This" not in names


def test_commands(manuals: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(ragtune, ["pack", "list", "--json"])
    assert [row["name"] for row in json.loads(listed.stdout)] == ["finance", "plain"]
    out = tmp_path / "drafted"
    made = run(ragtune, ["pack", "new", str(manuals), "--out", str(out), "--json"])
    assert json.loads(made.stdout)["sections"] == 3, made.output
    shown = run(ragtune, ["pack", "show", str(out)])
    assert "troubleshooting" in shown.stdout
    everything = json.loads(run(ragtune, ["pack", "show", "finance", "--json"]).stdout)
    assert everything["metadata"]["kinds"]["10k"] == "10-K"
    assert isinstance(run(ragtune, ["pack", "show", "nothing"]).exception, RecipeError)
