"""The paper's horizon figure, small: final return on the dot against the imagined steps, for three methods.

    python scripts/horizons.py --out runs/horizons                     # 30 runs, an hour or two on two cores
    python scripts/horizons.py --out runs/horizons --seeds 0 --horizons 5 45
    dreamer plot runs/horizons --x behavior.horizon --out horizons.png

Every run is an ordinary one, in a process of its own; what is finished is skipped, what was stopped goes on. PlaNet has
no actor that imagines: its plans are as long as the horizon. On the dot most of the square is out of reach of a few
steps, so that whoever sees no further than the horizon should need a long one (paper, Section 6).
"""

import argparse
import concurrent.futures
import pathlib
import subprocess
import sys

# Each with its overlays, and keys of its own: a tenth of PlaNet's products is enough here, and saves hours.
METHODS = {
    "dreamer": ([], []),
    "no_value": (["no_value"], []),
    "planet": (["planet"], ["--planner.candidates=200", "--planner.best=20", "--planner.iterations=5"]),
}
ONCE = ["--loop.eval_every", "1000000"]  # after the random episodes and at the end
HORIZONS = (5, 15, 25, 35, 45)


def command(out, method, horizon, seed, words):
    """The command line of one run."""
    logdir = out / f"{method}-{horizon}-{seed}"
    overlays, own = METHODS[method]
    keys = ["--behavior.horizon", str(horizon), "--planner.horizon", str(horizon), "--seed", str(seed), *ONCE, *own]
    names = ["small", "toy", *overlays]
    return [sys.executable, "-m", "dreamer", "--configs", *names, *keys, *words, "--logdir", str(logdir)]


def run(words, log):
    """Run one command, its output in a file; whether it came to its end."""
    with open(log, "a") as file:
        return subprocess.run(words, stdout=file, stderr=subprocess.STDOUT).returncode == 0


def main():
    """Run them all, `--workers` at a time; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    parser.add_argument("--horizons", type=int, nargs="+", default=HORIZONS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (1)")
    arguments, words = parser.parse_known_args()
    if arguments.workers < 1:
        parser.error(f"--workers: expected a number above 0, got {arguments.workers}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases = [
        (method, horizon, seed)
        for seed in arguments.seeds
        for horizon in arguments.horizons
        for method in arguments.methods
    ]
    failed = []
    with concurrent.futures.ThreadPoolExecutor(arguments.workers) as pool:
        jobs = {
            pool.submit(
                run, command(arguments.out, *case, words), arguments.out / f"{case[0]}-{case[1]}-{case[2]}.txt"
            ): case
            for case in cases
        }
        try:
            for count, job in enumerate(concurrent.futures.as_completed(jobs), 1):
                name = "-".join(map(str, jobs[job]))
                print(f"{count}/{len(cases)}  {name}  {'done' if job.result() else 'FAILED'}", flush=True)
                failed += [] if job.result() else [name]
        except KeyboardInterrupt:  # which the runs have got from the terminal too: they save
            pool.shutdown(cancel_futures=True)
            sys.exit("stopped: the same command goes on from there")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}: see {arguments.out}/NAME.txt")


if __name__ == "__main__":
    main()
