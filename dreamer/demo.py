"""`make demo`: train a small Dreamer from pixels on a DM Control task, and show what it has learned."""

import shutil
import sys
from pathlib import Path

from dreamer import cli
from dreamer.results import plot, scores
from dreamer.run import formats

TASK, STEPS = "cheetah_run", 20000
OUT = Path("runs") / "demo"


def main(arguments):
    """Train, or go on with an earlier demo, and summarise. `arguments` go to `dreamer train` as well."""
    run = OUT / TASK
    words = ["train", "--configs", "dmc", "small", "--task", TASK, "--steps", str(STEPS), "--logdir", str(run)]
    if code := cli.main([*words, *arguments]):
        return code
    random = formats.document(run / "random.json")
    (score,) = scores.read(run / scores.FILENAME)
    for kind in ("episode.mp4", "open-loop.gif"):
        shutil.copy(sorted((run / "videos").glob(f"*-{kind}"))[-1], OUT / kind)
    figures = plot.main_figure([run], OUT / "curve.png")
    rows = [
        ("random policy", f"{random['mean']:.1f}", f"mean of {random['episodes']} episodes"),
        ("first evaluation", f"{score.ys[0]:.1f}", f"at {score.xs[0]:,} frames"),
        ("last evaluation", f"{score.ys[-1]:.1f}", f"at {score.xs[-1]:,} frames"),
    ]
    print(f"\nReturns on {TASK} (at most 1000):")
    for name, value, where in rows:
        print(f"  {name:<18}{value:>7}   {where}")
    print("\nLook at:")
    for path, what in (
        (figures[0], "learning curve"),
        (OUT / "open-loop.gif", "truth, model and error: 5 frames seen, the rest imagined"),
        (OUT / "episode.mp4", "the trained agent"),
        (run, f"everything else; `tensorboard --logdir {run}` shows it"),
    ):
        print(f"  {str(path):<28}{what}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
