"""`make demo`: train a small Dreamer from pixels on a DM Control task, and show what it has learned."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dreamer.cli.main import main as command
from dreamer.results import curves, horizon, plot, published, report, runs, scores
from dreamer.results.published import Published
from dreamer.results.runs import Run
from dreamer.run import formats

TASK, STEPS, OVERLAYS = "cheetah_run", 20_000, ("dmc", "small")
MINUTES = "10 minutes on 2 cores"
OUT = Path("runs") / "demo"


def main(arguments: list[str]) -> int:
    """Train, or go on with an earlier demo, and summarise. `arguments` go to `dreamer train` as well."""
    run = OUT / TASK
    if frames_evaluated(run) < STEPS:
        print(f"Training a small Dreamer on {TASK}, from images: {STEPS:,} frames, about {MINUTES}.")
        print("Ctrl-C saves and leaves; `make demo` goes on from there.\n", flush=True)
    words = ["train", "--configs", *OVERLAYS, "--task", TASK, "--steps", str(STEPS), "--logdir", str(run)]
    if code := command([*words, *arguments]):
        return code
    try:
        entries = curves.collect([run])
    except ValueError as error:  # a run that was too short to be evaluated
        print(f"dreamer: {error}", file=sys.stderr)
        return 1
    (found,), problems = runs.read(entries)
    curves.complain(problems)
    theirs = published.load()
    print(f"\nReturns on {TASK} (at most 1000):")
    for name, value, where in rows(found, theirs):
        print(f"  {name:<18}{value:>8.1f}   {where}")
    print("\n" + "\n".join(facts(found)))
    print("\nLook at:")
    seen = [*pictures(run, found, theirs), (run, "everything else; tensorboard --logdir shows it")]
    for path, what in seen:
        print(f"  {str(path):<{max(len(str(path)) for path, _ in seen)}}   {what}")
    return 0


def frames_evaluated(run: Path) -> int:
    """Frames of the newest evaluation in `run`; 0 where there is none."""
    path = run / scores.FILENAME
    return scores.read(path)[0].xs[-1] if path.exists() else 0


def rows(run: Run, theirs: Published) -> Iterator[tuple[str, float, str]]:
    """(name, return, where it comes from) of random actions, of the run's first and last evaluation, and published."""
    directory, (xs, ys) = run.scores.path.parent, (run.scores.xs, run.scores.ys)
    episodes = run.settings.get("loop.eval_episodes")
    of = "" if episodes is None else f", {mean_of(episodes)}"
    if random := random_policy(directory):
        yield "random policy", random["mean"], mean_of(random["episodes"])
    if len(xs) > 1:
        yield "first evaluation", ys[0], f"after {xs[0]:,} frames{of}"
    yield "last evaluation", ys[-1], f"after {xs[-1]:,} frames{of}"
    final = theirs.scores(run.scores.task)
    best = max(final, key=lambda method: final[method], default=None)
    for row, method in (("published", "dreamer"), ("best known", best)):
        if method in final and (row == "published" or method != "dreamer"):
            name, frames, _ = theirs.methods[method]
            yield row, final[method], f"{name}, after {frames:,} frames"


def facts(run: Run) -> Iterator[str]:
    """Lines that say how long the run took and on what, and how far ahead its world model can see."""
    machines = list(dict.fromkeys(map(runs.machine_in_words, run.machines)))
    updates = run.metrics.get("train/updates", ((), (0,)))[1][-1]
    where = f" on {'; '.join(machines)}" if machines else ""
    yield f"{run.scores.xs[-1]:,} frames and {updates:,.0f} updates in {report.duration(run.seconds)}{where}."
    if run.open_loop and "image" in run.open_loop[-1]:
        model, repeat = (runs.errors(run.open_loop[-1], key) for key in ("image", "image_repeat"))
        yield f"What the world model imagines is {horizon.in_words(model, repeat, 'image')}."


def pictures(directory: Path, run: Run, theirs: Published) -> Iterator[tuple[Path, str]]:
    """Copy or draw what there is to see, and yield (file, what it shows)."""
    yield plot.main_figure([directory], OUT / "curve.png", published=theirs)[0], "learning curve"
    for video, name, what in (
        (run.episode, "episode.mp4", "the trained agent"),
        (run.prediction, "open-loop.gif", "the world model's dream beside the truth: 5 images seen, the rest imagined"),
    ):
        if video is not None:
            yield Path(shutil.copy(video, OUT / name)), what


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
