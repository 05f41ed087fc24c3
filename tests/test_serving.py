"""ragtune serve: its address, its models, its one clear error where it cannot serve or should not."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from served import make_documents, served_recipe

pytest.importorskip("fastapi")

from ragtune.cli import serving
from ragtune.errors import MissingPackage, RecipeError
from ragtune.recipe.schema import Recipe


def test_a_taken_port_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RecipeError, match=f"port {port} of 127.0.0.1 is taken.*--port 0"):
            serving.bind("127.0.0.1", port)
    with serving.bind("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0
        assert listener.proto == socket.IPPROTO_TCP, "asyncio switches Nagle's algorithm off for what is named TCP alone"
    with pytest.raises(RecipeError, match="no address of this machine"):
        serving.bind("no.such.host.invalid", 0)


def with_host(home: Path, host: str, **server: Any) -> Recipe:
    return serving.with_address(served_recipe(home, server=server), host, None)


def test_wider_than_this_machine_wants_keys_and_insecure_passes_over_none(tmp_path: Path) -> None:
    from ragtune.server.keys import open_keys
    from ragtune.server.state import server_folder

    own = with_host(tmp_path, "127.0.0.1")
    assert serving.check_reach(own, False) == (own, None)
    wide = with_host(tmp_path, "0.0.0.0")
    with pytest.raises(RecipeError, match=r"no API key was made.*ragtune keys add.*--insecure"):
        serving.check_reach(wide, False)
    recipe, warning = serving.check_reach(wide, True)
    assert recipe.server.keys is False
    assert "anybody who reaches 0.0.0.0" in str(warning)
    open_keys(wide, server_folder(wide)).add("one")
    for is_insecure in (False, True):
        assert serving.check_reach(wide, is_insecure) == (wide, None), "a key was made: it is asked for"


def test_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[server\]'"):
        serving.check_packages()


def test_serve_says_where_and_what_then_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_documents(tmp_path)
    recipe = home / "recipe.yaml"
    recipe.write_text(f"name: t\nwork: {home}/work\nindex: {{embedder: hash}}\ngenerator: {{model: extractive}}\n"
                      f"documents: {{folder: {home}/documents}}\n")
    seen: list[tuple[Any, ...]] = []

    def run(app: Any, state: Any, listener: socket.socket) -> int:
        seen.append((app.title, listener.getsockname(), state.recipe.server.port))
        return len(seen) - 1

    monkeypatch.setattr(serving, "run", run)
    said = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0"])
    assert said.exit_code == 0, said.output
    title, (host, port), asked = seen[0]
    assert (title, host, asked) == ("ragtune: t", "127.0.0.1", 0)
    assert f"t is served at http://127.0.0.1:{port}" in said.output
    assert "t-base, t-base-closed-book" in said.output
    assert "none needed" in said.output
    told = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0", "--json"])
    assert json.loads(told.stdout)["models"] == ["t-base", "t-base-closed-book"]
    assert told.exit_code == 1, "the server's own exit code"
    refused = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0", "--host", "0.0.0.0"])
    assert isinstance(refused.exception, RecipeError)
    assert len(seen) == 2
