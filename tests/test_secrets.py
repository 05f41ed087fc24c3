"""Passwords in a recipe's URLs: in no manifest, no printed recipe, no error and no log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ragtune.cli.main import ragtune
from ragtune.errors import RecipeError
from ragtune.files import hide_passwords, read_manifest, write_manifest
from ragtune.recipe.load import check_recipe, load_recipe, render_recipe
from ragtune.server.logs import JsonLines

URL = "postgresql://me:s3cr3t-pass@db.example:5432/ragtune"
SHOWN = "postgresql://me:…@db.example:5432/ragtune"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, SHOWN),
        (f"cannot reach {URL}, sorry", f"cannot reach {SHOWN}, sorry"),
        ("postgresql://me:p@ss@host/db", "postgresql://me:…@host/db"),
        ("postgresql://:only@host/db", "postgresql://:…@host/db"),
        ("postgresql+psycopg://me:a%2Fb@host", "postgresql+psycopg://me:…@host"),
        ("postgresql://host/db?user=me&password=abc&x=1", "postgresql://host/db?user=me&password=…&x=1"),
        ("postgresql://host/db?sslpassword=abc", "postgresql://host/db?sslpassword=…"),
        ("https://user:token@collector:4318/v1", "https://user:…@collector:4318/v1"),
    ],
)
def test_passwords_in_urls_are_blanked_out(text: str, shown: str) -> None:
    assert hide_passwords(text) == shown
    assert hide_passwords({"a": [text, 1, None], "b": {"c": text}}) == {"a": [shown, 1, None], "b": {"c": shown}}


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:8080/v1",
        "postgresql://me@host/db",
        "hf:owner/name",
        "a: b@c",
        "12:30@noon",
        "http://[::1]:8000/",
        "see https://a.example/b and mail me: x@y.example",
    ],
)
def test_what_holds_no_password_stays(text: str) -> None:
    assert hide_passwords(text) == text


@given(st.text(alphabet="abcXYZ019-._~%!$&*+,;=@:", min_size=1, max_size=40))
def test_no_password_is_left(password: str) -> None:
    shown = hide_passwords(f"postgresql://me:{password}@host/db")
    assert shown == "postgresql://me:…@host/db"


def test_neither_manifest_nor_printed_recipe_nor_error_holds_it(tmp_path: Path) -> None:
    recipe = check_recipe({"server": {"database": URL, "telemetry": "http://a:s3cr3t-pass@c:4318"}}, "test")
    made = write_manifest(tmp_path, "dataset", recipe=recipe.model_dump(mode="json"))
    assert "s3cr3t" not in (tmp_path / "manifest.json").read_text()
    assert (
        read_manifest(tmp_path, "dataset")["recipe"]["server"]["database"] == made["recipe"]["server"]["database"] == SHOWN
    )
    assert yaml.safe_load(render_recipe(recipe))["server"]["database"] == SHOWN
    with pytest.raises(RecipeError) as error:
        check_recipe({"server": {"database": [URL], "port": URL}}, "test")
    assert "s3cr3t" not in str(error.value)
    for arguments in (["show", "demo"], ["show", "demo", "--json"], ["check", "demo"], ["check", "demo", "--json"]):
        said = CliRunner().invoke(ragtune, ["recipe", *arguments, "--set", f"server.database={URL}"])
        assert said.exit_code == 0, said.output
        assert "s3cr3t" not in said.output
    assert recipe.server.database == URL, "the recipe itself still reaches its database"


def test_a_recipe_without_passwords_is_printed_as_it_is() -> None:
    recipe = load_recipe("demo")
    assert yaml.safe_load(render_recipe(recipe)) == json.loads(recipe.model_dump_json())


def test_logs_do_not_hold_it() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed: %s", (f"{URL}?password=s3cr3t-pass",), None)
    assert "s3cr3t" not in JsonLines().format(record)
