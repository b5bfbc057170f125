import contextlib
import importlib
import io
import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where the folder benchmarks/ is; it is not installed


@pytest.fixture(scope="module")
def eager():
    """Compile nothing: for a few steps of tiny networks that takes longer than the steps."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def children_in_here(monkeypatch):
    """Run the child processes of a benchmark in this one, which saves their start; the words of each are collected."""
    from benchmarks import common

    calls = []

    def child(script, words, timeout=None):
        calls.append((script, words))
        main = importlib.import_module(f"benchmarks.{script.removesuffix('.py')}").main
        with contextlib.redirect_stdout(io.StringIO()) as output:
            main([*words, "--started", repr(time.time())])
        return json.loads(output.getvalue().splitlines()[-1])

    monkeypatch.setattr(common, "child", child)
    monkeypatch.setattr(common, "set_up_tensorflow", lambda precision: None)  # it is for a whole process
    return calls
