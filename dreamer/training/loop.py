"""The loop (paper, Algorithm 1): random episodes, then rounds of collection and training, with evaluations in between.

    frames   0         prefill                   prefill + train_every          prefill + 2 train_every ...
             | random  | pretrain | collect ---> | train_updates | collect ---> | train_updates | ...
                                  ^ evaluation, again every eval_every frames and at the end

Frames are counted by the replay and by nothing else, and the number of updates that are due follows from them: after
an interruption of any kind a run goes on from the episodes on disk and makes up for the updates that were lost.
"""

import collections
import contextlib
import json
import sys
import time

import numpy as np
import tensorflow as tf

from dreamer import envs
from dreamer.agents.random import Random
from dreamer.replay.dataset import Windows
from dreamer.replay.episodes import EpisodeStore, ReplayError
from dreamer.results import scores
from dreamer.results.files import replacing
from dreamer.training import machine
from dreamer.training.checkpoint import Checkpoint, CheckpointError
from dreamer.training.driver import Driver, episode_return
from dreamer.training.evaluation import Evaluator, last_evaluation
from dreamer.training.interrupt import Interrupt
from dreamer.training.logger import Logger
from dreamer.training.profiler import UPDATES, Profiler
from dreamer.training.progress import Progress
from dreamer.training.restore import build_agent, check

# What a seed is for: the second entry of a SeedSequence, after the run's own seed.
_COLLECT, _EVALUATE, _REPLAY, _AGENT, _PREFILL = range(5)


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def train(config, logdir, profile=False):
    """Train the run in `logdir` until it has config.steps frames, or go on with it. profile: trace some updates.

    The caller holds `logdir` for this process (interrupt.exclusive). Returns the exit code: 0 when finished, 1 after a
    fault that was reported in one line, 128 + n after signal n. Raises RunError for a method that cannot act there.
    """
    with Interrupt() as interrupt, contextlib.ExitStack() as resources:
        try:
            run = Run(config, logdir, resources, profile)
            if run.finished:
                print(f"{logdir} is finished at {run.frames:,} frames. A larger --steps goes on from there.")
                return 0
            run.go(interrupt)
        except (envs.EnvError, ReplayError, CheckpointError, TrainingError, OSError, tf.errors.OpError) as error:
            resources.close()
            print(f"dreamer: {getattr(error, 'message', error)}", file=sys.stderr)
            return 1
    if interrupt.signal:
        print(f"Stopped and saved at {run.frames:,} frames in {logdir}. The same command goes on from there.")
        return 128 + interrupt.signal
    print(f"Finished at {run.frames:,} frames in {logdir}.")
    return 0


def updates_due(frames, *, prefill, pretrain, train_every, train_updates):
    """Updates that belong to `frames` frames: pretrain at `prefill`, then train_updates after every train_every."""
    if frames < prefill:
        return 0
    return pretrain + (frames - prefill) // train_every * train_updates


def evaluation_due(frames, last, *, first, every):
    """Whether a point first + n * every lies between the evaluation at `last` frames (None: none yet) and now."""
    if last is None:
        return frames >= first
    return (frames - first) // every > (last - first) // every


class Stopwatch:
    """Seconds spent in named parts of the work since they were last taken."""

    def __init__(self):
        self._seconds = collections.Counter()
        self._start = time.monotonic()

    @contextlib.contextmanager
    def part(self, name):
        """Add the time of the block to `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - start

    def take(self):
        """({name: share of the time since the last take}, that time in seconds); starts anew."""
        now = time.monotonic()
        elapsed, self._start = now - self._start, now
        shares = {name: seconds / elapsed for name, seconds in self._seconds.items()}
        self._seconds.clear()
        return shares, elapsed


class Run:
    """What one run holds while it works; `go` is Algorithm 1."""

    def __init__(self, config, logdir, resources, profile=False):
        """Open what is on disk in `logdir`; nothing is started yet. `resources` closes what `go` will open."""
        self._config, self._logdir, self._resources, self._profile = config, logdir, resources, profile
        self._store = EpisodeStore(
            logdir / "episodes",
            action_repeat=config.env.action_repeat,
            capacity=config.replay.capacity,
            compress=config.replay.compress,
        )
        # A run of fewer frames than the prefill still gets its pre-training and an evaluation.
        self._prefill_frames = min(config.loop.prefill, config.steps)
        self._driver = self._agent = self._checkpoint = self._batches = None
        self._stopwatch = Stopwatch()
        self._finished_episodes = []  # since the last line of metrics

    @property
    def frames(self):
        """Environment frames collected, those of the episode in progress included."""
        in_progress = self._driver.steps if self._driver else 0
        return self._store.frames + in_progress * self._config.env.action_repeat

    @property
    def finished(self):
        """Whether all frames are collected and the agent was evaluated there."""
        return self.frames >= self._config.steps and last_evaluation(self._logdir) == self.frames

    def go(self, interrupt):
        """Algorithm 1, until there are config.steps frames or a signal has arrived; saves whichever way it ends."""
        self._open()
        check(self._config, self._env.action_space)
        try:
            self._prefill(interrupt)
            self._build_agent()
            while not interrupt.signal:
                self._train(interrupt)
                at_end = self.frames >= self._config.steps
                if (at_end or self._evaluation_due()) and not interrupt.signal:
                    self._evaluate(interrupt)
                if at_end:
                    break
                if self.frames >= self._saved_at + self._config.loop.save_every:
                    self._save()
                self._collect(min(self._config.loop.train_every, self._config.steps - self.frames), interrupt)
        finally:
            self._keep_cut_episode()
            self._save()

    def _open(self):
        config, frames = self._config, self._store.frames
        enter = self._resources.enter_context
        self._progress = enter(contextlib.closing(self._make_progress(frames)))
        self._logger = enter(contextlib.closing(Logger(self._logdir, resume_frames=frames)))
        self._logger.settings(config.flat())
        machine.record(self._logdir, frames)
        self._profiler = enter(
            contextlib.closing(Profiler(self._logdir, UPDATES if self._profile else 0, self._progress.message))
        )
        self._env, eval_env = (enter(contextlib.closing(self._make_env(training))) for training in (True, False))
        scores.drop_after(self._logdir / scores.FILENAME, frames)
        self._evaluator = Evaluator(
            eval_env,
            self._logdir,
            self._logger,
            episodes=config.loop.eval_episodes,
            seed_of=lambda at, n: self._seed(_EVALUATE, at, n),
            task=f"{config.suite}_{config.task}",
            method=config.method,
            seed=config.seed,
            tanh_rewards=config.replay.tanh_rewards,
        )
        self._windows = enter(
            contextlib.closing(
                Windows(
                    self._store,
                    batch=config.replay.batch,
                    length=config.replay.length,
                    seed=self._seed(_REPLAY),
                    prefetch=config.replay.prefetch,
                    cross_ends=config.replay.cross_ends,
                    tanh_rewards=config.replay.tanh_rewards,
                )
            )
        )

    def _make_progress(self, frames):
        config, score = self._config, self._logdir / scores.FILENAME
        schedule = {name: config.loop[name] for name in ("pretrain", "train_every", "train_updates")}
        updates = updates_due(config.steps, prefill=self._prefill_frames, **schedule)
        earlier = [zip(run.xs, run.ys, strict=True) for run in (scores.read(score) if score.exists() else ())]
        return Progress(
            config.steps,
            total_updates=updates if config.method != "random" else 0,
            eval_every=config.loop.eval_every,
            # As long as the episodes of the replay were so far; a new run has been evaluated before it matters.
            eval_frames=config.loop.eval_episodes
            * config.env.action_repeat
            * self._store.steps
            // max(1, len(self._store)),
            start=frames,
            last_evaluation=max((point for points in earlier for point in points if point[0] <= frames), default=None),
            label=config.task,
        )

    def _make_env(self, training):
        return envs.make(self._config.suite, self._config.task, training=training, **self._config.env)

    def _seed(self, *purpose):
        return int(np.random.SeedSequence([self._config.seed, *purpose]).generate_state(1)[0] >> 1)

    def _drive(self, agent):
        # Seeded by frames rather than by a count of episodes, so that a resumed run draws the seeds that follow.
        self._driver = Driver(
            self._env, agent, explore=True, seed_of=lambda begun: self._seed(_COLLECT, self._store.frames)
        )

    def _prefill(self, interrupt):
        """Whole episodes of random actions until there are enough frames; their returns go to random.json.

        The last one is cut where the run ends with it. Episodes of one life are not written down: the figures set
        these returns beside evaluations, which play whole games.
        """
        if self._store.frames >= self._prefill_frames:
            return
        self._progress.message("Collecting random episodes.")
        self._drive(Random(self._env.action_space, seed=self._seed(_PREFILL, self._store.frames)))
        returns = []
        while self._store.frames < self._prefill_frames and self.frames < self._config.steps and not interrupt.signal:
            if episode := self._driver.step():
                self._store.add(episode)
                returns.append(episode_return(episode))
            self._progress.update(self.frames, 0)
        self._keep_cut_episode()
        if returns and self._env.whole_games:
            summary = {"mean": float(np.mean(returns)), "std": float(np.std(returns)), "episodes": len(returns)}
            with replacing(self._logdir / "random.json") as path:
                path.write_text(json.dumps(summary) + "\n")

    def _build_agent(self):
        learns = self._config.method != "random"
        # Only a checkpoint keeps the state of the draws: without one, a resumed run needs a seed of its own.
        seed = self._seed(_AGENT) if learns else self._seed(_AGENT, self._store.frames)
        self._agent = build_agent(self._config, self._env.action_space, seed=seed)
        if learns:
            self._checkpoint = Checkpoint(
                self._logdir / "checkpoints", self._agent.checkpoint(), {"replay": self._windows}
            )
            if self._checkpoint.exists:
                self._checkpoint.restore()
        self._saved_at = self.frames
        self._drive(self._agent)

    def _train(self, interrupt):
        """The updates that are due, and a line of metrics for the round."""
        metrics = {}
        if self._checkpoint:
            loop = self._config.loop
            due = updates_due(
                self.frames,
                prefill=self._prefill_frames,
                pretrain=loop.pretrain,
                train_every=loop.train_every,
                train_updates=loop.train_updates,
            )
            metrics = self._update(due - self._updates, interrupt)
        if self._finished_episodes:
            metrics["episode/return"] = np.mean([episode_return(e) for e in self._finished_episodes])
            metrics["episode/length"] = np.mean([len(e["reward"]) - 1 for e in self._finished_episodes])
            self._finished_episodes = []
        if metrics:
            shares, elapsed = self._stopwatch.take()
            metrics |= {f"time/{name}": share for name, share in shares.items()} | {"time/seconds": elapsed}
            with self._stopwatch.part("logging"):
                self._logger.scalars(self.frames, metrics)

    def _update(self, count, interrupt):
        """`count` updates, fewer if a signal arrives. Returns their mean metrics. Raises TrainingError on NaN."""
        if count <= 0:
            return {}
        self._windows.request(count)
        if self._batches is None:
            self._batches = iter(self._windows.dataset())
            self._progress.message("Tracing the training step: the first update takes a while.")
        results, before = [], self._updates
        for _ in range(count):
            if interrupt.signal:
                break
            with self._stopwatch.part("waiting_for_data"):
                batch = next(self._batches)
            with self._profiler.update(), self._stopwatch.part("training"):
                results.append(self._agent.train(batch))
            self._progress.update(self.frames, before + len(results))  # To read a variable is to wait for a GPU.
        if not results:
            return {}
        with self._stopwatch.part("training"):  # A GPU computes while the host goes on, until a result is asked for.
            means = {key: float(np.mean(tf.stack([result[key] for result in results]))) for key in results[0]}
        for name in ("model", "actor", "value"):
            if means.get(f"{name}_skipped") == 1.0 and len(results) > 1:
                raise TrainingError(
                    f"every gradient of the {name} was NaN or infinite in {len(results)} updates up to number "
                    f"{self._updates} (weights were left as they are): lower --{name}.lr or take --precision float32"
                )
        return {f"train/{key}": value for key, value in means.items()} | {"train/updates": self._updates}

    @property
    def _updates(self):
        return int(self._agent.updates) if self._checkpoint else 0

    def _collect(self, frames, interrupt):
        """`frames` frames, rounded up to agent steps, with the exploring agent."""
        target, updates = self.frames + frames, self._updates
        with self._stopwatch.part("acting"):
            while self.frames < target and not interrupt.signal:
                if episode := self._driver.step():
                    self._store.add(episode)
                    self._finished_episodes.append(episode)
                self._progress.update(self.frames, updates)

    def _evaluation_due(self):
        every = self._config.loop.eval_every
        return evaluation_due(self.frames, last_evaluation(self._logdir), first=self._prefill_frames, every=every)

    def _evaluate(self, interrupt):
        with self._stopwatch.part("evaluation"):
            score = self._evaluator.run(self._agent, self.frames, stopped=lambda: interrupt.signal)
        if score is not None:
            self._progress.evaluated(score)

    def _keep_cut_episode(self):
        if self._driver and (episode := self._driver.cut()):
            self._store.add(episode)

    def _save(self):
        with self._stopwatch.part("saving"):
            if self._checkpoint:
                self._checkpoint.save()
        self._saved_at = self.frames
