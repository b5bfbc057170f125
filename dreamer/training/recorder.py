"""The record of a run: the state that decides how it goes on, read before anything is written, committed as a whole."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import keys
from dreamer.agents import variant
from dreamer.config import Config
from dreamer.run import layout, legacy
from dreamer.run.commits import ACTING, WEIGHTS, Commit, CommitError, Commits
from dreamer.run.files import replacing
from dreamer.run.settings import Settings, settle
from dreamer.training.restore import read_legacy_weights, read_weights


@dataclasses.dataclass
class State:
    """Where a run is. What else decides its future (weights, draws, the episode in progress) is committed beside it.

    stage: prefill, train, evaluate, collect or finished. frames: collected, those of the episode in progress included;
    stored_frames, oldest: of the replay. prefill: frames of the random episodes. since, due: `due` updates belong to
    `since` frames, and train_updates more to every train_every after them. target: frames at which collecting ends.
    round: metrics of each update of a round that was left in the middle. unlogged: (return, length) of the episodes
    since the last line of metrics; infos: what driver.episode_infos has of each. scores: (frames, return) of the
    evaluations. skipped: updates in a row that each network has skipped. retried: environments that were built anew.
    dropped: episodes that were lost so. inputs: shape and dtype of what the agent sees, by name, for whoever opens the
    run without its environment. source: of a run that learns from the episodes of others, how many there are, and their
    steps.
    """

    stage: str = "prefill"
    frames: int = 0
    updates: int = 0
    stored_frames: int = 0
    oldest: int = 0
    prefill: int = 0
    since: int = 0
    due: int = 0
    target: int = 0
    round: list = dataclasses.field(default_factory=list)
    unlogged: list = dataclasses.field(default_factory=list)
    infos: list = dataclasses.field(default_factory=list)
    random_returns: list = dataclasses.field(default_factory=list)
    scores: list = dataclasses.field(default_factory=list)
    skipped: dict = dataclasses.field(default_factory=dict)
    retried: int = 0
    dropped: int = 0
    inputs: dict = dataclasses.field(default_factory=dict)
    source: list = dataclasses.field(default_factory=list)


class Recorder:
    """Reads the state of the run in `logdir`, and commits it; settings: see run.settings.Settings.

    Nothing is written before `claim`. Raises CommitError where there are states but none of them is sound.

    state: see State; draws, random_draws: of the replay and of random actions; episode: of Driver.state; sizes: bytes
    of the logs that belong to the state; notes: lines for the user. of_older_format: whether the run has no state
    in the present format yet.
    """

    def __init__(self, settings: Settings, logdir: Path):
        self._settings, self._config, self._logdir = settings, settings.config, logdir
        self._commits = Commits(logdir / layout.COMMITS)
        self.notes: list[str] = []
        self.draws: Mapping[str, Any] | None = None
        self.random_draws: Mapping[str, Any] | None = None
        self.episode: dict[str, np.ndarray] = {}
        self.sizes = dict.fromkeys((layout.METRICS, layout.OPEN_LOOP), 0)
        self._legacy: Path | None = None
        self.of_older_format = False
        previous = settings.previous
        self._commit = self._commits.newest(self.notes.append)
        if self._commit is None:
            self.of_older_format = previous is not None and legacy.is_legacy(logdir)
            self.state = self._open_legacy() if self.of_older_format else self._begin()
        else:
            self.state = self._open(self._commit)
        if previous is None and self._commit is not None:
            raise CommitError(f"{logdir} holds the states of a run without its {layout.CONFIG}: put that back")
        if previous is not None:
            self._keep_schedule(previous.loop)

    def _begin(self) -> State:
        """The state of a new run, or of one that was stopped before its first commit: it begins again, in the same way.

        Raises CommitError where a run has come further than that, since beginning again would delete it.
        """
        logdir, episodes = self._logdir, self._logdir / layout.EPISODES
        if self._settings.previous is None and episodes.is_dir() and any(episodes.iterdir()):
            raise CommitError(
                f"{episodes} has files of a run without {layout.CONFIG}: put that back, or move them away"
            )
        later = [logdir / name for name in (layout.METRICS, layout.SCORES)]
        if found := [path for path in later if path.is_file() and path.stat().st_size]:
            raise CommitError(
                f"{logdir} lacks the folder {layout.COMMITS} of its run, which has come as far as {found[0].name} "
                "says: put it back, or begin anew in another --logdir"
            )
        return State()

    def _open(self, commit: Commit) -> State:
        fields = {
            field.name: commit.state[field.name]
            for field in dataclasses.fields(State)
            if field.name in commit.state and field.name != "round"
        }
        self.draws, self.random_draws = commit.state["draws"], commit.state["random_draws"]
        self.sizes = commit.state["sizes"]
        self.episode = _section(commit.arrays, "episode")
        results = _section(commit.arrays, "round")
        count = len(next(iter(results.values()), ()))
        return State(**fields, round=[{key: values[n] for key, values in results.items()} for n in range(count)])

    def _open_legacy(self) -> State:
        config, logdir = self._config, self._logdir
        frames = legacy.frames(logdir, config.env.action_repeat)
        prefill = min(config.loop.prefill, config.steps)
        self._legacy = legacy.newest_checkpoint(logdir)
        scores = legacy.scores(logdir, frames)
        finished = self._legacy and frames >= config.steps and scores and scores[-1][0] == frames
        stage = "finished" if finished else "prefill" if frames < prefill else "train"
        self.sizes = {name: legacy.lines_until(logdir / name, frames) for name in self.sizes}
        self.notes.append(
            f"{logdir} was made by an older release: it goes on from {frames:,} frames in the present format."
        )
        return State(
            stage=stage,
            frames=frames,
            stored_frames=frames,
            oldest=legacy.oldest(logdir),
            prefill=prefill,
            since=prefill,
            due=config.loop.pretrain,
            scores=scores,
        )

    def _keep_schedule(self, loop: keys.Loop) -> None:
        """Updates of the past stay due as they were where a resume changes the ratio."""
        state, new = self.state, self._config.loop
        if (loop.train_every, loop.train_updates) != (new.train_every, new.train_updates) and state.since:
            rounds = max(0, state.frames - state.since) // loop.train_every
            state.since += rounds * loop.train_every
            state.due += rounds * loop.train_updates

    def read_weights(self, agent: Any) -> bool:
        """Load the committed weights; whether there are any. Raises CommitError where they do not fit the agent."""
        if self._commit:
            read_weights(agent, self._commit.folder / WEIGHTS)
        elif self._legacy:
            self.draws = read_legacy_weights(agent, self._legacy)
            self.state.updates = int(agent.updates)
        return bool(self._commit or self._legacy)

    def read_acting(self, agent: Any) -> bool:
        """Load the weights that frames were being collected with when the state was committed; False: with none.

        Raises CommitError where they do not fit the agent.
        """
        prefix = self._commit.folder / ACTING if self._commit else None
        if prefix is None or not prefix.with_suffix(".index").exists():
            return False
        read_weights(agent, prefix, only_networks=True)
        return True

    def claim(self) -> None:
        """From here on files of the run are written: the settings, then what has gone beyond the state goes."""
        if not self.of_older_format:  # It is one of the present format only with a state in it: see `commit`.
            settle(self._settings, self._logdir, self.state.frames)
        self._commits.drop_after(self._commit)
        self._write_scores()

    def commit(
        self,
        *,
        score: float | None,
        draws: Mapping[str, Any],
        random_draws: Mapping[str, Any] | None,
        sizes: Mapping[str, int],
        episode: Mapping[str, Any],
        write_weights: Callable[[Path], None],
    ) -> None:
        """Commit the state. score: of the evaluation that these weights have just had. Raises OSError."""
        values = dataclasses.asdict(self.state) | {
            "score": score,
            "draws": draws,
            "random_draws": random_draws,
            "sizes": sizes,
        }
        results = values.pop("round")
        arrays = {f"episode/{name}": value for name, value in episode.items()}
        if results:
            keys = results[0]
            arrays |= {f"round/{key}": np.array([result[key] for result in results], np.float32) for key in keys}
        self._commits.write(values, arrays, write_weights)
        if self.of_older_format:
            settle(self._settings, self._logdir, self.state.frames)
            self.of_older_format = False

    def write_score(self, frames: int, score: float) -> None:
        """Add a point to scores.json."""
        self.state.scores.append([frames, score])
        self._write_scores()

    def write_random(self, whole_games: bool) -> None:
        """Write random.json: returns of the random episodes, unless they are of less than whole games."""
        returns = self.state.random_returns
        if returns and whole_games:
            summary = {"mean": float(np.mean(returns)), "std": float(np.std(returns)), "episodes": len(returns)}
            with replacing(self._logdir / layout.RANDOM) as path:
                path.write_text(json.dumps(summary) + "\n")

    def _write_scores(self) -> None:
        path = self._logdir / layout.SCORES
        if not self.state.scores:
            path.unlink(missing_ok=True)
            return
        with replacing(path) as temporary:
            temporary.write_text(scores_text(self._config, self.state.scores), encoding="utf-8")


def scores_text(config: Config, points: Sequence[Sequence]) -> str:
    """What scores.json holds of a run. points: (frames, return) of its evaluations."""
    content = {"task": f"{config.suite}_{config.task}", "method": variant(config), "seed": config.seed}
    content |= {name: [point[axis] for point in points] for axis, name in enumerate(("xs", "ys"))}
    return json.dumps(content) + "\n"


def _section(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
