import importlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dreamer.envs import rendering


@pytest.fixture
def scripted(monkeypatch):
    """The class Scripted, importable by name here and in workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("scripted_env").Scripted


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
