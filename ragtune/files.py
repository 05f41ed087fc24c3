"""Folders on disk: written whole or not at all, explained by a manifest, checked by their hashes."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ragtune.errors import RagtuneError, RunError

FORMAT = 1
_FEW_BYTES = 1 << 24  # hashed before other threads would have started
PACKAGES = ("ragtune", "torch", "transformers", "peft", "trl", "bitsandbytes", "sentence-transformers", "faiss-cpu",
            "bm25s", "pypdfium2")


def hash_text(text: str) -> str:
    """Return the first 16 hex digits of the text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def hash_files(paths: Sequence[Path]) -> list[str]:
    """Return the sha256 of each file, worked out on all cores: hashing lets other threads run."""
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) < _FEW_BYTES:
        return [hash_file(path) for path in paths]
    largest_first = sorted(range(len(paths)), key=lambda place: -sizes[place])
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        digests = dict(zip(largest_first, pool.map(hash_file, (paths[place] for place in largest_first))))
    return [digests[place] for place in range(len(paths))]


def _digest(file: Any) -> str:
    """hashlib.file_digest for Python 3.10."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def installed_packages() -> dict[str, str]:
    """Return the installed versions of the packages a result depends on."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def peak_memory_mb() -> float:
    """Return the most memory this process has held, in MiB.

    On Linux by the kernel's count for this program: that of resource is never below what the process that started it held.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(status.split("VmHWM:")[1].split()[0]) / (1 << 10), 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file through a temporary neighbour, so that readers see the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line; return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-empty line.

    Raises RunError naming file and line where a line is not a JSON object.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise RunError(f"{path}:{number}: not JSON ({error.msg}). Each line must be one JSON object.") from error
            if not isinstance(row, dict):
                raise RunError(f"{path}:{number}: found {type(row).__name__}. Each line must be one JSON object.")
            yield number, row


@contextlib.contextmanager
def building_folder(target: Path, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a folder beside ``target`` to write into; it takes target's place when the block ends without error.

    A kill at any moment leaves the old folder or the new one (``recover_folder`` mends the instant between the
    two renames). With ``keep_partial`` what was written stays for the next attempt, which finds it there again:
    that is how long work resumes. Only one builder at a time: a second gets RunError.
    """
    target = Path(os.path.abspath(target))
    partial = target.with_name(target.name + ".partial")
    old = target.with_name(target.name + ".old")
    lock_path = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("w")
    except OSError as error:
        raise RunError(f"cannot write to {target.parent}: {error.strerror}. Choose another place with --out.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{target} is being written by another ragtune. Wait for it, or use another --out.") from None
        recover_folder(target)
        if target.exists() and not (target / "manifest.json").is_file() and (not target.is_dir() or any(target.iterdir())):
            lock_path.unlink(missing_ok=True)
            raise RunError(
                f"{target} exists and is not a folder of ragtune (no manifest.json). Choose another place with --out."
            )
        if not keep_partial:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        try:
            yield partial
        except BaseException as error:
            if not keep_partial or _is_disk_full(error):
                shutil.rmtree(partial, ignore_errors=True)
            lock_path.unlink(missing_ok=True)
            if _is_disk_full(error):
                raise RunError(
                    f"the disk is full: writing {target} stopped and what was there before is unchanged. "
                    "Free some space, or choose another place with --out."
                ) from error
            raise
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            os.rename(target, old)
        os.rename(partial, target)
        shutil.rmtree(old, ignore_errors=True)
        lock_path.unlink(missing_ok=True)


def _is_disk_full(error: BaseException) -> bool:
    """Tell a full disk from other failures; sqlite says so in words, FAISS in its message."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return (isinstance(error, OSError) and error.errno in codes) or any(
        words in str(error) for words in ("disk is full", "No space left on device", "StorageFull")
    )


def recover_folder(target: Path) -> None:
    """Put back the old folder where a kill struck between the two renames of ``building_folder``."""
    old = target.with_name(target.name + ".old")
    if old.exists() and not target.exists():
        os.rename(old, target)


def hide_passwords(value: Any) -> Any:
    """Return a value, or what its mappings and lists hold, with the passwords of URLs in its texts blanked out."""
    if isinstance(value, str):
        value = re.sub(r"(\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s:/@\"'?#]{0,200}:)[^\s/\"'?#]{1,500}@", r"\1…@", value)
        return re.sub(r"(?i)(://\S{0,2000}?[?&](?:ssl)?password=)[^&\s\"']+", r"\1…", value)
    if isinstance(value, Mapping):
        return {key: hide_passwords(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [hide_passwords(each) for each in value]
    return value


def write_manifest(folder: Path, kind: str, **entries: Any) -> dict[str, Any]:
    """Write ``manifest.json``: kind, format, time, package versions, ``entries`` and size and hash of every file.

    A password in a URL, as the recipe's server.database may have one, is not written.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": digest}
        for path, digest in zip(paths, hash_files(paths))
    }
    manifest = {
        "kind": kind,
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "packages": installed_packages(),
        **hide_passwords(entries),
        "files": files,
    }
    manifest["manifest_sha256"] = hash_manifest(manifest)
    write_json(folder / "manifest.json", manifest)
    return manifest


def hash_manifest(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's entries, its own hash left out."""
    entries = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path, kind: str, error: type[RagtuneError] = RunError, check_files: bool = True) -> dict[str, Any]:
    """Return the manifest of a folder of this kind, every file checked against its size and hash.

    Raises ``error`` where the folder is missing, of another kind or format, or a file is missing or changed.
    """
    recover_folder(folder)
    path = folder / "manifest.json"
    made_by = {"run": "train", "evaluation": "evaluate", "adapter": "adapt", "ranker": "adapt", "embedder": "adapt",
               "pairs": "dataset pairs", "export": "dataset export", "model": "export",
               "search": "tune", "comparison": "compare-methods"}
    make = f"Do: ragtune {made_by.get(kind, kind)}"
    if not folder.is_dir():
        raise error(f"no {kind} folder at {folder}. {make} --recipe FILE --out {folder}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{folder} is not a {kind} folder: it has no manifest.json. {make} --recipe FILE") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise error(f"{path} is damaged ({cause}). Delete the folder and build it again. {make}") from cause
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise error(f"{folder} is a folder of kind '{found}', wanted '{kind}'. Name a {kind} folder. {make}")
    if manifest.get("format") != FORMAT:
        raise error(f"{folder} has format {manifest.get('format')}, this ragtune reads {FORMAT}. Build it again. {make}")
    if manifest.get("manifest_sha256", hash_manifest(manifest)) != hash_manifest(manifest):
        raise error(f"{path} is damaged: its entries are not those written. Build it again. {make}")
    wanted: dict[str, Any] = manifest.get("files", {}) if check_files else {}
    for name in wanted:
        if not (folder / name).is_file():
            raise error(f"{folder} is damaged: {name} is missing. Build it again. {make}")
    changed = [name for name, facts in wanted.items() if (folder / name).stat().st_size != facts["bytes"]]
    if not changed:
        digests = hash_files([folder / name for name in wanted])
        changed = [name for (name, facts), digest in zip(wanted.items(), digests) if digest != facts["sha256"]]
    if changed:
        raise error(f"{folder} is damaged: {changed[0]} is not what the manifest says. Build it again. {make}")
    return manifest
