"""What may be uploaded: told by a file's content, not by its name, before anything reads it.

What a reader does with a hostile file besides (a PDF that unpacks without end) happens in a process of its own with limits
of time and memory: documents.pool.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath

from ragtune.documents.formats import READERS
from ragtune.errors import DocumentError, nearest
from ragtune.recipe import schema

MAX_NAME = 120
"""Most characters of a document's name."""
MAX_ENTRIES = 2_000
"""Most files within a DOCX; one of a thousand pages with pictures has some hundred."""
MAX_RATIO = 150
"""A part of a DOCX may be so many times as large as it is packed; a long report of plain words reaches 20 to 40."""
MAX_UNPACKED = 512 << 20
"""Most bytes a DOCX may unpack to."""
_FREE_BYTES = 1 << 20  # a small part may be packed as well as it likes
_SIGNS = ((b"%PDF-", ".pdf"), (b"PK\x03\x04", "a zip archive"), (b"PK\x05\x06", "an empty zip archive"),
          (b"\xd0\xcf\x11\xe0", "an old Office file"), (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"),
          (b"\x1f\x8b", "a gzip archive"), (b"GIF8", "a GIF image"), (b"\x7fELF", "a program"), (b"MZ\x90", "a program"),
          (b"SQLite format", "an SQLite database"), (b"7z\xbc\xaf", "a 7z archive"), (b"Rar!", "a RAR archive"),
          (b"{\\rtf", "an RTF file"), (b"%!PS", "a PostScript file"), (b"BZh", "a bzip2 archive"),
          (b"\xfd7zXZ", "an xz archive"))
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Checked:
    """A file that may be kept: its name without any path, its suffix and the sha256 of its bytes."""

    name: str
    suffix: str
    sha256: str
    size: int

    @property
    def document(self) -> str:
        """The document's name."""
        return PurePosixPath(self.name).stem


class Oversized(DocumentError):
    """A file larger than server.max_upload_mb."""


def check_upload(name: str, data: bytes, settings: schema.Server) -> Checked:
    """Return what a file may be kept as.

    Raises DocumentError: Oversized, or for a name or content that cannot be a document.
    """
    safe = safe_name(name)
    suffix = PurePosixPath(safe).suffix
    if not data:
        raise DocumentError(f"{safe}: the file is empty (0 bytes). Send it again.")
    if len(data) > settings.max_upload_mb << 20:
        raise Oversized(f"{safe}: the file has {len(data) / (1 << 20):.1f} MiB, {settings.max_upload_mb} are allowed. Split "
                        "it, or raise server.max_upload_mb.")
    found = next((kind for sign, kind in _SIGNS if data[:64].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(sign)), None)
    if suffix == ".pdf":
        check_pdf(safe, data, found)
    elif suffix == ".docx":
        check_docx(safe, data, found)
    elif found:
        raise DocumentError(f"{safe}: the file is {'a PDF' if found == '.pdf' else found}, although it is named {suffix}. "
                            "Rename or replace it.")
    else:
        check_text(safe, data)
    return Checked(safe, suffix, hashlib.sha256(data).hexdigest(), len(data))


def safe_name(name: str) -> str:
    """Return a file's name without folders, control characters and what shells, browsers or other systems trip over.

    Raises DocumentError where nothing is left of it, or no reader takes its suffix.
    """
    last = unicodedata.normalize("NFKC", name).replace("\\", "/").rsplit("/", 1)[-1]
    last = "".join(letter for letter in last if letter.isprintable())  # also what turns the order of letters around
    last = re.sub(r"[^\w .,&()+'-]", "_", last).strip(" .")
    stem, dot, suffix = last.rpartition(".")
    suffix = f".{suffix.lower()}"
    if not dot or suffix not in READERS:
        shown = "".join(letter if letter.isprintable() else "?" for letter in name[:120])
        raise DocumentError(f"'{shown}' has no suffix that is read. Allowed: {', '.join(READERS)}."
                            f"{nearest(suffix, READERS)}")
    stem = re.sub(r"\s+", " ", stem).strip(" .-")
    while len(stem) > MAX_NAME or len(stem.encode()) > 200:  # a file's name has 255 bytes at most
        stem = stem[:-1].rstrip(" .-")
    if not re.search(r"\w", stem):
        raise DocumentError("this is no name for a document. Give the file one with letters or digits.")
    return f"_{stem}{suffix}" if _RESERVED.fullmatch(stem) else stem + suffix


def check_pdf(name: str, data: bytes, found: str | None) -> None:
    """Raise DocumentError for what is no whole PDF: its mark stands at the beginning, its end mark in the last bytes."""
    if b"%PDF-" not in data[:1024]:
        raise DocumentError(f"{name}: the file is {found or 'no PDF'}, although it is named .pdf. Rename or replace it.")
    if b"%%EOF" not in data[-8192:]:
        raise DocumentError(f"{name}: the PDF is cut off: its end is missing. Send it again.")


def check_docx(name: str, data: bytes, found: str | None) -> None:
    """Raise DocumentError for what is no Word document, or one that unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError):
        raise DocumentError(f"{name}: the file is {found or 'no DOCX'}, or a damaged one. Rename or replace it.") from None
    if not {"[Content_Types].xml", "word/document.xml"} <= set(names):
        raise DocumentError(f"{name}: the file is a zip archive that holds no Word document. Rename or replace it.")
    if len(entries) > MAX_ENTRIES or len(set(names)) < len(names):
        raise DocumentError(f"{name}: the file holds {len(entries)} parts, some of one name perhaps; {MAX_ENTRIES} "
                            "different ones are allowed. Save it anew.")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if entry.filename.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", entry.filename):
            raise DocumentError(f"{name}: a part of the file is named like a place outside of it. It is not taken.")
        if entry.flag_bits & 1:
            raise DocumentError(f"{name}: the file is encrypted. Save it without a password.")
        if entry.filename.startswith("word/vba") or entry.filename.endswith("vbaProject.bin"):
            raise DocumentError(f"{name}: the file holds macros. Save it as DOCX without them.")
        if entry.file_size > _FREE_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise DocumentError(f"{name}: a part of the file unpacks to {entry.file_size >> 20} MiB, more than {MAX_RATIO} "
                                "times what it is packed. It is not taken.")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED:
        raise DocumentError(f"{name}: the file unpacks to more than {MAX_UNPACKED >> 20} MiB. Split it.")
    _check_unpacked(name, data)


def _check_unpacked(name: str, data: bytes) -> None:
    """Unpack what readers read, within limits: the sizes that a zip's own list gives may be lies.

    XML that defines entities is refused: they can make a few bytes many.
    """
    left = MAX_UNPACKED
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as part:
                    head = part.read(4096)
                    is_xml = entry.filename.endswith((".xml", ".rels"))
                    if is_xml and re.search(rb"<!(?:DOCTYPE|ENTITY)", head, re.IGNORECASE):
                        raise DocumentError(f"{name}: a part of the file defines entities of its own. It is not taken.")
                    left -= len(head)
                    while left >= 0 and (block := part.read(1 << 20)):
                        left -= len(block)
                if left < 0:
                    raise DocumentError(f"{name}: the file unpacks to more than {MAX_UNPACKED >> 20} MiB. It is not taken.")
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, NotImplementedError):
        raise DocumentError(f"{name}: the file is damaged. Save it anew.") from None
    except Exception as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{name}: the file is damaged ({type(error).__name__}). Save it anew.") from error  # zlib.error


def check_text(name: str, data: bytes) -> None:
    """Raise DocumentError for bytes that are no text: UTF-8, UTF-16 with its mark, else Windows-1252."""
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in (("utf-16",) if wide else ("utf-8-sig", "cp1252")):
        try:
            text = data[: 1 << 20].decode(encoding, "strict" if len(data) <= 1 << 20 else "ignore")
        except UnicodeDecodeError:
            continue
        controls = len(re.findall(r"[\x00-\x08\x0e-\x19\x1c-\x1f\x7f]", text))
        if "\0" not in text and controls * 50 <= len(text):
            if not text.strip():
                raise DocumentError(f"{name}: the file holds nothing but spaces. Send another.")
            return
    raise DocumentError(f"{name}: the file holds binary data, not text. Rename it to its true suffix, or leave it out.")
