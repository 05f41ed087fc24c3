"""The server's documentation is true: schemathesis asks every route what it documents, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_home import make_served, served_recipe

pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

from ragtune.recipe.schema import Recipe
from ragtune.server.app import create_app
from ragtune.server.documentation import read_examples
from ragtune.server.jobs.jobs import Jobs
from ragtune.server.keys import open_keys
from ragtune.server.service import open_service
from ragtune.server.state import server_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A served folder; jobs are queued and not run."""
    home = tmp_path_factory.mktemp("home")
    make_served(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "_run_worker", lambda self: None)
        yield home


def open_recipe(home: Path, folder: str) -> Recipe:
    """Return the recipe of the served folder, with a folder of its own for what the server writes."""
    return served_recipe(home, server={"folder": str(home / folder), "requests_per_minute": 0})


def check_api(recipe: Recipe, examples: int, phases: tuple[str, ...], key: str = "") -> tuple[list[str], set[str]]:
    """Return what is wrong, and which operations were asked; see api_checker."""
    order = {"recipe": recipe.model_dump_json(), "examples": examples, "phases": phases, "key": key}
    place = Path(__file__).parent
    path = os.pathsep.join([str(place), str(place.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, str(place / "api_checker.py")], input=json.dumps(order), text=True, check=False,
                          capture_output=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return found["wrong"], set(found["asked"])


def all_operations(recipe: Recipe) -> set[str]:
    document = create_app(open_service(recipe)).openapi()
    return {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}


def test_every_route_keeps_to_its_documentation(home: Path) -> None:
    recipe = open_recipe(home, "open")
    wrong, asked = check_api(recipe, 10, ("examples", "coverage", "fuzzing"))
    assert not wrong, "\n\n".join(wrong)
    assert asked == all_operations(recipe)


def test_with_keys_no_route_answers_without_one(home: Path) -> None:
    recipe = open_recipe(home, "keyed")
    key = open_keys(recipe, server_folder(recipe)).add("tester", is_admin=True)
    wrong, asked = check_api(recipe, 3, ("examples", "fuzzing"), key)
    assert not wrong, "\n\n".join(wrong)
    assert asked == all_operations(recipe)


@pytest.mark.real
def test_thousands_of_requests_and_chains_of_them_find_nothing_undocumented(home: Path) -> None:
    wrong, _ = check_api(open_recipe(home, "many"), 200, ("examples", "coverage", "fuzzing", "stateful"))
    assert not wrong, "\n\n".join(wrong)


def test_every_operation_has_words_and_examples_that_its_own_schemas_allow(home: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs")
    recipe = open_recipe(home, "open")
    document = create_app(open_service(recipe)).openapi()
    tags = [tag["name"] for tag in document["tags"]]
    seen, ids = set(), set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            seen.add(name)
            assert operation["operationId"].isidentifier(), "what generators of clients name their methods by"
            assert operation["operationId"] not in ids
            ids.add(operation["operationId"])
            assert operation["summary"].strip(".") == operation["summary"] != "", name
            assert len(operation["description"]) > 15, name
            assert operation["tags"][0] in tags, name
            contents = [(name, operation.get("requestBody", {}).get("content", {}))]
            contents += [(f"{name} {status}", answer["content"]) for status, answer in operation["responses"].items()]
            for what, content in contents:
                described = content.get("application/json")
                if described is None:
                    continue
                schema = {**described["schema"], "components": document["components"]}
                jsonschema.validate(schema, described["example"])
                assert "tmp" not in json.dumps(described["example"]), what
    assert set(read_examples()) <= seen, "an example of a route that is gone"


def test_the_page_of_the_documentation_needs_nothing_from_elsewhere(home: Path) -> None:
    from fastapi.testclient import TestClient

    recipe = open_recipe(home, "open")
    client = TestClient(create_app(open_service(recipe)), base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    page = client.get("/docs")
    assert page.status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "http" not in page.headers["content-security-policy"]
    for address in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/static/docs.js", "/static/docs.css"):
        assert address[1:] in page.text
        answer = client.get(address)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
            200, "text/javascript" if address.endswith("js") else "text/css")
    assert client.get("/docs/__init__.py").status_code == 404
    assert client.get("/redoc").status_code == 404


def test_the_document_asks_for_a_key_as_soon_as_the_server_does(home: Path) -> None:
    recipe = open_recipe(home, "later")
    app = create_app(open_service(recipe))
    assert {} in app.openapi()["security"]
    open_keys(recipe, server_folder(recipe)).add("first")
    assert {} not in app.openapi()["security"]
    assert app.openapi()["paths"]["/health"]["get"]["security"] == []
