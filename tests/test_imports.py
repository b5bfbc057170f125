"""The walls of the house: which part may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "dreamer"

# Part of the package to the other parts that it may import.
MAY_IMPORT = {
    "types": set(),
    "formats": set(),
    "seeds": set(),
    "stops": set(),
    "sections": set(),
    "near": set(),
    "keys": {"sections"},
    "config": {"formats", "keys", "near"},
    "hardware": set(),
    "nets": {"types"},
    "world_model": {"nets", "types"},
    "behavior": {"nets", "types"},
    "agents": {"behavior", "keys", "world_model", "nets", "types"},
    "envs": {"types"},
    "replay": {"formats", "types"},
    "run": {"config", "formats"},
    "results": {"agents", "config", "envs", "formats", "run", "types"},  # of the agents, their names
    "training": {"agents", "config", "envs", "formats", "keys", "replay", "results", "run", "seeds", "stops", "types"},
    "start": {"agents", "config", "envs", "formats", "hardware", "run"},  # of the agents, their names
    "sweep": {"config", "envs", "formats", "hardware", "run", "start", "stops"},
    "library": {"agents", "config", "envs", "formats", "hardware", "replay", "results", "run"}
    | {"seeds", "start", "stops", "training"},
    "doctor": {"config", "envs", "hardware"},
    "cli": {"agents", "config", "doctor", "envs", "formats", "hardware", "near", "results", "run", "stops", "training"}
    | {"replay"}
    | {"library", "start", "sweep"},  # of the agents, their names
    "__main__": {"cli"},
    "demo": {"cli", "config", "envs", "formats", "results", "run", "training"},
}
HEAVY = {"tensorflow", "keras", "tensorflow_probability", "tf_keras", "matplotlib"}
# Worker processes and every start of the command import these.
LIGHT = ("cli", "__main__", "config", "formats", "hardware", "doctor", "types", "envs", "run")
LIGHT += ("start", "library", "sweep")
# The cellar of run/, "formats" above: config stands on it, and the rest of run/ may read a config.
CELLAR = ("run.formats", "run.files")
# Who parses JSON: the reader, and those whose JSON is in no file of a run but said by a process or held in an array.
# commits.py, legacy.py and settings.py check what they parse on their own: they alone decide whether a run can go on.
PARSE_JSON = {"run/formats.py", "envs/rendering.py", "doctor.py", "training/restore.py"}
PARSE_JSON |= {"envs/gymnasium.py"}  # a key that config.py has checked
PARSE_JSON |= {"run/commits.py", "run/legacy.py", "run/settings.py"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    """The room or the file directly under the package; the package's own __init__ is "__init__"."""
    inside = path.relative_to(PACKAGE)
    return "formats" if ".".join(inside.with_suffix("").parts) in CELLAR else inside.parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: str, nodes=None) -> set[str]:
    """Dotted names of all that a module imports; package is the package that relative imports start from."""
    names = set()
    for node in nodes or ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def at_import_time(tree: ast.AST):
    """All nodes that run when the module is imported: everything outside of functions."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import_time(child)


def parts(names: set[str]) -> set[str]:
    """Parts of our package among dotted names."""
    ours = {name.removeprefix("dreamer.") for name in names if name.startswith("dreamer.")}
    cellar = {name for name in ours for below in CELLAR if f"{name}.".startswith(f"{below}.")}
    rooms = {name.split(".")[0] for name in ours - cellar}
    found = {name for name in rooms if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}
    return found | ({"formats"} if cellar else set())


def read(path: Path) -> tuple[ast.AST, str]:
    package = ".".join(["dreamer", *path.relative_to(PACKAGE).parts[:-1]])
    return ast.parse(path.read_text(encoding="utf-8")), package


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    tree, package = read(path)
    part = part_of(path)
    if part == "__init__":
        # For type checkers, and when a function is asked for: tests/test_library.py sees that it costs nothing.
        assert parts(imported(tree, package)) == {"library"}
        return
    assert part in MAY_IMPORT, f"dreamer/{part} has no line in MAY_IMPORT yet"
    assert parts(imported(tree, package)) - {part} <= MAY_IMPORT[part]


def test_no_room_of_the_command_line_grows_into_a_hall():
    """A command that is added gets a file of its own, or joins its family."""
    lengths = {path.name: len(path.read_text().splitlines()) for path in (PACKAGE / "cli").glob("*.py")}
    assert len(lengths) > 5
    assert max(lengths.values()) <= 250, lengths


def test_the_rules_have_no_circle():
    order = []
    while len(order) < len(MAY_IMPORT):
        ready = [part for part, below in MAY_IMPORT.items() if part not in order and below <= set(order)]
        assert ready
        order += ready


def test_the_driver_knows_no_agent():
    path = PACKAGE / "training" / "driver.py"
    assert "agents" not in parts(imported(*read(path)))


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in LIGHT], ids=lambda path: path.name)
def test_light_modules_import_nothing_heavy_at_their_top(path):
    tree, package = read(path)
    nodes = tree if part_of(path) == "envs" else None
    names = imported(tree, package, ast.walk(nodes) if nodes else at_import_time(tree))
    assert not {name.split(".")[0] for name in names} & HEAVY


def calls(tree: ast.AST) -> set[str]:
    """Dotted names of what a module calls, as far as they are written as names."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_one_reader_parses_the_files_of_runs():
    parsers = {"json.load", "json.loads", "json.JSONDecoder", "yaml.safe_load", "yaml.load"}
    found = {str(path.relative_to(PACKAGE)) for path in MODULES if calls(read(path)[0]) & parsers}
    assert found <= PARSE_JSON
    assert "run/formats.py" in found
    yaml = {str(path.relative_to(PACKAGE)) for path in MODULES if "YAML" in calls(read(path)[0])}
    assert yaml == {"run/formats.py", "config.py"}  # config.py writes it


def test_nothing_imports_tf_keras():
    for path in MODULES:
        assert not [name for name in imported(*read(path)) if name.split(".")[0] == "tf_keras"], path


def test_light_modules_load_without_tensorflow():
    names = [
        ".".join(["dreamer", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in MODULES
        if part_of(path) in LIGHT
    ]
    assert {"dreamer.cli.main", "dreamer.envs", "dreamer.envs.worker"} <= set(names)
    heavy = [*HEAVY, "dm_control", "mujoco"]
    code = f"import sys, {', '.join(names)}; print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_reader_of_imports_sees_every_form():
    source = """
import dreamer.envs.dmc
from dreamer import config, __version__
def f():
    from ..training import loop
    from . import core
class C:
    import keras
if True:
    import tensorflow as tf
"""
    tree = ast.parse(source)
    assert parts(imported(tree, "dreamer.envs")) == {"envs", "config", "training"}
    top = {name.split(".")[0] for name in imported(tree, "dreamer.envs", at_import_time(tree))}
    assert top == {"dreamer", "keras", "tensorflow"}
    assert parts(imported(tree, "dreamer.envs", at_import_time(tree))) == {"envs", "config"}
