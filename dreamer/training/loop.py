"""The training loop (paper, Algorithm 1): random episodes, then rounds of collection and training, and evaluations.

    frames   0         prefill                   prefill + train_every          prefill + 2 train_every ...
             | random  | pretrain | collect ---> | train_updates | collect ---> | train_updates | ...
                                  ^ evaluation, again every eval_every frames and at the end
    stage    prefill   train,     collect        train,           collect        train, ...
                       evaluate                  evaluate                        evaluate

With loop.overlap the frames of `collect` are collected ahead, in a thread that begins with the updates before them (see
`ahead`), and the stage takes them over.

Each stage can be left at any step and entered again. Where the run is, and everything that decides how it goes on, is
one state, which `recorder.Recorder` commits: the run that is stopped and the run that is not end the same.
"""

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dreamer import envs, seeds
from dreamer.agents import RunError, inputs_of, sees_images, towers, variant
from dreamer.agents.build import build_agent, built_beside_training, off_the_gpu
from dreamer.agents.random import Random
from dreamer.config import Config
from dreamer.envs.wrappers import Checked
from dreamer.replay.dataset import Windows
from dreamer.replay.episodes import EpisodeStore, ReplayError, check_present
from dreamer.run import layout
from dreamer.run.commits import ACTING, CommitError
from dreamer.run.settings import Settings, source_of
from dreamer.stops import Interrupts, Stops
from dreamer.training import faults, machine, xla
from dreamer.training.ahead import Ahead
from dreamer.training.also import Also
from dreamer.training.driver import Driver, Episode, episode_infos, episode_return, mean_infos
from dreamer.training.evaluation import Evaluator
from dreamer.training.logger import Logger
from dreamer.training.profiler import UPDATES, Profiler
from dreamer.training.progress import Progress, counted, warnings_said
from dreamer.training.recorder import Recorder
from dreamer.training.restore import copy_networks, write_weights
from dreamer.training.streams import Streams
from dreamer.training.transfer import take_networks
from dreamer.types import INFO, ActionSpace, Batch, Space

# Of the machine, the files or the environment, not of the command.
FAULTS = (envs.EnvError, ReplayError, CommitError, faults.TrainingError, OSError, tf.errors.OpError)
AHEAD = "acting ahead"  # the part of the time in which the thread of loop.overlap acts
COMMIT_SECONDS = 600  # at the end of a round: at most so much work, and a round, is lost to a power cut
POLL = 0.1  # seconds until a stop is noticed while the thread that acts is waited for


def train(
    settings: Settings,
    logdir: Path,
    stops: Stops | Interrupts,
    *,
    profile: bool = False,
    kind: "type[Run] | None" = None,
) -> int:
    """`work`, for a command: prints how it ended, or the fault that ended it, in one line. Returns the exit code.

    That is 0 when finished, 1 after a fault, 128 + n after signal n. Raises RunError as `work` does.
    """
    try:
        print(work(settings, logdir, stops, profile=profile, kind=kind))
    except FAULTS as error:
        print(f"dreamer: {faults.one_line(error, logdir)}", file=sys.stderr)
        return 1
    return 128 + stops.signal if stops.signal else 0


def work(
    settings: Settings,
    logdir: Path,
    stops: Stops | Interrupts,
    *,
    profile: bool = False,
    kind: "type[Run] | None" = None,
) -> str:
    """Train the run in `logdir` until it has config.steps frames, or go on with it. profile: trace some updates.

    kind: Run, or offline.Offline for one that learns from stored episodes.

    settings: of the run (run.settings.agree), whose log directory the caller holds for this process. stops: the Stops
    or Interrupts that this process is in. Returns a line that says how it ended. Raises FAULTS, and RunError for a run
    that cannot do what it is asked for; nothing is written then.
    """
    if kind is None and settings.config.learn.source != "none":
        raise RunError("learn.source is set by `dreamer learn --from FOLDER`, which goes on with such a run")
    recorder, kind = Recorder(settings, logdir), kind or Run
    if recorder.state.stage == "finished" and recorder.state.frames >= settings.config.steps:
        reached = counted(recorder.state.frames, kind.unit)
        return f"{logdir} is finished at {reached}. A larger {kind.option} goes on from there."
    with contextlib.ExitStack() as resources:
        run = kind(settings.config, logdir, recorder, resources, stops, profile)
        resources.enter_context(warnings_said(run.say))
        run.open()
        with stops.noting():
            run.go()
    reached = counted(run.frames, run.unit)
    if stops.signal:
        return f"Stopped and saved at {reached} in {logdir}. The same command goes on from there."
    return f"Finished at {reached} in {logdir}."


def updates_due(frames: int, *, since: int, updates: int, train_every: int, train_updates: int) -> int:
    """Updates that belong to `frames`: `updates` at `since` frames, then train_updates after every train_every."""
    return updates + max(0, frames - since) // train_every * train_updates


def evaluation_due(frames: int, last: int | None, *, first: int, every: int) -> bool:
    """Whether a point first + n * every lies between the evaluation at `last` frames (None: none yet) and now."""
    if last is None:
        return frames >= first
    return (frames - first) // every > (last - first) // every


class Stopwatch:
    """Seconds spent in named parts of the work since they were last taken."""

    def __init__(self) -> None:
        self._seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
        self._start = time.monotonic()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - start

    def take(self) -> tuple[dict[str, float], float]:
        """({name: share of the time since the last take}, that time in seconds); starts anew.

        The time of AHEAD is that of another thread, and becomes `overlap`: that of it in which this one did not wait.
        """
        now = time.monotonic()
        elapsed, self._start = now - self._start, now
        spent, self._seconds = dict(self._seconds), collections.defaultdict(float)  # another thread may be adding
        if ahead := spent.pop(AHEAD, 0.0):
            spent["overlap"] = max(0.0, ahead - spent.get("acting", 0.0))
        return {name: seconds / elapsed for name, seconds in spent.items()}, elapsed


class Run:
    """What one run holds while it works; `go` is Algorithm 1."""

    unit, option = "frame", "--steps"  # of what there are config.steps, and what sets it

    def __init__(
        self,
        config: Config,
        logdir: Path,
        recorder: Recorder,
        resources: contextlib.ExitStack,
        stops: Stops | Interrupts,
        profile: bool = False,
    ):
        """Nothing is started yet; `resources` closes what `open` will open."""
        self._config, self._logdir, self._recorder, self._profile = config, logdir, recorder, profile
        self._state, self._resources, self._stops = recorder.state, resources, stops
        self._store: EpisodeStore
        self._envs: list[Checked]
        self._streams: Streams
        self._ahead: Ahead | None = None  # the streams are its own then
        self._agent: Any  # Dreamer, PlaNet or Random
        self._acting: Any  # what collects: the same, or with loop.overlap another one that is given its weights
        self._batches: Iterator[Batch] | None = None
        self._traced = self._in_round = self._heard = False
        self._stopwatch = Stopwatch()

    def say(self, line: str) -> None:
        """Show a line of its own to the user: at once, since the start may fail by what it tells."""
        if hasattr(self, "_progress"):
            self._progress.message(line)
        else:
            print(line, file=sys.stderr, flush=True)

    @property
    def frames(self) -> int:
        """Environment frames collected, those of the episode in progress included, but not those ahead."""
        if self._ahead:
            return self._ahead.began
        return self._store.frames + self._streams.steps * self._config.env.action_repeat

    @property
    def _updates(self) -> int:
        return int(self._agent.updates) if self._learns else 0

    @property
    def _overlaps(self) -> bool:
        return bool(self._config.loop.overlap and self._learns)

    @property
    def _shares(self) -> bool:
        """Whether there is one environment, in which training and evaluation take turns."""
        return bool(self._config.loop.eval_env == "shared")

    def open(self) -> None:
        """Start everything, and go back to the committed state: first what may fail, then what writes."""
        config = self._config
        self._learns = config.method != "random"
        count = config.envs.count
        if self._shares and (count > 1 or self._overlaps):
            raise RunError("--loop.eval_env shared is for a single environment: --envs.count 1, --loop.overlap false")
        self._envs = [self._new_env(training=True) for _ in range(count)]
        if self._shares and not self._envs[0].whole_games:
            raise RunError("--loop.eval_env shared would evaluate less than whole games: --env.life_loss false")
        eval_envs = self._envs
        if not self._shares:
            eval_envs = [self._new_env(training=False) for _ in range(min(count, config.loop.eval_episodes))]
        action_space = self._envs[0].action_space
        inputs = inputs_of(config, self._envs[0].observation_spaces)
        self._build_agent(action_space, inputs)
        self._seed_agent = Random(action_space, seed=seeds.derive(config.seed, "prefill"))
        # of_this_round: it has the weights of a round that an earlier session began, and its thread is yet to begin.
        self._acting, self._of_this_round = self._agent, False
        if self._overlaps:
            with built_beside_training():
                self._acting = build_agent(config, action_space, inputs, seed=seeds.derive(config.seed, "agent"))
            self._of_this_round = self._recorder.read_acting(self._acting)
        episodes: dict[str, Any] = {
            "directory": self._logdir / layout.EPISODES,
            "action_repeat": config.env.action_repeat,
        }
        check_present(self._state.stored_frames, self._state.oldest, **episodes)
        self._recorder.claim()
        self._store = EpisodeStore(
            **episodes,
            capacity=config.replay.capacity,
            compress=config.replay.compress,
            commits=2,
            inputs=inputs,
        )
        self._store.rewind(self._state.stored_frames, self._state.oldest)
        self._windows = self._make_windows()
        self._resources.callback(self._windows.close)
        if self._recorder.draws:
            self._windows.restore(self._recorder.draws)
        if self._recorder.random_draws:
            self._acting_randomly.restore(self._recorder.random_draws)
        note = self._envs[0].note
        if note and self._learns and set(self._envs[0].observation_spaces) - set(inputs):
            note = f"{note} Of these the agent sees {', '.join(inputs)} and nothing else (--model.inputs)."
        self._open_logs([note] if note else [])
        self._evaluator = Evaluator(
            eval_envs,
            self._logdir,
            self._logger,
            episodes=config.loop.eval_episodes,
            seed_of=lambda at, n: seeds.derive(config.seed, "evaluate", at, n),
            task=config.task,
            tanh_rewards=config.replay.tanh_rewards,
        )
        if self._state.stage != "prefill":
            self._recorder.write_random(self._envs[0].whole_games)
        self._drive()
        self._resources.callback(self._leave_ahead)
        self._go_on_with_the_episode()
        if self._state.stage == "finished":  # with fewer steps than now
            self._collect_next()
        self._committed_at = self._state.frames, time.monotonic()
        if self._recorder.of_older_format:
            self._commit()

    def _build_agent(self, action_space: ActionSpace, inputs: Mapping[str, Space]) -> None:
        """The agent, with the weights of the committed state or of init_from where there are any."""
        config = self._config
        self._state.inputs = {name: [list(space.shape), space.dtype] for name, space in inputs.items()}
        self._agent = build_agent(config, action_space, inputs, seed=seeds.derive(config.seed, "agent"))
        if self._learns:
            towers.spread(self._agent, config)
            if not self._recorder.read_weights(self._agent) and (source := source_of(config.init_from)):
                self._recorder.notes.append(take_networks(self._agent, source))

    def _open_logs(self, notes: list[str]) -> None:
        """What tells how the run goes; what there is to say of the start, `notes` of its data first, is said."""
        config, enter = self._config, self._resources.enter_context
        self._progress = enter(contextlib.closing(self._make_progress()))
        also = Also(config.logger, self._logdir, config.flat(), self._progress.message)
        self._logger = enter(contextlib.closing(Logger(self._logdir, self._recorder.sizes, also)))
        self._logger.settings(config.flat())
        compiled = xla.settle(self._agent, config, self._logdir, self._progress.message) if self._learns else {}
        machine.record(self._logdir, self._state.frames, compiled | ({"environment": notes[0]} if notes else {}))
        for name, count in self._logger.lost().items():
            self._recorder.notes.append(f"{name} lacks {count:,} bytes that were written: those lines are gone.")
        for line in [*notes, *self._recorder.notes]:
            self._progress.message(line)
        self._profiler = enter(
            contextlib.closing(Profiler(self._logdir, UPDATES if self._profile else 0, self._progress.message))
        )

    def go(self) -> None:
        """Algorithm 1, until there are config.steps frames or a signal has arrived; commits whichever way it ends."""
        stages = {
            "prefill": self._prefill,
            "train": self._train,
            "evaluate": self._evaluate,
            "collect": self._collect,
        }
        try:
            while self._state.stage != "finished" and not self._stops.signal:
                stages[self._state.stage]()
        except envs.EnvError:
            self._commit()  # The action that the environment failed at is part of the state.
            if not self._stops.signal:  # which may have reached a process of the environment too
                raise
            return
        if self._state.stage != "finished":  # which is committed with its evaluation
            self._commit()

    def _make_progress(self) -> Progress:
        config, state = self._config, self._state
        prefill = state.prefill or min(config.loop.prefill, config.steps)
        schedule = {name: config.loop[name] for name in ("train_every", "train_updates")}
        due = updates_due(
            config.steps, since=state.since or prefill, updates=state.due or config.loop.pretrain, **schedule
        )
        # As long as the episodes of the replay were so far; a new run has been evaluated before it matters.
        length = self._store.steps // max(1, len(self._store))
        return Progress(
            config.steps,
            total_updates=due if self._learns else 0,
            eval_every=config.loop.eval_every,
            eval_frames=config.loop.eval_episodes * config.env.action_repeat * length,
            start=state.frames,
            last_evaluation=tuple(state.scores[-1]) if state.scores else None,
            label=f"{config.task} {variant(config)}",
        )

    def _make_env(self, training: bool) -> Checked:
        beside = self._config.envs.count > 1
        seen = {"images": sees_images(self._config), **self._config.env}
        return envs.make(self._config.suite, self._config.task, training=training, beside=beside, **seen)

    def _make_windows(self) -> Windows:
        replay = self._config.replay
        return Windows(
            self._store,
            batch=replay.batch,
            length=replay.length,
            seed=seeds.derive(self._config.seed, "replay"),
            prefetch=replay.prefetch,
            cross_ends=replay.cross_ends,
            tanh_rewards=replay.tanh_rewards,
        )

    @property
    def _acting_randomly(self) -> Any:
        """The agent whose draws are those of NumPy: in the prefill always, later with random actions as a method."""
        return self._seed_agent if self._state.stage == "prefill" or self._learns else self._agent

    def _drive(self) -> None:
        """New streams of episodes, by the agent of this stage; seeds count in streams, frames, and failures."""
        agent = self._seed_agent if self._state.stage == "prefill" else self._acting

        def stream(number: int, env: Checked) -> Driver:
            def seed_of(begun: int) -> int:
                frames, dropped = self._episode()
                return seeds.derive(self._config.seed, "collect", frames, number << 32 | dropped)

            return Driver(env, agent, explore=True, seed_of=seed_of)

        self._streams = Streams([stream(number, env) for number, env in enumerate(self._envs)])

    def _episode(self) -> tuple[int, int]:
        """What the seed of the next episode counts: frames of the finished ones, and failures."""
        if self._ahead:
            return self._ahead.stored, self._state.dropped + self._ahead.dropped
        return self._store.frames, self._state.dropped

    def _go_on_with_the_episode(self) -> None:
        if not self._recorder.episode or not (strayed := self._streams.restore(self._recorder.episode)):
            return
        self._progress.message(
            f"{self._config.task} did not repeat itself, so that the episode in progress ends here: the run goes on, "
            "but not exactly as it would have without the stop."
        )
        self._keep_cut_episodes(strayed)

    def _prefill(self) -> None:
        """Whole episodes of random actions until there are enough frames; the last one is cut where the run ends."""
        if not self._store.frames:
            self._progress.message("Collecting random episodes.")
        enough = self._state.prefill = self._state.prefill or min(self._config.loop.prefill, self._config.steps)
        while self._store.frames < enough and self.frames < self._config.steps:
            if self._stops.signal:
                return
            for episode in self._step(self._fits_into_prefill):
                self._say_untold(episode)
                self._state.random_returns.append(episode_return(episode))
            self._progress.update(self.frames, 0)
        self._keep_cut_episodes()
        # Episodes of one life are not written down: figures set these returns beside evaluations of whole games.
        self._recorder.write_random(self._envs[0].whole_games)
        self._state.since, self._state.due = enough, self._config.loop.pretrain
        self._state.stage = "train"
        self._streams.use(self._acting)  # In the same game, where one goes on after the loss of a life.
        self._commit()

    def _say_untold(self, episode: Episode) -> None:
        """Name what no step told of `info` in the first episode of this session that keeps all that is asked for.

        It may be a slip of the pen.
        """
        names = self._envs[0].infos
        if self._heard or not all(name in episode for name in names):
            return
        self._heard, told = True, episode_infos(episode)
        if untold := [name.removeprefix(INFO) for name in names if f"{name}_last" not in told]:
            self._progress.message(
                f"No step of the first episode had a number for {', '.join(untold)} in its info (--env.info)."
            )

    def _fits_into_prefill(self, playing: int) -> bool:
        """Whether another random episode may be needed, though those in progress be as long as they can."""
        return self._store.frames + playing * self._config.env.time_limit < self._state.prefill

    def _train(self) -> None:
        """The updates that are due, and a line of metrics for the round."""
        if self._overlaps and self.frames < self._config.steps:
            self._set_target()
            self._go_ahead()
        metrics = self._update() if self._learns else {}
        if self._in_round:
            return
        if self._state.unlogged:
            metrics["episode/return"] = np.mean([total for total, _ in self._state.unlogged])
            metrics["episode/length"] = np.mean([length for _, length in self._state.unlogged])
            metrics |= {f"episode/{name}": value for name, value in mean_infos(self._state.infos).items()}
            self._state.unlogged, self._state.infos = [], []
        if metrics:
            shares, elapsed = self._stopwatch.take()
            metrics |= {f"time/{name}": share for name, share in shares.items()} | {"time/seconds": elapsed}
            with self._stopwatch.part("logging"):
                self._logger.scalars(self.frames, metrics)
        self._state.stage = "evaluate"

    def _update(self) -> dict[str, Any]:
        """The updates of a round, or those that a stop has left. Returns their mean metrics, {} unless all are made.

        Raises TrainingError where they cannot go on.
        """
        state, due = self._state, self._updates_due()
        done = state.round
        count = due - self._updates + len(done)
        if count <= len(done):
            return {}
        self._windows.request(count, skip=len(done))
        self._in_round = True
        if self._batches is None:
            self._batches = self._windows.batches()
        while len(done) < count and not self._stops.signal:
            with self._stopwatch.part("waiting_for_data"):
                batch = next(self._batches)
            with self._profiler.update(), self._stopwatch.part("training"), self._tracing():
                done.append(self._agent.train(batch))
            self._say_updates(due - count + len(done))  # To read a variable is to wait for a GPU.
            self._mend()
        if not done:
            return {}
        with self._stopwatch.part("training"):  # A GPU computes while the host goes on, until a result is asked for.
            results = {key: np.array([float(result[key]) for result in done], np.float32) for key in done[0]}
        if len(done) < count:
            state.round = [{key: values[n] for key, values in results.items()} for n in range(len(done))]
            return {}
        # Only whole rounds are counted: the rest of one that was stopped would count its beginning again.
        faults.check(results, batch, self._agent, state, self._config.loop.max_skipped, self._logdir, self._remedies)
        state.round, self._in_round = [], False
        means = {f"train/{key}": float(np.mean(values)) for key, values in results.items()}
        return means | {"train/updates": self._updates}

    def _updates_due(self) -> int:
        """Updates in all that the round ends with."""
        loop = self._config.loop
        return updates_due(
            self.frames,
            since=self._state.since,
            updates=self._state.due,
            train_every=loop.train_every,
            train_updates=loop.train_updates,
        )

    def _say_updates(self, updates: int) -> None:
        self._progress.update(self._ahead.frames if self._ahead else self.frames, updates)

    @property
    def _remedies(self) -> faults.Remedies:
        rates = {name: self._config[name].lr for name in faults.NETWORKS}
        return faults.Remedies(rates, self._config.precision, self._config.replay.tanh_rewards)

    @contextlib.contextmanager
    def _tracing(self) -> Iterator[None]:
        """The first update of a process takes long; everything is committed before, so that a stop need not wait."""
        if self._traced:
            yield
            return
        self._progress.message("Tracing the training step: the first update takes a while.")
        self._commit()
        with self._stops.nothing_to_lose():
            yield
        self._traced = True

    def _evaluate(self) -> None:
        state, at_end = self._state, self.frames >= self._config.steps
        # In the midst of an episode the environment is taken: see `_collect`.
        now = at_end or (self._evaluation_is_due and not (self._shares and self._streams.playing))
        if now:
            with self._stopwatch.part("evaluation"):
                score = self._score()
            if score is None:
                return
            self._recorder.write_score(self.frames, score)
            self._progress.evaluated(score)
        if at_end:
            state.stage = "finished"
        else:
            self._collect_next()
        frames, moment = self._committed_at
        if now:
            self._commit(score=state.scores[-1][1])
        elif self.frames >= frames + self._config.loop.save_every or time.monotonic() > moment + COMMIT_SECONDS:
            self._commit()

    @property
    def _evaluation_is_due(self) -> bool:
        scores = self._state.scores
        last = scores[-1][0] if scores else None
        return evaluation_due(self.frames, last, first=self._state.prefill, every=self._config.loop.eval_every)

    def _score(self) -> float | None:
        """The mean return of an evaluation now; None after a stop or a failure, as if it had not begun."""
        draws = self._agent.random.state.numpy() if self._learns else self._agent.state()
        score = None
        try:
            score = self._evaluator.run(self._agent, self.frames, stopped=lambda: self._stops.signal)
        except envs.EnvError as error:
            self._retry(error, "the evaluation begins again")
            self._state.retried += 1
            if self._shares:
                self._replace(0)
            else:
                self._evaluator.rebuild(lambda: self._new_env(training=False))
        finally:
            if score is None:  # It will be made as a whole.
                self._agent.random.state.assign(draws) if self._learns else self._agent.restore(draws)
        return score

    def _collect_next(self) -> None:
        self._state.stage = "collect"
        if self.frames >= self._state.target:  # else an evaluation came between two episodes on the way to it
            self._set_target()

    def _set_target(self) -> None:
        self._state.target = min(self.frames + self._config.loop.train_every, self._config.steps)

    def _collect(self) -> None:
        """Frames up to the target, rounded up to agent steps, with the exploring agent."""
        updates = self._updates
        with self._stopwatch.part("acting"):
            if self._overlaps and self.frames < self._target:
                self._take_over(updates)
            while self.frames < self._target and not self._stops.signal:
                finished = self._step()
                for episode in finished:
                    self._note(episode)
                self._progress.update(self.frames, updates)
                if self._shares and finished and self._evaluation_is_due and self.frames < self._target:
                    self._state.stage = "evaluate"
                    return
        if self.frames >= self._target:
            if self.frames >= self._config.steps:
                self._keep_cut_episodes()
            self._state.stage = "train"

    @property
    def _target(self) -> int:
        return min(self._state.target, self._config.steps)  # which may be fewer than when the target was set

    def _note(self, episode: Episode) -> None:
        self._state.unlogged.append((episode_return(episode), len(episode["reward"]) - 1))
        self._state.infos.append(episode_infos(episode))
        self._say_untold(episode)

    def _go_ahead(self) -> None:
        """Begin to collect in a thread, with the policy as it is now; as it was where a state of the round goes on."""
        if self._ahead:
            return
        if not self._of_this_round:
            copy_networks(self._agent, self._acting)
        self._of_this_round = False
        # Draws that depend on the round alone, and on no other one: no other agent's seed has frames in it.
        self._acting.random.reset_from_seed(seeds.derive(self._config.seed, "agent", self.frames))
        self._ahead = Ahead(
            self._streams,
            stored=self._store.frames,
            target=self._target,
            action_repeat=self._config.env.action_repeat,
            part=self._part_ahead,
        )
        self._ahead.start()

    @contextlib.contextmanager
    def _part_ahead(self) -> Iterator[None]:
        with off_the_gpu(), self._stopwatch.part(AHEAD):
            yield

    def _take_over(self, updates: int) -> None:
        """Wait for what is collected ahead, unless a stop comes first, and make it part of the run."""
        self._go_ahead()
        assert self._ahead
        while not self._ahead.finished.wait(POLL) or self._ahead.error:
            if self._stops.signal:
                return
            self._mend()
            self._progress.update(self._ahead.frames, updates)
        ahead, self._ahead = self._ahead, None
        self._state.dropped += ahead.dropped
        self._state.retried += ahead.dropped
        for episode in ahead.episodes:
            self._store.add(episode)
            self._note(episode)

    def _mend(self) -> None:
        """Look after the environment that collects ahead: raises what went wrong there, or builds it anew."""
        if not self._ahead or not (error := self._ahead.error):
            return
        if not isinstance(error, envs.EnvError):
            raise error
        self._rebuild_failed()
        self._ahead.start()

    def _leave_ahead(self) -> None:
        if self._ahead:
            self._ahead.close(self._envs)

    def _step(self, may_begin: Callable[[int], bool] = lambda playing: True) -> list[Episode]:
        """One agent step in each environment. Returns the episodes that it finished, which are stored then."""
        finished = list(self._streams.step(may_begin).values())
        for episode in finished:
            self._store.add(episode)
        self._rebuild_failed()
        return finished

    def _rebuild_failed(self) -> None:
        """Build the environments anew that have failed in the last step, and drop their episodes; see `_retry`."""
        for number, error in self._streams.failed.items():
            self._retry(error, f"its episode of {self._streams.steps_of(number)} steps dropped")
            self._replace(number)
            if self._ahead:
                self._ahead.dropped += 1
            else:
                self._state.dropped += 1
                self._state.retried += 1

    def _replace(self, number: int) -> None:
        """Go on in a new environment in the place of one that failed; an episode in progress is dropped."""
        self._envs[number].close()
        self._envs[number] = self._new_env(training=True)
        self._streams.drop(number, self._envs[number])
        if self._shares:
            self._evaluator.use(self._envs)

    def _retry(self, error: Exception, what: str) -> None:
        """Say that a failed environment is built anew; raise the error where env.retries or a stop forbids."""
        retried = self._state.retried + (self._ahead.dropped if self._ahead else 0)
        refused = isinstance(error, envs.EnvRefused)  # as the next one would be
        if self._stops.signal or refused or retried >= self._config.env.retries:
            raise error
        self._progress.message(
            f"The environment failed ({faults.one_line(error)}): built anew, {what}, "
            f"retry {retried + 1} of {self._config.env.retries}."
        )

    def _new_env(self, training: bool) -> Checked:
        try:
            return self._resources.enter_context(contextlib.closing(self._make_env(training)))
        except envs.EnvRefused as error:
            raise RunError(str(error)) from error

    def _keep_cut_episodes(self, numbers: Sequence[int] | None = None) -> None:
        for episode in self._streams.cut(numbers):
            self._store.add(episode)

    def _commit(self, score: float | None = None) -> None:
        with self._stopwatch.part("saving"):
            state = self._state
            state.frames, state.updates = self.frames, self._updates
            state.stored_frames, state.oldest = self._store.frames, self._store.oldest
            random = state.stage == "prefill" or not self._learns
            self._recorder.commit(
                score=score,
                draws=self._windows.state(repeat_request=self._in_round),
                random_draws=self._acting_randomly.state() if random else None,
                sizes=self._logger.sizes(),
                episode=self._episodes_in_progress(),
                write_weights=self._write_weights,
            )
            self._store.committed()
        self._committed_at = state.frames, time.monotonic()

    def _episodes_in_progress(self) -> dict[str, Any]:
        return (self._ahead.before if self._ahead else self._streams).state()

    def _write_weights(self, prefix: Path) -> None:
        if self._learns:
            faults.check_weights(self._agent, self._remedies)
            write_weights(self._agent, prefix)
        if self._ahead or self._of_this_round:
            write_weights(self._acting, prefix.with_name(ACTING), only_networks=True)
