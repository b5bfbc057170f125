"""What is installed by pip: its requirements against the pins, its files, and that it runs without the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import dreamer
from dreamer.run import formats

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest needs it there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def pins(name):
    """The lines of a file of requirements, but for those that name other files."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def ranges(*extras):
    """{package: range} of the dependencies and some extras."""
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    found = {}
    for required in map(Requirement, [*PROJECT["dependencies"], *lines]):
        assert found.setdefault(required.name, required.specifier) == required.specifier, f"two ranges: {required.name}"
        assert required.marker is None
    return found


@pytest.mark.parametrize(
    ("file", "extras"), [("requirements.txt", ("atari", "gym")), ("requirements-dev.txt", ("dev",))]
)
def test_every_pin_lies_in_its_range_and_both_name_the_same_packages(file, extras):
    pinned = pins(file)
    allowed = ranges(*extras)
    if file == "requirements-dev.txt":
        allowed = {name: allowed[name] for name in allowed.keys() - ranges().keys()}
    assert {pin.name for pin in pinned} == allowed.keys()
    for pin in pinned:
        (only,) = pin.specifier
        assert only.operator == "==", f"{pin} is no pin"
        assert only.version in allowed[pin.name], f"{pin} is not within {allowed[pin.name]}"
    for name, specifier in allowed.items():
        assert {">="} <= {part.operator for part in specifier} <= {">=", "<"}, f"{name} has no range"


def test_the_oldest_version_that_is_tried_is_the_lowest_allowed():
    allowed = ranges("atari", "gym")
    for name in allowed:
        oldest = min(Version(next(iter(pin.specifier)).version) for pin in pins("requirements.txt") if pin.name == name)
        (low,) = [part.version for part in allowed[name] if part.operator == ">="]
        assert Version(low).release == oldest.release[: len(Version(low).release)], name


def test_the_extra_for_cuda_is_the_same_tensorflow():
    (cuda,) = map(Requirement, PROJECT["optional-dependencies"]["cuda"])
    assert (cuda.name, cuda.extras) == ("tensorflow", {"and-cuda"})
    assert cuda.specifier == ranges()["tensorflow"]


def test_the_name_is_the_one_that_messages_tell():
    assert PROJECT["name"] == dreamer.DISTRIBUTION
    assert PROJECT["scripts"].keys() == {"dreamer"}


def test_changelog_and_citation_are_of_this_version():
    version = Version(dreamer.__version__)
    headings = re.findall(r"^## (\S+)(.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0][0] == version.base_version
    assert ("unreleased" in headings[0][1]) == version.is_devrelease
    citation = formats.yaml_tree(ROOT / "CITATION.cff")
    assert citation["version"] == version.base_version
    assert citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == ["Hafner", "Lillicrap", "Ba", "Norouzi"]
    assert paper["identifiers"][0]["value"] == "arXiv:1912.01603"


def test_the_hooks_lint_as_make_test_does():
    config = formats.yaml_tree(ROOT / ".pre-commit-config.yaml")
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.findall(r"^\t\$\(BIN\)/((?:ruff|mypy)\b.*)$", makefile, re.MULTILINE)
    assert hooks == [f".venv/bin/{command}" for command in recipe] != []


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(sdist, wheel made from it), built without network from a copy of the checkout without what git ignores."""
    copy, out = tmp_path_factory.mktemp("checkout") / "copy", tmp_path_factory.mktemp("dist")
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=lambda folder, names: ignored(folder, names) | runs_to_leave(folder, names))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def runs_to_leave(folder, names):
    return set(names) - {"published"} if Path(folder) == ROOT / "runs" else set()


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder that holds the wheel's files and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*command, str(built[1])], check=True)
    return target


def command(installed, folder, *words):
    """Run the installed command in another folder; what it prints.

    With -S no .pth file of the virtual environment is read, one of which names the checkout; the packages there are
    found through PYTHONPATH.
    """
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), *packages])}
    line = [sys.executable, "-S", str(installed / "bin" / "dreamer"), *words]
    done = subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_what_the_checkout_does(installed):
    def files(folder, pattern):
        return {str(path.relative_to(folder)) for path in folder.rglob(pattern) if "__pycache__" not in path.parts}

    assert files(installed / "dreamer", "*.py") == files(ROOT / "dreamer", "*.py")
    for inside, outside in (("configs", "configs"), ("published", "runs/published"), ("results", "dreamer/results")):
        held = {path.name: path.read_bytes() for path in (installed / "dreamer" / inside).iterdir() if path.is_file()}
        assert held == {path.name: path.read_bytes() for path in (ROOT / outside).iterdir() if path.is_file()}
    assert (installed / "dreamer" / "py.typed").exists()
    (told,) = installed.glob("dreamer_tf2-*.dist-info")
    assert (told / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no repository that tells what belongs to the checkout")
def test_the_sdist_is_a_checkout(built, tmp_path):
    shutil.unpack_archive(built[0], tmp_path)
    (top,) = tmp_path.iterdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    kept = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file() and not name.startswith(".ci/")]
    assert "dreamer/__init__.py" in kept
    assert [name for name in kept if not (top / name).exists()] == []


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(installed, tmp_path):
    assert command(installed, tmp_path, "tasks", "--suite", "toy").startswith("toy\n  dot")
    told = json.loads(command(installed, tmp_path, "configs", "debug", "--json"))
    assert set(told["overlays"]) == {path.stem for path in (ROOT / "configs").iterdir()} - {"defaults"}

    trained = command(installed, tmp_path, "--configs", "toy", "debug", "--steps", "150", "--logdir", "run")
    assert "Finished at 150 frames in run." in trained
    machine = json.loads((tmp_path / "run" / "machines.jsonl").read_text())
    assert (machine["commit"], machine["clean"]) == (dreamer.__version__, None)
    assert "mean " in command(installed, tmp_path, "eval", "--logdir", "run", "--episodes", "1")
    assert command(installed, tmp_path, "report", "run", "--out", "page.html") == "page.html\n"
    assert f">{dreamer.__version__}</td>" in (tmp_path / "page.html").read_text()
    # What `scores` and `report` compare with was found too.
    assert "published" in command(installed, tmp_path, "scores", "run")
