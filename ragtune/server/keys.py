"""API keys: made at random, shown once, kept as hashes beside what each may do.

A key is ``rt-`` and 256 random bits. What is kept is its plain sha256: a slow, salted hash slows down the guessing of words
that people choose, and nobody guesses 256 random bits; the plain one costs a microsecond a request and lets keys be found.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ragtune.errors import RagtuneError, nearest
from ragtune.recipe.schema import Recipe
from ragtune.records import Record
from ragtune.retrieval.tenancy import check_tenant
from ragtune.server.database import Database

PREFIX = "rt-"
FILE = "keys.sqlite"
FORM = re.compile(r"rt-[A-Za-z0-9_-]{43}")
"""What a key looks like; what does not is never looked up."""
AGAIN_S = 2.0
"""A PostgreSQL server is asked for the keys this often, so that a revoked one holds no longer than that."""
_NAME = re.compile(r"[\w.@ -]{1,80}")
_SPAN = re.compile(r"(\d{1,5})\s*(h|d|w|y)")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7, "y": 24 * 365}
_TABLE = ("create table if not exists ragtune_keys (name text primary key, hash text not null unique, hint text not null, "
          "tenant text, is_admin integer not null, created double precision not null, expires double precision, "
          "revoked double precision)")
_COLUMNS = "name, hash, hint, tenant, is_admin, created, expires, revoked"


class BadKey(RagtuneError):
    """A key that cannot be made or found."""


@dataclass(frozen=True)
class Key(Record):
    """What is known of a key: all but the key itself. Times are seconds since 1970."""

    name: str
    hash: str = field(repr=False)
    hint: str = ""
    """Its last four characters, by which people tell keys apart."""
    tenant: str | None = None
    """The filter that says which documents are the tenant's; None: all."""
    is_admin: bool = False
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None

    def state(self, now: float) -> str:
        """Return 'active', 'expired' or 'revoked'."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


def hash_key(key: str) -> str:
    """Return the sha256 of a key as 64 hex digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Keys:
    """The keys of one server; another process may add and revoke meanwhile, and any thread may ask."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._known: tuple[Key, ...] | None = None
        self._seen: object = None
        self._is_ready = False

    def add(self, name: str, tenant: str | None = None, is_admin: bool = False, expires: float | None = None) -> str:
        """Make a key and return it; nothing kept can give it back. Raises BadKey, and QuestionError for the filter."""
        name = " ".join(name.split())
        if not _NAME.fullmatch(name):
            raise BadKey(f"the name '{name[:80]}' cannot be a key's. Allowed are up to 80 letters, digits, spaces, . @ - "
                         "and _.")
        if any(key.name.casefold() == name.casefold() for key in self.entries()):
            raise BadKey(f"there is a key named '{name}' already, or was. Choose another name: a log that names it must "
                         "mean one key.")
        if tenant is not None and is_admin:
            raise BadKey("a key is an administrator's, who sees all documents, or a tenant's. Leave out one of --admin and "
                         "--tenant.")
        if expires is not None and expires <= self._clock():
            raise BadKey("the key would have expired already. Name a later time.")
        owned = check_tenant(tenant).text if tenant is not None else None
        key = PREFIX + secrets.token_urlsafe(32)
        self._prepare()
        self._database.change(f"insert into ragtune_keys ({_COLUMNS}) values (?,?,?,?,?,?,?,?)", (
            name, hash_key(key), key[-4:], owned, int(is_admin), round(self._clock(), 3), expires, None))
        self._forget()
        return key

    def revoke(self, name: str) -> Key:
        """Let a key no longer hold. Raises BadKey where there is none of this name."""
        names = {key.name.casefold(): key for key in self.entries()}
        key = names.get(" ".join(name.split()).casefold())
        if key is None:
            raise BadKey(f"there is no key named '{name[:80]}'.{nearest(name, [each.name for each in names.values()])} "
                         "Do: ragtune keys list")
        if key.revoked is None:
            self._database.change("update ragtune_keys set revoked = ? where name = ?", (round(self._clock(), 3), key.name))
            self._forget()
        return next(each for each in self.entries() if each.name == key.name)

    def find(self, presented: str) -> Key | None:
        """Return the active key that was presented, else None. Every key is compared, each in constant time."""
        if not FORM.fullmatch(presented):
            return None
        hashed, found = hash_key(presented), None
        for key in self.entries():
            if hmac.compare_digest(hashed, key.hash):
                found = key
        return found if found is not None and found.state(self._clock()) == "active" else None

    @property
    def is_remote(self) -> bool:
        """Whether they lie in a database that is asked over a network."""
        return self._database.url is not None

    def entries(self) -> tuple[Key, ...]:
        """Return all keys that were ever made, in the order of their making."""
        if self._database.url is None and not self._database.file.exists():
            return ()
        self._prepare()
        seen = self._version()
        with self._lock:
            if self._known is not None and seen == self._seen:
                return self._known
        rows = self._database.ask(f"select {_COLUMNS} from ragtune_keys order by created, name")
        known = tuple(Key(str(name), str(hashed), str(hint), tenant, bool(is_admin), created, expires, revoked)
                      for name, hashed, hint, tenant, is_admin, created, expires, revoked in rows)
        with self._lock:
            self._known, self._seen = known, seen
        return known

    def _version(self) -> object:
        """Return what changes when another process changed the keys."""
        if self._database.url is None:
            return self._database.ask("pragma data_version")
        return int(time.monotonic() / AGAIN_S)

    def _prepare(self) -> None:
        """Make the table where there is none; a file that holds it only its owner can read."""
        if self._is_ready:
            return
        if self._database.url is None and not self._database.file.exists():
            self._database.file.parent.mkdir(parents=True, exist_ok=True)
            self._database.file.touch(mode=0o600)
        self._database.change(_TABLE)
        self._is_ready = True

    def _forget(self) -> None:
        with self._lock:
            self._known = None


def open_keys(recipe: Recipe, folder: Path) -> Keys:
    """Return the keys of a recipe's server: in server.database, else in ``folder``, where none is written before a key is
    made. Raises RecipeError for a URL of another kind, DatabaseError for one that cannot be reached.
    """
    return Keys(Database(recipe.server.database, folder / FILE))


def parse_expiry(text: str, now: float) -> float:
    """Return the time that ``30d``, ``12h``, ``8w``, ``1y`` from now or a date (the end of that day, UTC) names.

    Raises BadKey for anything else.
    """
    span = _SPAN.fullmatch(text.strip().lower())
    if span:
        return now + 3600.0 * int(span[1]) * _HOURS[span[2]]
    try:
        day = datetime.datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise BadKey(f"'{text[:40]}' is no time to expire at. Allowed: 12h, 30d, 8w, 1y or a date as 2027-01-31.") from None
    return (day + datetime.timedelta(days=1)).timestamp()
