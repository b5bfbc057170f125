"""What CONTRIBUTING.md says about additions: which files know of a suite, an agent, a key and a way of logging."""

import re
from pathlib import Path

import pytest

from dreamer import agents, envs

PACKAGE = Path(__file__).resolve().parent.parent / "dreamer"
GENERATED = "keys.py"


def mention(word: str, *, besides: tuple[str, ...] = ()) -> set[str]:
    """Modules in which a word stands."""
    paths = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    pattern = re.compile(rf"(?<![\w.]){re.escape(word)}\b")
    return {name for name, path in paths.items() if pattern.search(path.read_text())} - {GENERATED, *besides}


def test_a_suite_is_a_file_and_its_entry():
    assert "dmlab" in envs.SUITES
    assert mention("dmlab") == {"envs/dmlab.py", "envs/__init__.py"}


def test_an_agent_is_a_file_and_its_name():
    """Figures know some methods by a colour and a name of their own, and show all others too."""
    assert "planet" in agents.METHODS
    assert (PACKAGE / "agents" / "planet.py").is_file()
    assert mention("planet", besides=("results/plot.py", "results/curves.py")) == {"agents/__init__.py"}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("free_nats", "world_model/world_model.py"),
        ("discount_scale", "world_model/world_model.py"),
        ("mean_scale", "behavior/actor_critic.py"),
        ("init_std", "behavior/actor_critic.py"),
    ],
)
def test_a_key_of_an_agent_is_a_line_of_the_defaults_and_its_use(key, path):
    assert mention(key) == {path}


def test_a_way_of_logging_is_in_one_file():
    assert mention("tf.summary") | mention("hparams") == {"training/logger.py"}
