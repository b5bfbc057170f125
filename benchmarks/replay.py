"""Replay speed: batches per second, memory and start-up time, beside decoding whole episodes.

    python benchmarks/replay.py                              # 1,000 episodes of 501 steps: 6.2 GB of disk
    python benchmarks/replay.py --episodes 1000 5000         # does anything grow with the replay? 31 GB
    python benchmarks/replay.py --episodes 1000 5000 --steps 101
    python benchmarks/replay.py --short                      # 60,000 episodes of 6 steps, against long ones: 4.8 GB

Every row is measured in a process of its own, on two cores, after a warm-up, from files that the page cache holds
(where memory allows it). The ratio on the last line compares the first two rows: ours against the simplest way to feed
windows, which decodes one whole compressed episode for every window. The third row keeps all decoded episodes
in memory instead, for 100 episodes: fast, but its start-up time and memory grow with every episode. Both are spared
the way into TensorFlow, which ours includes. Start-up ends with the first batch; TensorFlow's own is not counted.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout, installed or not

from benchmarks import common  # noqa: E402
from dreamer.replay.episodes import EpisodeStore, StoredEpisode  # noqa: E402

BATCH = 50
LENGTH = 50
ROUNDS = 5
ALTERNATIVE_EPISODES = 100
SHORT, SHORT_STEPS = 60_000, 6
TURNS = 3


def base_episode(steps):
    """Make an episode that compresses about as well as rendered images do: a floor of tiles, a moving body, noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    time_step = np.arange(steps)[:, None, None]
    floor = 40 + 60 * ((x // 8 + time_step // 3 + y // 8) % 2) + y
    body = 90 * np.exp(-((x - 32 - 20 * np.sin(time_step / 9)) ** 2 + (y - 30) ** 2) / 60)
    grey = floor + body
    image = np.stack([grey, 0.8 * grey, 0.6 * grey], -1) + rng.integers(0, 2, (steps, 64, 64, 1))
    step = np.arange(steps)
    moved = (step > 0).astype(np.float32)
    return {
        "image": image.astype(np.uint8),
        "action": rng.uniform(-1, 1, (steps, 6)).astype(np.float32) * moved[:, None],
        "reward": rng.uniform(0, 1, steps).astype(np.float32) * moved,
        "discount": np.ones(steps, np.float32),
        "is_first": step == 0,
        "is_last": step == steps - 1,
        "is_terminal": np.zeros(steps, np.bool_),
        "position": rng.normal(size=(steps, 17)).astype(np.float32),
    }


def write_episodes(directory, episodes, steps, compress):
    """Store the given number of episodes with different pixels; returns the bytes written."""
    store = EpisodeStore(directory, action_repeat=2, compress=compress)
    base = base_episode(steps)
    for number in range(episodes):
        store.add({**base, "image": base["image"] + np.uint8(number % 256)})
    return sum(path.stat().st_size for path in store.paths())


def write_copies(directory, episodes, steps):
    """Store one episode so many times, which takes less time than to store as many."""
    write_episodes(directory, 1, steps, compress=False)
    content = next(pathlib.Path(directory).iterdir()).read_bytes()
    for number in range(1, episodes):
        name = StoredEpisode(number * (steps - 1) * 2, steps).name
        pathlib.Path(directory, name).write_bytes(content)


def ours(directory):
    """Batches from dreamer.replay."""
    from dreamer.replay.dataset import Windows  # TensorFlow's own start is not the replay's

    started = time.perf_counter()
    store = EpisodeStore(directory, action_repeat=2)
    windows = Windows(store, batch=BATCH, length=LENGTH, seed=0)
    batches = windows.batches()

    def take(n):
        windows.request(n)
        for _ in range(n):
            next(batches)

    take(1)
    return time.perf_counter() - started, take, 60


def whole_episode_per_window(directory):
    """Decode a whole compressed episode with np.load for every window."""
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    paths = sorted(pathlib.Path(directory).glob("*.npz"))

    def episode():
        with np.load(paths[rng.integers(len(paths))]) as arrays:
            return {key: arrays[key] for key in arrays.files}

    stack_windows(rng, episode)
    return time.perf_counter() - started, lambda n: [stack_windows(rng, episode) for _ in range(n)], 1


def episodes_in_memory(directory):
    """Decode every compressed episode once and keep it."""
    started = time.perf_counter()
    kept = []
    for path in sorted(pathlib.Path(directory).glob("*.npz")):
        with np.load(path) as arrays:
            kept.append({key: arrays[key] for key in arrays.files})
    rng = np.random.default_rng(0)

    def take(n):
        for _ in range(n):
            stack_windows(rng, lambda: kept[rng.integers(len(kept))])

    take(1)
    return time.perf_counter() - started, take, 60


def stack_windows(rng, episode):
    """Cut one window out of each of 50 episodes and stack them."""
    windows = []
    for _ in range(BATCH):
        arrays = episode()
        start = rng.integers(len(arrays["reward"]) - LENGTH + 1)
        windows.append({key: array[start : start + LENGTH] for key, array in arrays.items()})
    return {key: np.stack([window[key] for window in windows]) for key in windows[0]}


WAYS = {"ours": ours, "decode per window": whole_episode_per_window, "keep in memory": episodes_in_memory}


def measure(way, directory):
    """Print one JSON line: start-up seconds, median batches per second, CPU seconds per batch, peak memory in bytes."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    startup, take, n = WAYS[way](directory)
    take(n)
    speeds, cpu = [], time.process_time()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        take(n)
        speeds.append(n / (time.perf_counter() - started))
    cpu = (time.process_time() - cpu) / (n * ROUNDS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps({"startup": startup, "speed": float(np.median(speeds)), "cpu": cpu, "peak": peak}))


def read_once(directory):
    """Read every file, so that the page cache holds what memory allows: some of a fresh write is evicted already."""
    buffer = bytearray(2**20)
    for path in pathlib.Path(directory).iterdir():
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def measure_in_child(way, directory):
    """Run `measure` in a fresh process and return what it printed, without TensorFlow's greeting."""
    read_once(directory)
    command = [sys.executable, __file__, "--measure", way, "--dir", str(directory)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(f"measuring '{way}' failed:\n{child.stderr}")
    return json.loads(child.stdout.splitlines()[-1])


def compare(directory, sizes, steps):
    """Write the episodes, measure every way, print the table and the ratio."""
    needed = (max(sizes) + ALTERNATIVE_EPISODES) * steps * 12_500
    free = shutil.disk_usage(directory).free
    if free < needed * 1.1:
        raise SystemExit(f"{directory} has {free / 1e9:.1f} GB free, {needed * 1.1 / 1e9:.1f} GB are needed")
    compressed = pathlib.Path(directory, "compressed")
    write_episodes(compressed, ALTERNATIVE_EPISODES, steps, compress=True)
    ways = ("decode per window", "keep in memory")
    alternatives = [(way, ALTERNATIVE_EPISODES, measure_in_child(way, compressed)) for way in ways]
    rows = []
    for episodes in sizes:
        plain = pathlib.Path(directory, f"plain-{episodes}")
        started = time.perf_counter()
        size = write_episodes(plain, episodes, steps, compress=False)
        print(f"wrote {episodes} episodes, {size / 1e9:.1f} GB, in {time.perf_counter() - started:.0f} s", flush=True)
        rows.append(("ours", episodes, measure_in_child("ours", plain)))
        shutil.rmtree(plain)
    rows[1:1] = alternatives

    print(f"\n{common.machine()}")
    print(f"\n{'way':<18} {'episodes':>8} {'start-up s':>10} {'batches/s':>10} {'CPU ms/batch':>12} {'peak MB':>8}")
    for way, episodes, seen in rows:
        print(
            f"{way:<18} {episodes:>8} {seen['startup']:>10.3f} {seen['speed']:>10.2f} "
            f"{seen['cpu'] * 1e3:>12.1f} {seen['peak'] / 1e6:>8.0f}"
        )
    own = [(episodes, seen["peak"]) for way, episodes, seen in rows if way == "ours"]
    for episodes, peak in own[1:]:
        print(f"\nmemory with {episodes} episodes / with {own[0][0]}: {peak / own[0][1]:.3f}x")
    ratio = rows[0][2]["speed"] / alternatives[0][2]["speed"]
    print(f"\nbatches of {BATCH}x{LENGTH} from episodes of {steps} steps, ours / decode per window: {ratio:.1f}x")


def compare_short(directory, long_steps, episodes=SHORT):
    """Many short episodes against as many steps in long ones: print seconds per batch of both in turns, and ratios."""
    kinds = {"short": (episodes, SHORT_STEPS), "long": (max(1, episodes * SHORT_STEPS // (4 * long_steps)), long_steps)}
    needed = sum(count * (steps * 12_500 + 4_096) for count, steps in kinds.values())
    free = shutil.disk_usage(directory).free
    if free < needed * 1.1:
        raise SystemExit(f"{directory} has {free / 1e9:.1f} GB free, {needed * 1.1 / 1e9:.1f} GB are needed")
    for kind, (count, steps) in kinds.items():
        write_copies(pathlib.Path(directory, kind), count, steps)
    print(common.machine(), flush=True)
    seen = {kind: [] for kind in kinds}
    for _ in range(TURNS):
        for kind, (count, steps) in kinds.items():
            seen[kind].append(one := measure_in_child("ours", pathlib.Path(directory, kind)))
            print(
                f"{count:>6} episodes of {steps:>3} steps: {1e3 / one['speed']:.1f} ms/batch, CPU "
                f"{1e3 * one['cpu']:.1f} ms/batch, start-up {one['startup']:.2f} s, peak {one['peak'] / 1e6:.0f} MB",
                flush=True,
            )
    short, long = (
        {name: float(np.median([one[name] for one in seen[kind]])) for name in seen[kind][0]} for kind in kinds
    )
    print(f"\nstart-up with {episodes} episodes: {short['startup']:.2f} s")
    print(f"memory, short / long: {short['peak'] / long['peak']:.2f}x")
    print(f"CPU time of a batch, short / long: {short['cpu'] / long['cpu']:.2f}x")
    print(f"time of a batch, short / long: {long['speed'] / short['speed']:.2f}x")


def main(words=None):
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1000], help="sizes of the replay to measure")
    parser.add_argument("--steps", type=int, default=501, help=f"steps of an episode, at least {LENGTH}")
    parser.add_argument(
        "--short", action="store_true", help=f"{SHORT} episodes of {SHORT_STEPS} steps against long ones instead"
    )
    parser.add_argument("--dir", help="where a temporary folder is made and removed; default: the system's")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.measure:
        measure(arguments.measure, arguments.dir)
        return
    if min(arguments.episodes) < 1 or arguments.steps < LENGTH:
        parser.error(f"needs at least 1 episode of at least {LENGTH} steps")
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="replay-benchmark-") as directory:
        if arguments.short:
            compare_short(directory, arguments.steps)
        else:
            compare(directory, arguments.episodes, arguments.steps)


if __name__ == "__main__":
    main()
