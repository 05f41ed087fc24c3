"""Uploads: taken by what they hold and not by what they are called; bombs and odd names are turned away."""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragtune.documents.formats import READERS
from ragtune.errors import DocumentError
from ragtune.recipe.schema import Server
from ragtune.server.uploads import Oversized, check_upload, safe_name

PDF = b"%PDF-1.7\n1 0 obj\n%%EOF\n"
TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'


def docx(parts: dict[str, bytes | str] | None = None, **extra: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"[Content_Types].xml": TYPES, "word/document.xml": "<w/>", **(parts or {})}.items():
            archive.writestr(name, data)
    return held.getvalue()


def check(name: str, data: bytes, **server: int) -> str:
    return check_upload(name, data, Server(**server)).name


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.pdf", PDF),
        ("a.docx", docx()),
        ("a.txt", "Größe".encode()),
        ("a.txt", "Größe".encode("cp1252")),
        ("a.md", "x".encode("utf-16")),
        ("a.html", b"<!DOCTYPE html><p>x"),
        ("a.csv", b"a,b\n1,2"),
        ("a.jsonl", b'{"text": "x"}'),
        ("A.PDF", PDF),
    ],
)
def test_what_is_what_it_says_is_taken(name: str, data: bytes) -> None:
    checked = check_upload(name, data, Server())
    assert checked.sha256 == hashlib.sha256(data).hexdigest()
    assert (checked.size, checked.document.lower()) == (len(data), "a")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", b"", "is empty"),
        ("a.pdf", b"<html>", "is no PDF"),
        ("a.pdf", docx(), "a zip archive"),
        ("a.pdf", PDF[:12], "cut off"),
        ("a.txt", PDF, "is a PDF, although it is named .txt"),
        ("a.html", b"\x7fELF\x02", "a program"),
        ("a.md", b"\x89PNG\r\n", "a PNG image"),
        ("a.csv", b"SQLite format 3\0", "an SQLite database"),
        ("a.txt", b"a\0b\0c", "binary data"),
        ("a.txt", bytes(range(256)) * 9, "binary data"),
        ("a.txt", b" \n\t ", "nothing but spaces"),
        ("a.txt", b"MZ\x90\0", "a program"),
        ("a.txt", b"{\\rtf1", "an RTF file"),
        ("a.docx", b"PK\x03\x04rubbish", "a zip archive, or a damaged one"),
        ("a.docx", PDF, "or a damaged one"),
        ("a.exe", b"x", "no suffix that is read"),
        ("a", b"x", "no suffix"),
        (".pdf", PDF, "no suffix"),
        ("..pdf", PDF, "no suffix"),
        ("a.pdf.exe", PDF, "no suffix"),
        ("", PDF, "no suffix"),
        ("___.txt", b"x", None),
        ("\u202efdp.exe", b"x", "no suffix"),
    ],
)
def test_what_is_not_is_not(name: str, data: bytes, words: str | None) -> None:
    if words is None:
        assert check(name, data) == name
        return
    with pytest.raises(DocumentError, match=words):
        check(name, data)


def test_zips_that_hold_something_else_or_too_much() -> None:
    bare = io.BytesIO()
    with zipfile.ZipFile(bare, "w") as archive:
        archive.writestr("a.txt", "x")
    many = docx({f"word/{number}.xml": "x" for number in range(2100)})
    bomb = docx({"word/media/a.bin": b"\0" * (40 << 20)})
    assert len(bomb) < 100_000
    for data, words in (
        (bare.getvalue(), "no Word document"),
        (many, "2102 parts"),
        (bomb, "unpacks to 40 MiB, more than 150 times"),
        (docx({"../../etc/passwd": "x"}), "outside of it"),
        (docx({"/etc/passwd": "x"}), "outside of it"),
        (docx({"C:\\x": "x"}), "outside of it"),
        (docx({"word/vbaProject.bin": "x"}), "macros"),
        (docx({"word/document.xml": '<!DOCTYPE x [<!ENTITY a "b">]><x/>'}), "entities"),
    ):
        with pytest.raises(DocumentError, match=words):
            check("a.docx", data)


def test_a_zip_that_lies_about_its_sizes_is_found_out() -> None:
    data = bytearray(docx({"word/media/a.bin": b"\0" * (3 << 20)}))
    at = data.rfind(b"PK\x01\x02")
    assert struct.unpack_from("<I", data, at + 24)[0] == 3 << 20
    struct.pack_into("<I", data, at + 24, 100)  # the size it is said to unpack to
    with pytest.raises(DocumentError):
        check("a.docx", bytes(data))


def test_sizes() -> None:
    with pytest.raises(Oversized, match="1.0 MiB, 1 are allowed|1.1 MiB"):
        check("a.txt", b"x" * ((1 << 20) + 1), max_upload_mb=1)
    assert check("a.txt", b"x" * (1 << 20), max_upload_mb=1)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd.txt", "passwd.txt"),
        ("..\\..\\boot.txt", "boot.txt"),
        ("C:\\Users\\a b.pdf", "a b.pdf"),
        ("/abs/x.md", "x.md"),
        ("a\0b.txt", "ab.txt"),
        ("a\nb.txt", "ab.txt"),
        ("a;rm -rf $HOME`x`.txt", "a_rm -rf _HOME_x_.txt"),
        (".hidden.txt", "hidden.txt"),
        ("x.TXT ", "x.txt"),
        ("con.txt", "_con.txt"),
        ("NUL.pdf", "_NUL.pdf"),
        ("ｆｕｌｌ.txt", "full.txt"),
        ("a\u202etxt.pdf", "atxt.pdf"),
        ("a" * 300 + ".txt", "a" * 120 + ".txt"),
        ("-rf.txt", "rf.txt"),
        ("Größe & Co (1).pdf", "Größe & Co (1).pdf"),
        ("<script>.html", "_script_.html"),
        ("a/../b.txt", "b.txt"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=80), st.sampled_from([*READERS, ".TXT", "", ".exe"]))
def test_no_name_leaves_its_folder(name: str, suffix: str) -> None:
    try:
        safe = safe_name(name + suffix)
    except DocumentError:
        return
    assert Path(safe).name == safe
    assert not safe.startswith((".", "-"))
    assert safe.isprintable()
    assert not set(safe) & set('/\\:*?"<>|;`$\0')
    assert len(safe.encode()) <= 255
    assert Path(safe).suffix in READERS
    assert safe_name(safe) == safe


@given(st.binary(max_size=300), st.sampled_from(list(READERS)))
def test_no_bytes_break_the_check(data: bytes, suffix: str) -> None:
    for head in (b"", b"%PDF-", b"PK\x03\x04"):
        with contextlib.suppress(DocumentError):  # nothing else may be raised
            assert check_upload(f"a{suffix}", head + data, Server()).size == len(head + data)
