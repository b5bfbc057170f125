"""Weights of an agent in files, and the agent of a run with the weights of a committed state."""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dreamer import keys
from dreamer.agents import RunError
from dreamer.agents.build import build_agent, count_encoding_layers
from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.run import layout, legacy
from dreamer.run.commits import WEIGHTS, CommitError, Commits
from dreamer.types import PIXELS, ActionSpace, Space

_GROUPS = "groups/.ATTRIBUTES/VARIABLE_VALUE"


def write_weights(agent: Dreamer | PlaNet, prefix: Path, *, only_networks: bool = False) -> None:
    """Write everything of an agent that resuming needs to files that begin with `prefix`. Raises OSError.

    only_networks leaves out optimisers and generators.
    """
    try:
        tf.train.Checkpoint(**(_networks(agent) if only_networks else agent.checkpoint())).write(str(prefix))
    except tf.errors.OpError as error:
        full = os.strerror(errno.ENOSPC)
        if full in error.message:  # among the names of TensorFlow's operations and temporary files
            raise OSError(errno.ENOSPC, full, str(prefix)) from None
        raise OSError(f"cannot write {prefix}: {error.message}") from None


def read_weights(agent: Dreamer | PlaNet, prefix: Path, *, only_networks: bool = False) -> None:
    """Load what `write_weights` wrote; only_networks leaves optimisers and generators, which acting does not need.

    Raises CommitError where the files do not fit these networks.
    """
    try:
        trackables, same = (_networks(agent), False) if only_networks else _as_written(agent, prefix)
        with _found(prefix) as name:
            status = tf.train.Checkpoint(**trackables).read(name).expect_partial()
        status.assert_existing_objects_matched()
        if same:
            status.assert_consumed()
        if not only_networks:
            for name, trackable in agent.checkpoint().items():
                if name.endswith("_optimizer"):
                    trackable.keep_rate()
        if "groups" in trackables and tuple(trackables["groups"].numpy()) != agent.action_space.groups:
            raise ValueError(f"actions of {trackables['groups'].numpy()} choices, not {agent.action_space.groups}")
    # What a file that does not fit raises depends on where it does not.
    except (AssertionError, LookupError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise CommitError(f"{prefix} does not fit the networks of this run's settings ({_reason(error)})") from None


def _as_written(agent: Dreamer | PlaNet, prefix: Path) -> tuple[dict[str, Any], bool]:
    """What the files hold of `agent.checkpoint()`, and whether that is all: the precision may have changed since.

    In float16 each optimizer has a loss scale around it.
    """
    with _found(prefix) as path:
        names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    scaled = any("/adam/inner_optimizer/" in name for name in names)
    written = {
        name: trackable.as_written(scaled) if hasattr(trackable, "as_written") else trackable
        for name, trackable in agent.checkpoint().items()
    }
    return written, all(written[name] is trackable for name, trackable in agent.checkpoint().items())


def is_pattern(path: Path) -> bool:
    """Whether TensorFlow does not find what it has written there: as it reads variables, a name is a pattern to it."""
    return re.search(r"[\[\\]", str(path)) is not None


@contextlib.contextmanager
def _found(prefix: Path) -> Iterator[str]:
    """A name under which TensorFlow finds the files of a checkpoint."""
    if not is_pattern(prefix):
        yield str(prefix)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "folder"
        link.symlink_to(prefix.parent.absolute(), target_is_directory=True)
        yield str(link / prefix.name)


def _networks(agent: Dreamer | PlaNet) -> dict[str, Any]:
    """What acting needs of `agent.checkpoint()`."""
    return {
        name: trackable.network() if hasattr(trackable, "network") else trackable
        for name, trackable in agent.checkpoint().items()
        if name != "random"
    }


def copy_networks(source: Dreamer | PlaNet, target: Dreamer | PlaNet) -> None:
    """Let `target`, built with the same settings, act as `source` does now: weights and counted updates."""
    sources, targets = source.checkpoint(), target.checkpoint()
    for name, network in sources.items():
        weights, copies = (getattr(of, "weights", ()) for of in (network, targets[name]))
        for weight, copy in zip(weights, copies, strict=True):
            copy.assign(weight)
    target.updates.assign(source.updates)


class RestoredAgent(NamedTuple):
    """An agent, the frames of the committed state that it is from, and whether that is the best one."""

    agent: Any  # Dreamer, PlaNet or Random
    frames: int
    best: bool


def saved_action_space(config: keys.Keys, prefix: Path, inputs: Mapping[str, Space]) -> ActionSpace:
    """The ActionSpace of the networks that `write_weights` wrote, by the shapes of their weights and by their groups.

    inputs: what the agent sees, whose encoders' variables come first. Raises CommitError where these are not of the
    networks that the config names.
    """
    try:
        with _found(prefix) as path:
            reader = tf.train.load_checkpoint(path)
        shapes = reader.get_variable_to_shape_map()
        first = 2 * count_encoding_layers(config, inputs)  # a kernel and a bias for each layer before
        kernel = shapes[f"model_optimizer/_variables/{first}/.ATTRIBUTES/VARIABLE_VALUE"]
        actions = kernel[0] - config.model.stoch
        if not any(name.startswith("actor_optimizer/") for name in shapes):  # who plans, plans continuous actions
            return ActionSpace(actions, discrete=False)
        last = 2 * config.actor.layers + 1  # a kernel and a bias for each layer, the output's bias last
        outputs = shapes[f"actor_optimizer/_variables/{last}/.ATTRIBUTES/VARIABLE_VALUE"][0]
        groups = reader.get_tensor(_GROUPS) if _GROUPS in shapes else ()
    except (LookupError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise CommitError(f"{prefix} does not fit the networks of this run's settings ({_reason(error)})") from None
    return ActionSpace(actions, discrete=outputs == actions, groups=tuple(map(int, groups)))


def restore_agent(
    config: keys.Keys,
    logdir: Path,
    action_space: ActionSpace | None = None,
    inputs: Mapping[str, Space] | None = None,
    *,
    seed: int,
    best: bool = False,
    report: Callable[[str], None] = print,
) -> RestoredAgent:
    """The agent of the run in `logdir` as its newest committed state has it, a RestoredAgent.

    action_space, inputs: those of the run's environment; None takes them from the state, which random actions do not
    have.
    best: as the state whose evaluation was the best of those kept, if there is one and it is sound. report takes one
    line for each state that is not. The draws follow from `seed`. Nothing is written and no lock is taken: a run that
    trains there at the same time does not notice. Random actions need no state.
    Raises RunError where there is none yet, CommitError where none is sound or it does not fit.
    """
    if config.method == "random":
        if action_space is None:
            raise RunError(f"{logdir} is a run of random actions: there is no agent in it")
        return RestoredAgent(build_agent(config, action_space, inputs or {}, seed=seed), 0, False)
    commits, before = Commits(logdir / layout.COMMITS), None
    while True:
        try:
            best_kept = commits.best(report) if best else None
            commit = best_kept or commits.newest(report)
        except CommitError as error:
            # A run that goes on meanwhile removes this one as soon as it has committed the next.
            if str(error) == before:
                raise
            before = str(error)
            continue
        break
    if commit is not None:
        prefix, frames = commit.folder / WEIGHTS, commit.state["frames"]
        saved = {name: Space(tuple(shape), dtype) for name, (shape, dtype) in commit.state.get("inputs", {}).items()}
    elif prefix := legacy.newest_checkpoint(logdir):
        frames, saved = legacy.frames(logdir, config.env.action_repeat), {}
    else:
        raise RunError(f"{logdir} has no committed state yet: a run that trains commits one after its random episodes")
    inputs = inputs or saved or PIXELS
    agent: Any = build_agent(config, action_space or saved_action_space(config, prefix, inputs), inputs, seed=seed)
    read_weights(agent, prefix, only_networks=True)
    agent.random.reset_from_seed(seed)
    return RestoredAgent(agent, frames, best_kept is not None)


def read_legacy_weights(agent: Dreamer | PlaNet, prefix: Path) -> dict[str, Any]:
    """Load a checkpoint of format 0 and return the draws of the replay. Raises CommitError where it does not fit."""
    draws = _Text()
    try:
        tf.train.Checkpoint(**agent.checkpoint(), replay_state=draws).restore(str(prefix)).assert_consumed()
    except (AssertionError, LookupError, RuntimeError, ValueError, tf.errors.OpError) as error:
        raise CommitError(f"{prefix} is damaged, or of another model ({_reason(error)})") from None
    return json.loads(draws.text)


def _reason(error: BaseException) -> str:
    """The first line of an exception; its type where it says nothing."""
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())


class _Text(tf.train.experimental.PythonState):
    text = ""

    def serialize(self) -> str:
        return self.text

    def deserialize(self, value: bytes | str) -> None:
        self.text = value.decode() if isinstance(value, bytes) else value
