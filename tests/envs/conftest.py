import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from dreamer.envs import rendering


@pytest.fixture
def scripted(monkeypatch):
    """The class Scripted, importable by name here and in workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("scripted_env").Scripted


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """The stand-in for DeepMind Lab under the name of its native module, here and in workers.

    Temporary folders are made in tmp_path.
    """
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in"))
    monkeypatch.delitem(sys.modules, "deepmind_lab", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield importlib.import_module("deepmind_lab")
    sys.modules.pop("deepmind_lab", None)


@pytest.fixture
def installed(lab, monkeypatch, tmp_path):
    """The stand-in as a wheel installs the module, with the scripts of its levels beside it."""
    package = tmp_path / "site" / "deepmind_lab"
    package.mkdir(parents=True)
    shutil.copy(lab.__file__, package / "__init__.py")
    for level in (*lab.LEVELS, "contributed/psychlab/factories/harlow_factory"):
        script = package / "_main" / "baselab" / "game_scripts" / "levels" / f"{level}.lua"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    del sys.modules["deepmind_lab"]
    return package


@pytest.fixture(scope="session")
def render_child():
    """A function that runs a script in a fresh process that may render, and returns what it stores in `result`.

    Rendering in software beside TensorFlow, which other tests import, would crash the test process.
    """

    def run(script):
        script = f"import json, os\n{textwrap.dedent(script)}\nprint(json.dumps(result), flush=True)\nos._exit(0)"
        environment = {**os.environ, **rendering.choose().variables, "PYTHONPATH": os.pathsep.join(sys.path)}
        child = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        return json.loads(child.stdout.splitlines()[-1])

    return run
