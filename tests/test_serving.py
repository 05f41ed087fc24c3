"""ragtune serve: its address, its models, its one clear error where it cannot serve or should not."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from served import make_documents

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
    with pytest.raises(RecipeError, match="no address of this machine"):
        serving.bind("no.such.host.invalid", 0)


@pytest.mark.parametrize(("host", "is_own"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
                                              ("0.0.0.0", False), ("::", False), ("10.0.0.7", False), ("box", False)])
def test_wider_than_this_machine_wants_keys(host: str, is_own: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.is_loopback(host) is is_own
    serving.check_bound(host, True, False)
    if is_own:
        serving.check_bound(host, False, False)
        return
    with pytest.raises(RecipeError, match="anybody.*ragtune keys add NAME.*--insecure"):
        serving.check_bound(host, False, False)
    serving.check_bound(host, False, True)
    assert "no API key is asked for" in capsys.readouterr().err


def test_keys_are_needed_where_one_was_made_or_the_recipe_says_so() -> None:
    def state(wanted: bool | None, *made: str) -> SimpleNamespace:
        recipe = Recipe().model_copy(update={"server": Recipe().server.model_copy(update={"keys": wanted})})
        return SimpleNamespace(recipe=recipe, keys=SimpleNamespace(entries=lambda: made))

    assert [serving.needs_keys(state(*given)) for given in (  # type: ignore[arg-type]
        (None,), (None, "k"), (True,), (False, "k"))] == [False, True, True, False]
    assert not serving.needs_keys(SimpleNamespace(recipe=Recipe(), keys=None))  # type: ignore[arg-type]


def test_a_missing_package_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'ragtune\[server\]'"):
        serving.check_packages()


def test_serve_says_where_and_what_then_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_documents(tmp_path)
    recipe = home / "recipe.yaml"
    recipe.write_text(f"name: t\nwork: {home}/work\nindex: {{embedder: hash}}\ngenerator: {{model: extractive}}\n"
                      f"documents: {{folder: {home}/documents}}\n")
    seen = []
    monkeypatch.setattr(serving, "run",
                        lambda app, listener, drain_s: seen.append((app.title, listener.getsockname(), drain_s)))
    said = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0"])
    assert said.exit_code == 0, said.output
    title, (host, port), drain_s = seen[0]
    assert (title, host, drain_s) == ("ragtune: t", "127.0.0.1", 30.0)
    assert f"t is served at http://127.0.0.1:{port}" in said.output
    assert "t-base, t-base-closed-book" in said.output
    assert "none needed" in said.output
    told = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0", "--json"])
    assert json.loads(told.stdout)["models"] == ["t-base", "t-base-closed-book"]
    refused = CliRunner().invoke(serving.serve, ["--recipe", str(recipe), "--port", "0", "--host", "0.0.0.0"])
    assert isinstance(refused.exception, RecipeError)
    assert len(seen) == 2
