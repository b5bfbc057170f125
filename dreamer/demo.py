"""`make demo`: train a small Dreamer, and show what it has learned.

On the toy task from images by default, which two cores solve within minutes; or on one of DM Control.
"""

import contextlib
import io
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer import config
from dreamer.cli.main import main as command
from dreamer.envs import toy
from dreamer.results import curves, horizon, plot, published, report, runs, scores
from dreamer.results.published import Method, Published
from dreamer.results.runs import Run
from dreamer.run import formats

OUT = Path("runs") / "demo"
BEST = "best possible"
EPISODE, DREAM = (
    ("episode.mp4", "the trained agent"),
    ("open-loop.gif", "the world model's dream beside the truth: 5 images seen, the rest imagined"),
)


class Demo(NamedTuple):
    """overlays, steps: of the training; minutes: that it takes on 2 cores; what: the task in words.

    played: episodes of which the pictures are made, where a single one, the last evaluation's first, shows too little.
    """

    overlays: tuple[str, ...]
    steps: int
    minutes: str
    what: str
    played: int | None = None


DEMOS = {
    "dot": Demo(("small", "toy"), 2_000, "3 minutes", "to steer a white dot to the green goal, from images", 5),
    "cartpole_balance": Demo(
        ("dmc", "small", "cpu"), 24_000, "10 minutes", "to balance a pole in DM Control, from images and states"
    ),
}


def main(arguments: list[str]) -> int:
    """Train, or go on with an earlier demo, and summarise. arguments: a name of DEMOS, and more for the training."""
    named = bool(arguments) and not arguments[0].startswith("-")
    task, arguments = (arguments[0], arguments[1:]) if named else (next(iter(DEMOS)), arguments)
    if task not in DEMOS:
        print(f"dreamer: no demo {formats.shown(task)}: expected {' or '.join(DEMOS)}", file=sys.stderr)
        return 2
    run, (overlays, steps, minutes, what, played) = OUT / task, DEMOS[task]
    if not {"--help", "-h"}.isdisjoint(arguments):
        return command(["train", "--help"])
    if any(word.partition("=")[0] == "--logdir" for word in arguments):  # what is shown would be of another run
        print(f"dreamer: --logdir: the demo's run is {run}", file=sys.stderr)
        return 2
    if frames_evaluated(run) < steps:
        print(f"A small Dreamer learns {what}: {steps:,} frames, about {minutes} on 2 cores.")
        print("Ctrl-C saves and leaves; the same command goes on from there.\n", flush=True)
    words = ["train", "--configs", *overlays, "--task", task, "--steps", str(steps), "--logdir", str(run)]
    if code := command([*words, *arguments]):
        return code
    try:
        show(task, run, played)
    except (ValueError, OSError) as error:  # too short to be evaluated, or what else may lie there
        print(f"dreamer: {formats.one_line(error)}", file=sys.stderr)
        return 1
    return 0


def show(task: str, run: Path, played: int | None) -> None:
    """Summarise the run of a demo, and make its pictures. Raises ValueError and OSError where that cannot be."""
    path = run / scores.FILENAME  # and no other that somebody keeps below the run
    entries = curves.collect([path])
    if len(entries) > 1:
        raise ValueError(f"{path}: expected the scores of one run, got those of {len(entries)}")
    (found,), problems = runs.read(entries)
    curves.complain(problems)
    theirs = references()
    print(f"\nReturns on {task}:")
    for name, value, where in rows(found, theirs):
        print(f"  {name:<18}{value:>8.1f}   {where}")
    print("\n" + "\n".join(facts(found)))
    shown = played_pictures(run, played) if played else copied_pictures(found)
    curve = (plot.main_figure([path], OUT / "curve.png", published=theirs)[0], "learning curve")
    seen = [curve, *shown, (run, "everything else; tensorboard --logdir shows it")]
    print("\nLook at:")
    for path, what in seen:
        print(f"  {str(path):<{max(len(str(path)) for path, _ in seen)}}   {what}")


def frames_evaluated(run: Path) -> int:
    """Frames of the newest evaluation in `run`; 0 where there is none that can be read."""
    try:
        return scores.read(run / scores.FILENAME)[0].xs[-1]
    except ValueError:  # about which whoever needs it says more
        return 0


def rows(run: Run, theirs: Published) -> Iterator[tuple[str, float, str]]:
    """(name, return, where it comes from) of random actions, of the run's first and last evaluation, and published."""
    directory, (xs, ys) = run.scores.path.parent, (run.scores.xs, run.scores.ys)
    episodes = run.settings.get("loop.eval_episodes")
    of = "" if episodes is None else f", {mean_of(episodes)}"
    if random := random_policy(directory):
        yield "random actions", random["mean"], mean_of(random["episodes"])
    if len(xs) > 1:
        yield "first evaluation", ys[0], f"after {xs[0]:,} frames{of}"
    yield "last evaluation", ys[-1], f"after {xs[-1]:,} frames{of}"
    final = theirs.scores(run.scores.task)
    if BEST in final:
        yield BEST, final[BEST], "the shortest way, mean of all starts"
        return
    best = max(final, key=lambda method: final[method], default=None)
    for row, method in (("published", "dreamer"), ("best known", best)):
        if method in final and (row == "published" or method != "dreamer"):
            name, frames, _ = theirs.methods[method]
            yield row, final[method], f"{name}, after {frames:,} frames"


def references() -> Published:
    """What was published, and the best return of the toy task, which is known exactly: the mean of its 121 starts."""
    theirs = published.load()
    starts = itertools.product(np.arange(11) * toy.SPEED, repeat=2)
    frames = config.load(DEMOS["dot"].overlays).env.time_limit
    best = np.mean([toy.best_return(np.array(start), discrete=False, frames=frames) for start in starts])
    methods = theirs.methods | {BEST: Method(BEST, 0, "")}
    return theirs._replace(methods=methods, final=theirs.final | {"toy_dot": {BEST: float(best)}})


def facts(run: Run) -> Iterator[str]:
    """Lines that say how long the run took and on what, and how far ahead its world model can see."""
    machines = list(dict.fromkeys(map(runs.machine_in_words, run.machines)))
    updates = run.metrics.get("train/updates", ((), (0,)))[1][-1]
    where = f" on {'; '.join(machines)}" if machines else ""
    yield f"{run.scores.xs[-1]:,} frames and {updates:,.0f} updates in {report.duration(run.seconds)}{where}."
    if run.open_loop and "image" in run.open_loop[-1]:
        model, repeat = (runs.errors(run.open_loop[-1], key) for key in ("image", "image_repeat"))
        yield f"What the world model imagines is {horizon.in_words(model, repeat, 'image')}."


def copied_pictures(run: Run) -> Iterator[tuple[Path, str]]:
    """Copy what the last evaluation has left to see, and yield (file, what it shows)."""
    for made, (name, what) in ((run.episode, EPISODE), (run.prediction, DREAM)):
        if made is None:
            continue
        if made.suffix != Path(name).suffix:  # of an agent that sees no images
            name, what = f"{Path(name).stem}{made.suffix}", "what the world model predicts, beside the truth"
        try:
            yield Path(shutil.copy(made, OUT / name)), what
        except OSError as error:
            curves.complain([f"{formats.one_line(error)}: left out"])


def played_pictures(run: Path, episodes: int) -> Iterator[tuple[Path, str]]:
    """Play so many episodes and yield (file, what it shows): the agent in all of them, and its dreams of them.

    Ends where one of the two fails, or is stopped; the line that says why is then on the standard error.
    """
    for words, option, (name, what) in ((["eval"], "--video", EPISODE), (["imagine"], "--out", DREAM)):
        words += ["--logdir", str(run), "--episodes", str(episodes), option, str(OUT / name)]
        with contextlib.redirect_stdout(io.StringIO()):
            if command(words):
                return
        yield OUT / name, what


def random_policy(directory: Path) -> dict[str, Any] | None:
    """The run's random.json; None without a usable one: an interrupted run may have none, and nothing depends on it."""
    try:
        content: Any = formats.document(directory / "random.json")
        return {"mean": float(content["mean"]), "episodes": int(content["episodes"])}
    except (ValueError, TypeError, KeyError):
        return None


def mean_of(episodes: int) -> str:
    """How a return over so many episodes is named."""
    return "1 episode" if episodes == 1 else f"mean of {episodes} episodes"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
