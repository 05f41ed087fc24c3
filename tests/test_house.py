"""The house rules that a machine can check: layers, lazy imports, empty __init__ files, complete packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")
ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
ORDER = SETTINGS["tool"]["ragtune"]["layers"]["order"]
HEAVY = set(SETTINGS["tool"]["ragtune"]["layers"]["heavy"])
ON_DEMAND = set(SETTINGS["tool"]["ragtune"]["layers"]["on_demand"])
FILES = sorted((ROOT / "ragtune").rglob("*.py"))


def top_level_imports(tree):
    """Yield the modules imported when the file is imported; blocks for type checkers aside."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
        elif isinstance(node, (ast.Try, ast.With)):
            yield from top_level_imports(node)


def layer_of(module):
    return ORDER.index(module.split(".")[1]) if module.count(".") else len(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down_and_are_light(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for imported in top_level_imports(ast.parse(path.read_text())):
        if module not in ON_DEMAND:
            assert imported.split(".")[0] not in HEAVY, f"{imported} is heavy: import it inside a function"
            assert imported not in ON_DEMAND, f"{imported} imports heavy packages: import it inside a function"
        if imported.startswith("ragtune."):
            assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}, which lies above it"


def test_no_import_circles():
    edges = {}
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        edges[module] = [m for m in top_level_imports(ast.parse(path.read_text())) if m.startswith("ragtune.")]
    done, walking = set(), []

    def walk(module):
        assert module not in walking, f"circle: {' -> '.join([*walking, module])}"
        if module in done:
            return
        walking.append(module)
        for other in edges.get(module, ()):
            walk(other)
        walking.pop()
        done.add(module)

    for module in edges:
        walk(module)


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=lambda p: str(p.parent.name))
def test_init_files_re_export_nothing(path):
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr)
    assert all(isinstance(node, ast.Assign) for node in body[1:])


def test_every_package_is_in_the_wheel():
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in FILES if p.name == "__init__.py"}
    assert packages | {"ragtune.data"} == set(SETTINGS["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("package", ["evaluation", "training"])
def test_rooms_of_a_package_import_in_one_direction(package):
    rooms = {path.parent.name: set() for path in (ROOT / "ragtune" / package).glob("*/__init__.py")}
    for path in (ROOT / "ragtune" / package).glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):  # imports for type checkers and inside functions too
            parts = node.module.split(".") if isinstance(node, ast.ImportFrom) and node.module else []
            if parts[:2] == ["ragtune", package] and len(parts) > 2 and parts[2] in rooms:
                rooms[path.parent.name].add(parts[2])
    assert len(rooms) > 4
    for room in rooms:
        below, seen = [*(rooms[room] - {room})], set()
        while below:
            other = below.pop()
            if other not in seen:
                seen.add(other)
                below += rooms[other] - {other}
        assert room not in seen, f"{room} is imported by {sorted(r for r in seen if room in rooms[r])}, which it needs"


def test_help_loads_no_heavy_package():
    code = (
        "import sys\nfrom ragtune.cli.main import ragtune\n"
        "try: ragtune.main(['--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")


def test_no_path_of_a_machine_in_the_sources():
    for path in FILES:
        assert "/root/" not in path.read_text()
        assert "/home/" not in path.read_text()


def test_every_data_file_is_in_the_wheel():
    wanted = SETTINGS["tool"]["setuptools"]["package-data"]
    patterns = {ROOT / name.replace(".", "/") / glob for name, globs in wanted.items() for glob in globs}
    files = [path for path in (ROOT / "ragtune").rglob("*") if path.is_file() and "__pycache__" not in path.parts
             and path.suffix not in (".py", ".pyc")]
    assert len(files) > 10
    left_out = [str(path.relative_to(ROOT)) for path in files if not any(path.match(str(pattern)) for pattern in patterns)]
    assert left_out == []
