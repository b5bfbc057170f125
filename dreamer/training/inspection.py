"""`dreamer eval` and `dreamer imagine`: what the agent of a run does, and what its world model predicts.

Both restore the newest checkpoint and play new episodes with the mode action, in an evaluation environment. They read
the run and leave it alone, apart from evaluation.json, so that it may well be training at the same time.
"""

import contextlib
import json
import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dreamer import envs, keys, seeds
from dreamer.agents import PLANNER, RunError, inputs_of, sees_images, variant
from dreamer.agents.random import Random
from dreamer.config import Config
from dreamer.results import vectors, video
from dreamer.run import layout
from dreamer.run.commits import CommitError
from dreamer.run.files import replacing
from dreamer.training.driver import STATISTICS, Driver, episode_infos, episode_return, mean_infos
from dreamer.training.evaluation import CONTEXT, cut_windows, errors_against_horizon, evenly_spaced, open_loop
from dreamer.training.progress import counted
from dreamer.training.restore import restore_agent

FAULTS = (envs.EnvError, CommitError, OSError, tf.errors.OpError)  # of the machine or the files, not of the command
SHOWN = 12  # episodes in a video of an evaluation
_DREAM_FPS = 10


class Restored(NamedTuple):
    """A run that was opened: its evaluation environment, its agent, how far that was trained, and whether it is the
    best one by evaluation that was kept.
    """

    env: envs.Checked
    agent: Any  # Dreamer, PlaNet or Random
    frames: int
    updates: int
    best: bool


def evaluate(
    config: Config,
    logdir: Path,
    *,
    episodes: int,
    seed: int,
    best: bool = False,
    video_path: Path | None = None,
    agent: str | None = None,
    at_once: int | None = None,
) -> None:
    """Play `episodes` episodes, print each return, their mean, median and standard deviation, and write them as JSON.

    video_path (.mp4) shows the first SHOWN episodes side by side, whether the agent sees images or not. The same seed
    gives the same numbers. agent: the method that acts with the run's networks, PLANNER, instead of the run's own; its
    JSON file has a name of its own.
    at_once: so many are played at the same time, see _play_together; None plays one after another, each of which goes
    on with the draws of the one before.
    Raises RunError for a run that cannot be evaluated (yet), and FAULTS.
    """
    if agent == PLANNER:
        _need_world_model(config, logdir, "plan")
        if config.planner.value and config.method == PLANNER:
            raise RunError(f"--planner.value: {logdir} is a run of {PLANNER}, which has no value network")
    returns, lengths, infos = [], [], []
    shown: list[tuple[np.ndarray, np.ndarray]] = []
    rendered = bool(video_path) or sees_images(config)
    with _restored(config, logdir, seed, best, agent, rendered=rendered) as run:
        for episode in (
            _play_together(run, config, episodes, seed, at_once, rendered=rendered)
            if at_once
            else _play(run, config, episodes, seed)
        ):
            returns.append(episode_return(episode))
            lengths.append(len(episode["reward"]) - 1)
            infos.append(episode_infos(episode))
            if video_path and len(shown) < SHOWN:
                shown.append((episode["image"], episode["reward"]))
    statistics = {"mean": np.mean(returns), "median": np.median(returns), "std": np.std(returns)}
    statistics = {name: float(value) for name, value in statistics.items()}
    _say("mean {mean:.2f}  median {median:.2f}  standard deviation {std:.2f}".format(**statistics))
    _say_infos(run.env.infos, infos)
    result = {
        "task": f"{config.suite}_{config.task}",
        "method": variant(config),
        "seed": config.seed,
        "frames": run.frames,
        "updates": run.updates,
        "best": run.best,
        "precision": keras.config.dtype_policy().compute_dtype,
        "eval_seed": seed,
        **({"envs.count": at_once} if at_once else {}),
        **statistics,
        "returns": returns,
        "lengths": lengths,
        **{name: [found.get(name) for found in infos] for name in mean_infos(infos)},
    }
    written = logdir / layout.EVALUATION
    if agent:
        result |= {"agent": agent, **{f"planner.{key}": value for key, value in dict(config.planner).items()}}
        written = written.with_stem(f"{written.stem}-{agent}" + "-value" * config.planner.value)
    if os.access(logdir, os.W_OK):
        with replacing(written) as path:
            path.write_text(json.dumps(result, indent=2) + "\n")
        _say(written)
    else:  # an agent that is given away may well lie where nobody writes
        _say(f"{written} is not written: {logdir} takes no files")
    if video_path:
        longest = max(len(images) for images, _ in shown)
        video.save_mp4(video_path, video.side_by_side(*zip(*shown, strict=True)), video.episode_fps(longest))
        _say(video_path)


def imagine(
    config: Config, logdir: Path, *, out: Path, episodes: int, horizon: int, seed: int, best: bool = False
) -> None:
    """Let the world model see CONTEXT steps of each of `episodes` episodes and predict up to `horizon` more.

    The predictions follow the actions of the episodes; they begin at evenly spaced points, at the start of the first
    episode and so that they end with the last one. out (.gif or .mp4) shows truth, model, error and rewards, a .png has
    curves of the rewards and of what the agent sees beside images; the mean errors are printed. Raises RunError for a
    run without a world model, or episodes that are too short, and FAULTS.
    """
    _need_world_model(config, logdir, "imagine")
    if not sees_images(config) and out.suffix != ".png":
        raise RunError(
            f"{logdir} has model.inputs {config.model.inputs}, and so no images: expected a .png, of curves, got {out}"
        )
    if out.suffix != ".png" and config.model.observation != "pixels" and not config.model.probe_decoder:
        raise RunError(
            f"{logdir} has model.observation {config.model.observation}: its world model predicts no images, and "
            "model.probe_decoder, which would have learned to draw its states, is false"
        )
    with _restored(config, logdir, seed, best, rendered=sees_images(config)) as run:
        played = list(_play(run, config, episodes, seed))
    shortest = min(len(episode["reward"]) for episode in played)
    if shortest <= CONTEXT:
        raise RunError(
            f"an episode of {logdir} has {shortest} steps, the first one included: an open-loop prediction takes at "
            f"least {CONTEXT + 1}, {CONTEXT} that the model sees and 1 that it imagines"
        )
    length = min(CONTEXT + horizon, shortest)
    if length < CONTEXT + horizon:
        _say(f"imagined steps: {length - CONTEXT} instead of {horizon}, the shortest episode has no more")
    starts = evenly_spaced(played, length)
    batch = cut_windows(played, starts, length, inputs=run.agent.inputs, tanh_rewards=config.replay.tanh_rewards)
    truth, model = open_loop(run.agent, batch)
    for name in sorted(model, key=lambda name: name == "reward"):
        error, repeat = (value.mean() for value in errors_against_horizon(truth[name], model[name]))
        _say(f"{name:<6} error {error:10.4g}   when what was last seen is repeated {repeat:10.4g}")
    unit = "frame" if config.learn.source == "none" else "update"
    title = f"{config.task} after {counted(run.frames, unit)}"
    if out.suffix == ".png":
        names = [f"episode {number} from step {start}" for number, start in enumerate(starts, 1)]
        vectors.figure(out, truth, model, names=names, title=title, context=CONTEXT)
    else:
        arrays = (values[name] for name in ("image", "reward") for values in (truth, model))
        video.save(out, video.dream(*arrays, starts=starts, title=title, context=CONTEXT), _DREAM_FPS)
    _say(out)


def _say_infos(names: Sequence[str], infos: Sequence[Mapping[str, float]]) -> None:
    """Means of numbers of `info`, a line for each. infos: of driver.episode_infos."""
    for name in names:
        told = [found for found in infos if f"{name}_last" in found]
        means = "  ".join(f"{kind} {mean_infos(told)[f'{name}_{kind}']:.4g}" for kind in STATISTICS if told)
        few = "no episode told it" if not told else f"of the {len(told)} episodes that told it"
        _say("  ".join([name, *[means] * bool(told), *[few] * (len(told) < len(infos))]))


def _need_world_model(config: keys.Keys, logdir: Path, what: str) -> None:
    if config.method == "random":
        raise RunError(f"{logdir} is a run of random actions: there is no world model in it that could {what}")


def _environment(config: Config, *, rendered: bool, beside: bool = False) -> contextlib.closing[envs.Checked]:
    try:
        return contextlib.closing(envs.make(config.suite, config.task, beside=beside, images=rendered, **config.env))
    except envs.EnvRefused as error:
        raise RunError(str(error)) from error


@contextlib.contextmanager
def _restored(
    config: Config, logdir: Path, seed: int, best: bool, acting: str | None = None, *, rendered: bool
) -> Iterator[Restored]:
    with _environment(config, rendered=rendered) as env:
        agent, frames, is_best = restore_agent(
            config.replace(method=acting) if acting else config,
            logdir,
            env.action_space,
            inputs_of(config, env.observation_spaces) if config.method != "random" else None,
            seed=seeds.derive(seed, "inspect_agent"),
            best=best,
            report=_say,
        )
        updates = int(getattr(agent, "updates", 0))
        seen = f"{frames:,} frames, " if config.learn.source == "none" else ""
        trained = f"after {seen}{counted(updates, 'update')}" if updates else "without training"
        trained += ", the best state kept" if is_best else ""
        how = f", actions planned by {acting}" if acting else ""
        _say(
            f"{config.task}, {variant(config)} of seed {config.seed} {trained}{how}; episodes of evaluation seed {seed}"
        )
        yield Restored(env, agent, frames, updates, is_best)


def _play(run: Restored, config: keys.Keys, count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield `count` episodes of mode actions, and say how each one ended; `seed` decides them all."""
    driver = Driver(run.env, run.agent, explore=False, seed_of=lambda n: seeds.derive(seed, "inspect_episode", n))
    with _bar(config, count) as bar:
        for number in range(1, count + 1):
            bar.set_description(f"episode {number}/{count}")
            while not (episode := driver.step()):
                bar.update()
            bar.update()
            _tell(bar, config, number, count, episode)
            yield episode


def _play_together(
    run: Restored, config: Config, count: int, seed: int, at_once: int, *, rendered: bool
) -> Iterator[dict[str, np.ndarray]]:
    """Yield `count` episodes of mode actions in their order, of which `at_once` are played at the same time.

    Each in an environment in a process of its own, at which a thread waits; the agent acts for one at a time, with
    draws that belong to the episode. So an episode is the same however many are played beside it, where it depends on
    its seed alone: those of DeepMind Lab depend on earlier ones of their environment too.
    """
    free: queue.SimpleQueue[envs.Env] = queue.SimpleQueue()
    acting, left, learned = threading.Lock(), threading.Event(), hasattr(run.agent, "random")

    def play(number: int) -> dict[str, np.ndarray]:
        env = free.get()
        try:
            draws = seeds.derive(seed, "inspect_agent", number)
            own = _WithDraws(run.agent, acting, draws) if learned else Random(env.action_space, seed=draws)
            driver = Driver(env, own, explore=False, seed_of=lambda _: seeds.derive(seed, "inspect_episode", number))
            while not left.is_set():
                episode = driver.step()
                with acting:
                    bar.update()
                if episode:
                    return episode
            return {}  # nobody looks at it
        finally:
            free.put(env)

    with contextlib.ExitStack() as resources:
        bar = resources.enter_context(_bar(config, count))
        bar.set_description(f"{count} episodes")
        others = [
            resources.enter_context(_environment(config, rendered=rendered, beside=True))
            for _ in range(min(at_once, count) - 1)
        ]
        for env in (run.env, *others):
            free.put(env)
        pool = resources.enter_context(futures.ThreadPoolExecutor(len(others) + 1))
        resources.callback(left.set)
        for number, episode in enumerate(pool.map(play, range(count)), 1):
            with acting:
                _tell(bar, config, number, count, episode)
            yield episode


class _WithDraws:
    """An agent that acts for others too: its generator is put aside between turns, so that the draws are its own."""

    def __init__(self, agent: Any, turn: threading.Lock, seed: int):
        self._agent, self._turn = agent, turn
        with turn:
            agent.random.reset_from_seed(seed)
            self._draws = agent.random.state.numpy()

    def initial(self) -> Any:
        """See Agent."""
        with self._turn:
            return self._agent.initial()

    def act(self, observation: Mapping[str, Any], carry: Any, explore: bool) -> tuple[np.ndarray, Any]:
        """See Agent."""
        with self._turn:
            self._agent.random.state.assign(self._draws)
            acted = self._agent.act(observation, carry, explore)
            self._draws = self._agent.random.state.numpy()
            return acted


def _bar(config: keys.Keys, count: int) -> tqdm:
    """A bar over the steps of `count` episodes, on a terminal only: what is printed shows the progress elsewhere."""
    # Sizes are given because tqdm would draw nothing on a terminal that says it has no rows, as under Docker.
    size = {"ncols": shutil.get_terminal_size().columns - 1, "nrows": 20}
    return tqdm(total=count * _longest(config), unit=" steps", leave=False, disable=None, **size)


def _longest(config: keys.Keys) -> int:
    return -(-config.env.time_limit // config.env.action_repeat)


def _tell(bar: tqdm, config: keys.Keys, number: int, count: int, episode: Mapping[str, np.ndarray]) -> None:
    """Say how an episode ended, and take what it lacked to the longest from the bar."""
    steps = len(episode["reward"]) - 1
    bar.total += steps - _longest(config)
    played = f"episode {number:>{len(str(count))}}  return {episode_return(episode):9.2f}"
    _say(f"  {played}  {counted(steps, 'step')}")


def _say(text: object) -> None:
    try:
        tqdm.write(str(text), file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # `dreamer eval ... | head`: the reader has seen enough, but the files are still to be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
