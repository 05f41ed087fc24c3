"""API keys and who asks: what is kept, what holds, what each may see, and that no key shows up where it should not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tenants import make_shared_index, tenant_of

from ragtune.cli.main import ragtune
from ragtune.errors import QuestionError, RecipeError
from ragtune.recipe.schema import Recipe, Server
from ragtune.server.app import create_app
from ragtune.server.auth import Gate, check_exposure, is_own_machine, is_own_name, read_key
from ragtune.server.database import Database
from ragtune.server.errors import Rejected
from ragtune.server.keys import FORM, BadKey, Keys, hash_key, open_keys, parse_expiry
from ragtune.server.service import Service, open_service

ADMIN_PATHS = (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/nothing"), ("GET", "/v1/jobs/nothing/log"))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return open_keys(Recipe(), tmp_path / "server")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_shared_index(tmp_path_factory.mktemp("shared"), 12)


@pytest.fixture(scope="module")
def service(shared: Recipe) -> Any:
    opened = open_service(shared)
    yield opened
    opened.close()


def asked(service: Service, requests: list[tuple[str, str, dict[str, Any]]], host: str = "127.0.0.1",
          client: str = "127.0.0.1", **server: Any) -> list[httpx.Response]:
    """Return the answers of an application of this service with other server settings."""
    recipe = service.recipe.model_copy(update={"server": service.recipe.server.model_copy(update=server)})
    own = Service(recipe, service.searcher, service.generator, {})

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(own), client=(client, 4321))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8000") as opened:
            return [await opened.request(method, path, **more) for method, path, more in requests]

    try:
        return asyncio.run(ask())
    finally:
        own.close()


def bearer(key: str) -> dict[str, Any]:
    return {"headers": {"Authorization": f"Bearer {key}"}}


def chat(question: str, key: str = "", model: str = "shared-base", **ragtune: Any) -> tuple[str, str, dict[str, Any]]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], **({"ragtune": ragtune} if ragtune else {})}
    return "POST", "/v1/chat/completions", {"json": body, **(bearer(key) if key else {})}


def test_a_key_is_random_shown_once_and_kept_as_its_hash(keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "server" / "keys.sqlite"
    assert keys.entries() == ()
    assert not file.exists(), "nothing is written before a key is made"
    made = [keys.add(f"key {number}", "client = 'Acme'", expires=time.time() + 60) for number in range(5)]
    assert len(set(made)) == 5
    assert all(FORM.fullmatch(key) for key in made)
    for part in (file, *file.parent.glob("keys.sqlite*")):
        assert not any(key.encode() in part.read_bytes() or key[3:].encode() in part.read_bytes() for key in made)
    assert file.stat().st_mode & 0o077 == 0
    assert not any(key in repr((keys.entries(), vars(keys))) for key in made)
    assert hash_key(made[0]) not in repr(keys.entries())
    found = keys.find(made[2])
    assert found is not None
    assert (found.name, found.tenant, found.is_admin, found.hint) == ("key 2", "client = 'Acme'", False, made[2][-4:])


def test_what_is_no_key_of_this_server_holds_nothing(keys: Keys) -> None:
    key = keys.add("one")
    for wrong in ("", "rt-", key[:-1], key + "x", key.upper(), key.replace("rt-", ""), "rt-" + "A" * 43, f" {key}",
                  hash_key(key), key[:-1] + "é", "rt-' or 1 = 1 --", "\ud800"):
        assert keys.find(wrong) is None
    assert keys.find(key) is not None


@given(st.text(max_size=60))
def test_no_text_is_a_key_by_chance_or_breaks_the_search(text: str) -> None:
    keys = Keys(Database(None, Path("/nowhere/keys.sqlite")))
    assert keys.find(text) is None
    assert keys.find(f"rt-{text}") is None


def test_keys_end_and_are_revoked_also_by_another_process(keys: Keys, tmp_path: Path) -> None:
    other = open_keys(Recipe(), tmp_path / "server")
    assert other.entries() == ()
    key = keys.add("One", is_admin=True)
    assert other.find(key) is not None, "a server that runs finds keys that are made meanwhile"
    assert other.revoke(" one ").state(time.time()) == "revoked"
    assert keys.find(key) is None
    clock = [1000.0]
    timed = Keys(Database(None, tmp_path / "timed.sqlite"), lambda: clock[0])
    key = timed.add("timed", expires=1060.0)
    assert timed.find(key) is not None
    clock[0] = 1060.0
    assert timed.find(key) is None
    assert [each.state(clock[0]) for each in timed.entries()] == ["expired"]
    with pytest.raises(BadKey, match="expired already"):
        timed.add("late", expires=1000.0)


def test_keys_that_cannot_be_made(keys: Keys) -> None:
    keys.add("One")
    for name, more, words in (("one", {}, "there is a key named 'one' already"), ("", {}, "cannot be a key's"),
                              ("a\nb;", {}, "cannot be a key's"), ("x" * 81, {}, "cannot be a key's"),
                              ("two", {"tenant": "a = 1", "is_admin": True}, "an administrator's")):
        with pytest.raises(BadKey, match=words):
            keys.add(name, **more)
    for tenant in ("", "page = 1", "client = 'x') or (client = 'y'"):
        with pytest.raises(QuestionError):
            keys.add("tenant", tenant)
    with pytest.raises(BadKey, match="no key named 'nine'.*ragtune keys list"):
        keys.revoke("nine")
    assert [key.name for key in keys.entries()] == ["One"]


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43200), ("30d", 30 * 86400), ("2 w", 14 * 86400), ("1y", 365 * 86400),
                                               ("1970-01-02", 172800)])
def test_times_to_expire(text: str, seconds: float) -> None:
    assert parse_expiry(text, 0.0) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3d", "30", "2027-13-01", "1e9d"])
def test_no_times_to_expire(text: str) -> None:
    with pytest.raises(BadKey, match="Allowed: 12h"):
        parse_expiry(text, 0.0)


def test_where_the_key_stands() -> None:
    assert read_key({"authorization": "Bearer rt-x"}) == read_key({"authorization": "bearer  rt-x "}) == "rt-x"
    assert read_key({"x-api-key": " rt-x "}) == "rt-x"
    assert read_key({"authorization": "Basic cnQteA==", "x-api-key": "rt-x"}) == "rt-x"
    assert read_key({"authorization": "rt-x"}) == read_key({"authorization": "Bearer "}) == read_key({}) == ""


@pytest.mark.parametrize(("address", "is_own"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), (None, True), ("10.0.0.1", False),
    ("::ffff:10.0.0.1", False), ("testclient", False), ("", False), ("0.0.0.0", False), ("fe80::1%eth0", False)])
def test_own_addresses(address: str | None, is_own: bool) -> None:
    assert is_own_machine(address) is is_own


@pytest.mark.parametrize(("name", "is_own"), [
    ("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("[::1]", True), ("evil.example", False),
    ("0.0.0.0", False), ("localhost.evil.example", False), ("127.0.0.1.nip.io", False), ("", False)])
def test_own_names(name: str, is_own: bool) -> None:
    assert is_own_name(name) is is_own


def test_open_to_this_machine_until_a_key_was_made_and_never_again(tmp_path: Path) -> None:
    keys = open_keys(Recipe(), tmp_path)
    gate = Gate(Server(), keys)
    assert gate.identify({}, "127.0.0.1").is_admin
    with pytest.raises(Rejected, match="answers its own machine alone") as error:
        gate.identify({}, "10.1.1.1")
    assert error.value.status == 401
    key = keys.add("one", "client = 'Acme'")
    for headers in ({}, {"x-api-key": "rt-wrong"}):
        with pytest.raises(Rejected):
            gate.identify(headers, "127.0.0.1")
    caller = gate.identify({"authorization": f"Bearer {key}"}, "10.1.1.1")
    assert (caller.name, caller.tenant_filter, caller.is_admin) == ("one", "client = 'Acme'", False)
    keys.revoke("one")
    with pytest.raises(Rejected, match="unknown, expired or revoked"):
        gate.identify({"authorization": f"Bearer {key}"}, "127.0.0.1")
    with pytest.raises(Rejected, match="no API key"):
        gate.identify({}, "127.0.0.1")
    assert Gate(Server(keys=False), keys).identify({}, "10.1.1.1").is_admin
    with pytest.raises(Rejected):
        Gate(Server(keys=True), open_keys(Recipe(), tmp_path / "none")).identify({}, "127.0.0.1")


def test_listening_wider_wants_keys(tmp_path: Path) -> None:
    keys = open_keys(Recipe(), tmp_path)
    assert check_exposure(Server(), keys) is None
    with pytest.raises(RecipeError, match=r"0\.0\.0\.0, so others can reach this server.*ragtune keys add"):
        check_exposure(Server(host="0.0.0.0"), keys)
    assert "server.keys is false" in str(check_exposure(Server(host="0.0.0.0", keys=False), keys))
    assert check_exposure(Server(host="0.0.0.0", keys=True), keys) is None
    keys.add("one")
    assert check_exposure(Server(host="0.0.0.0"), keys) is None


def test_every_route_wants_a_key_once_there_is_one_but_those_that_tell_nothing(service: Service, tmp_path: Path) -> None:
    keys = open_keys(service.recipe, tmp_path)
    key = keys.add("asker")
    folder = {"folder": str(tmp_path)}
    paths = [("GET", "/v1/models", {}), chat("word1"), ("POST", "/v1/embeddings", {"json": {"input": "x"}}),
             ("GET", "/v1/models/shared-base", {}), ("GET", "/nothing", {}), ("POST", "/", {}),
             ("GET", "/v1/../v1/models", {})]
    assert [answer.status_code for answer in asked(service, paths, **folder)] == [401] * len(paths)
    answers = asked(service, [("GET", "/v1/models", bearer(key)), ("GET", "/v1/models", {"headers": {"X-API-Key": key}}),
                              ("GET", "/openapi.json", {})], **folder)
    assert [answer.status_code for answer in answers] == [200] * 3
    refused = asked(service, [chat("word1")], **folder)[0]
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["code"] == "missing_api_key"
    assert refused.json()["error"]["request_id"] == refused.headers["x-request-id"]


def test_the_tenant_comes_from_the_key_and_never_from_the_body(service: Service, tmp_path: Path) -> None:
    keys = open_keys(service.recipe, tmp_path)
    tenants = {number: keys.add(f"tenant {number}", tenant_of(number)) for number in (2, 3)}
    everything = keys.add("all")
    wheres = (None, "page > 0", "not client = 'nobody'", "client != 'x') or (client != 'x'", '{"client": {"$ne": "x"}}')
    requests = [chat("What were net sales in 2020, as word3 says?", key, where=where, tenant="page > 0")
                for key in (tenants[2], tenants[3]) for where in wheres]
    requests += [chat("What were net sales of Common3 Corp in 2020?", key) for key in (tenants[2], tenants[3], everything)]
    answers = asked(service, requests, folder=str(tmp_path))
    for place, answer in enumerate(answers[:-1]):
        number = 2 if place < 5 or place == 10 else 3
        if answer.status_code == 200:
            documents = {passage["document"][:4] for passage in answer.json()["ragtune"]["passages"]}
            assert documents == {f"T{number:03d}"}
        else:
            assert answer.status_code == 400
        if number == 2:
            assert "T003" not in answer.text
            assert "Common3 Corp'" not in answer.text.replace("What were net sales of Common3 Corp", "")
    assert [answer.status_code for answer in answers[-3:]] == [200] * 3
    assert "T003" in answers[-1].text
    closed = asked(service, [chat("word3?", tenants[2], "shared-base-closed-book")], folder=str(tmp_path))[0]
    assert closed.json()["ragtune"]["passages"] == []


def test_a_key_shows_up_in_no_answer_log_or_file(service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = open_keys(service.recipe, tmp_path / "server")
    key = keys.add("asker")
    wrong = "rt-" + "x" * 43
    with caplog.at_level(logging.DEBUG):
        requests = [chat("word1", key), chat("", key), chat("x", key, "nothing"), ("GET", "/nothing", bearer(key)),
                    ("POST", "/v1/chat/completions", {"content": "{", **bearer(key)}), chat("x", wrong),
                    ("GET", "/v1/models", {"headers": {"Authorization": f"Basic {key}"}})]
        answers = asked(service, requests, folder=str(tmp_path / "server"))
    for secret in (key, wrong):
        assert secret not in caplog.text
        assert not any(secret in answer.text or secret in f"{answer.headers}" for answer in answers)
        assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_new_key_says_how_many_documents_are_its_tenants(tmp_path: Path) -> None:
    recipe = make_shared_index(tmp_path, tenants=3)
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe.model_dump(mode="json")), encoding="utf-8")

    def note(name: str, tenant: str) -> str:
        return CliRunner().invoke(ragtune, ["keys", "add", name, "--tenant", tenant, "--recipe", str(path)],
                                  catch_exceptions=False).stderr

    column = tenant_of(1).split()[0]
    assert "note: 2 of the index's 6 documents" in note("one", tenant_of(1))
    assert "note: 0 of the index's 6 documents" in note("none", f"{column} = 'nobody'")
    assert f"sees nothing: filter, line 1, column 1: there is no column '{column}s'" in note("typo", f"{column}s = 1")


def test_the_command_line_makes_lists_and_revokes(tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(ragtune, ["keys", *arguments, "--recipe", "demo", "--set", f"server.folder={tmp_path}"],
                                  catch_exceptions=False)

    made = run("add", "Acme", "--tenant", "client = 'Acme'", "--expires", "30d")
    key = made.stdout.strip()
    assert FORM.fullmatch(key)
    assert "not shown again" in made.stderr
    assert run("add", "root", "--admin", "--json").exit_code == 0
    listed = run("list").stdout
    assert re.search(rf"^Acme +…{re.escape(key[-4:])}  active    ask     client = 'Acme'  until 20", listed, re.MULTILINE)
    assert key not in listed
    assert [row["scope"] for row in json.loads(run("list", "--json").stdout)] == ["ask", "admin"]
    assert run("revoke", "acme").exit_code == 0
    assert json.loads(run("list", "--json").stdout)[0]["state"] == "revoked"
    with sqlite3.connect(tmp_path / "keys.sqlite") as connection:
        assert connection.execute("select count(*) from ragtune_keys where revoked is not null").fetchone() == (1,)
    with pytest.raises(BadKey, match="Leave out one"):
        run("add", "both", "--admin", "--tenant", "a = 1")
