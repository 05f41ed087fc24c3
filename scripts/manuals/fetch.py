"""Fetch the technical manuals that scripts/manuals/questions.jsonl asks about: documentation packages of Debian, by name.

    python scripts/manuals/fetch.py --out work/manuals

Needs a Debian (or a system of its family) whose apt has package lists; no root. Each package of PACKAGES is downloaded with
``apt-get download``, unpacked with ``dpkg-deb -x`` into OUT/unpacked, never installed, and the files that its patterns name
are copied flat into OUT/documents under clean names: ``.gz`` is taken off and decompressed, a man page's HTML keeps its
command's name. Nothing of it belongs in the repository. What was taken, with versions and SHA-256, stands in
OUT/fetched.json.

The questions were written for the versions in FETCHED_VERSIONS (Debian 12). Pages move from one version to the next, so with
others the script warns and the pages have to be checked again.

    ragtune index --recipe filings --set pack=plain --set documents.folder=work/manuals/documents --out work/manuals/index
    python scripts/bench_retrieval.py --data work/manuals/documents --questions scripts/manuals/questions.jsonl \\
        --set pack=plain --peers-python peers/bin/python --out work/manuals/bench
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = (".pdf", ".html", ".txt")
# Package -> patterns of the files wanted, relative to the unpacked package.
PACKAGES: dict[str, tuple[str, ...]] = {
    "bash-doc": ("usr/share/doc/bash/bashref.pdf",),
    "gnuplot-doc": ("usr/share/doc/gnuplot/gnuplot.pdf",),
    "r-doc-pdf": tuple(f"usr/share/R/doc/manual/R-{name}.pdf" for name in ("intro", "data", "admin", "lang")),
    "flex-doc": ("usr/share/doc/flex-doc/flex.pdf.gz",),
    "debian-policy": ("usr/share/doc/debian-policy/policy.pdf.gz", "usr/share/doc/debian-policy/fhs/fhs-3.0.pdf.gz",
                      "usr/share/doc/debian-policy/copyright-format-1.0.txt.gz",
                      "usr/share/doc/debian-policy/debconf_specification.txt.gz"),
    "developers-reference": ("usr/share/developers-reference/developers-reference.pdf",),
    "graphviz-doc": ("usr/share/doc/graphviz/pdf/dotguide.pdf.gz", "usr/share/doc/graphviz/pdf/neatoguide.pdf.gz"),
    "git-doc": tuple(f"usr/share/doc/git-doc/git{name}.html" for name in (
        "-add", "-apply", "-archive", "-bisect", "-blame", "-branch", "-bundle", "-cherry-pick", "-clean", "-clone",
        "-commit", "-describe", "-fetch", "-gc", "-grep", "-merge", "-mv", "-notes", "-pull", "-push", "-rebase", "-reflog",
        "-remote", "-reset", "-restore", "-revert", "-rm", "-stash", "-submodule", "-switch", "-tag", "-worktree",
        "attributes", "hooks", "ignore", "revisions")),
}
FETCHED_VERSIONS = {
    "bash-doc": "5.2.15-2", "gnuplot-doc": "5.4.4+dfsg1-2", "r-doc-pdf": "4.2.2.20221110-2", "flex-doc": "2.6.4-8.2",
    "debian-policy": "4.6.2.0", "developers-reference": "12.18",
    "graphviz-doc": "2.42.2-7+deb12u1", "git-doc": "1:2.39.5-0+deb12u3",
}


def clean_name(name: str) -> str:
    """Return the name a fetched file gets: without ``.gz``, and ``_`` for other characters than letters, digits and .+-."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name.removesuffix(".gz")).strip("_")


def run(command: Sequence[str], folder: Path) -> str:
    """Return what a command prints. Exits saying what failed."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"Error: there is no '{command[0]}' here. This script needs Debian's apt and dpkg.")
    if done.returncode:
        sys.exit(f"Error: '{' '.join(command)}' failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def unpack(package: str, out: Path) -> tuple[Path, str]:
    """Return the folder with a package's files and its version; what was downloaded before is taken up."""
    debs, folder = out / "debs", out / "unpacked" / package
    debs.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        run(["apt-get", "download", package], debs)
    archive = max(debs.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
    folder.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "-x", str(archive.absolute()), str(folder.absolute())], debs)
    return folder, run(["dpkg-deb", "-f", str(archive.absolute()), "Version"], debs).strip()


def copy_files(folder: Path, patterns: Iterable[str], documents: Path) -> dict[str, str]:
    """Copy the files that patterns name, decompressed, flat into ``documents``; return name -> SHA-256.

    A pattern that names nothing, a suffix that is not one of SUFFIXES and a name that was there before raise ValueError.
    """
    taken: dict[str, str] = {}
    for pattern in patterns:
        files = sorted(file for file in folder.glob(pattern) if file.is_file())
        if not files:
            raise ValueError(f"the package in {folder} has no file {pattern}. Its layout has changed: mend PACKAGES.")
        for file in files:
            name = clean_name(file.name)
            if Path(name).suffix not in SUFFIXES or name in taken:
                raise ValueError(f"{file} would become {name}: wanted is another name, with one of {', '.join(SUFFIXES)}.")
            target = documents / name
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            taken[name] = hashlib.sha256(target.read_bytes()).hexdigest()
    return taken


def main() -> None:
    """Fetch all packages and write what was taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("work/manuals"))
    out = parser.parse_args().out
    documents = out / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    fetched = {}
    for package, patterns in PACKAGES.items():
        folder, version = unpack(package, out)
        if version != FETCHED_VERSIONS[package]:
            print(f"Warning: {package} is {version}, the questions' pages are those of {FETCHED_VERSIONS[package]}.",
                  file=sys.stderr)
        try:
            files = copy_files(folder, patterns, documents)
        except ValueError as error:
            sys.exit(f"Error: {error}")
        fetched[package] = {"version": version, "files": files}
        print(f"{package} {version}: {len(files)} files", file=sys.stderr)
    (out / "fetched.json").write_text(json.dumps(fetched, indent=2) + "\n")
    print(json.dumps({"packages": len(fetched), "documents": sum(1 for _ in documents.iterdir()), "folder": str(documents)}))


if __name__ == "__main__":
    main()
