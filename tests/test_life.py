"""Adding and removing: only the named files are read and embedded, the result equals a build, a failure changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from document_files import write_folder
from test_index import content, recipe

from ragtune.documents.pool import Worker
from ragtune.errors import DocumentError, IndexFolderError
from ragtune.models.fake import HashEmbedder
from ragtune.retrieval import build
from ragtune.retrieval.index import build_index, open_index
from ragtune.retrieval.life import add_files, remove_documents


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Three documents, indexed."""
    docs = write_folder(tmp_path / "docs")
    build_index(recipe(docs), tmp_path / "index")
    return docs


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What is read and embedded from now on."""
    seen: dict[str, list[str]] = {"read": [], "embedded": []}
    read, embed = Worker.read, HashEmbedder.embed_passages
    monkeypatch.setattr(Worker, "read", lambda self, path: seen["read"].append(path.name) or read(self, path))
    monkeypatch.setattr(HashEmbedder, "embed_passages",
                        lambda self, texts, progress=None: seen["embedded"].extend(texts) or embed(self, texts))
    return seen


def names(folder: Path) -> list[str]:
    return [document.name for document in open_index(folder).documents()]


def test_a_file_added_equals_a_build(docs: Path, tmp_path: Path, seen: dict) -> None:
    (docs / "CORK_2019_10K.txt").write_text("Cork makes corks.\n")
    (docs / "LATER_2019_10K.txt").write_text("Not asked for.\n")
    summary = add_files(recipe(docs), tmp_path / "index", [docs / "CORK_2019_10K.txt"])
    assert (summary.documents, summary.added, summary.unchanged, summary.removed) == (4, 1, 3, 0)
    assert seen == {"read": ["CORK_2019_10K.txt"], "embedded": ["Cork 10-K 2019, page 1\nCork makes corks."]}
    (docs / "LATER_2019_10K.txt").unlink()
    build_index(recipe(docs), tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))
    before = (tmp_path / "index" / "manifest.json").read_bytes()
    add_files(recipe(docs), tmp_path / "index", [docs / "CORK_2019_10K.txt"])
    build_index(recipe(docs), tmp_path / "index")
    assert (tmp_path / "index" / "manifest.json").read_bytes() == before


def test_a_changed_file_is_read_anew(docs: Path, tmp_path: Path, seen: dict) -> None:
    (docs / "BOLT_2020_10K.txt").write_text("Bolt now makes nuts.\n")
    (docs / "BOLT_2021Q2_10Q.md").write_text("Changed too, but not named.\n")
    summary = add_files(recipe(docs), tmp_path / "index", [docs / "BOLT_2020_10K.txt"])
    assert (summary.documents, summary.added, summary.changed, summary.unchanged) == (3, 0, 1, 2)
    assert seen["read"] == ["BOLT_2020_10K.txt"]
    assert "Bolt now makes nuts." in open_index(tmp_path / "index").page_text("BOLT_2020_10K", 1)


def test_a_file_from_elsewhere_stays(docs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "inbox" / "DENT_2020_10K.txt"
    outside.parent.mkdir()
    outside.write_text("Dent mends dents.\n")
    add_files(recipe(docs), tmp_path / "index", [outside])
    assert names(tmp_path / "index")[-1] == "DENT_2020_10K"
    summary = build_index(recipe(docs), tmp_path / "index")
    assert (summary.documents, summary.unchanged) == (4, 4)
    assert open_index(tmp_path / "index").manifest["edits"] == {"added": [str(outside)], "removed": []}
    outside.write_text("Dent makes dents.\n")
    assert build_index(recipe(docs), tmp_path / "index").changed == 1
    assert build_index(recipe(docs), tmp_path / "index", keeps_edits=False).removed == 1
    assert open_index(tmp_path / "index").manifest["edits"] == {"added": [], "removed": []}


def test_a_document_removed_stays_out_until_it_is_added(docs: Path, tmp_path: Path, seen: dict) -> None:
    summary = remove_documents(recipe(docs), tmp_path / "index", ["ACME_2021_10K", "BOLT_2020_10K.txt"])
    assert (summary.documents, summary.removed, summary.unchanged) == (1, 2, 1)
    assert seen == {"read": [], "embedded": []}
    assert names(tmp_path / "index") == ["BOLT_2021Q2_10Q"]
    build_index(recipe(docs), tmp_path / "index")
    assert names(tmp_path / "index") == ["BOLT_2021Q2_10Q"]
    add_files(recipe(docs), tmp_path / "index", [docs / "BOLT_2020_10K.txt"])
    assert names(tmp_path / "index") == ["BOLT_2020_10K", "BOLT_2021Q2_10Q"]
    build_index(recipe(docs), tmp_path / "index", keeps_edits=False)
    build_index(recipe(docs), tmp_path / "fresh")
    assert content(open_index(tmp_path / "index")) == content(open_index(tmp_path / "fresh"))


def test_what_cannot_be_done_changes_nothing(docs: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    before = {path: path.read_bytes() for path in index.rglob("*") if path.is_file()}
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7 rubbish")
    (docs / "good.txt").write_text("good")
    (docs / "twin.txt").write_bytes((docs / "BOLT_2020_10K.txt").read_bytes())
    (docs / "x.mp3").touch()
    for files, says in ([["good.txt", "broken.pdf"], "1 of 2 files cannot be read, and nothing was added:\n  broken.pdf"],
                        [["none.txt"], "is no file"], [["twin.txt"], "the same bytes as BOLT_2020_10K.txt"],
                        [["x.mp3"], "no reader for the suffix '.mp3'"], [["."], "is no file"]):
        with pytest.raises(DocumentError, match=says):
            add_files(recipe(docs), index, [docs / file for file in files])
    with pytest.raises(IndexFolderError, match=r"no document 'ACME_2021_10k'. Did you mean 'ACME_2021_10K'"):
        remove_documents(recipe(docs), index, ["ACME_2021_10k"])
    with pytest.raises(IndexFolderError, match="nothing would be left"):
        remove_documents(recipe(docs), index, names(index))
    assert {path: path.read_bytes() for path in index.rglob("*") if path.is_file()} == before
    with pytest.raises(IndexFolderError, match="no index folder"):
        add_files(recipe(docs), tmp_path / "none", [docs / "good.txt"])
    with pytest.raises(IndexFolderError, match="no index folder"):
        remove_documents(recipe(docs), tmp_path / "none", ["x"])


def test_a_failure_while_adding_leaves_the_old_index(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (docs / "CORK_2019_10K.txt").write_text("Cork makes corks.\n")
    old = content(open_index(tmp_path / "index"))
    monkeypatch.setattr(build, "write_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        add_files(recipe(docs), tmp_path / "index", [docs / "CORK_2019_10K.txt"])
    assert content(open_index(tmp_path / "index")) == old
    monkeypatch.undo()
    assert add_files(recipe(docs), tmp_path / "index", [docs / "CORK_2019_10K.txt"]).documents == 4
    assert not (tmp_path / "index.partial").exists()


def test_an_index_of_another_version(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragtune.retrieval.life.READING", 99)
    with pytest.raises(IndexFolderError, match="another version of ragtune. Build it again first"):
        remove_documents(recipe(docs), tmp_path / "index", ["ACME_2021_10K"])
