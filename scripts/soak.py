"""Train for hours while the run is killed at random times, and check that nothing is lost or counted twice.

    make soak                                            # two hours of the small configuration
    python scripts/soak.py --minutes 10 -- --configs small toy      # any words of `dreamer train`

Every session lives for a random time and ends by SIGTERM or, every second time, by kill -9; the same command goes on.
What is printed: sessions, resident memory and start-up time of the first and the last of them, and what the checks at
the end found. Exit code 1 if anything is wrong.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = ["--configs", "dmc", "small", "--task", "cartpole_balance", "--steps", "1e9", "--loop.save_every", "500"]


def main():
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120, help="how long (120)")
    parser.add_argument("--shortest", type=float, default=20, help="seconds that a session lives at least (20)")
    parser.add_argument("--longest", type=float, default=180, help="seconds that it lives at most (180)")
    parser.add_argument("--seed", type=int, default=0, help="of the times and the signals (0)")
    parser.add_argument(
        "words", nargs="*", help="words of `dreamer train` (the small configuration on cartpole_balance)"
    )
    arguments = parser.parse_args()
    draws, words = random.Random(arguments.seed), arguments.words or WORDS
    sessions, problems, end = [], [], time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        logdir = Path(folder) / "run"
        while time.monotonic() < end:
            seconds = draws.uniform(arguments.shortest, arguments.longest)
            number = signal.SIGKILL if len(sessions) % 2 else signal.SIGTERM
            session = run(words, logdir, seconds, number)
            sessions.append(session)
            problems += session["problems"] + check(logdir)
            print(
                f"session {len(sessions)}: {signal.Signals(number).name} after {seconds:.0f} s, started after "
                f"{session['start']:.1f} s, {session['memory'] / 1e6:.0f} MB, {frames(logdir):,} frames committed",
                flush=True,
            )
            if problems:
                break
        report(sessions, logdir)
    for problem in problems:
        print(f"WRONG: {problem}")
    print("nothing lost, nothing counted twice" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


def run(words, logdir, seconds, number):
    """One session: seconds until it works on, its largest resident memory in bytes, and what was wrong with its end."""
    begun, starts = time.monotonic(), lines(logdir / "machines.jsonl")
    command = [sys.executable, "-m", "dreamer", *words, "--logdir", str(logdir)]
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe that nobody reads would fill up)
    process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
    started, memory = None, 0
    while time.monotonic() < begun + seconds or started is None:
        if process.poll() is not None:
            break
        if started is None and lines(logdir / "machines.jsonl") > starts:
            started = time.monotonic() - begun
        memory = max(memory, resident(process.pid))
        time.sleep(0.25)
    process.send_signal(number)
    process.wait(timeout=600)
    said.seek(0)
    output = said.read()
    expected = -number if number == signal.SIGKILL else 128 + number
    wrong = process.returncode != expected or "Traceback" in output
    problems = [f"exit code {process.returncode}, expected {expected}: {output[-500:]}"] if wrong else []
    return {"start": started or 0.0, "memory": memory, "problems": problems}


def check(logdir):
    """What is wrong with the files of a run that has just ended, in whatever way."""
    problems = []
    expected = 0
    for path in sorted((logdir / "episodes").glob("*.npz")):
        first, length = map(int, path.stem.split("-"))
        if first != expected:
            problems.append(f"{path.name} begins at frame {first}, expected {expected}")
        with np.load(path, allow_pickle=False) as episode:
            steps = len(episode["reward"])
        if steps != length:
            problems.append(f"{path.name} has {steps} steps")
        expected = first + (length - 1) * action_repeat(logdir)
    for name in ("metrics.jsonl", "open_loop.jsonl"):
        text = (logdir / name).read_text() if (logdir / name).exists() else ""
        steps = [json.loads(line)["step"] for line in text.splitlines(keepends=True) if line.endswith("\n")]
        rounds = [line for line in text.splitlines() if '"train/updates"' in line]
        counted = [json.loads(line)["train/updates"] for line in rounds]
        if steps != sorted(steps) or counted != sorted(set(counted)):
            problems.append(f"{name}: a step goes back or a round is there twice")
    if list((logdir / "episodes").glob("quarantine/*")):
        problems.append("episodes were set aside")
    return problems


def report(sessions, logdir):
    """The figures."""
    edge = max(1, len(sessions) // 4)
    for what, name, unit in (("resident memory", "memory", 1e6), ("start-up", "start", 1.0)):
        first = statistics.median(session[name] for session in sessions[:edge]) / unit
        last = statistics.median(session[name] for session in sessions[-edge:]) / unit
        print(f"{what}, median of the first and the last {edge} sessions: {first:,.1f} and {last:,.1f}")
    files = sum(1 for path in logdir.rglob("*") if path.is_file())
    print(f"{len(sessions)} sessions, {frames(logdir):,} frames, {files} files")


def lines(path):
    """Number of lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def frames(logdir):
    """Frames of the newest committed state."""
    states = sorted((logdir / "checkpoints").glob("[0-9]*/state.json"))
    return json.loads(states[-1].read_text())["frames"] if states else 0


def action_repeat(logdir):
    """Frames of an agent step."""
    from dreamer import config

    return config.load_file(logdir / "config.yaml").env.action_repeat


def resident(pid):
    """Bytes of memory that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
